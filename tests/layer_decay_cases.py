"""What the layer-decay tests share: a model around a backbone, its optimizer, and the rates found in it."""

from torch import nn

from pelk_mm.engine.layer_decay import LayerDecayOptimWrapperConstructor

BASE_LR, BASE_WD = 1e-3, 0.05


class Classifier(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(4, 2)


def build(model, lr=BASE_LR, weight_decay=BASE_WD, **paramwise_cfg):
    optimizer = {'type': 'AdamW', 'lr': lr, 'weight_decay': weight_decay}
    constructor = LayerDecayOptimWrapperConstructor({'optimizer': optimizer}, paramwise_cfg)
    return constructor(model).optimizer


def table(optimizer):
    """Name -> (learning rate, weight decay); every parameter once."""
    found = {}
    for group in optimizer.param_groups:
        assert len(group['param_names']) == len(group['params'])
        for name in group['param_names']:
            assert name not in found
            found[name] = (group['lr'], group['weight_decay'])
    return found
