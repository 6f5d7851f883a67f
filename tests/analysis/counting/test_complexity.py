"""Counting against hand-made sums, torch's own counter and mmengine's analyzer."""

import copy

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pelk_mm.analysis.counting.complexity import COMPONENTS, count_complexity
from pelk_mm.analysis.counting.count_config import build_counted, count_config
from pelk_mm.analysis.counting.op_counter import OpCounter
from pelk_mm.analysis.counting.weightless import build_weightless
from pelk_mm.models import PeLK
from pelk_mm.ops import available_backends, set_backend
from pelk_mm.ops.backends import dense
from pelk_mm.ops.backends.choice import BACKENDS
from pelk_mm.ops.segments import Reachable
from pelk_mm.utils.errors import ConfigError

DEPTHS, CHANNELS, KERNELS = (1, 2, 1, 1), (8, 16, 24, 32), (13, 11, 9, 7)
PELK = {
    'type': 'pelk_mm.PeLK',
    'arch': {'depths': DEPTHS, 'channels': CHANNELS},
    'width_factor': 1.0,
    'kernel_sizes': KERNELS,
}
CONVNEXT = {'type': 'mmpretrain.ConvNeXt', 'arch': {'depths': [1, 1, 2, 1], 'channels': list(CHANNELS)}}


def classifier(classes=5, **backbone):
    pytest.importorskip('mmpretrain', reason='builds a classifier')
    head = {'type': 'LinearClsHead', 'num_classes': classes, 'in_channels': CHANNELS[-1]}
    return Config(
        {
            'default_scope': 'mmpretrain',
            'model': {'type': 'ImageClassifier', 'backbone': {**PELK, **backbone}, 'head': head},
        }
    )


