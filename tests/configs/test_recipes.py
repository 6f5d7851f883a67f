"""The published recipes, number by number, against the configs as they resolve."""

import pytest
from small import CONFIGS, LOADERS, ROOT, resolved

from pelk_mm.ops import SharingGrid

PLANS = {'': ((51, 49, 47, 13), 5), '_101': ((101, 69, 67, 13), 7)}
IMAGENET = {  # arch, drop path, update interval and prune rate of the sparsity
    'pelk_t_imagenet.py': ('tiny', 0.1, 2000, 0.5),
    'pelk_s_imagenet.py': ('small', 0.4, 100, 0.3),
    'pelk_b_imagenet.py': ('base', 0.5, 100, 0.3),
    'pelk_b_101_imagenet.py': ('base', 0.5, 100, 0.3),
}
ADE = {'t': ('tiny', 0.4), 's': ('small', 0.3), 'b': ('base', 0.4), 'b_101': ('base', 0.4)}
COCO = {'t': ('tiny', 0.4, 0.7), 's': ('small', 0.6, 0.7), 'b': ('base', 0.7, 0.8), 'b_101': ('base', 0.7, 0.8)}
RANDAUGMENT = {'policies': 'timm_increasing', 'num_policies': 2, 'magnitude_level': 9, 'magnitude_std': 0.5}


def sparsity(cfg):
    return next((hook for hook in cfg.custom_hooks if hook.type == 'pelk_mm.DynamicSparsityHook'), None)


def ema(cfg):
    return next((hook for hook in cfg.custom_hooks if hook.type == 'EMAHook'), None)


def step(pipeline, kind):
    return next(item for item in pipeline if item.type == kind)


def plan(cfg):
    return tuple(cfg.model.backbone.get('kernel_sizes', (51, 49, 47, 13))), cfg.model.backbone.get('central_size', 5)


def check_imagenet_recipe(cfg, epochs):
    optimizer, wrapper = cfg.optim_wrapper.optimizer, cfg.optim_wrapper
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 4e-3, 0.05)
    assert optimizer.betas == (0.9, 0.999)
    assert wrapper.paramwise_cfg.decay_rate == 1.0
    assert cfg.train_dataloader.batch_size * 8 * wrapper.accumulative_counts == 4096
    assert cfg.auto_scale_lr.base_batch_size * wrapper.accumulative_counts == 4096
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, 20)
    assert (cosine.type, cosine.begin, cosine.eta_min) == ('CosineAnnealingLR', 20, 1e-6)
    assert cosine.end == cfg.train_cfg.max_epochs == epochs
    pipeline = cfg.train_dataloader.dataset.pipeline
    randaugment = step(pipeline, 'RandAugment')
    assert {key: randaugment[key] for key in RANDAUGMENT} == RANDAUGMENT
    assert step(pipeline, 'RandomErasing').erase_prob == 0.25
    assert step(pipeline, 'RandomResizedCrop').scale == 224
    assert cfg.model.train_cfg.augments == [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix', 'alpha': 1.0}]
    assert cfg.model.head.loss.label_smooth_val == 0.1
    average = ema(cfg)
    assert (average.momentum, average.interval, average.update_buffers) == (1e-4, wrapper.accumulative_counts, True)
    assert 'layer_scale_init_value' not in cfg.model.backbone  # 1e-6 by default


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet(name):
    cfg = resolved(name)
    check_imagenet_recipe(cfg, 300)
    hook = sparsity(cfg)
    assert hook.sparsity == 0.4
    arch, drop_path, *schedule = IMAGENET[name]
    assert [hook.update_interval, hook.prune_rate] == schedule
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == (arch, drop_path)
    assert plan(cfg) == PLANS['_101' if '101' in name else '']


@pytest.mark.parametrize('name', ['pelk_b_imagenet_384.py', 'pelk_b_101_imagenet_384.py'])
def test_imagenet_384(name):
    cfg = resolved(name)
    optimizer, wrapper = cfg.optim_wrapper.optimizer, cfg.optim_wrapper
    assert (optimizer.lr, optimizer.weight_decay) == (5e-5, 1e-8)
    assert wrapper.paramwise_cfg == {'decay_rate': 0.7, 'decay_type': 'layer_wise'}
    assert cfg.train_dataloader.batch_size * 8 * wrapper.accumulative_counts == 512
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[0].end == 30
    assert 'train_cfg' not in cfg.model  # neither mixup nor cutmix
    assert step(cfg.train_dataloader.dataset.pipeline, 'RandomResizedCrop').scale == 384
    assert step(cfg.test_dataloader.dataset.pipeline, 'Resize').scale == (384, 384)
    assert step(cfg.train_dataloader.dataset.pipeline, 'RandAugment').magnitude_level == 9
    assert cfg.model.backbone.arch == 'base'
    assert plan(cfg) == PLANS['_101' if '101' in name else '']
    assert sparsity(cfg).mode == 'fixed'


@pytest.mark.parametrize('size', ADE)
def test_ade20k(size):
    cfg = resolved(f'upernet_pelk_{size}_ade20k.py')
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == ADE[size]
    assert plan(cfg) == PLANS['_101' if '101' in size else '']
    assert cfg.model.data_preprocessor['size'] == (512, 512)
    assert cfg.model.test_cfg == {'mode': 'slide', 'crop_size': (512, 512), 'stride': (341, 341)}
    assert step(cfg.train_dataloader.dataset.pipeline, 'RandomCrop').crop_size == (512, 512)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_iters == 160_000
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert cfg.optim_wrapper.paramwise_cfg == {'decay_rate': 0.9, 'decay_type': 'stage_wise'}
    warmup, poly = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-6, 1500)
    assert (poly.type, poly.power, poly.begin, poly.end) == ('PolyLR', 1.0, 1500, 160_000)
    assert sparsity(cfg).mode == 'fixed'


