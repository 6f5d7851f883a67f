"""The ``fft`` back-end: large depthwise convolutions as products of spectra, in plain torch on any device.

A circular convolution of period n agrees with the zero-padded one on H rows when n >= H + r, r the kernel's reach
beyond a pixel; taps that reach beyond the map meet only padding and are cropped first, so r <= H - 1.

Two images make one complex plane: kernels are real, so its real and imaginary parts do not mix, and the symmetry of
real spectra needs no transforms of their own. Shared weights go to the spectrum, and the gradient's spectrum to their
gradients, by products with small tables, not by way of the expanded kernel. Work goes by channel chunks: the workspace
is bounded whatever the map, and on a CPU a chunk stays in cache from its transform to the inverse.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...utils.compat import HAS_LIBRARY, real_of
from ..segments import Reachable, Segments, expand, pool, reachable
from ..tracing import transform_refusal
from ..visible import visibility
from .table import Problem, register

# Complex planes of a chunk; a few such buffers are alive at once. CPU: within the last-level cache; CUDA: fills a GPU.
CHUNK_BYTES = {'cpu': 4 << 20, 'cuda': 64 << 20}
# With more segments than this on both axes, transforms of the expanded kernel are cheaper than products with tables.
MOST_TABLED = 24
# Images whose norms differ by no more than this factor may share a plane as they are.
ALIKE = 16
# Values below this go through transforms and products of two spectra without an overflow.
MODERATE = 2.0**32


class _Plan(NamedTuple):
    """What of the kernel reaches across the map, the transform length of each axis, and what computes."""

    rows: Reachable
    columns: Reachable
    period: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @property
    def tabled(self) -> bool:
        """Whether the kernel goes to its spectrum and back by :meth:`tables`."""
        return min(len(self.rows.sizes), len(self.columns.sizes)) <= MOST_TABLED

    def tables(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(n, r) and (m, k): the conjugate spectra of the row and of the column segments, over the periods."""
        n, m = self.period
        return _table(self.rows, n, dtype, self.device), _table(self.columns, m, dtype, self.device)


def refusal(problem: Problem) -> str | None:
    """Why the back-end cannot serve ``problem``, or None where it can."""
    if not torch._C.has_spectral:
        return 'this build of torch has no FFT'
    if problem.input.device.type == 'meta' and not HAS_LIBRARY:
        return f'shapes without values (meta tensors) need torch 2.5, but found {torch.__version__}'
    if problem.input.device.type == 'mps':
        return 'it sums gradients in float64, which mps lacks'
    return transform_refusal()


def forward(input: Tensor, weight: Tensor, rows: Segments, columns: Segments, bias: Tensor | None) -> Tensor:
    """Depthwise cross-correlation by FFT, "same" zero padding, stride 1.

    Computes in float32 (float64 for float64 inputs) and rounds once to the input's dtype.

    Args:
        input: (N, C, H, W).
        weight: (C, 1, len(rows), len(columns)).
        rows, columns: Segments of the kernel's axes, of odd sums.
        bias: (C,), or a map (C, H, W) added to every image, or None.
    """
    plan = _plan(input, rows, columns)
    output = torch.empty_like(input, memory_format=torch.contiguous_format)
    if bias is not None and bias.ndim == 1:
        bias = bias[:, None, None]
    padded = _padded(input, plan)
    for chunk in _chunks(input, padded):
        images, scale = _apart(input[:, chunk].to(real_of(plan.dtype)))
        spectrum = torch.fft.fft2(_pack(images, padded))
        spectrum *= _kernel_spectrum(weight[chunk], plan).unsqueeze(1)
        planes = torch.fft.ifft2(spectrum, norm='forward')
        _unpack(planes, output[:, chunk], scale, None if bias is None else bias[chunk])
    return output


def backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    rows: Segments,
    columns: Segments,
    needs_input: bool,
    needs_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`forward` by ``input`` and ``weight``, None where not needed."""
    plan = _plan(input, rows, columns)
    grad_input = torch.empty_like(input, memory_format=torch.contiguous_format) if needs_input else None
    grad_weight = torch.zeros_like(weight) if needs_weight else None
    padded = _padded(input, plan)
    for chunk in _chunks(input, padded):
        # Both gradients want a conjugate, of the gradient's spectrum or of the kernel's: transforms in the other
        # direction give it without a pass over the planes. Never by the lazy `conj()`: within a TorchDispatchMode, and
        # so within torch.compile, an op's body is run without the dispatch that resolves it.
        gradient = grad[:, chunk].to(real_of(plan.dtype))
        moderate, gradient_power = _moderate(gradient)
        spectrum = torch.fft.ifft2(_pack(moderate, padded), norm='forward')
        if grad_weight is not None:
            # a mean that is large beside what varies would cost its digits: it goes apart, by sums of the gradient
            values, input_power = _moderate(input[:, chunk].to(real_of(plan.dtype)))
            mean = values.mean((0, 2, 3))[:, None, None]
            images = torch.fft.fft2(_pack(values, padded, mean))
            sums = _segment_sums(images.mul_(spectrum).sum(1), plan)
            sums += mean * _sums_under_constant(moderate.sum(0).double(), plan)
            for power in (gradient_power, input_power):
                if power is not None:
                    sums = sums * power.double()
            grad_weight[chunk, 0, plan.rows.kept, plan.columns.kept] = sums.to(weight.dtype)
        if grad_input is not None:
            apart, scale = _apart(gradient)
            if scale is not None or gradient_power is not None:
                spectrum = torch.fft.ifft2(_pack(apart, padded), norm='forward')
            spectrum *= _kernel_spectrum(weight[chunk], plan).unsqueeze(1)
            _unpack(torch.fft.fft2(spectrum), grad_input[:, chunk], scale)
    return grad_input, grad_weight


def _plan(input: Tensor, rows: Segments, columns: Segments) -> _Plan:
    height, width = input.shape[2:]
    row_axis, column_axis = reachable(rows, height), reachable(columns, width)
    period = fast_length(height + row_axis.radius), fast_length(width + column_axis.radius)
    dtype = torch.complex128 if input.dtype == torch.float64 else torch.complex64
    return _Plan(row_axis, column_axis, period, dtype, input.device)


def _padded(input: Tensor, plan: _Plan) -> Tensor:
    """Zeros (c, pairs, n, m), the planes of a chunk of c channels: as many as fit the budget of the device."""
    channels, pairs = input.shape[1], (len(input) + 1) // 2
    plane = plan.period[0] * plan.period[1] * plan.dtype.itemsize
    most = CHUNK_BYTES.get(input.device.type, CHUNK_BYTES['cuda']) // (plane * max(pairs, 1))
    chunks = math.ceil(channels / max(most, 1))
    return torch.zeros(math.ceil(channels / max(chunks, 1)), pairs, *plan.period, dtype=plan.dtype, device=input.device)


def _chunks(input: Tensor, padded: Tensor) -> list[slice]:
    """Channel slices as large as ``padded``."""
    if input.numel() == 0:
        return []
    return [slice(start, min(start + len(padded), input.shape[1])) for start in range(0, input.shape[1], len(padded))]


def _apart(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Images (N, c, H, W) over powers of two (N, c, 1, 1) near their largest values, and those powers.

    Two planes that share a complex one share its rounding too, and an image may be a million times its neighbour. The
    power is 0 for an image of zeros, and NaN where one is not finite, which then enters as zero, so that its neighbour
    stays as it is. On a CPU moderate images of like sizes are left as they are: None.
    """
    if not images.is_cuda:  # where the answer is at hand
        norm = torch.linalg.vector_norm(images, dim=(2, 3))
        largest = norm.amax(0)
        if bool(((largest <= ALIKE * norm.amin(0)) & (largest < MODERATE)).all()):
            return images, None
    peak = torch.linalg.vector_norm(images, math.inf, dim=(2, 3), keepdim=True)
    finite = peak.isfinite()
    exponent = torch.frexp(peak).exponent.where(finite, 0)
    largest_power = _largest_power(images.dtype)
    # of the images' dtype: torch 2.1 takes powers of two by an integer in float32
    power = exponent.clamp(-largest_power, largest_power).to(peak.dtype)
    one = torch.ones_like(peak)
    scale = torch.ldexp(one, power).where(peak != 0, 0).where(finite, math.nan)
    return images.where(finite, 0) * torch.ldexp(one, -power), scale


