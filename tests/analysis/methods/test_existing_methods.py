"""Only the backbone and its channel numbers change: eight methods of the toolboxes, and one in two processes."""

import importlib.util

import pytest
import torch

from pelk_mm.analysis.methods.children import Limits
from pelk_mm.analysis.methods.configs import find_methods, import_toolbox
from pelk_mm.analysis.methods.distributed import choose, try_distributed
from pelk_mm.analysis.methods.verdicts import try_method
from pelk_mm.utils.errors import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.processes]
METHODS = [
    ('mmdet', 'retinanet'),
    ('mmdet', 'mask_rcnn'),
    ('mmdet', 'fcos'),
    ('mmdet', 'deformable_detr'),
    ('mmseg', 'pspnet'),
    ('mmseg', 'upernet'),
    ('mmpretrain', 'resnet'),
    ('mmpretrain', 'mocov2'),
]


def find(toolbox, name):
    """The method, where it can be tried."""
    if importlib.util.find_spec(toolbox) is None:
        pytest.skip(f'{toolbox} is not installed')
    try:
        import_toolbox(toolbox)
    except ConfigError as error:
        pytest.skip(str(error))
    if torch.cuda.is_initialized():
        pytest.skip('this process uses a GPU: what is forked from it cannot compute')
    return find_methods([toolbox], [name])


@pytest.mark.parametrize(('toolbox', 'name'), METHODS)
def test_only_the_backbone_changes(toolbox, name):
    (method,) = find(toolbox, name)
    row = try_method(method, Limits())
    assert (row.verdict, row.reason, row.pelk, row.convnext) == ('passes', '', 'passes', 'passes')
    assert row.unused_in_backbone == 0


def test_two_processes():
    methods = find('mmdet', 'retinanet')
    rows = choose([try_method(methods[0], Limits())], 20)
    told = []
    assert try_distributed(rows, methods, Limits(), told.append) == told
    assert [(row.method, row.result) for row in told] == [('retinanet', 'passes')]
