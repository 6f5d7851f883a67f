"""Every config in configs/ fits together, does a step of its optimizer and an evaluation on made-up data."""

import copy
import math

import pytest

pytest.importorskip('mmpretrain', reason='some configs are for mmpretrain')
pytest.importorskip('mmdet', reason='some configs are for mmdet')
pytest.importorskip('mmseg', reason='some configs are for mmseg')

from mmengine.hooks import Hook
from small import CONFIGS, LOADERS, ROOT, build_backbone, narrow, resolved, small_config

from pelk_mm.engine.config import load_config
from pelk_mm.engine.runner.runner import SafeRunner
from pelk_mm.layers import MIXERS
from pelk_mm.models import LargeKernelBackbone
from pelk_mm.preflight.dry_pass import dry_pass

# Maps of tiny images are too small for anchors and regions on the coarse levels of the pyramid.
UNUSED = ('neck.fpn_convs.1', 'neck.fpn_convs.2', 'neck.fpn_convs.3')
BLOCKS = ('backbone.stages', 'backbone.focus_stages')
METRICS = {'mmpretrain': 'accuracy/top1', 'mmseg': 'mIoU', 'mmdet': 'coco/bbox_mAP'}


class OneStep(Hook):
    """Ends training after the first step of the optimizer, and notes what the evaluation saw."""

    evaluated = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert all(math.isfinite(value) for value in runner.message_hub.get_scalar('train/loss').data[0])
        if runner.optim_wrapper.optimizer.state:
            runner.train_loop.stop_training = True

    def before_val_epoch(self, runner):
        self.with_gradient = {
            name: bool(runner.optim_wrapper.optimizer.state[param]['exp_avg'].any())
            for name, param in runner.model.named_parameters()
        }

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.evaluated += len(outputs)

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = metrics


@pytest.fixture
def quick(monkeypatch):
    """Without what takes most of the time and is tested elsewhere: pretty-printing configs, writing checkpoints."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **kwargs: (text, True))
    monkeypatch.setattr(SafeRunner, 'save_checkpoint', lambda *args, **kwargs: None)


def one_step(cfg):
    cfg.setdefault('randomness', {'seed': 0})  # the same blocks are dropped whenever the suite runs
    runner = SafeRunner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    dry_pass(runner)
    watch = OneStep()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('name', CONFIGS)
def test_one_step_and_one_evaluation(name, data, tmp_path):
    cfg = small_config(name, data(name), tmp_path)
    runner, watch = one_step(cfg)
    # Of a block that drop path left out in every image nothing has a gradient; that is seldom more than half of them.
    blocks = [seen for key, seen in watch.with_gradient.items() if key.startswith(BLOCKS)]
    assert sum(blocks) > len(blocks) / 2
    without = [key for key, seen in watch.with_gradient.items() if not seen and not key.startswith(BLOCKS)]
    # h has one where a block of its stage took part.
    taking_part = {key.split('.')[2] for key, seen in watch.with_gradient.items() if 'mixer' in key and seen}
    idle = tuple(f'backbone.pos_embeds.{stage}' for stage in '0123' if stage not in taking_part)
    assert all(key.startswith((*UNUSED, *idle)) for key in without), without
    assert watch.evaluated == len(runner.val_dataloader.dataset)
    score = watch.metrics.get(METRICS[cfg.default_scope])
    if cfg.default_scope == 'mmdet':  # an untrained detector is sure of nothing, and detects nothing
        assert score is None
    else:
        assert 0 <= score <= 100


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('mixer', MIXERS)
def test_the_toy_config_trains_with_every_mixer(mixer, data, tmp_path):
    name = 'demo/upernet_pelk_atto_toy.py'
    cfg = small_config(name, data(name), tmp_path)
    cfg.model.backbone.mixer = mixer
    runner, watch = one_step(cfg)
    assert {type(block.mixer) for stage in runner.model.backbone.stages for block in stage} == {MIXERS[mixer]}
    weights = [seen for key, seen in watch.with_gradient.items() if '.mixer.' in key and 'weight' in key]
    assert sum(weights) > len(weights) / 2  # drop path leaves some blocks out
    assert 0 <= watch.metrics['mIoU'] <= 100


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize(
    'name', ['demo/cascade_mask_rcnn_pelk_atto_coco.py', 'demo/cascade_mask_rcnn_pelk_atto_coco_overfit.py']
)
def test_detections_are_scored(name, data, tmp_path):
    cfg = small_config(name, data(name), tmp_path)
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    _, watch = one_step(cfg)
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(watch.metrics)
    assert all(-1 <= value <= 1 for value in watch.metrics.values())


@pytest.mark.parametrize('name', CONFIGS)
def test_widths_fit_at_full_size(name):
    cfg = resolved(name)
    backbone = build_backbone(cfg)
    ours = isinstance(backbone, LargeKernelBackbone)
    widths = [backbone.output_channels(stage) for stage in range(4)] if ours else list(backbone.channels)
    if cfg.default_scope == 'mmseg':
        assert cfg.model.decode_head.in_channels == widths
        assert cfg.model.auxiliary_head.in_channels == widths[2]
    elif cfg.default_scope == 'mmdet':
        assert cfg.model.neck.in_channels == widths
    elif 'neck' in cfg.model:
        assert cfg.model.neck.in_channels == widths[3]
        assert cfg.model.head.in_channels == 3 * widths[3]
    else:
        assert cfg.model.head.in_channels == widths[3]
        if cfg.model.head.type == 'pelk_mm.OverLoCKHead':
            assert cfg.model.head.overview_channels == backbone.channels[3]


@pytest.mark.parametrize('name', CONFIGS)
def test_shrinking_keeps_the_net(name):
    """The step above is worth something only if the small net is the config's but for its widths."""
    cfg, small = resolved(name), copy.deepcopy(resolved(name))
    narrow(small.model)
    large, small = build_backbone(cfg), build_backbone(small)
    assert [key for key, _ in large.named_parameters()] == [key for key, _ in small.named_parameters()]
    kernels = [
        [module.kernel_size for module in net.modules() if hasattr(module, 'kernel_size')] for net in (large, small)
    ]
    assert kernels[0] == kernels[1]


@pytest.mark.parametrize('name', CONFIGS)
def test_data_folder_comes_from_the_environment(name, monkeypatch):
    roots = [resolved(name)[loader].dataset.data_root for loader in LOADERS]
    assert len(set(roots)) == 1
    assert roots[0].startswith('data/')
    monkeypatch.setenv('PELK_MM_DATA', '/elsewhere')
    cfg = load_config(ROOT / name)
    for loader in LOADERS:
        assert cfg[loader].dataset.data_root == roots[0].replace('data/', '/elsewhere/', 1)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert (evaluator.get('ann_file') or '/elsewhere/').startswith('/elsewhere/')
