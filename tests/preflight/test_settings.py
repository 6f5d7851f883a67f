import math
from pathlib import Path

import pytest
from exact_task import EPOCHS, ITERATIONS
from mmengine.config import Config
from toy_task import CONFIG

from pelk_mm.apis.test import evaluate
from pelk_mm.apis.train import train
from pelk_mm.engine.config import load_config
from pelk_mm.preflight.settings import RULES, check_settings
from pelk_mm.utils.errors import CheckpointError, ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'

HOOK = 'default_hooks.checkpoint'
SCHEDULE = 'param_scheduler.0'
WRONG = [
    ('default_scope', 5, 'default_scope must be a string that is not empty, but got 5'),
    ('work_dir', 5, 'work_dir must be a path, but got 5'),
    ('load_from', '', "load_from must be a string that is not empty, but got ''"),
    ('resume', 'epoch_1.pth', "resume must be True or False, but got 'epoch_1.pth'"),
    ('log_level', 'info', "log_level must be the name of a level of logging, such as 'INFO', but got 'info'"),
    ('log_processor.window_size', 0, 'log_processor.window_size must be at least 1, but got 0'),
    ('log_processor.by_epoch', 'no', 'log_processor.by_epoch must be True or False'),
    ('visualizer', 5, 'visualizer must be a dict, but got 5'),
    ('model.data_preprocessor', {'std': [1, 0]}, 'model.data_preprocessor.std must be a list of numbers above 0'),
    ('data_preprocessor', {'std': [-1.0]}, 'data_preprocessor.std must be a list of numbers above 0, but got [-1.0]'),
    ('find_unused_parameters', 'no', 'find_unused_parameters must be True or False'),
    ('compile', 'no', "compile must be True, False or a dict, but got 'no'"),
    ('randomness', 0, 'randomness must be a dict, but got 0'),
    ('randomness.seed', -1, 'randomness.seed must be in 0..4294967295, but got -1'),
    ('randomness.seed', 2**32, 'randomness.seed must be in 0..4294967295'),
    ('randomness.seed', '0', "randomness.seed must be an int, but got '0'"),
    ('randomness.deterministic', 1, 'randomness.deterministic must be True or False, but got 1'),
    ('randomness.diff_rank_seed', 'no', 'randomness.diff_rank_seed must be True or False'),
    ('env_cfg', 3, 'env_cfg must be a dict, but got 3'),
    ('env_cfg.cudnn_benchmark', 'no', "env_cfg.cudnn_benchmark must be True or False, but got 'no'"),
    ('env_cfg.resource_limit', 'x', "env_cfg.resource_limit must be an int, but got 'x'"),
    ('env_cfg.mp_cfg', 5, 'env_cfg.mp_cfg must be a dict'),
    ('env_cfg.mp_cfg.mp_start_method', 'thread', "must be one of 'fork', 'spawn', 'forkserver', but got 'thread'"),
    ('env_cfg.mp_cfg.opencv_num_threads', 1.5, 'env_cfg.mp_cfg.opencv_num_threads must be an int, but got 1.5'),
    ('env_cfg.dist_cfg', 5, 'env_cfg.dist_cfg must be a dict'),
    ('env_cfg.dist_cfg.backend', 'ncl', "env_cfg.dist_cfg.backend must be a back-end of torch.distributed, such as 'n"),
    ('env_cfg.dist_cfg.timeout', 0, 'env_cfg.dist_cfg.timeout must be a number above 0, but got 0'),
    ('train_cfg', {'max_epochs': 2}, 'train_cfg must be a dict with either type or by_epoch'),
    ('train_cfg.type', 'EpochBasedTrainLoop', 'train_cfg must be a dict with either type or by_epoch'),
    ('train_cfg.by_epoch', 1, 'train_cfg.by_epoch must be True or False, but got 1'),
    ('train_cfg.max_epochs', 0, 'train_cfg.max_epochs must be at least 1, but got 0'),
    ('train_cfg.max_epochs', None, 'train_cfg.max_epochs must be an int, but got None'),
    ('train_cfg.max_iters', 1.5, 'train_cfg.max_iters must be an int, but got 1.5'),
    ('train_cfg.val_begin', -1, 'train_cfg.val_begin must be at least 0, but got -1'),
    ('train_cfg.val_interval', 0, 'train_cfg.val_interval must be at least 1, but got 0'),
    ('train_cfg.dynamic_intervals', [(1, 0)], 'train_cfg.dynamic_intervals must be a list of pairs (first step, '),
    ('train_cfg.dynamic_intervals', (1, 1), 'train_cfg.dynamic_intervals must be a list of pairs'),
    ('val_cfg.fp16', 'no', "val_cfg.fp16 must be True or False, but got 'no'"),
    ('val_dataloader', 5, 'val_dataloader must be a dict, but got 5'),
    ('train_dataloader.batch_size', 0, 'train_dataloader.batch_size must be at least 1, but got 0'),
    ('val_dataloader.batch_size', '4', "val_dataloader.batch_size must be an int, but got '4'"),
    ('train_dataloader.num_workers', 1.5, 'train_dataloader.num_workers must be an int, but got 1.5'),
    ('train_dataloader.pin_memory', 'no', 'train_dataloader.pin_memory must be True or False'),
    ('train_dataloader.collate_fn.type', 'no', 'collate_fn.type must name a function that collates samples, but got '),
    ('train_dataloader.dataset.reduce_zero_label', 'no', 'dataset.reduce_zero_label must be True or False'),
    ('train_dataloader.sampler.shuffle', 'no', 'train_dataloader.sampler.shuffle must be True or False'),
    ('val_evaluator', 5, 'val_evaluator must be a dict with a type, or a list of such, but got 5'),
    ('val_evaluator', [{'typ': 'ToyMetric'}], 'val_evaluator must be a dict with a type, or a list of such'),
    ('val_evaluator', [{'type': 'NoMetric'}], "val_evaluator.0.type must name a metric, but got 'NoMetric'"),
    ('val_evaluator.collect_device', 'tpu', "val_evaluator.collect_device must be one of 'cpu', 'gpu', 'npu'"),
    ('optim_wrapper', 5, 'optim_wrapper must be a dict'),
    ('optim_wrapper.accumulative_counts', 1.5, 'optim_wrapper.accumulative_counts must be an int, but got 1.5'),
    ('optim_wrapper.clip_grad', 5, 'optim_wrapper.clip_grad must be a dict such as dict(max_norm=1.0), but got 5'),
    ('optim_wrapper.clip_grad', {'maxnorm': 1}, "clip_grad takes no argument 'maxnorm': did you mean 'max_norm'?"),
    ('optim_wrapper.clip_grad', {'max_norm': -1}, 'optim_wrapper.clip_grad.max_norm must be a number above 0'),
    ('optim_wrapper.clip_grad', {'max_norm': math.nan}, 'optim_wrapper.clip_grad.max_norm must be a number above 0'),
    ('optim_wrapper.clip_grad', {'max_norm': 1, 'norm_type': 'x'}, 'clip_grad.norm_type must be a number above 0'),
    ('optim_wrapper.clip_grad', {'type': 'value', 'clip_value': 0}, 'clip_grad.clip_value must be a number above 0'),
    ('optim_wrapper.loss_scale', 0, "optim_wrapper.loss_scale must be 'dynamic', a dict or a number above 0"),
    ('optim_wrapper.optimizer.type', 'No', "optim_wrapper.optimizer.type must name an optimizer, but got 'No'"),
    ('optim_wrapper.optimizer.lr', math.inf, 'optim_wrapper.optimizer.lr must be a finite number, but got inf'),
    ('optim_wrapper.optimizer.lr', '1e-3', "optim_wrapper.optimizer.lr must be a finite number, but got '1e-3'"),
    ('optim_wrapper.optimizer.weight_decay', -1, 'optim_wrapper.optimizer.weight_decay must be at least 0'),
    ('auto_scale_lr', {'enable': True}, 'auto_scale_lr must be a dict with base_batch_size'),
    ('auto_scale_lr', {'enable': 'no', 'base_batch_size': 8}, 'auto_scale_lr.enable must be True or False'),
    ('auto_scale_lr.base_batch_size', 0, 'auto_scale_lr.base_batch_size must be at least 1, but got 0'),
    (f'{SCHEDULE}.by_epoch', 'no', f"{SCHEDULE}.by_epoch must be True or False, but got 'no'"),
    (f'{SCHEDULE}.convert_to_iter_based', 1, f'{SCHEDULE}.convert_to_iter_based must be True or False'),
    (f'{SCHEDULE}.begin', -1, f'{SCHEDULE}.begin must be at least 0, but got -1'),
    (f'{SCHEDULE}.end', 0, f'{SCHEDULE}.end must be a number above 0, but got 0'),
    (f'{SCHEDULE}.start_factor', 2, f'{SCHEDULE}.start_factor must be a number above 0 and at most 1, but got 2'),
    (f'{SCHEDULE}.end_factor', math.nan, f'{SCHEDULE}.end_factor must be a finite number, but got nan'),
    (f'{SCHEDULE}.factor', 0, f'{SCHEDULE}.factor must be a number above 0 and at most 1'),
    (f'{SCHEDULE}.gamma', -0.1, f'{SCHEDULE}.gamma must be at least 0, but got -0.1'),
    (f'{SCHEDULE}.power', 'x', f"{SCHEDULE}.power must be a finite number, but got 'x'"),
    (f'{SCHEDULE}.eta_min', -1, f'{SCHEDULE}.eta_min must be at least 0, but got -1'),
    (f'{SCHEDULE}.eta_min_ratio', math.nan, f'{SCHEDULE}.eta_min_ratio must be a finite number'),
    (f'{SCHEDULE}.T_max', 0, f'{SCHEDULE}.T_max must be a number above 0, but got 0'),
    (f'{SCHEDULE}.step_size', 1.5, f'{SCHEDULE}.step_size must be an int, but got 1.5'),
    (f'{SCHEDULE}.milestones', '12', f"{SCHEDULE}.milestones must be a list of numbers of at least 0, but got '12'"),
    ('default_hooks', 5, 'default_hooks must be a dict, but got 5'),
    ('custom_hooks', {'type': 'EMAHook'}, 'custom_hooks must be a list of dicts, but got '),
    ('custom_hooks', [{'type': 'EMAHook', 'priority': 'TOP'}], 'custom_hooks.0.priority must be in 0..100 or one of'),
    ('custom_hooks', [{'type': 'EMAHook', 'priority': 101}], 'custom_hooks.0.priority must be in 0..100 or one of'),
    ('custom_hooks', [{'type': 'EMAHook', 'momentun': 1}], "takes no argument 'momentun': did you mean 'momentum'?"),
    ('custom_hooks', [{'type': 'EMAHook', 'ema_type': 'No'}], "custom_hooks.0.ema_type must name a model average, but"),
    ('custom_hooks', [{'type': 'EMAHook', 'momentum': 2}], 'custom_hooks.0.momentum must be in 0..1, but got 2'),
    ('custom_hooks', [{'type': 'mmengine.EMAHook', 'interval': 0}], 'custom_hooks.0.interval must be at least 1'),
    (f'{HOOK}.intervall', 1, f"{HOOK} takes no argument 'intervall': did you mean 'interval'?"),
    (f'{HOOK}.interval', 0, f'{HOOK}.interval must be at least 1, but got 0'),
    (f'{HOOK}.by_epoch', 'no', f'{HOOK}.by_epoch must be True or False'),
    (f'{HOOK}.save_last', 'no', f'{HOOK}.save_last must be True or False'),
    (f'{HOOK}.save_begin', -1, f'{HOOK}.save_begin must be at least 0'),
    (f'{HOOK}.save_optimizer', 0, f'{HOOK}.save_optimizer must be True or False'),
    (f'{HOOK}.save_param_scheduler', 0, f'{HOOK}.save_param_scheduler must be True or False'),
    (f'{HOOK}.save_best', True, f'{HOOK}.save_best must be a string or a list of strings, but got True'),
    (f'{HOOK}.rule', 'most', f"{HOOK}.rule must be 'greater', 'less' or a list of them, but got 'most'"),
    (f'{HOOK}.max_keep_ckpts', 0, f'{HOOK}.max_keep_ckpts must be at least 1, but got 0'),
    (f'{HOOK}.filename_tmpl', 'last.pth', f"{HOOK}.filename_tmpl must be a name with a place for the step, as 'step_"),
    ('default_hooks.logger', {'type': 'LoggerHook', 'interval': True}, 'default_hooks.logger.interval must be an int'),
    ('default_hooks.logger', {'type': 'LoggerHook', 'log_metric_by_epoch': 0}, 'log_metric_by_epoch must be True or F'),
]  # fmt: skip
RIGHT = [
    ('randomness.seed', None),
    ('log_level', 'WARN'),
    ('env_cfg.dist_cfg', {'backend': 'cpu:gloo,cuda:nccl', 'timeout': 1800}),
    ('train_cfg', {'type': 'IterBasedTrainLoop', 'max_iters': 10, 'dynamic_intervals': [(0, 2), (5, 1)]}),
    ('train_dataloader.batch_size', None),
    ('val_dataloader', None),
    ('val_evaluator', {'metrics': [{'type': 'ToyMetric'}]}),
    ('val_evaluator', {'type': 'MultiDatasetsEvaluator', 'metrics': [], 'dataset_prefixes': []}),
    ('optim_wrapper.clip_grad', {'max_norm': math.inf, 'norm_type': 'inf'}),
    ('optim_wrapper.clip_grad', {'type': 'value', 'clip_value': 1.0}),
    ('optim_wrapper', {'net': {'optimizer': {'lr': 'of no single optimizer'}}, 'constructor': 'MyConstructor'}),
    ('param_scheduler', {'type': 'MultiStepLR', 'milestones': [0.5, 2], 'convert_to_iter_based': True}),
    ('param_scheduler', {'generator': [{'type': 'ConstantLR', 'factor': 0.5}]}),
    ('custom_hooks', [{'type': 'MyCheckpointHook', 'colour': 'red'}, {'type': 'MyHook', 'priority': 'very_low'}]),
    ('auto_scale_lr', {'enable': False}),
    (f'{HOOK}.interval', -1),
    (f'{HOOK}.save_best', ['acc', 'mIoU']),
    (f'{HOOK}.filename_tmpl', 'step_{:06d}.pth'),
    ('my_own', {'by_epoch': 'anything'}),
]