@pytest.mark.parametrize('size', COCO)
def test_coco(size):
    cfg = resolved(f'cascade_mask_rcnn_pelk_{size}_coco.py')
    decay = cfg.optim_wrapper.paramwise_cfg
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate, decay.decay_rate) == COCO[size]
    assert decay.decay_type == 'layer_wise'
    assert plan(cfg) == PLANS['_101' if '101' in size else '']
    assert cfg.train_cfg.max_epochs == 36
    assert step(cfg.param_scheduler, 'MultiStepLR').milestones == [27, 33]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 2e-4, 0.05)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    resize, crop = step(cfg.train_dataloader.dataset.pipeline, 'RandomChoice').transforms
    sides = [(side, 1333) for side in range(480, 801, 32)]
    assert list(resize[0].scales) == list(crop[2].scales) == sides
    assert (crop[1].crop_type, crop[1].crop_size) == ('absolute_range', (384, 600))
    assert step(cfg.test_dataloader.dataset.pipeline, 'Resize').scale == (1333, 800)
    assert len(cfg.model.roi_head.bbox_head) == 3
    for head in cfg.model.roi_head.bbox_head:
        assert (head.num_shared_convs, head.num_shared_fcs, head.norm_cfg.type) == (4, 1, 'SyncBN')
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight, head.reg_decoded_bbox) == ('GIoULoss', 10.0, True)
    assert sparsity(cfg).mode == 'fixed'


def test_heads_of_the_cascade_are_those_of_mmdet():
    """Stage by stage: offsets and overlaps."""
    cfg = resolved('cascade_mask_rcnn_pelk_t_coco.py').model
    assert [head.bbox_coder.target_stds[0] for head in cfg.roi_head.bbox_head] == [0.1, 0.05, 0.033]
    assert [stage.assigner.pos_iou_thr for stage in cfg.train_cfg.rcnn] == [0.5, 0.6, 0.7]


SIBLINGS = {  # network, drop path at ADE20K, at COCO; learning rate and decay at COCO, rate of the decay at ADE20K
    'sw_t': ('ShiftWiseNet', 0.4, 0.4, 1e-4, 0.8, 1.0),
    'sw_s': ('ShiftWiseNet', 0.4, 0.5, 1e-4, 0.8, 1.0),
    'slak_t': ('SLaK', 0.4, 0.4, 2e-4, 0.7, 0.9),
    'unireplknet_t': ('UniRepLKNet', 0.2, 0.3, 1e-4, 0.8, 1.0),
    'inceptionnext_t': ('InceptionNeXt', 0.4, 0.4, 2e-4, 0.7, 0.9),
    'wtconvnext_t': ('WTConvNeXt', 0.4, 0.4, 2e-4, 0.7, 0.9),
    'wbmm_t': ('WBMMNet', 0.2, 0.3, 1e-4, 0.8, 1.0),
    'uniconvnet_t': ('UniConvNet', 0.4, 0.4, 2e-4, 0.7, 0.9),
}
SIBLING_IMAGENET = {
    'sw_t': 0.2,
    'sw_s': 0.4,
    'slak_t': 0.1,
    'unireplknet_t': 0.2,
    'inceptionnext_t': 0.1,
    'wtconvnext_t': 0.1,
    'wbmm_t': 0.2,
    'wbmm_t_dense': 0.2,
    'uniconvnet_t': 0.2,
}
AVERAGED = ('slak', 'wtconvnext', 'uniconvnet')
WITHOUT_BATCH_NORM = ('WTConvNeXt', 'UniConvNet')
COARSE = {'granularity': 'filter', 'sparsity': 0.3, 'prune_rate': 0.3, 'update_interval': 100, 'sync_interval': 131}


