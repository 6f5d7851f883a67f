"""Config files and settings that cannot be used."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from toy_task import CONFIG

# Settings of whole numbers and of numbers, with the least of each.
WHOLE = {
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 1,
    'train_cfg.val_begin': 0,
    'train_dataloader.batch_size': 1,
    'train_dataloader.num_workers': 0,
    'val_dataloader.batch_size': 1,
    'randomness.seed': 0,
    'default_hooks.checkpoint.max_keep_ckpts': 1,
    'optim_wrapper.accumulative_counts': 1,
    'env_cfg.resource_limit': 1,
    'log_processor.window_size': 1,
}
NUMBERS = ['optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.weight_decay', 'param_scheduler.0.start_factor']
WRONG = {'fraction': '1.5', 'text': 'many', 'list': '[1,2]', 'nan': 'nan', 'huge': '1e999'}


@pytest.mark.parametrize('kind', ['below', *WRONG])
@pytest.mark.parametrize('name', WHOLE)
def test_a_setting_that_is_no_whole_number(toy_config, refuse, name, kind):
    value = WHOLE[name] - 3 if kind == 'below' else WRONG[kind]
    refuse(name.replace('.0.', '..*'), 'train.py', 'toy.py', '--cfg-options', f'{name}={value}')


@pytest.mark.parametrize('value', ['-1', 'some', '[1,2]', 'nan', '1e999', 'None,None', 'True'])
@pytest.mark.parametrize('name', NUMBERS)
def test_a_setting_that_is_no_number(toy_config, refuse, name, value):
    refuse(name.split('.')[-1], 'train.py', 'toy.py', '--cfg-options', f'{name}={value}')


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.type=NoModel', 'NoModel'),
        ('model.width=0', 'BatchNorm1d'),
        ('model.width=-4', 'model|width'),
        ('model.norm=NoNorm', 'NoNorm'),
        ('model.depth=3', 'depth'),
        ('model=5', 'model'),
        ('model.data_preprocessor=7', 'data_preprocessor|model'),
        ('train_dataloader.dataset.type=NoData', 'NoData'),
        ('train_dataloader.dataset.colour=red', 'colour'),
        ('train_dataloader.dataset.size=0', 'train_dataloader'),
        ('train_dataloader.sampler.type=NoSampler', 'NoSampler'),
        ('train_dataloader.collate_fn.type=no_collate', 'no_collate'),
        ('train_dataloader.workers=2', 'workers'),
        ('val_dataloader.dataset=None', 'val_dataloader'),
        ('val_evaluator.type=NoMetric', 'NoMetric'),
        ('val_evaluator=3', 'val_evaluator'),
        ('val_cfg=None', 'val_cfg'),
        ('train_cfg.max_iters=3', 'max_iters'),
        ('train_cfg=None', 'train_cfg'),
        ('optim_wrapper.type=NoWrapper', 'NoWrapper'),
        ('optim_wrapper.optimizer.type=NoOptimizer', 'NoOptimizer'),
        ('optim_wrapper.optimizer.lrate=1', 'lrate'),
        ('optim_wrapper.constructor=NoConstructor', 'NoConstructor'),
        ('optim_wrapper.optimizer=None', 'optimizer'),
        ('param_scheduler.0.type=NoSchedule', 'NoSchedule'),
        ('param_scheduler.0.start=3', 'start'),
        ('param_scheduler=4', 'param_scheduler'),
        ('default_hooks.checkpoint.type=NoHook', 'NoHook'),
        ('default_hooks.checkpoint.save_best=no_such_score', 'no_such_score'),
        ('custom_hooks=[3]', 'hook'),
        ('log_level=LOUD', 'log_level'),
        ('env_cfg.mp_cfg.mp_start_method=magic', 'mp_start_method'),
        ('env_cfg.dist_cfg.backend=carrier_pigeon', 'backend'),
        ('visualizer.vis_backends=[dict(type=NoBackend)]', 'visualizer|NoBackend'),
        ('runner_type=MyRunner', 'runner_type'),
        ('work_dir=toy.py', 'toy.py'),
        ('load_from=none.pth', 'none.pth'),
        ('resume=maybe', 'resume'),
        ('custom_imports.imports=[no_such_module]', 'no_such_module|custom_imports'),
        ('no.such.entry=1', 'no'),
    ],
)  # fmt: skip
def test_a_setting_of_another_kind(toy_config, refuse, option, words):
    refuse(words, 'train.py', 'toy.py', '--cfg-options', option)


def loop(name):
    os.symlink('b', 'a')
    os.symlink('a', 'b')
    os.symlink('a', name)


FILES = {
    'missing': (lambda name: None, 'does not exist'),
    'folder': (os.mkdir, 'is a folder'),
    'empty': (lambda name: Path(name).touch(), "defines no 'model'"),
    'loop of links': (loop, 'does not exist'),
    'binary': (lambda name: Path(name).write_bytes(bytes(range(256))), 'bad.py'),
    'other encoding': (lambda name: Path(name).write_bytes('model = "\xe4"'.encode('latin-1')), 'bad.py'),
    'syntax error': (lambda name: Path(name).write_text('model = dict(\n'), 'not valid Python'),
    'raises': (lambda name: Path(name).write_text('raise RuntimeError("no\\nway")\n'), 'RuntimeError: no'),
    'exits': (lambda name: Path(name).write_text('raise SystemExit(0)\n'), 'SystemExit|exit'),
    'unknown base': (lambda name: Path(name).write_text("_base_ = ['none.py']\n" + CONFIG), 'none.py'),
    'base of itself': (lambda name: Path(name).write_text(f"_base_ = ['{name}']\n" + CONFIG), 'bad.py'),
    'unknown name': (lambda name: Path(name).write_text(CONFIG + '\nx = no_such_name\n'), 'no_such_name'),
    'model is a list': (lambda name: Path(name).write_text(CONFIG + '\nmodel = [1]\n'), 'model'),
    'path with a null': (
        lambda name: Path(name).write_text(CONFIG + "\nload_from = 'a\\0b.pth'\n"),
        'checkpoint a.b.pth does not exist',
    ),
    'work_dir with a null': (
        lambda name: Path(name).write_text(CONFIG + "\nwork_dir = 'a\\0b'\n"),
        r'a.*b.* null byte',
    ),
    'long work_dir': (
        lambda name: Path(name).write_text(CONFIG + "\nwork_dir = 'a' * 5000\n"),
        'aaaa.* too long|aaaa \\.\\.\\. ',
    ),
    'undefined import': (
        lambda name: Path(name).write_text(CONFIG.replace('toy_task', 'no_such_module')),
        'no_such_module',
    ),
}


@pytest.mark.parametrize('kind', FILES)
def test_a_file_that_is_no_config(toy_config, refuse, kind):
    write, words = FILES[kind]
    write('bad.py')
    refuse(words, 'train.py', 'bad.py')


@pytest.mark.parametrize('tool', ['train.py', 'test.py', 'predict.py', 'analysis_tools/get_flops.py'])
@pytest.mark.parametrize('name', ['toy.txt', 'x' * 300 + '.py', 'y' * 5000 + '.py', 'toy.py/toy.py', '~nobody/toy.py'])
def test_a_name_that_is_no_config(toy_config, refuse, tool, name):
    Path('toy.txt').write_text(CONFIG)
    torch.save({'state_dict': {}}, 'a.pth')
    Image.new('RGB', (8, 8)).save('a.png')
    more = {
        'test.py': ['a.pth'],
        'predict.py': ['a.pth', 'a.png', '--out-dir', 'out'],
        'analysis_tools/get_flops.py': ['--shape', '64', '64'],
    }.get(tool, [])
    refuse(r'config .*(does not exist|is not a config|yyy \.\.\. )', tool, name, *more)


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.backbone.kernel_sizes=(13,11,9)', 'kernel_sizes'),
        ('model.backbone.kernel_sizes=(12,11,9,7)', 'kernel_sizes|12'),
        ('model.backbone.kernel_sizes=(-13,11,9,7)', 'kernel_sizes|-13'),
        ('model.backbone.kernel_sizes=wide', 'kernel_sizes'),
        ('model.backbone.kernel_sizes=(1.5,11,9,7)', 'kernel_sizes|1.5'),
        ('model.backbone.arch=giant', 'arch'),
        ('model.backbone.arch.depths=(1,1)', 'depths|arch'),
        ('model.backbone.arch.channels=(8,0,8,8)', 'channels|arch'),
        ('model.backbone.width_factor=0', 'width_factor'),
        ('model.backbone.width_factor=nan', 'width_factor'),
        ('model.backbone.out_indices=(0,4)', 'out_indices'),
        ('model.backbone.out_indices=()', 'out_indices'),
        ('model.backbone.drop_path_rate=1.5', 'drop_path_rate'),
        ('model.backbone.drop_path_rate=-0.1', 'drop_path_rate'),
        ('model.backbone.in_channels=0', 'in_channels'),
        ('model.backbone.frozen_stages=9', 'frozen_stages'),
        ('model.backbone.layer_scale_init_value=-1', 'layer_scale_init_value'),
        ('model.backbone.mixer=magic', 'mixer'),
        ('model.backbone.norm_cfg.type=NoNorm', 'NoNorm'),
        ('model.backbone.partial=2.0', 'partial'),
        ('model.backbone.type=pelk_mm.PeLKX', 'PeLKX'),
        ('model.backbone.colour=red', 'colour'),
        ('model.backbone.gap_before_final_norm=True', 'gap_before_final_norm'),
        ('model.backbone.init_cfg.type=Pretrained', 'init_cfg|checkpoint'),
        ('model.decode_head.in_channels=16', 'in_channels'),
        ('model.decode_head.in_index=3', 'in_index'),
        ('model.decode_head.num_classes=30', 'num_classes'),
        ('model.decode_head.num_classes=0', 'num_classes'),
        ('model.decode_head.loss_decode.class_weight=[1.0,2.0]', 'class_weight'),
        ('model.decode_head.loss_decode.type=NoLoss', 'NoLoss'),
        ('model.data_preprocessor.std=[0.0,0.0,0.0]', 'std'),
        ('train_dataloader.dataset.pipeline=[]', 'inputs'),
        ('train_dataloader.dataset.pipeline.0.type=NoTransform', 'NoTransform'),
    ],
)  # fmt: skip
def test_a_segmentor_that_does_not_fit_together(project, refuse, option, words):
    refuse(words, 'train.py', 'seg.py', '--cfg-options', option)


@pytest.mark.parametrize('mixer', ['peripheral', 'dense', 'stripe', 'inception', 'shiftwise', 'dilated'])
def test_an_absurd_kernel(project, refuse, mixer):
    options = ['model.backbone.kernel_sizes=(1000000001,11,9,7)', f'model.backbone.mixer={mixer}']
    refuse('must be at most 1048575.*TiB', 'train.py', 'seg.py', '--cfg-options', *options)


def test_a_kernel_beyond_the_memory(project, refuse):
    option = 'model.backbone.kernel_sizes=(1000001,11,9,7)'
    refuse(r'the memory does not suffice.*GiB at once', 'train.py', 'seg.py', '--cfg-options', option, status=1)