def _moderate(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Images (N, c, H, W) with each channel over a power of two, and those powers (c, 1, 1).

    On a CPU images that are moderate are left as they are: None.
    """
    if not images.is_cuda and bool((torch.linalg.vector_norm(images, dim=(2, 3)) < MODERATE).all()):
        return images, None
    peak = torch.linalg.vector_norm(images, math.inf, dim=(0, 2, 3))[:, None, None]
    exponent = torch.frexp(peak).exponent.where(peak.isfinite(), 0).clamp(0, _largest_power(images.dtype))
    power = exponent.to(peak.dtype)  # as above
    one = torch.ones_like(peak)
    return images * torch.ldexp(one, -power), torch.ldexp(one, power)


def _largest_power(dtype: torch.dtype) -> int:
    """The largest exponent of two whose power and its inverse are both normal numbers."""
    return math.frexp(torch.finfo(dtype).max)[1] - 2


def _pack(images: Tensor, padded: Tensor, mean: Tensor | None = None) -> Tensor:
    """Image 2i + 1j image 2i+1 of (N, c, H, W), in the corners of ``padded``, whose other elements stay zero.

    With ``mean`` (c, 1, 1), the conjugate of that for what the images are above it.
    """
    padded = padded[: images.shape[1]]
    corners = padded[:, :, : images.shape[2], : images.shape[3]].transpose(0, 1)
    images = images.to(real_of(padded.dtype))
    pairs = len(images) // 2
    even, odd = images[0::2], images[1::2]
    if mean is not None:
        even, odd = even - mean, mean - odd
    torch.complex(even[:pairs], odd, out=corners[:pairs])
    corners.real[pairs:] = even[pairs:]
    return padded


def _unpack(planes: Tensor, out: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> None:
    """The corners of (c, pairs, n, m), times ``scale``, plus ``bias``, into the images ``out`` (N, c, H, W)."""
    corners = planes[:, :, : out.shape[2], : out.shape[3]].transpose(0, 1)
    pairs = len(out) // 2
    paired = torch.view_as_real(corners[:pairs]).permute(0, 4, 1, 2, 3)
    for part, images in ((paired, slice(2 * pairs)), (corners.real[pairs:].unsqueeze(1), slice(2 * pairs, None))):
        target = out[images].unflatten(0, part.shape[:2])
        if scale is not None:
            part = part * scale[images].unflatten(0, part.shape[:2])
        if bias is None:
            target.copy_(part)
        else:
            torch.add(part, bias, out=target)


def _kernel_spectrum(weight: Tensor, plan: _Plan) -> Tensor:
    """Conjugate spectrum (c, n, m), over n m, of the reachable kernels (c, 1, r, k), centred on the origin."""
    kept = weight[:, 0, plan.rows.kept, plan.columns.kept].to(real_of(plan.dtype))
    n, m = plan.period
    if plan.tabled:
        row_table, column_table = plan.tables(plan.dtype)
        waves = torch.view_as_real(column_table.T.contiguous()).flatten(1)
        by_columns = torch.view_as_complex((kept @ waves).unflatten(2, (m, 2)))
        return torch.bmm(row_table.expand(len(kept), -1, -1), by_columns)
    kernel = expand(kept.unsqueeze(1), plan.rows.sizes, plan.columns.sizes).squeeze(1)
    placed = F.pad(kernel, (0, m - kernel.shape[2], 0, n - kernel.shape[1]))
    return torch.fft.ifft2(placed.roll((-plan.rows.radius, -plan.columns.radius), (1, 2)))


def _segment_sums(correlation: Tensor, plan: _Plan) -> Tensor:
    """Spectrum (c, n, m) of a correlation to its sums over the segments (c, r, k), in float64.

    Float64 since sums of a few large lags are made of many waves; it is the batch's sum alone that is transformed.
    """
    correlation = correlation.to(torch.complex128)
    if plan.tabled:
        row_table, column_table = plan.tables(torch.complex128)
        return (torch.bmm(row_table.T.expand(len(correlation), -1, -1), correlation) @ column_table).real
    reach = plan.rows.radius, plan.columns.radius
    lags = torch.fft.ifft2(correlation).real.roll(reach, (1, 2))
    return pool(lags[:, : 2 * reach[0] + 1, : 2 * reach[1] + 1], plan.rows.sizes, plan.columns.sizes)


def _sums_under_constant(grad: Tensor, plan: _Plan) -> Tensor:
    """The gradients (c, r, k) of the weights under an image of ones, from those (c, H, W) of its output."""
    rows, columns = (
        pool(visibility(2 * axis.radius + 1, length, grad), (1,) * length, axis.sizes)
        for axis, length in zip((plan.rows, plan.columns), grad.shape[1:], strict=True)
    )
    return rows.T @ grad @ columns


def _table(axis: Reachable, period: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(period, segments): sum over a segment's taps of exp(2 pi i frequency tap / period), over the period.

    Kept on a CPU only: on a GPU an op may run while its memory is a CUDA graph's, which is given to others.
    """
    return _kept_table(axis, period, dtype) if device.type == 'cpu' else _new_table(axis, period, dtype, device)


@lru_cache(maxsize=128)
def _kept_table(axis: Reachable, period: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _new_table(axis, period, dtype, torch.device('cpu'))


def _new_table(axis: Reachable, period: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    taps = torch.arange(-axis.radius, axis.radius + 1, device=device)
    # whole turns dropped before the sine: no digits are lost to large phases
    turns = (torch.arange(period, device=device)[:, None] * taps % period).double() / period
    waves = torch.polar(torch.full_like(turns, 1 / period), 2 * math.pi * turns)
    return torch.stack([part.sum(1) for part in waves.split(axis.sizes, dim=1)], dim=1).to(dtype)


@cache
def fast_length(minimum: int) -> int:
    """The smallest length >= ``minimum`` that FFTs are fast at: 4 times factors 2, 3 and 7, 80 times any up to 7."""
    length = -(-minimum // 4) * 4
    while not _is_fast(length):
        length += 4
    return length


def _is_fast(length: int) -> bool:
    for prime in (2, 3, 7) if length % 80 else (2, 3, 5, 7):
        while length % prime == 0:
            length //= prime
    return length == 1


register('fft', forward, backward, refusal)