def configured(name, value):
    """The toy's config with one setting changed, whatever stood there before."""
    cfg = Config.fromstring(CONFIG, '.py')
    *parents, last = name.split('.')
    node = cfg
    for key in parents:
        if key not in node and not key.isdigit():
            node[key] = {}
        node = node[int(key) if key.isdigit() else key]
    node[last] = value
    return cfg


@pytest.mark.parametrize(('name', 'value', 'message'), WRONG, ids=[f'{name}-{i}' for i, (name, *_) in enumerate(WRONG)])
def test_a_wrong_setting_is_named(name, value, message):
    with pytest.raises(ConfigError) as caught:
        check_settings(configured(name, value))
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('name', 'value'), RIGHT, ids=[f'{name}-{i}' for i, (name, _) in enumerate(RIGHT)])
def test_a_right_setting_passes(name, value):
    check_settings(configured(name, value))


def test_every_rule_has_refused_something(monkeypatch):
    """A pattern with a slip in it would match nothing, and pass everything."""
    refusing = set()

    def noting(pattern, rule):
        def noted(name, value):
            try:
                rule(name, value)
            except (TypeError, ValueError):
                refusing.add(pattern)
                raise

        return noted

    monkeypatch.setattr('pelk_mm.preflight.settings.RULES', {key: noting(key, rule) for key, rule in RULES.items()})
    for name, value, _ in WRONG:
        with pytest.raises(ConfigError):
            check_settings(configured(name, value))
    assert sorted(RULES.keys() - refusing) == []


