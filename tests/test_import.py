"""``import pelk_mm`` needs torch and mmengine alone, and does nothing beyond registration."""

import importlib
import os
import sys
from pathlib import Path

import children
import pytest

pytestmark = pytest.mark.processes

WITHOUT_TOOLBOXES = """
import random
import sys


class Blocker:
    blocked = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain')

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in self.blocked:
            raise ImportError(f'{name} is absent in this test')
        return None


sys.meta_path.insert(0, Blocker())
for name in Blocker.blocked:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f'{name} was not blocked')

import mmengine.runner  # draws from random itself
import numpy
import torch

states = torch.get_rng_state(), numpy.random.get_state(), random.getstate()
import pelk_mm
import pelk_mm.engine
import pelk_mm.models

assert torch.equal(states[0], torch.get_rng_state()), 'the import drew from torch'
assert all(numpy.array_equal(a, b) for a, b in zip(states[1], numpy.random.get_state())), 'the import drew from numpy'
assert states[2] == random.getstate(), 'the import drew from random'

from mmengine.registry import MODELS

for type_ in ('PeLK', 'pelk_mm.PeLK'):
    net = MODELS.build(dict(type=type_, arch='atto')).eval()
    with torch.no_grad():
        (out,) = net(torch.randn(1, 3, 64, 64))
    assert out.shape == (1, 416), out.shape
    assert out.isfinite().all()
absent = [name for name in sys.modules if name.partition('.')[0] in Blocker.blocked]
assert not absent, absent
"""


def run_python(code):
    root = str(Path(__file__).parents[1])
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([root, os.environ.get('PYTHONPATH', '')])}
    return children.run([sys.executable, '-c', code], env=env)


def test_works_without_the_toolboxes():
    done = run_python(WITHOUT_TOOLBOXES)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ''


def test_import_is_silent_and_light():
    """With the toolboxes installed, importing pelk_mm still loads none of them and prints nothing on either stream."""
    code = (
        'import sys, pelk_mm; '
        "print([n for n in ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'triton', 'matplotlib') if n in sys.modules])"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '[]\n'
    assert 'pelk_mm' not in done.stderr


PUBLIC = {
    'pelk_mm': [
        'DynamicSparsityHook',
        '__version__',
        'engine',
        'from_pretrained',
        'layers',
        'models',
        'ops',
        'register_model_index',
    ],
    'pelk_mm.ops': [
        'SharingGrid',
        'available_backends',
        'dcnv3',
        'depthwise_conv2d',
        'join_norm',
        'neighbourhood_gather',
        'open_block',
        'peripheral_conv2d',
        'set_backend',
        'shiftwise_conv2d',
        'to_planes',
        'visible_sum',
        'wavelet_conv2d',
        'window_conv2d',
    ],
    'pelk_mm.layers': [
        'DeformableConv',
        'DenseConv',
        'DepthwiseConv',
        'DilatedReparamConv',
        'DropPath',
        'GlobalResponseNorm',
        'InceptionConv',
        'LargeKernelBlock',
        'LayerNorm2d',
        'MIXERS',
        'PartialConv',
        'PeripheralConv2d',
        'ReceptiveFieldAggregator',
        'ResidualBlock',
        'ShiftwiseConv',
        'SqueezeExcite',
        'StripeConv',
        'TokenMixer',
        'UniConvBlock',
        'UniRepBlock',
        'WaveletConv',
        'WindowConv',
    ],
    'pelk_mm.models': [
        'InceptionNeXt',
        'LargeKernelBackbone',
        'MlpNeck',
        'OverLoCK',
        'OverLoCKHead',
        'PeLK',
        'RepLK51',
        'SLaK',
        'ShiftWiseNet',
        'ShiftWiseNetV1',
        'UniConvNet',
        'UniRepLKNet',
        'WBMMNet',
        'WTConvNeXt',
    ],
    'pelk_mm.engine': [
        'BFloat16OptimWrapper',
        'DynamicSparsityHook',
        'LayerDecayOptimWrapperConstructor',
        'SafeCheckpointHook',
        'SafeRunner',
        'SwitchToDeployHook',
        'read_checkpoint',
        'register_model_index',
        'safe_loading',
    ],
}


@pytest.mark.parametrize('module', PUBLIC)
def test_public_names(module):
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(PUBLIC[module])
    for name in found.__all__:
        assert hasattr(found, name), f'{module}.__all__ names {name}, which is not there'
