"""The contract of token mixers."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class TokenMixer(nn.Module):
    """Spatial part of a block: keeps (N, C, H, W), owns its re-parameterisation.

    The state dict does not depend on the back-end that computes.

    Attributes:
        channels: C.
        kernel_size: K, the length of the largest kernel.
        deployed: Whether :meth:`switch_to_deploy` has run.
    """

    #: Whether :meth:`forward` can read a kernel-wise positional embedding h.
    reads_pos_embed = False
    #: Whether :meth:`switch_to_deploy` merges BatchNorms, the mixer's own or the block's, into the kernels.
    merges_norms = True
    #: Whether the deployed mixer does the same at every pixel, as a convolution.
    shift_invariant = True
    channels: int
    kernel_size: int
    deployed = False

    @classmethod
    def from_pelk(cls, channels: int, kernel_size: int, *args: Any, **kwargs: Any) -> TokenMixer:
        """Build the mixer of one stage in PeLK's terms, for the mixers that ``mixer=`` names.

        A mixer's keyword-only parameters are those of PeLK's arguments that it reads, among ``central_size``,
        ``grid`` (the stage's entry of ``grids``), ``conv_ratio``, ``small_kernel``, ``branch_norm_cfg`` and
        ``pos_embed``. PeLK gives these and refuses the others.

        Args:
            channels: C.
            kernel_size: K of the stage, odd.

        Raises:
            TypeError, ValueError: An argument is out of the mixer's range.
        """
        raise NotImplementedError

    @classmethod
    def pelk_arguments(cls) -> frozenset[str]:
        """Names of PeLK's arguments that :meth:`from_pelk` reads."""
        parameters = inspect.signature(cls.from_pelk).parameters.values()
        return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)

    @property
    def maskable_parameters(self) -> tuple[str, ...]:
        """Names of the mixer's kernels, which sparse training may prune: its own parameters of several dimensions."""
        return tuple(name for name, parameter in self.named_parameters(recurse=False) if parameter.ndim > 1)

    @property
    def filter_parameters(self) -> tuple[str, ...]:
        """Those of :attr:`maskable_parameters` that coarse sparse training prunes by whole N x N filters.

        Each has shape (paths, ..., N, N): filters that stand at the same place in different paths are summed.
        """
        return ()

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """Mix (N, C, H, W) tokens; ``pos_embed`` is the stage's h for mixers that were built to read one."""
        raise NotImplementedError

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge branches and norms in place; idempotent, the evaluated output stays within rounding."""
        raise NotImplementedError

    def scale_output(self, scale: Tensor, shift: Tensor) -> None:
        """Fold y -> scale * y + shift, each (C,) in float64, into the deployed weights: a BatchNorm that follows."""
        raise NotImplementedError

    def dense_kernel(self) -> Tensor:
        """The square kernel that each convolved channel meets, (g, K, K), differentiable in the weights.

        Kernels that are no squares stand in the middle of zeros, and are summed where they share channels. Once
        deployed, the g outputs of the convolved channels are a cross-correlation with this kernel, plus bias and the
        term of h; where a mixer is not :attr:`shift_invariant`, on average over the places of a pixel. Before, it is
        the large kernel ahead of its BatchNorm; a mixer says what else is summed.
        """
        raise NotImplementedError

    def refuse_pos_embed(self, pos_embed: Tensor | None) -> None:
        """Raise ValueError where a mixer that reads no embedding is given one."""
        if pos_embed is not None:
            raise ValueError('pos_embed must be None: this mixer reads no embedding')

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` is (N, C, H, W), and holds enough pixels for BatchNorms that are training."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != self.channels:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f'x must have shape (N, {self.channels}, H, W), but got {got}')
        if x.numel() == x.shape[1] and any(isinstance(m, nn.BatchNorm2d) and m.training for m in self.modules()):
            raise ValueError(
                f'x must hold more than one pixel for BatchNorm to train on, but got {tuple(x.shape)}: '
                'use a larger batch or image, or norm_eval=True'
            )


class UnmergedMixer(TokenMixer):
    """A mixer that reads no embedding, and has nothing to merge."""

    merges_norms = False

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Note that the mixer is deployed: it has nothing to merge.

        Args:
            pos_embed: None: this mixer reads no embedding.

        Raises:
            ValueError: An embedding was given.
        """
        self.refuse_pos_embed(pos_embed)
        self.deployed = True


def in_square(weight: Tensor, side: int) -> Tensor:
    """(g, 1, kh, kw) in the middle of zeros, (g, side, side); all three odd, or all even."""
    rows, columns = ((side - size) // 2 for size in weight.shape[2:])
    return F.pad(weight.squeeze(1), (columns, columns, rows, rows))
