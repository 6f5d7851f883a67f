"""The operators of WTConvNeXt-T and OverLoCK-XT by themselves, beside the forms of their authors' torch code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ...layers import WaveletConv
from ...models import WTConvNeXt
from ...ops import neighbourhood_gather
from ..harness import Measured, Variant, check_run, gate, kept_bytes, measure
from ..machine import benchmark_settings, check_device
from .plain_forms import in_plain_form, unfolded_gather

#: Largest error of one form against the other, over the largest value.
BAR = 1e-5
#: Heads and channels of the half that OverLoCK-XT mixes with its large kernels at a 16th of the image.
HEADS, CHANNELS, KERNEL = 8, 128, 13
#: Side of the images.
SIZE = 224


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        run: Gives its output.
        leaves: What takes gradients.
        cotangent: Of the output.
    """

    run: Callable[[], Tensor]
    leaves: Sequence[Tensor]
    cotangent: Tensor

    def __call__(self, backward: bool) -> None:
        """The output, and with ``backward`` all gradients."""
        out = self.run()
        if backward:
            torch.autograd.grad(out, self.leaves, self.cotangent)


def benchmark_operators(
    *, batch: int = 4, backward: bool = False, device: torch.device | str = 'cpu', repeats: int = 9
) -> Measured:
    """Time the wavelet convolutions of all blocks of WTConvNeXt-T, and a neighbourhood gather of OverLoCK-XT.

    As for images of 224 pixels, in float32: 'wavelet' beside 'wavelet, grouped' (grouped convolutions for the
    transforms), and 'gather' beside 'gather, unfolded' (a copy of every window).

    Args:
        batch: N.
        backward: Forward and all gradients.
        device: 'cpu' or 'cuda'.
        repeats: Samples of each variant.

    Raises:
        GateError: Two forms do not agree.
        ValueError: An argument is out of its range.
    """
    if batch < 1:
        raise ValueError(f'batch must be at least 1, but got {batch}')
    check_run(repeats, None)
    place = check_device(device)
    variants: list[Variant] = []
    with benchmark_settings(place), torch.set_grad_enabled(backward):
        for name, plain_name, draw in (
            ('wavelet', 'wavelet, grouped', _wavelets),
            ('gather', 'gather, unfolded', _gathers),
        ):
            ours, plain = draw(batch, place)
            with torch.no_grad():
                errors = [gate(name, a.run(), b.run(), BAR) for a, b in zip(ours, plain, strict=True)]
            variants += [_variant(name, ours, backward, max(errors)), _variant(plain_name, plain, backward)]
        return measure(variants, device=place, repeats=repeats)


def _variant(name: str, calls: Sequence[Call], backward: bool, error: float | None = None) -> Variant:
    def run() -> None:
        for call in calls:
            call(backward)

    held = [leaf for call in calls for leaf in call.leaves]
    kept = kept_bytes(lambda: [call.run() for call in calls], held) if backward else None
    return Variant(name, run, error, kept_bytes=kept)


def _wavelets(batch: int, device: torch.device) -> tuple[list[Call], list[Call]]:
    generator = torch.Generator().manual_seed(0)
    ours, plain = [], []
    for stage, blocks in enumerate(WTConvNeXt('tiny').to(device).stages):
        side = SIZE // 4 // 2**stage
        for block in cast(nn.ModuleList, blocks):
            mixer = cast(WaveletConv, block.mixer)
            shape = (batch, mixer.channels, side, side)
            x, cotangent = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
            x.requires_grad_()
            ours.append(_mixed(mixer, x, cotangent))
            plain.append(_mixed(in_plain_form(copy.deepcopy(mixer)), x, cotangent))
    return ours, plain


def _mixed(mixer: nn.Module, x: Tensor, cotangent: Tensor) -> Call:
    return Call(lambda: mixer(x), [x, *mixer.parameters()], cotangent)


def _gathers(batch: int, device: torch.device) -> tuple[list[Call], list[Call]]:
    generator = torch.Generator().manual_seed(0)
    side = SIZE // 16
    logits = torch.randn(batch, HEADS, side, side, KERNEL**2, generator=generator)
    attention = logits.softmax(4).to(device).requires_grad_()
    value, cotangent = (torch.randn(batch, CHANNELS, side, side, generator=generator).to(device) for _ in range(2))
    value.requires_grad_()
    forms = (neighbourhood_gather, unfolded_gather)
    ours, plain = (
        [Call(lambda form=form: form(attention, value, KERNEL), [attention, value], cotangent)]  # type: ignore[misc]
        for form in forms
    )
    return ours, plain
