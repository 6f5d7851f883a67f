"""BatchNorms that deployment folds."""

import pytest
from torch import nn

from pelk_mm.layers.norm import build_branch_norm


def test_branch_norms_are_batch_norms():
    assert type(build_branch_norm(None, 4)) is nn.BatchNorm2d
    norm = build_branch_norm({'type': 'SyncBN', 'eps': 1e-3, 'requires_grad': False}, 4)
    assert type(norm) is nn.SyncBatchNorm
    assert (norm.num_features, norm.eps, norm.weight.requires_grad) == (4, 1e-3, False)


@pytest.mark.parametrize(
    ('norm_cfg', 'error', 'message'),
    [
        ('BN', TypeError, "the mixer's norm_cfg must be a dict"),
        ({'type': 'LN2d'}, ValueError, "must be 'BN' or 'SyncBN', but got 'LN2d'"),
        ({'type': 'BN', 'track_running_stats': False}, ValueError, 'must keep running statistics'),
        ({'type': 'BN', 'epsilon': 1}, ValueError, r"norm_cfg holds keys that BN does not take: \['epsilon'\]"),
    ],
)
def test_norms_that_deployment_cannot_fold(norm_cfg, error, message):
    with pytest.raises(error, match=message):
        build_branch_norm(norm_cfg, 4)