def test_settings_that_are_not_used_are_not_looked_at():
    cfg = configured('train_dataloader.batch_size', 0)
    check_settings(cfg, unused=['train_*'])
    with pytest.raises(ConfigError, match='train_dataloader.batch_size'):
        check_settings(cfg, unused=['test_*'])


def test_nothing_is_written(toy_config, tmp_path):
    with pytest.raises(ConfigError, match=r'^train_cfg.val_interval must be at least 1, but got 0$'):
        train(toy_config, cfg_options={'train_cfg.val_interval': 0})
    assert not (tmp_path / 'work_dirs').exists()


def test_testing_looks_at_what_it_uses(toy_config):
    with pytest.raises(ConfigError, match=r'^test_dataloader.batch_size must be at least 1, but got 0$'):
        evaluate(toy_config, 'none.pth', cfg_options={'test_dataloader.batch_size': 0})
    with pytest.raises(CheckpointError, match='none.pth does not exist'):
        evaluate(toy_config, 'none.pth', cfg_options={'train_cfg.val_interval': 0, 'resume': 'of a training'})


@pytest.mark.parametrize('text', [CONFIG, EPOCHS, ITERATIONS], ids=['toy', 'epochs', 'iterations'])
def test_the_configs_of_the_tests_pass(text):
    check_settings(Config.fromstring(text, '.py'))


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.rglob('*.py')), ids=lambda path: str(path.relative_to(CONFIGS).with_suffix(''))
)
def test_every_shipped_config_passes(path):
    pytest.importorskip('mmpretrain', reason='its metrics are named')
    pytest.importorskip('mmseg', reason='its metrics are named')
    pytest.importorskip('mmdet', reason='its metrics are named')
    if '_base_' in path.parts:  # a part of a config has no scope to look metrics up in
        check_settings(Config.fromfile(path), unused=['*_evaluator'])
    else:
        check_settings(load_config(path))