def segmentor(backbone=PELK, **head):
    pytest.importorskip('mmseg', reason='builds a segmentor')
    maps = {'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False}
    upernet = {
        'type': 'UPerHead',
        'in_channels': list(CHANNELS),
        'in_index': [0, 1, 2, 3],
        'pool_scales': (1, 2, 3),
        'channels': 12,
        'num_classes': 5,
        'norm_cfg': {'type': 'SyncBN'},
        'align_corners': False,
        **head,
    }
    model = {'type': 'EncoderDecoder', 'backbone': {**backbone, **maps}, 'decode_head': upernet, 'test_cfg': {}}
    return Config({'default_scope': 'mmseg', 'model': model})


def mask_rcnn(roi_head='StandardRoIHead'):
    pytest.importorskip('mmdet', reason='builds a detector')
    fpn = {'type': 'FPN', 'in_channels': list(CHANNELS), 'out_channels': 8, 'num_outs': 4}
    rpn = {'type': 'RPNHead', 'in_channels': 8, 'feat_channels': 8}
    rpn['anchor_generator'] = {'type': 'AnchorGenerator', 'scales': [8], 'ratios': [1.0], 'strides': [4, 8, 16, 32]}
    box = {'type': 'Shared2FCBBoxHead', 'in_channels': 8, 'fc_out_channels': 16, 'roi_feat_size': 7, 'num_classes': 3}
    mask = {'type': 'FCNMaskHead', 'num_convs': 1, 'in_channels': 8, 'conv_out_channels': 8, 'num_classes': 3}
    extractor = {'type': 'SingleRoIExtractor', 'out_channels': 8, 'featmap_strides': [4, 8, 16, 32]}
    model = {
        'type': 'MaskRCNN',
        'backbone': {**PELK, 'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False},
        'neck': fpn,
        'rpn_head': rpn,
        'roi_head': {
            'type': roi_head,
            'bbox_roi_extractor': {**extractor, 'roi_layer': {'type': 'RoIAlign', 'output_size': 7}},
            'bbox_head': box,
            'mask_roi_extractor': {**extractor, 'roi_layer': {'type': 'RoIAlign', 'output_size': 14}},
            'mask_head': mask,
        },
        'train_cfg': None,
        'test_cfg': {'rpn': {}, 'rcnn': {}},
    }
    return Config({'default_scope': 'mmdet', 'model': model})


def by_hand(height, width):
    """Convolutions, linears and h of the PELK above, from the architecture alone."""
    counts = dict.fromkeys(('ffn', 'large_kernel', 'small', 'downsample', 'pos_embed'), 0)
    before = 3
    for stage, (depth, channels, kernel) in enumerate(zip(DEPTHS, CHANNELS, KERNELS, strict=True)):
        h, w = height // 4 // 2**stage, width // 4 // 2**stage
        convolved = channels * 3 // 8
        counts['downsample'] += channels * before * (16 if stage == 0 else 4) * h * w
        counts['ffn'] += depth * 2 * 4 * channels**2 * h * w
        counts['large_kernel'] += depth * convolved * kernel**2 * h * w
        counts['small'] += depth * convolved * 25 * h * w
        kh, kw = (min(kernel, 2 * size - 1) for size in (h, w))  # the rest of h reaches across no map of that size
        counts['pos_embed'] += depth * convolved * kw * h * (kh + w)
        before = channels
    return counts


def test_components_by_hand():
    """Plain: norms count where they stand (mmengine's 5 an element, BatchNorm 2), and so do h and the 5x5 branch."""
    counted = count_config(classifier(), (64, 96))
    hand = by_hand(64, 96)
    pixels = [16 * 24 // 4**stage for stage in range(4)]
    maps = [channels * size for channels, size in zip(CHANNELS, pixels, strict=True)]
    inputs_of_downsampling = maps[:1] + maps[:3]  # the stem's norm is behind it, the others' before
    batch_norms = sum(
        2 * 2 * depth * (c * 3 // 8) * size for depth, c, size in zip(DEPTHS, CHANNELS, pixels, strict=True)
    )
    assert counted.macs_by_component == {
        'ffn': hand['ffn'] + 5 * sum(d * size for d, size in zip(DEPTHS, maps, strict=True)),
        'large_kernel': hand['large_kernel'] + hand['small'] + batch_norms,
        'downsample': hand['downsample'] + 5 * sum(inputs_of_downsampling),
        'pos_embed': hand['pos_embed'],
        'head': maps[-1] + 5 * CHANNELS[-1] + 5 * CHANNELS[-1],  # pooling, output norm, classifier
    }
    assert counted.macs == sum(counted.macs_by_component.values())
    assert counted.params == counted.params_nonzero
    assert counted.params_pos_embed == sum(c * 3 // 8 * k * k for c, k in zip(CHANNELS, KERNELS, strict=True))


def test_convention_by_hand():
    cfg = classifier()
    counted = count_config(cfg, (64, 96), sparsity=0.3)
    hand = by_hand(64, 96)
    classes = 5 * CHANNELS[-1]
    expected = {name: round(0.7 * hand[name]) for name in ('ffn', 'large_kernel', 'downsample')}
    assert counted.macs_by_component == {**expected, 'pos_embed': 0, 'head': round(0.7 * classes)}
    assert counted.macs == sum(counted.macs_by_component.values())
    net = PeLK(**{key: value for key, value in PELK.items() if key != 'type'})
    kept = [p for name, p in net.named_parameters() if 'pos_embeds' not in name and 'small_' not in name]
    weights = sum(p.numel() for p in kept if p.ndim > 1) + classes
    dense = sum(p.numel() for p in kept if p.ndim == 1) + 5
    assert counted.params_nonzero == round(0.7 * weights) + dense
    assert counted.params == sum(p.numel() for p in net.parameters()) + classes + 5


def test_task_heads_stay_dense():
    plain, sparse = (count_config(segmentor(), (64, 64), sparsity) for sparsity in (None, 0.4))
    norms = sum(5 * c * 256 // 4**stage for stage, c in enumerate(CHANNELS))  # of the backbone's outputs
    assert sparse.macs_by_component['head'] == plain.macs_by_component['head'] - norms
    backbone, dense = 0, count_config(segmentor(), (64, 64), sparsity=0.0)
    for name in ('ffn', 'large_kernel', 'downsample'):
        assert sparse.macs_by_component[name] == round(0.6 * dense.macs_by_component[name])
        backbone += sparse.macs_by_component[name]
    assert sparse.macs == backbone + sparse.macs_by_component['head']


def test_detector_heads_by_hand():
    """1000 boxes, 100 masks; lateral and output convolutions of the FPN; nearest-neighbour resizing on the way down."""
    pixels = [16 * 24 // 4**stage for stage in range(4)]
    fpn = sum(8 * c * size for c, size in zip(CHANNELS, pixels, strict=True)) + 9 * 64 * sum(pixels)
    resized = 8 * sum(pixels[:3])
    rpn = (9 * 64 + 8 * (1 + 4)) * sum(pixels)
    boxes = 1000 * (8 * 49 * 16 + 16 * 16 + 16 * (3 + 1) + 16 * 4 * 3)
    masks = 100 * (9 * 64 * 14**2 + 4 * 64 * 14**2 + 8 * 3 * 28**2)
    cfg = mask_rcnn()
    counted = count_config(cfg, (64, 96), sparsity=0.4)
    assert counted.macs_by_component['head'] == fpn + resized + rpn + boxes + masks
    with pytest.raises(ConfigError, match='roi_head must be a StandardRoIHead or CascadeRoIHead .* got PISARoIHead'):
        count_config(mask_rcnn('PISARoIHead'), (64, 96))


@pytest.mark.parametrize('mixer', ['peripheral', 'dense', 'stripe'])
def test_torch_counts_the_same_in_a_real_forward_pass(mixer, monkeypatch):
    """On the CPU, with stock convolutions for ours; torch counts two a multiply-add, and neither norms nor resizing."""
    # whole kernels, also where part of them meets padding alone
    monkeypatch.setattr(dense, 'reachable', lambda sizes, length: Reachable(0, sizes))
    cfg = segmentor({**PELK, 'mixer': mixer})
    model = build_counted(cfg)
    counter = OpCounter(model)
    with torch.no_grad(), counter:
        model(torch.empty(1, 3, 64, 96, device='meta'))
    ours = sum(
        macs
        for operations in counter.counts.values()
        for operation, macs in operations.items()
        if operation not in ('norm', 'resize', 'pool')
    )
    model = model.to_empty(device='cpu')
    set_backend('dense')
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as torchs:
            model(torch.rand(1, 3, 64, 96))
    finally:
        set_backend(None)
    assert 2 * ours == torchs.get_total_flops()


@pytest.mark.parametrize('mixer', ['peripheral', 'shiftwise'])
def test_counting_beside_computing(mixer):
    """On a real device the counted model computes what it always does, and the counts are those of the meta device."""
    model = PeLK(**{key: value for key, value in PELK.items() if key != 'type'}, mixer=mixer).eval()
    auxiliary = [parameter for name, parameter in model.named_parameters() if '.small_' in name]
    image = torch.rand(1, 3, 64, 96)
    counter = OpCounter(model, auxiliary)
    with torch.no_grad():
        expected = model(image)
        with counter:
            actual = model(image)
        for a, b in zip(actual, expected, strict=True):
            assert torch.equal(a, b)
        meta = copy.deepcopy(model).to('meta')
        on_meta = OpCounter(meta, [parameter for name, parameter in meta.named_parameters() if '.small_' in name])
        with on_meta:
            meta(image.to('meta'))
    assert counter.counts == on_meta.counts
    operations = {operation for counts in counter.counts.values() for operation in counts}
    ours = {'shiftwise_conv2d'} if mixer == 'shiftwise' else {'depthwise_conv2d', 'visible_sum', 'auxiliary'}
    assert operations == {'conv', 'linear', 'norm', 'pool', *ours}  # the products within the ops are theirs


def test_counts_do_not_depend_on_the_back_end(monkeypatch):
    results = []
    for name in available_backends():
        monkeypatch.setenv('PELK_MM_BACKEND', name)
        results.append(count_config(classifier(), (224, 224)))
    assert len(set(map(repr, results))) == 1


@pytest.mark.parametrize('head', [{}, {'pool_scales': (1, 2, 3, 6), 'align_corners': True}])
def test_mmengine_counts_the_same(head):
    """Its analyzer traces a real forward pass, which a net of stock operations survives."""
    analysis = pytest.importorskip('mmengine.analysis')
    cfg = segmentor({**CONVNEXT, 'drop_path_rate': 0.1}, **head)
    ours = count_config(cfg, (64, 96))
    model = build_counted(cfg).to_empty(device='cpu')
    mmengines = analysis.FlopAnalyzer(model, (torch.rand(1, 3, 64, 96),))
    mmengines.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert ours.macs == mmengines.total()
    stages = mmengines.total('backbone.stages')
    depthwise = sum(
        count for name, count in mmengines.by_module().items() if name.endswith('.depthwise_conv') and 'stages' in name
    )
    parts = ours.macs_by_component
    assert set(parts) == set(COMPONENTS)
    assert (parts['large_kernel'], parts['ffn'], parts['pos_embed']) == (depthwise, stages - depthwise, 0)
    assert parts['downsample'] == mmengines.total('backbone.downsample_layers')


def test_images_of_other_channels():
    three, five = (count_config(classifier(in_channels=n), (64, 64), 0.0) for n in (3, 5))
    assert five.macs - three.macs == 2 * CHANNELS[0] * 16 * 16**2


def test_another_backbone_is_other():
    cfg = segmentor()
    cfg.model.backbone = {'type': 'ResNet', 'depth': 18, 'norm_cfg': {'type': 'SyncBN'}}
    cfg.model.decode_head.in_channels = [64, 128, 256, 512]
    parts = count_config(cfg, (64, 64)).macs_by_component
    assert parts['other'] > 0
    assert [parts[name] for name in ('ffn', 'large_kernel', 'downsample', 'pos_embed')] == [0, 0, 0, 0]
    assert set(parts) == {*COMPONENTS, 'other'}


def test_deployed_form_has_one_convolution_a_mixer():
    plain, deployed = (count_config(classifier(pos_embed=None), (64, 96), deploy=d) for d in (False, True))
    hand = by_hand(64, 96)
    assert deployed.macs_by_component['large_kernel'] == hand['large_kernel']
    assert deployed.macs_by_component['ffn'] == plain.macs_by_component['ffn']
    with pytest.raises(ConfigError, match=r'--sparsity counts the form that is trained, and --deploy another'):
        count_config(classifier(), (64, 64), 0.4, deploy=True)
    model = build_counted(classifier())
    model.backbone.switch_to_deploy()
    with pytest.raises(ValueError, match='the model is deployed'):
        count_complexity(model, (64, 64), 0.4)


def test_a_model_with_weights_is_left_as_it_was():
    from mmengine.registry import MODELS, init_default_scope

    cfg = classifier()
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    backends = dict(BACKENDS)
    expected = model.eval()(torch.ones(1, 3, 64, 64))
    model.train()
    assert count_complexity(model, (64, 64)) == count_config(cfg, (64, 64))
    with pytest.raises(ValueError, match='at least 32 pixels'):
        count_complexity(model, (16, 64))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert backends == BACKENDS
    assert torch.equal(model.eval()(torch.ones(1, 3, 64, 64)), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_weightless_models():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.rate = [value.item() for value in torch.linspace(0, 1, 3)]
            self.register_buffer('mean', torch.zeros(3))

    class ReadsItsWeights(nn.Linear):
        def reset_parameters(self):
            super().reset_parameters()
            self.largest = float(self.weight.detach().abs().max())

    torch.manual_seed(0)
    state = torch.get_rng_state()
    model = build_weightless(Tied)
    assert model.rate == [0.0, 0.5, 1.0]
    assert model.second.weight is model.first.weight
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert build_weightless(lambda: ReadsItsWeights(3, 3)).largest > 0
    assert not nn.Linear(2, 2).weight.is_meta
    torch.set_rng_state(state)
    build_weightless(lambda: PeLK('atto'))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ('shape', 'sparsity', 'message'),
    [
        ((31, 64), None, r'cannot count .* image of 31x64 \(H x W\): PeLK takes images .* at least 32 pixels'),
        ((0, 64), None, '--shape must be two positive numbers'),
        ((64, 64), 1.0, r'--sparsity must be in \[0, 1\), but got 1.0'),
        ((64, 64), -0.1, r'--sparsity must be in \[0, 1\), but got -0.1'),
        ((64, 64), float('nan'), r'--sparsity must be in \[0, 1\), but got nan'),
    ],
)
def test_bad_numbers(shape, sparsity, message):
    with pytest.raises(ConfigError, match=message):
        count_config(classifier(), shape, sparsity)


def test_bad_models():
    with pytest.raises(ValueError, match='shape must be two positive numbers'):
        count_complexity(nn.Linear(2, 2), (64,))
    with pytest.raises(ValueError, match=r'sparsity must be in \[0, 1\), but got 1'):
        count_complexity(nn.Linear(2, 2), (64, 64), 1)
    with pytest.raises(ValueError, match=r'must be a classifier \(mmpretrain\), segmentor .* but got Linear'):
        count_complexity(nn.Linear(2, 2), (64, 64))
    cfg = segmentor()
    cfg.model.decode_head.in_channels = list(CHANNELS[:3]) + [7]
    with pytest.raises(ConfigError, match='cannot count the model of'):
        count_config(cfg, (64, 64))
    with pytest.raises(ConfigError, match='but it is a PeLK'):
        count_config(Config({'model': PELK}), (64, 64))
