"""Every config in configs/ builds, fits together and trains a step on made-up data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmseg', reason='the configs are for mmsegmentation')

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from pelk_mm.datasets import TOY_CLASSES, ToyDataset, write_toy_dataset
from pelk_mm.engine.config import fit_to_device, load_config

ROOT = Path(__file__).parents[2] / 'configs'
CONFIGS = sorted(str(path.relative_to(ROOT)) for folder in (ROOT, ROOT / 'demo') for path in folder.glob('*.py'))
PUBLISHED = {'upernet_pelk_t_ade20k.py': 0.4, 'upernet_pelk_s_ade20k.py': 0.3, 'upernet_pelk_b_ade20k.py': 0.4}
SMALL = {'depths': (1, 1, 1, 1), 'channels': (8, 16, 24, 32)}  # times 1.3: 10, 20, 31, 41
SMALL_SIZES = {(2048, 512): (256, 64), (480, 360): (96, 72), **{(n, n): (64, 64) for n in (128, 256, 512)}}


@pytest.fixture(autouse=True)
def no_traces(monkeypatch):
    """A runner leaves its default scope behind, which would decide how the next test reads its configs."""
    monkeypatch.delenv('PELK_MM_DATA', raising=False)
    monkeypatch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())


@pytest.fixture(scope='session')
def ade(tmp_path_factory):
    root = tmp_path_factory.mktemp('ade')
    write_toy_dataset(root, ToyDataset(train=7, val=7, size=64))
    return root


@pytest.fixture(scope='session')
def camvid(tmp_path_factory):
    root = tmp_path_factory.mktemp('camvid')
    rng = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for folder, suffix, values in (
            (split, '.jpg', rng.integers(0, 256, (3, 72, 96, 3))),
            (f'{split}annot', '.png', np.kron(rng.integers(0, 12, (3, 9, 12)), np.ones((8, 8), int))),
        ):
            (root / folder).mkdir()
            for i, picture in enumerate(values):
                Image.fromarray(picture.astype(np.uint8)).save(root / folder / f'{i}{suffix}')
    return root


def shrink(node):
    """Replace every crop and image size in a config by a small one."""
    if isinstance(node, dict):
        return type(node)({key: shrink(value) for key, value in node.items()})
    if isinstance(node, tuple) and node in SMALL_SIZES:
        return SMALL_SIZES[node]
    return type(node)(shrink(value) for value in node) if isinstance(node, list | tuple) else node


def small_config(name, data_root, work_dir):
    cfg = load_config(ROOT / name)
    fit_to_device(cfg)
    cfg = Config(shrink(cfg._cfg_dict), filename=str(ROOT / name))
    cfg.model.backbone.update(arch=SMALL, drop_path_rate=0.0)
    cfg.model.decode_head.update(in_channels=[10, 20, 31, 41], channels=8)
    cfg.model.auxiliary_head.update(in_channels=31, channels=8)
    if cfg.model.test_cfg.mode == 'slide':
        cfg.model.test_cfg.stride = (43, 43)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=min(loader.batch_size, 2), num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data_root)
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(work_dir)
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg.model)


def test_there_are_configs():
    assert {*PUBLISHED, 'demo/upernet_pelk_atto_toy.py', 'demo/upernet_pelk_atto_camvid.py'} <= set(CONFIGS)


@pytest.mark.parametrize('name', CONFIGS)
def test_model_builds_and_its_parts_fit(name, monkeypatch):
    for init in ('kaiming_uniform_', 'trunc_normal_', 'uniform_'):  # seconds for the large nets
        monkeypatch.setattr(torch.nn.init, init, lambda tensor, *args, **kwargs: tensor)
    cfg = load_config(ROOT / name)
    model = build(cfg)
    channels = [getattr(model.backbone, f'norm{i}').weight.numel() for i in range(4)]
    assert channels == cfg.model.decode_head.in_channels
    assert channels[2] == cfg.model.auxiliary_head.in_channels
    mixers = [stage[0].mixer for stage in model.backbone.stages]
    assert [mixer.grid.kernel_size for mixer in mixers] == [51, 49, 47, 13]
    crop = cfg.model.data_preprocessor['size']
    assert any(step.get('crop_size', step.get('scale')) == crop for step in cfg.train_dataloader.dataset.pipeline)


class Watch(Hook):
    """Notes the parameters that training starts from: the runner initialises them late."""

    def before_train(self, runner):
        self.start = {key: param.detach().clone() for key, param in runner.model.named_parameters()}

    def unmoved(self, model):
        return [key for key, param in model.named_parameters() if torch.equal(param, self.start[key])]


@pytest.mark.parametrize('name', CONFIGS)
def test_one_step_and_one_evaluation(name, request, tmp_path):
    data = request.getfixturevalue('camvid' if 'camvid' in name else 'ade')
    cfg = small_config(name, data, tmp_path)
    # So that a step is seen behind the start of a warm-up (1e-6), and whatever moves has a gradient.
    cfg.optim_wrapper.optimizer.update(lr=1e3 if name in PUBLISHED else 1.0, weight_decay=0.0)
    runner = Runner.from_cfg(cfg)
    runner.model = revert_sync_batchnorm(runner.model)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    assert not watch.unmoved(runner.model)
    assert np.isfinite(runner.message_hub.get_scalar('train/loss').current())
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_recipe(name):
    cfg = load_config(ROOT / name)
    assert cfg.model.backbone.drop_path_rate == PUBLISHED[name]
    assert cfg.model.data_preprocessor['size'] == (512, 512)
    assert cfg.model.test_cfg == {'mode': 'slide', 'crop_size': (512, 512), 'stride': (341, 341)}
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_iters == 160_000
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert cfg.optim_wrapper.paramwise_cfg == {'decay_rate': 0.9, 'decay_type': 'stage_wise'}
    warmup, poly = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-6, 1500)
    assert (poly.type, poly.power, poly.begin, poly.end) == ('PolyLR', 1.0, 1500, 160_000)


def saved_classifier(cfg, path):
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    state = {f'backbone.{key}': value for key, value in backbone.state_dict().items() if not key.startswith('norm')}
    torch.save({'state_dict': {**state, 'head.fc.weight': torch.ones(3, 41)}}, path)
    return state


@pytest.mark.parametrize('name', PUBLISHED)
def test_pretrained_variable_and_option_load_a_backbone(name, tmp_path, ade):
    small = small_config(name, ade, tmp_path)
    state = saved_classifier(small, tmp_path / 'classifier.pth')
    text = (ROOT / name).read_text().replace("'./_base_", f"'{ROOT}/_base_")
    edited = tmp_path / name
    edited.write_text(text.replace('pretrained = None', f'pretrained = {str(tmp_path / "classifier.pth")!r}'))
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'classifier.pth'), 'prefix': 'backbone.'}
    by_option = load_config(ROOT / name, {f'model.backbone.init_cfg.{key}': value for key, value in init.items()})
    assert load_config(edited).model.backbone.init_cfg == by_option.model.backbone.init_cfg == init
    assert 'init_cfg' not in load_config(ROOT / name).model.backbone

    small.model.backbone.init_cfg = init
    model = build(small)
    model.init_weights()
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_void_of_camvid_counts_nowhere(camvid, tmp_path):
    cfg = small_config('demo/upernet_pelk_atto_camvid.py', camvid, tmp_path)
    data = (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.test_dataloader.dataset)
    crops = [step.ignore_index for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop']
    ignored = [d.ignore_index for d in data] + crops + [cfg.val_evaluator.ignore_index, cfg.test_evaluator.ignore_index]
    assert ignored == [11] * 6
    model = build(cfg)
    assert model.data_preprocessor.seg_pad_val == 11
    for head in (model.decode_head, model.auxiliary_head):
        void = torch.full((2, 1, 8, 8), 11)
        logits = torch.randn(2, 11, 8, 8)
        samples = [type('Sample', (), {'gt_sem_seg': type('Map', (), {'data': ids})})() for ids in void]
        assert head.loss_by_feat(logits, samples)['loss_ce'] == 0


def test_class_weights_of_camvid_are_the_root_of_median_over_share():
    shares = np.array([15.8, 24.1, 0.99, 29.3, 6.7, 11.2, 1.1, 1.4, 4.6, 0.64, 0.54])
    cfg = load_config(ROOT / 'demo/upernet_pelk_atto_camvid.py')
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        np.testing.assert_allclose(head.loss_decode.class_weight, np.sqrt(np.median(shares) / shares), atol=0.006)


def test_toy_config_names_the_classes_of_the_scenes():
    cfg = load_config(ROOT / 'demo/upernet_pelk_atto_toy.py')
    for split in ('train', 'val', 'test'):
        classes = cfg[f'{split}_dataloader'].dataset.metainfo.classes
        assert set(classes) == set(TOY_CLASSES)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.num_classes == len(head.loss_decode.class_weight) == len(TOY_CLASSES)


@pytest.mark.parametrize('name', CONFIGS)
def test_data_folder_comes_from_the_environment(name, monkeypatch):
    roots = [load_config(ROOT / name)[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')]
    assert len(set(roots)) == 1
    assert roots[0].startswith('data/')
    monkeypatch.setenv('PELK_MM_DATA', '/elsewhere')
    cfg = load_config(ROOT / name)
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.data_root == roots[0].replace('data/', '/elsewhere/', 1)


def test_splits_do_not_leak():
    for name in CONFIGS:
        cfg = load_config(ROOT / name)
        train, val, test = (cfg[f'{s}_dataloader'].dataset.data_prefix.img_path for s in ('train', 'val', 'test'))
        if name == 'demo/upernet_pelk_atto_ade.py':  # an overfit check, and it says so
            assert train == val == test
        else:
            assert train not in (val, test)
    assert load_config(ROOT / 'demo/upernet_pelk_atto_camvid.py').test_dataloader.dataset.data_prefix.img_path == 'test'
