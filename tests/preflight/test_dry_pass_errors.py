import pytest
import torch
from torch import nn

from pelk_mm.preflight.dry_pass_errors import describe_model_error, describe_sample_error


class Raising(nn.Module):
    """A part of a model that fails, with the attributes that a head has."""

    def __init__(self, error, **attributes):
        super().__init__()
        self.error = error
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self):
        raise self.error


class Net(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self):
        self.heads[-1]()


def describe(error, shapes=None, **attributes):
    net = Net([nn.Identity(), Raising(error, **attributes)])
    try:
        net()
    except Exception as caught:
        return describe_model_error(caught, net, shapes or {})


@pytest.mark.parametrize(
    ('error', 'attributes', 'advice'),
    [
        (
            torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB\nand more'),
            {},
            'OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB: one or two samples do not fit into this '
            'GPU, which has 80.0 GB, 1.5 GB free (',
        ),
        (RuntimeError('CUDA error: device-side assert triggered'), {}, 'a label beyond num_classes is the usual cause'),
        (RuntimeError('weight tensor should be defined'), {'class_weight': [1, 2]}, 'class_weight has 2 entries, but'),
        (
            AttributeError("no attribute 'gt_labels'"),
            {},
            'does train_dataloader.dataset.pipeline load the annotations?',
        ),
        (IndexError('Target 7 is out of bounds.'), {}, 'a label is 7, which num_classes of heads.1 does not cover ('),
        (IndexError('out of range'), {'in_index': [0, 2]}, '2 in all, but in_index of heads.1 is [0, 2]: do out_indic'),
        (IndexError('out of range'), {'in_index': -3}, 'in_index of heads.1 is [-3]: do out_indices fit? ('),
        (
            AssertionError(),
            {'in_channels': [8]},
            'AssertionError: raise self.error: backbone puts out 2x8x4x4, 2x16x2x2',
        ),
        (RuntimeError('expected to have 4 channels, but got 8 channels'), {}, 'in_channels of heads.1 says 4 where 8'),
    ],
    ids=['memory', 'assert', 'class_weight', 'annotations', 'label', 'in_index', 'negative', 'levels', 'channels'],
)
def test_advice(monkeypatch, error, attributes, advice):
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (1_500_000_000, 80_000_000_000))
    text = describe(error, {'preprocessor': [], 'backbone': [(2, 8, 4, 4), (2, 16, 2, 2)]}, **attributes)
    assert text.startswith(f'dry pass: heads.1 (Raising): {type(error).__name__}: ')
    assert advice in text
    assert text.endswith(' (--no-dry-run trains without this pass, PELK_MM_LOG=debug shows the traceback)')
    assert '\n' not in text


def test_an_error_that_speaks_for_itself_gets_no_advice():
    fitting = {'in_index': [0, 1], 'in_channels': [8, 16]}
    shapes = {'backbone': [(2, 8, 4, 4), (2, 16, 2, 2)]}
    for error in (IndexError('of another kind'), AssertionError('another'), KeyError('masks')):
        text = describe(error, shapes, **fitting)
        assert 'puts out' not in text
        assert f'{error}{" (--no-dry-run"}' in text


def test_an_error_outside_every_part_names_the_model():
    error = ValueError('the losses are no dict')
    assert describe_model_error(error, Net([]), {}).startswith('dry pass: Net: ValueError: the losses are no dict (')


def test_a_sample_without_a_transform():
    assert describe_sample_error(OSError('no file'), 3).startswith(
        'dry pass: sample 3 of train_dataloader: OSError: no'
    )
    assert describe_sample_error(TypeError('x'), None).startswith(
        'dry pass: train_dataloader.collate_fn: TypeError: x ('
    )
