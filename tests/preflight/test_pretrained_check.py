"""A backbone starts from a checkpoint of its own kind, or training does not start."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

from pelk_mm.models import PeLK, ShiftWiseNet, SLaK
from pelk_mm.preflight.files import check_checkpoints
from pelk_mm.preflight.pretrained import check_pretrained
from pelk_mm.utils.errors import CheckpointError

ARCH = {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)}
SMALL = {'kernel_sizes': (13, 11, 9, 7)}


class Classifier(BaseModule):
    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone, self.head = backbone, nn.Linear(8, 2)


def check(model):
    """As training does: the files are read before, by what the config says."""
    configs = [module.init_cfg for module in model.modules() if getattr(module, 'init_cfg', None)]
    check_pretrained(model, check_checkpoints(Config({'model': {'parts': configs}})))


@pytest.fixture
def saved(tmp_path):
    """Call it with a backbone for the checkpoint of a classifier around it."""

    def save(backbone):
        torch.save({'state_dict': Classifier(backbone).state_dict()}, tmp_path / 'classifier.pth')
        return {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'classifier.pth')}

    return save


def test_its_own_kind_fits(saved):
    init_cfg = saved(SLaK(ARCH, **SMALL))
    dense = {'out_indices': (0, 1, 2, 3), 'gap_before_final_norm': False}
    check(Classifier(SLaK(ARCH, **SMALL, **dense, init_cfg={**init_cfg, 'prefix': 'backbone.'})))
    check(Classifier(SLaK(ARCH, **SMALL), init_cfg=init_cfg))
    check(SLaK(ARCH, **SMALL))
    check(SLaK(ARCH, **SMALL, init_cfg={'type': 'Pretrained', 'checkpoint': 'https://nowhere/at.all'}))


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda **k: PeLK(ARCH, **SMALL, **k), r'fit PeLK: \d+ of \d+ keys match \(missing: stages.0.0.mixer.w_theta'),
        (lambda **k: SLaK(ARCH, kernel_sizes=(13, 11, 9, 9), **k), 'of another shape: stages.3.0.mixer.tall_weight'),
        (lambda **k: ShiftWiseNet(ARCH, **SMALL, **k), 'does not fit ShiftWiseNet: .* another network or variant'),
    ],
)
def test_another_family_or_variant(saved, build, message):
    init_cfg = saved(SLaK(ARCH, **SMALL))
    with pytest.raises(CheckpointError, match=message):
        check(Classifier(build(init_cfg={**init_cfg, 'prefix': 'backbone'})))


def test_one_of_several_initialisations(saved):
    init_cfg = {**saved(SLaK(ARCH, **SMALL)), 'prefix': 'backbone.'}
    with pytest.raises(CheckpointError, match='does not fit ShiftWiseNet'):
        check(ShiftWiseNet(ARCH, **SMALL, init_cfg=[{'type': 'Constant', 'val': 0.0, 'layer': 'Linear'}, init_cfg]))


def test_other_shuffles(saved):
    init_cfg = {**saved(ShiftWiseNet(ARCH, **SMALL, edges=4)), 'prefix': 'backbone.'}
    with pytest.raises(CheckpointError, match='of another shape: stages.0.0.mixer.horizontal'):
        check(ShiftWiseNet(ARCH, **SMALL, edges=2, init_cfg=init_cfg))
