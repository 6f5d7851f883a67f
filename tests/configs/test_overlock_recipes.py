"""OverLoCK's recipes, which share little with the others', number by number against the configs as they resolve."""

from pathlib import Path

import pytest
from mmengine.config import Config
from small import resolved


def test_imagenet():
    cfg = resolved('overlock_t_imagenet.py')
    backbone, head = cfg.model.backbone, cfg.model.head
    assert (backbone.type, backbone.arch, backbone.drop_path_rate) == ('pelk_mm.OverLoCK', 'tiny', 0.15)
    assert (head.type, head.overview_channels, head.get('overview_weight', 0.4)) == ('pelk_mm.OverLoCKHead', 512, 0.4)
    assert head.loss.label_smooth_val == 0.1
    assert backbone.overview_output
    assert not {'normed_trunk', 'context_output', 'output_norm_cfg'} & set(backbone)
    wrapper = cfg.optim_wrapper
    assert (wrapper.type, wrapper.clip_grad) == ('AmpOptimWrapper', {'max_norm': 5.0})
    assert (wrapper.optimizer.type, wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == ('AdamW', 2e-3, 0.05)
    assert cfg.train_dataloader.batch_size * 8 * wrapper.accumulative_counts == 2048
    assert cfg.auto_scale_lr.base_batch_size * wrapper.accumulative_counts == 2048
    warmup, cosine = cfg.param_scheduler
    assert warmup.end == cosine.begin == 5
    assert warmup.start_factor * wrapper.optimizer.lr == pytest.approx(1e-6)
    assert (cosine.eta_min, cosine.end, cfg.train_cfg.max_epochs) == (1e-5, 300, 300)
    assert cfg.model.train_cfg.augments == [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix', 'alpha': 1.0}]
    (average,) = cfg.custom_hooks
    assert (average.type, average.momentum, average.interval) == ('EMAHook', 1e-4, wrapper.accumulative_counts)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        _, resize, crop, _ = loader.dataset.pipeline
        assert crop.crop_size / resize.scale == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(
    ('name', 'learning_rate', 'weight_decay'),
    [('upernet_overlock_t_ade20k.py', 6e-5, 0.01), ('mask_rcnn_overlock_t_coco.py', 1e-4, 0.05)],
)
def test_dense_tasks(name, learning_rate, weight_decay):
    cfg = resolved(name)
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch, backbone.drop_path_rate) == ('pelk_mm.OverLoCK', 'tiny', 0.2)
    assert backbone.output_norm_cfg == {'type': 'LN2d', 'eps': 1e-6}
    assert backbone.branch_norm_cfg == {'type': 'SyncBN'}
    assert backbone.normed_trunk
    assert backbone.get('context_output', False) == ('coco' in name)
    assert tuple(backbone.out_indices) == (0, 1, 2, 3)
    assert 'layer_scale_init_value' not in backbone
    wrapper = cfg.optim_wrapper
    assert wrapper.type == 'OptimWrapper'
    assert wrapper.optimizer == {
        'type': 'AdamW',
        'lr': learning_rate,
        'betas': (0.9, 0.999),
        'weight_decay': weight_decay,
    }
    assert wrapper.paramwise_cfg.decay_rate == 1.0
    assert cfg.train_dataloader.batch_size * 8 == 16


def test_schedules():
    ade, coco = resolved('upernet_overlock_t_ade20k.py'), resolved('mask_rcnn_overlock_t_coco.py')
    assert ade.model.test_cfg == {'mode': 'whole'}
    assert (ade.model.decode_head.channels, ade.model.auxiliary_head.loss_decode.loss_weight) == (512, 0.4)
    warmup, poly = ade.param_scheduler
    assert (warmup.start_factor, warmup.end) == (1e-6, 1500)
    assert (poly.type, poly.power, poly.end, ade.train_cfg.max_iters) == ('PolyLR', 1.0, 160_000, 160_000)
    assert coco.train_cfg.max_epochs == 36
    assert coco.param_scheduler[1].milestones == [27, 33]


def test_mask_rcnn_is_that_of_mmdet():
    mmdet = pytest.importorskip('mmdet')
    theirs = Config.fromfile(Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py').model
    ours = resolved('mask_rcnn_overlock_t_coco.py').model
    assert ours.type == theirs.type
    for part in ('data_preprocessor', 'rpn_head', 'roi_head', 'train_cfg', 'test_cfg'):
        assert ours[part] == theirs[part], part
    assert {**ours.neck, 'in_channels': None} == {**theirs.neck, 'in_channels': None}
