"""The map of an embedding h that deployed mixers keep, on the peripheral one."""

import copy

import torch
from random_norms import randomise

from pelk_mm.layers import PeripheralConv2d


def make():
    mixer = PeripheralConv2d(16, 13, pos_embed='visible')
    return randomise(mixer), torch.randn(mixer.conv_channels, 13, 13)


def test_cached_map_follows_every_change():
    mixer, h = make()
    mixer.switch_to_deploy()
    x = torch.randn(1, 16, 8, 8)

    def fresh():
        return copy.deepcopy(mixer)(x, h)

    with torch.no_grad():
        mixer(x, h)
        mixer.pos_weight.mul_(2)
        torch.testing.assert_close(mixer(x, h), fresh())
        mixer.pos_weight.data = torch.randn_like(mixer.pos_weight)
        torch.testing.assert_close(mixer(x, h), fresh())
        h.add_(1)
        torch.testing.assert_close(mixer(x, h), fresh())
        for _ in range(5):  # the allocator gives addresses back
            mixer.pos_weight.data = torch.randn_like(mixer.pos_weight)
            torch.testing.assert_close(mixer(x, h), fresh())
        h.data.copy_(2 * h)
        torch.testing.assert_close(mixer(x, h), fresh())
        mixer.pos_weight.data.mul_(2)
        torch.testing.assert_close(mixer(x, h), fresh())
        mixer.load_state_dict({name: value + 1 for name, value in mixer.state_dict().items()})
        assert not mixer._pos_maps
        mixer(x, h)
        mixer.double()
        assert not mixer._pos_maps
        mixer.float()(x, h)
        mixer.train()
        assert not mixer._pos_maps
        for size in range(4, 4 + 2 * mixer.MAX_CACHED_MAPS):
            mixer(torch.randn(1, 16, size, 5), h)
        assert len(mixer._pos_maps) == mixer.MAX_CACHED_MAPS


def test_cached_map_ignores_what_no_pixel_sees():
    """On a 4 x 4 map only the middle 7 x 7 of h counts; a larger map must still see a change further out."""
    mixer, h = make()
    mixer.switch_to_deploy()
    small, large = torch.randn(1, 16, 4, 4), torch.randn(1, 16, 9, 9)

    def agrees(x):
        torch.testing.assert_close(mixer(x, h), copy.deepcopy(mixer).train().eval()(x, h))

    with torch.no_grad():
        mixer(large, h)
        mixer(small, h)
        kept = dict(mixer._pos_maps)
        h[:, 0, 0] += 100  # beyond the reach of a small map
        agrees(small)
        assert mixer._pos_maps.keys() == kept.keys()
        agrees(large)
        h[:, 6, 9] += 100
        agrees(small)
