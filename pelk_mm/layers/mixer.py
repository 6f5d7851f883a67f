"""The contract of token mixers."""

from __future__ import annotations

from torch import Tensor, nn


class TokenMixer(nn.Module):
    """Spatial part of a block: keeps (N, C, H, W), owns its re-parameterisation.

    The state dict does not depend on the back-end that computes.
    """

    @property
    def maskable_parameters(self) -> tuple[str, ...]:
        """Names of the mixer's kernels, which sparse training may prune: its own parameters of several dimensions."""
        return tuple(name for name, parameter in self.named_parameters(recurse=False) if parameter.ndim > 1)

    def forward(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """Mix (N, C, H, W) tokens; ``pos_embed`` is the stage's h for mixers that were built to read one."""
        raise NotImplementedError

    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge branches and norms in place; idempotent, the evaluated output stays within rounding."""
        raise NotImplementedError
