"""Nets of timm's registry beside our classes, with checkpoints, and in the toolboxes that take backbones from timm."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

timm = pytest.importorskip('timm', reason='needs timm: pip install "pelk_mm[timm]"')

from timm_nets import CHANNELS, FAMILIES, images, own_arguments, small  # noqa: E402

from pelk_mm.hub import timm as hub  # noqa: E402
from pelk_mm.registry import MODELS  # noqa: E402

every_family = pytest.mark.parametrize('name', FAMILIES)
ROOT = Path(__file__).parents[2]
DENSE = {'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False}


def own_class(name, weights, **kwargs):
    """The registry's backbone as :func:`small` has it."""
    backbone, arguments = own_arguments(name)
    net = MODELS.build({'type': f'pelk_mm.{backbone.__name__}', **arguments, **kwargs})
    net.load_state_dict(weights)
    return net.eval()


def randomised(model):
    """Weights that no seed gives again."""
    generator = torch.Generator().manual_seed(7)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.rand(value.shape, generator=generator)
    return model


# --- our own classes --------------------------------------------------------------------------------------------------


@every_family
def test_classifier_has_the_features_of_our_class(name):
    model, x = randomised(small(name, num_classes=0)).eval(), images()
    with torch.no_grad():
        (expected,) = own_class(name, model.backbone.state_dict())(x)
        assert torch.equal(model(x), expected if model.neck is None else model.neck([expected])[0])


@every_family
def test_maps_are_those_of_our_class_before_and_after_its_norms(name):
    extra = {'output_norm_cfg': {'type': 'LN2d'}} if 'inceptionnext' in name else {}
    model, x = randomised(small(name, output_norms=True, **extra)), images()
    net = own_class(name, model.backbone.state_dict(), **DENSE, **extra)
    features = small(name, features_only=True, output_norms=True, **extra).eval()
    features.model.backbone.load_state_dict(net.state_dict())
    raw = small(name, features_only=True, **extra).eval()
    raw.model.backbone.load_state_dict({key: net.state_dict()[key] for key in raw.model.backbone.state_dict()})
    with torch.no_grad():
        expected = net(x)
        for i, (normed, plain) in enumerate(zip(features(x), raw(x), strict=True)):
            assert torch.equal(normed, expected[i])
            assert torch.equal(getattr(net, f'norm{i}')(plain), expected[i])


def test_state_dict_is_that_of_mmpretrains_classifier():
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from mmengine.config import Config
    from mmpretrain.registry import MODELS as MMPRETRAIN

    pairs = {
        'pelk_tiny': 'pelk_t',
        'pelk_101_base': 'pelk_b_101',
        'shiftwise_tiny': 'sw_t',
        'slak_tiny': 'slak_t',
        'unireplknet_tiny': 'unireplknet_t',
        'pelk_mm_inceptionnext_tiny': 'inceptionnext_t',
    }
    for name, config in pairs.items():
        cfg = Config.fromfile(ROOT / f'configs/{config}_imagenet.py').model
        cfg.pop('train_cfg', None)
        with torch.device('meta'):
            classifier = MMPRETRAIN.build(cfg)
            model = timm.create_model(name)
        shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (classifier, model)]
        assert shapes[0] == shapes[1], name


# --- checkpoints ------------------------------------------------------------------------------------------------------


def save(state, path):
    if path.suffix == '.safetensors':
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def load(file, name='pelk_tiny', classes=5, **kwargs):
    overlay = {'file': file, 'num_classes': classes}
    kwargs.setdefault('num_classes', None)
    return small(name, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs).eval()


@pytest.mark.parametrize('suffix', ['safetensors', 'pth'])
@every_family
def test_weights_from_a_file(name, suffix, tmp_path):
    model, x = randomised(small(name)).eval(), images()
    file = save(model.state_dict(), tmp_path / f'weights.{suffix}')
    with torch.no_grad():
        loaded = load(file, name)
        assert torch.equal(loaded(x), model(x))
        assert loaded.num_classes == 5
        features = load(file, name, features_only=True)
        expected = model.forward_intermediates(x, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(features(x), expected, strict=True))
        fresh = load(file, name, num_classes=2)
        assert fresh(x).shape == (2, 2)
        assert torch.equal(fresh.forward_features(x), expected[-1])
    assert small(name).load_state_dict(model.state_dict())
    again = small(name, checkpoint_path=file).eval()
    assert torch.equal(again.head.fc.weight, model.head.fc.weight)


