"""Checkpoints of the authors, made up, with what the converter is to be told."""

import authors_nets as authors
import authors_uniconvnet as uniconv
import authors_unirep as unirep
import authors_wbmm as wbmm
import authors_wtconv as wtconv
import torch
from mmengine.registry import MODELS, DefaultScope

from pelk_mm.checkpoints.loading import load_weights
from pelk_mm.checkpoints.reading import read_checkpoint
from pelk_mm.converters.convert_weights import convert_weights

TINY = ((1, 2, 1, 1), (8, 12, 16, 24))
KERNELS = (13, 11, 9, 7)
PLAN = ((3,), (13, 13), (13,), (13,))
WINDOWS = ('D', 'WD', 'W', 'W')

# family, the authors' state dict, their network, arguments of the converter
CASES = {
    'shiftwise': ('shiftwise', unirep.shiftwise_state(*TINY), unirep.shiftwise, {}),
    'shiftwise-merged': ('shiftwise', unirep.shiftwise_state(*TINY, paths=0), unirep.shiftwise, {}),
    'shiftwise-5x5': (
        'shiftwise',
        unirep.shiftwise_state(*TINY, kernel_sizes=KERNELS, size=5, paths=3, ghost_ratio=0.4),
        lambda state, x: unirep.shiftwise(state, x, kernel_sizes=KERNELS, edges=1),
        {'backbone_options': {'kernel_sizes': KERNELS, 'edges': 1}},
    ),
    'slak': ('slak', authors.slak_state(*TINY), authors.slak, {}),
    'slak-later-names': (
        'slak',
        authors.slak_state(*TINY, kernel_sizes=KERNELS, names=('Decom1', 'Decom2')),
        lambda state, x: authors.slak(state, x, names=('Decom1', 'Decom2')),
        {},
    ),
    'unireplknet': ('unireplknet', unirep.unireplknet_state(*TINY, PLAN), unirep.unireplknet, {}),
    'unireplknet-9x9': (
        'unireplknet',
        unirep.unireplknet_state(*TINY, ((9,), (5, 13), (9,), (3,))),
        unirep.unireplknet,
        {},
    ),
    'wtconvnext': ('wtconvnext', wtconv.wtconvnext_state(*TINY), wtconv.wtconvnext, {}),
    'wtconvnext-3x3': (
        'wtconvnext',
        wtconv.wtconvnext_state(*TINY, levels=(2, 1, 0, 1), kernel=3),
        wtconv.wtconvnext,
        {},
    ),
    'wbmm': ('wbmm', wbmm.wbmm_state(*TINY, WINDOWS), wbmm.wbmm, {}),
    'wbmm-dense': ('wbmm', wbmm.wbmm_state(*TINY, ('W', 'WD', 'W', 'W'), window=5), wbmm.wbmm, {}),
    'wbmm-parallel': ('wbmm', wbmm.wbmm_state(*TINY, ('D', 'WD', 'W', 'M')), wbmm.wbmm, {}),
    'uniconvnet': ('uniconvnet', uniconv.uniconvnet_state(*TINY, group_width=4), uniconv.uniconvnet, {}),
    'inceptionnext': ('inceptionnext', authors.inceptionnext_state(*TINY), authors.inceptionnext, {}),
    'replknet': ('replknet', authors.replknet_state(*TINY, KERNELS), authors.replknet, {}),
    'replknet-xl-form': ('replknet', authors.replknet_state(*TINY, KERNELS, None, 1.5), authors.replknet, {}),
    'convnext': ('convnext', authors.convnext_state(*TINY), authors.convnext, {}),
    'convnext-to-pelk': ('convnext-to-pelk', authors.convnext_state(*TINY), authors.convnext, {}),
}


def converter(folder):
    """Convert whatever ``torch.save`` takes; return the converter's report and the checkpoint written."""

    def convert(family, content, **kwargs):
        torch.save(content, folder / 'authors.pth')
        done = convert_weights(family, folder / 'authors.pth', folder / 'ours.pth', overwrite=True, **kwargs)
        return done, read_checkpoint(folder / 'ours.pth')

    return convert


def classifier(done, checkpoint):
    """mmpretrain's classifier of the configs that the converter names, with the weights."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({'type': 'ImageClassifier', **done.model})
    load_weights(model, checkpoint, 'ours.pth', demand_all=True)
    assert set(checkpoint['state_dict']) == set(model.state_dict())
    model.eval()
    return model
