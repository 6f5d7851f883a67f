"""The residual block of UniRepLKNet and ShiftWise: BatchNorms, a channel gate and a response norm around a mixer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .block import ResidualBlock
from .fold import fold_before, fold_behind
from .grn import GlobalResponseNorm
from .mixers.base import TokenMixer
from .norm import batch_norm_scale_and_shift, build_activation, build_branch_norm, check_branch_norm_cfg
from .squeeze_excite import SqueezeExcite


class UniRepBlock(ResidualBlock):
    """x + DropPath(gamma * BN(Linear(GRN(act(Linear(SE(BN(mixer(x)))))))) (UniRepLKNet, arXiv 2311.15599, section 3.1).

    SE narrows to C / 4; the linears widen to ``mlp_ratio`` C and back, the second without bias.

    Args:
        mixer: What mixes the tokens.
        channels: C.
        branch_norm_cfg: The two BatchNorms: ``dict(type='BN' | 'SyncBN')``.
        act_cfg: Activation between the linears.
        mlp_ratio: Hidden over outer channels.
        **kwargs: ``drop_path_rate``, ``layer_scale_init_value``, ``with_cp`` of :class:`ResidualBlock`.

    Raises:
        TypeError, ValueError: A config of something else.
    """

    def __init__(
        self,
        mixer: TokenMixer,
        channels: int,
        *,
        branch_norm_cfg: Mapping[str, Any] | None,
        act_cfg: Mapping[str, Any],
        mlp_ratio: float = 4.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(mixer, channels, **kwargs)
        branch_norm_cfg = check_branch_norm_cfg(branch_norm_cfg, 'branch_norm_cfg')
        hidden = int(mlp_ratio * channels)
        self.norm: _BatchNorm | nn.Identity = build_branch_norm(branch_norm_cfg, channels)
        self.se = SqueezeExcite(channels, max(channels // 4, 1))
        self.pointwise_conv1 = nn.Linear(channels, hidden)
        self.act = build_activation(act_cfg)
        self.grn = GlobalResponseNorm(hidden)
        self.pointwise_conv2 = nn.Linear(hidden, channels, bias=False)
        self.out_norm: _BatchNorm | nn.Identity = build_branch_norm(branch_norm_cfg, channels)

    def branch(self, mixed: Tensor) -> Tensor:
        """What follows the mixer, layer scale included, (N, C, H, W) to the same shape."""
        # contiguous: a linear adds its bias within the product only then
        mixed = self.se(self.norm(mixed)).permute(0, 2, 3, 1).contiguous()
        mixed = self.pointwise_conv2(self.grn(self.act(self.pointwise_conv1(mixed))))
        mixed = self.out_norm(mixed.permute(0, 3, 1, 2))
        return mixed if self.gamma is None else mixed * self.gamma[:, None, None]

    @torch.no_grad()
    def switch_to_deploy(self, pos_embed: Tensor | None = None) -> None:
        """Merge the mixer with the BatchNorm behind it, and all that follows GRN's scaling into the second linear.

        In place, idempotent. A BatchNorm that the mixer cannot take over stays. Gamma, the outer BatchNorm and GRN's
        beta end in the second linear, which then has a bias.

        Args:
            pos_embed: The stage's h, for mixers that read one.
        """
        super().switch_to_deploy(pos_embed)
        if isinstance(self.norm, _BatchNorm):
            try:
                self.mixer.scale_output(*batch_norm_scale_and_shift(self.norm))
            except NotImplementedError:
                pass
            else:
                self.norm = nn.Identity()
        if isinstance(self.out_norm, nn.Identity):
            return
        scale, shift = batch_norm_scale_and_shift(self.out_norm)
        if self.gamma is not None:
            scale, shift = scale * self.gamma, shift * self.gamma
        beta = cast(Tensor, self.grn.beta).double()
        fold_before(self.pointwise_conv2, torch.ones_like(beta), beta)
        fold_behind(self.pointwise_conv2, scale, shift)
        self.grn.beta = self.gamma = None
        self.out_norm = nn.Identity()