def test_training_checkpoints_and_bare_backbones(tmp_path):
    model, x = randomised(small('pelk_tiny')).eval(), images()
    backbone = model.backbone.state_dict()
    wrapped = {'state_dict': {f'module.{key}': value for key, value in model.state_dict().items()}, 'arch': 'pelk_tiny'}
    decoder = {f'backbone.{key}': value for key, value in backbone.items()} | {'decode_head.weight': torch.zeros(1)}
    with torch.no_grad():
        loaded = load(save(wrapped, tmp_path / 'last.pth'))
        assert torch.equal(loaded(x), model(x))
        for i, state in enumerate((backbone, decoder)):
            features = load(save(state, tmp_path / f'{i}.pth'), features_only=True)
            assert torch.equal(features(x)[-1], model.forward_features(x))
        fresh = load(save(backbone, tmp_path / 'backbone.pth'), num_classes=3)
        assert torch.equal(fresh.forward_features(x), model.forward_features(x))


def test_a_norm_for_each_output_is_loaded_where_there_is_one(tmp_path):
    segmentor = randomised(small('pelk_tiny', output_norms=True))
    features = load(save(segmentor.state_dict(), tmp_path / 'a.pth'), features_only=True, output_norms=True)
    assert torch.equal(features.model.backbone.norm0.weight, segmentor.backbone.norm0.weight)
    classifier = save(randomised(small('pelk_tiny')).state_dict(), tmp_path / 'b.pth')
    fresh = load(classifier, features_only=True, output_norms=True)
    assert torch.equal(fresh.model.backbone.norm0.weight, torch.ones(CHANNELS[0]))


@pytest.mark.parametrize('in_chans', [1, 4])
def test_weights_for_another_number_of_channels(in_chans, tmp_path):
    model = randomised(small('pelk_tiny'))
    file = save(model.state_dict(), tmp_path / 'weights.pth')
    stem, own = (net.backbone.downsample_layers[0][0].weight for net in (load(file, in_chans=in_chans), model))
    assert stem.shape[1] == in_chans
    expected = own.sum(1, keepdim=True) if in_chans == 1 else own[:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(stem, expected)


@pytest.mark.parametrize('features_only', [False, True])
def test_checkpoints_of_other_nets_are_refused(features_only, tmp_path):
    other = {'stem.0.weight': torch.zeros(1), 'stages.0.blocks.0.gamma': torch.zeros(1)}
    for i, state in enumerate((other, deployed_state())):
        with pytest.raises(ValueError, match=r'the checkpoint lacks \d+ of the \d+ tensors of this PeLK, backbone\.'):
            load(save(state, tmp_path / f'{i}.pth'), features_only=features_only)


def deployed_state():
    model = small('pelk_tiny')
    model.backbone.switch_to_deploy()
    return model.state_dict()


@pytest.mark.parametrize('kwargs', [{}, {'features_only': True}, {'pretrained_cfg_overlay': {'num_classes': 10}}])
def test_no_published_weights(kwargs):
    with pytest.raises(RuntimeError, match=r"^pelk_tiny has no published weights: .*dict\(file='weights") as caught:
        timm.create_model('pelk_tiny', pretrained=True, **kwargs)
    assert '\n' not in str(caught.value)


def test_a_file_that_does_not_exist(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'^the weights of pelk_tiny should be in .*none.pth, which does not ex'
    ):
        load(str(tmp_path / 'none.pth'))


def test_a_folder_that_timm_saved(tmp_path):
    """With ``local-dir:`` and, from the same files, with ``hf-hub:``."""
    from timm.models import _hub
    from timm.models._hub import save_for_hf

    if not hasattr(_hub, 'load_model_config_from_path'):
        pytest.skip('this timm knows no local-dir:')
    model = randomised(small('pelk_tiny')).eval()
    save_for_hf(model, str(tmp_path), model_args=own_arguments('pelk_tiny')[1], safe_serialization=True)
    loaded = timm.create_model(f'local-dir:{tmp_path}', pretrained=True).eval()
    assert torch.equal(loaded(images()), model(images()))


# --- other packages ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ('toolbox', 'owner'), [('mmseg', 'mmseg'), ('mmpretrain', 'mmpretrain'), ('mmdet', 'mmpretrain')]
)
def test_backbone_of_a_toolbox(toolbox, owner):
    pytest.importorskip('mmcv', reason='needs mmcv')
    pytest.importorskip(toolbox, reason=f'needs {toolbox}')
    registry = importlib.import_module(f'{toolbox}.registry').MODELS
    importlib.import_module(f'{toolbox}.models')
    settings = {'type': f'{owner}.TIMMBackbone', 'model_name': 'pelk_tiny', 'pretrained': False}
    net = registry.build({**settings, 'features_only': True, 'out_indices': (0, 1, 2, 3)})
    net.init_weights()
    net.train()
    outputs = net(images(1))
    assert [output.shape[1] for output in outputs] == [124, 249, 499, 998]
    assert [output.shape[-1] for output in outputs] == [16, 8, 4, 2]
    sum(output.mean() for output in outputs).backward()
    assert all(value.grad is not None for value in net.parameters())


