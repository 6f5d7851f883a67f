import pytest
import torch
from mmengine.config import Config

from pelk_mm.analysis.scores.untrained import save_untrained

CFG = Config(
    {
        'default_scope': 'mmseg',
        'model': {
            'type': 'EncoderDecoder',
            'backbone': {
                'type': 'pelk_mm.PeLK',
                'arch': {'depths': (1, 1, 1, 1), 'channels': (8, 8, 8, 8)},
                'out_indices': (0, 1, 2, 3),
                'gap_before_final_norm': False,
            },
            'decode_head': {'type': 'FCNHead', 'in_channels': 10, 'channels': 8, 'num_classes': 3},
        },
    }
)


def weights(path, seed=0):
    pytest.importorskip('mmseg', reason='builds a segmentor')
    save_untrained(CFG, path, seed)
    return torch.load(path, weights_only=True)['state_dict']


def test_seed_decides_and_the_callers_generator_does_not(tmp_path):
    first = weights(tmp_path / 'new' / 'a.pth')
    torch.rand(3)
    again, other = weights(tmp_path / 'b.pth'), weights(tmp_path / 'c.pth', seed=1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = 'backbone.stages.0.0.mixer.w_theta'
    assert not torch.equal(first[key], other[key])


def test_the_callers_generator_is_left_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    weights(tmp_path / 'a.pth')
    assert torch.equal(torch.rand(1), expected)


def test_weights_are_initialised_as_for_training(tmp_path):
    state = weights(tmp_path / 'a.pth')
    # What mmseg's head asks for, and PyTorch's own initialisation does not give.
    assert state['decode_head.conv_seg.weight'].std() < 0.02
    assert (state['decode_head.conv_seg.bias'] == 0).all()
