"""The dense K x K mixer of RepLKNet, and of PeLK's own comparison (Table 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ops import SharingGrid
from ...utils.checks import check_odd
from .peripheral import PeripheralConv2d
from .pos_embed import PosEmbed


class DenseConv(PeripheralConv2d):
    """BN(dense K x K) + BN(small depthwise kernel): RepLKNet's branches (arXiv 2203.06717, section 3).

    A dense kernel is the peripheral one whose grid shares nothing, so this is :class:`PeripheralConv2d` on
    ``SharingGrid.dense(kernel_size)``: ``w_theta`` is (g, K, K), and the merge into it is always exact.

    Args:
        channels: C.
        kernel_size: K, odd.
        conv_ratio: Share of channels that are convolved, in (0, 1]; RepLKNet and SLaK convolve all of them.
        small_kernel, norm_cfg, pos_embed: As for :class:`PeripheralConv2d`.

    Raises:
        TypeError, ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        conv_ratio: float = 1.0,
        small_kernel: int | None = 5,
        norm_cfg: Mapping[str, Any] | None = None,
        pos_embed: PosEmbed | None = None,
    ) -> None:
        check_odd('kernel_size', kernel_size)
        super().__init__(
            channels,
            kernel_size,
            central_size=1,
            grid=SharingGrid.dense(kernel_size),
            conv_ratio=conv_ratio,
            small_kernel=small_kernel,
            norm_cfg=norm_cfg,
            pos_embed=pos_embed,
        )

    @classmethod
    def from_pelk(  # type: ignore[override]  # reads no grid
        cls,
        channels: int,
        kernel_size: int,
        *,
        conv_ratio: float,
        small_kernel: int | None,
        branch_norm_cfg: Mapping[str, Any],
        pos_embed: PosEmbed | None,
    ) -> DenseConv:
        """PeLK's arguments but those of the grid."""
        return cls(
            channels,
            kernel_size,
            conv_ratio=conv_ratio,
            small_kernel=small_kernel,
            norm_cfg=branch_norm_cfg,
            pos_embed=pos_embed,
        )
