"""timm's ConvNeXt, ConvNeXt V2 and InceptionNeXt: the layouts in which most people have these weights."""

import pytest
import torch
from authors_cases import classifier, converter

timm = pytest.importorskip('timm', reason='timm is not installed')
pytest.importorskip('mmpretrain', reason='ConvNeXt is of mmpretrain')

SMALL = {'depths': (1, 2, 1, 1), 'dims': (8, 12, 16, 24)}
CASES = {
    'convnext_tiny': ('convnext', SMALL),
    'convnext_atto': ('convnext', SMALL),  # pointwise layers are convolutions
    'convnextv2_tiny': ('convnext', SMALL),
    'convnextv2_atto': ('convnext', {}),
    'inception_next_atto': ('inceptionnext', {}),
}


@pytest.fixture
def convert(tmp_path):
    return converter(tmp_path)


@pytest.fixture
def net():
    """Call it with timm's name for a net whose every value matters."""

    def build(name, **kwargs):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            built = timm.create_model(name, num_classes=3, **kwargs).eval()
            for key, value in built.state_dict().items():
                if value.is_floating_point() and value.ndim < 4:
                    value.add_(0.1 * torch.rand(value.shape) if 'var' in key else 0.1 * torch.randn(value.shape))
        return built

    return build


@pytest.mark.parametrize('name', CASES)
def test_the_same_function(convert, net, name):
    family, kwargs = CASES[name]
    theirs = net(name, **kwargs)
    done, checkpoint = convert(family, theirs.state_dict())
    ours = classifier(done, checkpoint)
    x = torch.randn(2, 3, 75, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_published_sizes_are_called_by_their_names(convert, net):
    done, _ = convert('convnext', net('convnextv2_atto').state_dict())
    assert done.model['backbone'] == {
        'type': 'mmpretrain.ConvNeXt',
        'arch': 'atto',
        'use_grn': True,
        'layer_scale_init_value': 0.0,
    }


def test_a_warm_start_of_pelk(convert, net):
    theirs = net('convnext_tiny', **SMALL)
    done, checkpoint = convert('convnext-to-pelk', theirs.state_dict())
    ours = classifier(done, checkpoint)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
