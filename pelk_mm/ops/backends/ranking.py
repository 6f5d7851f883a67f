"""Which back-end is the fastest for a call, and why.

Read off ``tools/analysis_tools/benchmark.py op``; on CUDA at K = 51 (``docs/benchmarks/gpu.md``), and elsewhere by the
operations and bytes that each formulation needs (``docs/ops/how_computed.md``).
"""

from __future__ import annotations

from .dense import WIDEST_FAST_ROW
from .table import Problem
from .triton_support import DTYPES as TRITON_DTYPES

#: On a CPU: below this count of taps that reach across the map, transforms cost more than they save.
FEWEST_TAPS = 80
#: In evaluation the stock convolution is fast on a CPU, in channels-last layout: with fewer taps, as stripes have ...
FEWEST_TAPS_EVALUATION = 256
#: ... and on maps of fewer pixels.
FEWEST_PIXELS = 400
#: On CUDA the stock 5 x 5 convolution takes about 400 instructions a pixel, its gradients more, and products on tensor
#: cores a quarter of that. So the parallel kernels of training are worth another kernel, 3 x 3 are not.
FEWEST_TAPS_CUDA = 25
#: And transforms in float32 need many passes over memory.
FEWEST_TAPS_CUDA_FFT = 441


def ranking(problem: Problem) -> list[tuple[str, str]]:
    """Back-ends for ``problem``, the fastest first, each with the reason; of which some may be unable to run."""
    taps = problem.reach[0] * problem.reach[1]
    if problem.input.device.type == 'cuda':
        return _on_cuda(problem, taps)
    return _on_cpu(problem, taps)


def _on_cuda(problem: Problem, taps: int) -> list[tuple[str, str]]:
    if taps < FEWEST_TAPS_CUDA:
        return [('dense', f'fewer than {FEWEST_TAPS_CUDA} taps reach across the map')]
    ranked = [('triton', f'{FEWEST_TAPS_CUDA} taps or more')]
    if problem.input.dtype not in TRITON_DTYPES:
        ranked = []
    if taps >= FEWEST_TAPS_CUDA_FFT:
        ranked.append(('fft', f'{FEWEST_TAPS_CUDA_FFT} taps or more'))
    return [*ranked, ('dense', 'too few taps for transforms')]


def _on_cpu(problem: Problem, taps: int) -> list[tuple[str, str]]:
    if taps < FEWEST_TAPS:
        return [('dense', f'fewer than {FEWEST_TAPS} taps reach across the map')]
    if problem.needs_grad:
        return [('fft', 'gradients of large stock convolutions are slow')]
    if problem.reach[1] <= WIDEST_FAST_ROW:
        return [('dense', f'rows of at most {WIDEST_FAST_ROW} taps are fast in stock convolutions')]
    if taps < FEWEST_TAPS_EVALUATION:
        return [('dense', f'fewer than {FEWEST_TAPS_EVALUATION} taps: fast in channels-last layout')]
    if problem.input.shape[2] * problem.input.shape[3] < FEWEST_PIXELS:
        return [('dense', f'fewer than {FEWEST_PIXELS} pixels: fast in channels-last layout')]
    return [('fft', f'at least {FEWEST_TAPS_EVALUATION} taps and {FEWEST_PIXELS} pixels, in wide rows')]