@pytest.mark.slow
def test_classifying_backbone_of_mmpretrain():
    pytest.importorskip('mmcv', reason='needs mmcv')
    pytest.importorskip('mmpretrain', reason='needs mmpretrain')
    from mmpretrain.registry import MODELS as MMPRETRAIN

    net = MMPRETRAIN.build({'type': 'mmpretrain.TIMMBackbone', 'model_name': 'pelk_mm_inceptionnext_atto'})
    (out,) = net(images())
    assert out.shape == (2, 960, 2, 2)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec('segmentation_models_pytorch') is None,
    reason='needs segmentation_models_pytorch: pip install segmentation-models-pytorch',
)
def test_encoder_of_segmentation_models_pytorch():
    import segmentation_models_pytorch as smp

    encoder = smp.encoders.get_encoder('tu-pelk_tiny', weights=None).eval()
    assert list(encoder.out_channels) == [3, 0, 124, 249, 499, 998]
    assert [tuple(feature.shape[2:]) for feature in encoder(images(1))] == [(64 // 2**i,) * 2 for i in range(6)]
    net = smp.Unet('tu-pelk_atto', encoder_weights=None, classes=4).eval()
    assert net(images(1)).shape == (1, 4, 64, 64)
    net = smp.DeepLabV3Plus('tu-pelk_atto', encoder_weights=None, classes=4, encoder_output_stride=16).eval()
    assert net(images(1)).shape == (1, 4, 64, 64)


# --- the guide --------------------------------------------------------------------------------------------------------


def test_code_of_the_guide_runs_and_its_table_has_every_name(tmp_path, monkeypatch):
    page = (ROOT / 'docs/guide/timm.md').read_text(encoding='utf-8')
    monkeypatch.chdir(tmp_path)
    session = {}
    for block in re.findall(r'```python\n(.*?)```', page, re.DOTALL):
        if 'segmentation_models_pytorch' not in block:
            exec(compile(block, 'docs/guide/timm.md', 'exec'), session)
    assert session['logits'].shape == (2, 10)
    assert session['maps'].feature_info.channels() == [249, 499, 998]
    assert torch.equal(session['same'].head.fc.weight, session['net'].head.fc.weight)
    rows = re.findall(r'^\| `(\w+)\{(.*)\}` \| `(\w+)`', page, re.MULTILINE)
    named = {f'{prefix}{arch}': backbone for prefix, arches, backbone in rows for arch in arches.split(',')}
    assert named == {name: backbone.__name__ for name, (backbone, _) in hub.NAMES.items()}