def sparse_settings(cfg):
    hooks = [hook for hook in cfg.get('custom_hooks', []) if hook.type == 'pelk_mm.DynamicSparsityHook']
    return [{key: hook[key] for key in hook if key != 'type'} for hook in hooks]


def arch(size):
    return 'small' if size.endswith('_s') else 'tiny'


@pytest.mark.parametrize('size', SIBLING_IMAGENET)
def test_siblings_on_imagenet(size):
    cfg = resolved(f'{size}_imagenet.py')
    family = size.split('_')[0]
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch) == (f'pelk_mm.{SIBLINGS[size.removesuffix("_dense")][0]}', arch(size))
    assert backbone.drop_path_rate == SIBLING_IMAGENET[size]
    assert backbone.get('windows_in_first_stage', False) == ('dense' in size)
    optimizer, wrapper = cfg.optim_wrapper.optimizer, cfg.optim_wrapper
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 4e-3, 0.05)
    assert cfg.train_dataloader.batch_size * 8 * wrapper.accumulative_counts == 4096
    assert cfg.auto_scale_lr.base_batch_size * wrapper.accumulative_counts == 4096
    warmup, cosine = cfg.param_scheduler
    assert warmup.end == cosine.begin == (5 if family == 'sw' else 20)
    assert cosine.end == cfg.train_cfg.max_epochs == 300
    assert cfg.model.train_cfg.augments == [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix', 'alpha': 1.0}]
    assert any(hook.type == 'EMAHook' for hook in cfg.get('custom_hooks', [])) == (family in AVERAGED)
    expected = {'sw': [COARSE], 'slak': [{'sparsity': 0.4, 'update_interval': 2000, 'prune_rate': 0.5}]}
    assert sparse_settings(cfg) == expected.get(family, [])


@pytest.mark.parametrize('size', SIBLINGS)
def test_siblings_downstream(size):
    network, ade_drop_path, coco_drop_path, coco_lr, coco_decay, ade_decay = SIBLINGS[size]
    ade, coco = resolved(f'upernet_{size}_ade20k.py'), resolved(f'cascade_mask_rcnn_{size}_coco.py')
    for cfg, drop_path in ((ade, ade_drop_path), (coco, coco_drop_path)):
        backbone = cfg.model.backbone
        assert (backbone.type, backbone.arch) == (f'pelk_mm.{network}', arch(size))
        assert (backbone.drop_path_rate, backbone.layer_scale_init_value) == (drop_path, 1.0)
        synchronised = None if network in WITHOUT_BATCH_NORM else {'type': 'SyncBN'}
        assert backbone.get('branch_norm_cfg', backbone.get('norm_cfg')) == synchronised
        assert backbone.get('windows_in_first_stage', False) == (network == 'WBMMNet')
        assert not backbone.gap_before_final_norm
        assert cfg.train_dataloader.batch_size * 8 == 16
        family = size.split('_')[0]
        fixed = {'sw': [{'mode': 'fixed', 'granularity': 'filter'}], 'slak': [{'mode': 'fixed'}]}
        assert sparse_settings(cfg) == fixed.get(family, [])
    assert ade.optim_wrapper.optimizer.lr == 1e-4
    assert ade.optim_wrapper.paramwise_cfg.decay_rate == ade_decay
    whole = {'mode': 'whole'}
    slide = {'mode': 'slide', 'crop_size': (512, 512), 'stride': (341, 341)}
    assert ade.model.test_cfg == (whole if network in ('UniRepLKNet', 'WBMMNet') else slide)
    assert (ade.train_cfg.max_iters, coco.train_cfg.max_epochs) == (160_000, 36)
    assert coco.optim_wrapper.optimizer.lr == coco_lr
    assert coco.optim_wrapper.paramwise_cfg.decay_rate == coco_decay
    assert coco.optim_wrapper.paramwise_cfg.decay_type == 'layer_wise'


ABLATIONS = [name for name in CONFIGS if name.startswith('ablations/')]


@pytest.mark.parametrize('name', [name for name in ABLATIONS if '384' not in name])
def test_ablations_share_one_recipe(name):
    cfg = resolved(name)
    sparse = 'sparse' in name
    assert cfg.model.backbone.arch == 'tiny'
    assert cfg.model.backbone.get('width_factor', 1.3) == (1.3 if sparse else 1.0)
    assert (sparsity(cfg) is not None) == sparse
    if 'ade20k' in name:
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 80_000
        assert cfg.model.backbone.drop_path_rate == 0.4
        assert 'init_cfg' not in cfg.model.backbone
    else:
        check_imagenet_recipe(cfg, 120)
        assert cfg.model.backbone.drop_path_rate == 0.1
    if sparse:
        assert {key: sparsity(cfg)[key] for key in sparsity(cfg) if key != 'type'} == (
            {'mode': 'fixed'} if 'ade20k' in name else {'sparsity': 0.4, 'update_interval': 2000, 'prune_rate': 0.5}
        )


@pytest.mark.parametrize('name', [name for name in ABLATIONS if 'table1' in name])
def test_table_1(name):
    backbone = resolved(name).model.backbone
    assert backbone.mixer == ('dense' if 'dense' in name else 'stripe')
    assert backbone.conv_ratio == 1.0
    assert backbone.pos_embed is None
    assert not {'kernel_sizes', 'small_kernel'} & set(backbone)  # 51-49-47-13 and 5 by default


@pytest.mark.parametrize(
    ('name', 'half'),
    {
        'ones': [1] * 17,
        'twos': [2] * 8 + [1],
        'twos_central_5': [2] * 7 + [1, 1, 1],
        'fours': [4, 4, 4, 2, 1, 1, 1],
        'exponential': [8, 4, 2, 1, 1, 1],
        'reversed': [1, 1, 2, 4, 8, 1],
    }.items(),
)
def test_table_5(name, half):
    backbone = resolved(f'ablations/table5_{name}_imagenet.py').model.backbone
    assert backbone.pos_embed is None
    assert backbone.kernel_sizes == (33, 33, 33, 13)
    *grids, last = backbone.grids
    assert last is None
    for grid in grids:
        sizes = SharingGrid(grid).sizes
        assert list(sizes[: len(sizes) // 2 + 1]) == half
        assert sum(sizes) == 33


def test_tables_6_and_7():
    for size in (1, 3, 7):
        cfg = resolved(f'ablations/table6_central_{size}_imagenet.py')
        assert plan(cfg) == ((51, 49, 47, 13), size)
    expected = {
        'pelk_t_imagenet': PLANS[''],
        'table7_101_imagenet': PLANS['_101'],
        'table7_151_imagenet': ((151, 89, 87, 13), 7),
        'table7_51_imagenet_384': PLANS[''],
        'table7_101_imagenet_384': PLANS['_101'],
    }
    for name, kernels in expected.items():
        cfg = resolved(f'ablations/{name}.py')
        assert plan(cfg) == kernels
        assert 'pos_embed' not in cfg.model.backbone  # h is there by default
        if '384' in name:
            assert cfg.train_cfg.max_epochs == 30
            assert cfg.model.backbone.width_factor == 1.0
            assert sparsity(cfg) is None


def test_the_page_of_the_ablations_names_every_config():
    text = (ROOT.parent / 'docs/paper/ablations.md').read_text()
    assert [name for name in ABLATIONS if f'`{name.removeprefix("ablations/")}`' not in text] == []


def test_splits_do_not_leak():
    for name in CONFIGS:
        cfg = resolved(name)
        train, val, test = ({k: str(cfg[s].dataset.get(k)) for k in ('split', 'data_prefix')} for s in LOADERS)
        if name in ('demo/upernet_pelk_atto_ade.py', 'demo/cascade_mask_rcnn_pelk_atto_coco_overfit.py'):
            assert train == val == test  # overfit checks, and they say so
        else:
            assert train not in (val, test)
    assert resolved('demo/upernet_pelk_atto_camvid.py').test_dataloader.dataset.data_prefix.img_path == 'test'
