"""What the ImageNet configs promise of training: which weights decay, and what the average averages."""

import re

import pytest
import torch

pytest.importorskip('mmpretrain', reason='the ImageNet configs are for mmpretrain')

from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from small import small_config

from pelk_mm.engine.runner.runner import SafeRunner

# Norms (mixer, block, stem, downsampling, output), every bias, layer scale, h: by the names of the parameters.
NO_DECAY = re.compile(r'norm|\.bias$|gamma|pos_embeds|downsample_layers\.(0\.1|[123]\.0)\.')


@pytest.mark.parametrize('name', ['pelk_t_imagenet.py', 'pelk_b_imagenet_384.py'])
def test_norms_biases_layer_scale_and_h_do_not_decay(name, data, tmp_path):
    cfg = small_config(name, data(name), tmp_path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {key: group['weight_decay'] for group in groups for key in group['param_names']}
    assert decays.keys() == dict(model.named_parameters()).keys()
    base = cfg.optim_wrapper.optimizer.weight_decay
    assert decays == {key: 0.0 if NO_DECAY.search(key) else base for key in decays}
    assert sum(key.startswith('backbone.pos_embeds') for key in decays) == 4
    if '384' not in name:
        assert {group['lr'] for group in groups} == {4e-3}


@pytest.mark.parametrize(
    'name',
    ['sw_t_imagenet.py', 'cascade_mask_rcnn_unireplknet_t_coco.py', 'wbmm_t_imagenet.py', 'upernet_wbmm_t_ade20k.py'],
)
def test_what_decays_where_the_authors_have_grn_in_four_dimensions(name, data, tmp_path):
    model, decays = weight_decays(small_config(name, data(name), tmp_path))
    assert sum('.grn.' in key for key in decays) == 2 * 27
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert decays[key] == (0.05 if parameter.ndim > 1 or '.grn.' in key else 0.0), key


@pytest.mark.parametrize('name', ['wtconvnext_t_imagenet.py', 'upernet_wtconvnext_t_ade20k.py'])
def test_the_scales_of_wavelet_convolutions_decay_where_those_of_the_authors_do(name, data, tmp_path):
    model, decays = weight_decays(small_config(name, data(name), tmp_path))
    scales = [key for key in decays if key.endswith('scale')]
    assert len(scales) == 18 + 3 * 5 + 3 * 4 + 9 * 3 + 3 * 2
    for key, parameter in model.named_parameters():
        assert decays[key] == (0.05 if parameter.ndim > 1 or (key in scales and 'ade20k' in name) else 0.0), key


RESIDUALS = re.compile(r'\.(residual\d?|context_scale|overview_scale)\.weight$|grn\.(gamma|beta)$')
# What the authors' names call a norm.
SPARED = re.compile(r'^backbone\.(norm\d|context_output\.0|focus_stages\.\d\.\d+\.norm\d)\.')


@pytest.mark.parametrize(
    'name', ['overlock_t_imagenet.py', 'upernet_overlock_t_ade20k.py', 'mask_rcnn_overlock_t_coco.py']
)
def test_what_decays_in_overlock(name, data, tmp_path):
    """On ImageNet what is 1-D in the authors' code does not; in dense tasks only what they call a norm does not."""
    cfg = small_config(name, data(name), tmp_path)
    model, decays = weight_decays(cfg)
    base = cfg.optim_wrapper.optimizer.weight_decay
    for key, parameter in model.named_parameters():
        decayed = not SPARED.search(key)
        if 'imagenet' in name:
            decayed = parameter.ndim > 1 or bool(RESIDUALS.search(key))
        assert decays[key] == (base if decayed else 0.0), key
    biases = [key for key in decays if key.endswith(('small_bias', 'large_bias'))]
    assert len(biases) == 2 * 14
    affine = [key for key in decays if RESIDUALS.search(key)]
    assert len(affine) == 8 + 14 * 4 - 2 + 2 * (16 + 2 * 14)


def weight_decays(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    return model, {key: group['weight_decay'] for group in groups for key in group['param_names']}


class Snapshots(Hook):
    """Weights before each step of the optimizer, and whenever training ends the average."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.weights, self.iterations = [], 0

    def before_train(self, runner):
        self.weights.append(self.copy(runner.model))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iterations += 1
        if self.iterations % 4 == 0:
            self.weights.append(self.copy(runner.model))
        ema = next(hook for hook in runner.hooks if hasattr(hook, 'ema_model'))
        self.average = self.copy(ema.ema_model.module)
        runner.train_loop.stop_training = self.iterations >= 8

    @staticmethod
    def copy(model):
        return {key: value.clone().double() for key, value in model.state_dict().items() if value.is_floating_point()}


def test_the_average_counts_steps_of_the_optimizer(data, tmp_path, monkeypatch):
    name = 'pelk_t_imagenet.py'
    monkeypatch.setattr(SafeRunner, 'save_checkpoint', lambda *args, **kwargs: None)
    cfg = small_config(name, data(name), tmp_path)
    cfg.param_scheduler = []
    cfg.optim_wrapper.optimizer.lr = 0.1  # steps that are seen through a factor of 1e-4 in float32
    cfg.custom_hooks = cfg.custom_hooks[:1]
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    runner = SafeRunner.from_cfg(cfg)
    watch = Snapshots()
    runner.register_hook(watch)
    runner.train()
    start, first, _ = watch.weights  # 8 iterations are two steps; the second enters the average an iteration later
    for key in ('backbone.norm3.bias', 'head.fc.bias', 'backbone.pos_embeds.0', 'backbone.stages.0.0.gamma'):
        assert not torch.equal(first[key], start[key])
        expected = start[key] + 1e-4 * (first[key] - start[key])
        torch.testing.assert_close(watch.average[key] - start[key], expected - start[key], rtol=0.02, atol=1e-8)
