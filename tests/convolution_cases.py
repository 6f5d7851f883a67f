"""Grids, random tensors and gradients for the tests of the convolutions."""

import torch

from pelk_mm.ops import SharingGrid

GRIDS = {
    'fig1a': SharingGrid((2, 1, 2)),
    '13': SharingGrid.exponential(13),
    '51': SharingGrid.exponential(51),
    '51-centre1': SharingGrid.exponential(51, 1),
    '101': SharingGrid.exponential(101, 7),
    'one-segment': SharingGrid((7,)),
    'dense-9': SharingGrid.dense(9),
}


def problem(grid, size, dtype=torch.float64, batch=2, channels=3, seed=0):
    """Random input, weight and bias that want gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()

    k = grid.num_segments
    return draw(batch, channels, *size), draw(channels, k, k), draw(channels)


def run(function, tensors, cotangent=None):
    """Output and gradients under ``cotangent``, a fixed random one by default."""
    out = function(*tensors)
    if cotangent is None:
        generator = torch.Generator().manual_seed(1)
        cotangent = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    grads = torch.autograd.grad(out, tensors, cotangent.to(out.dtype))
    return {'output': out.detach(), **dict(zip(['d_input', 'd_weight', 'd_bias'], grads, strict=True))}


def assert_same(actual, expected, tolerance=1e-9):
    """Outputs and gradients of two runs agree."""
    for key, value in expected.items():
        torch.testing.assert_close(
            actual[key], value, rtol=tolerance, atol=tolerance, msg=lambda m, key=key: f'{key}: {m}'
        )
