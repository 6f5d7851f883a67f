"""One training step of a classifier on PeLK beside its rivals: time, and memory kept for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...utils.compat import grad_scaler
from ..harness import GateError, Measured, Variant, kept_bytes
from ..machine import benchmark_settings
from ..rotation import Rotation
from .rivals import build_net, weight_bytes
from .setting import Setting, autocast

NUM_CLASSES = 1000


def benchmark_train(*, repeats: int = 5, **setting: Any) -> Measured:
    """Time forward, cross-entropy on random labels, backward and AdamW of :data:`.rivals.RIVALS`.

    A linear classifier of 1000 classes stands on the pooled last output. float16 steps go through a ``GradScaler``.
    ``peak_bytes`` of a net counts its weights and the states of its optimizer, ``kept_bytes`` what autograd saves for
    the backward pass (tensors that share a storage once; weights, buffers and images not).

    Args:
        repeats: Samples of each net.
        **setting: The other arguments of :class:`.setting.Setting`.

    Raises:
        GateError: The loss of a PeLK is no finite number.
        ValueError: An argument is out of its range.
    """
    common = Setting(repeats=repeats, **setting)
    generator = torch.Generator().manual_seed(0)
    with benchmark_settings(common.place, common.tf32), torch.enable_grad():
        images = common.images(generator)
        labels = torch.randint(NUM_CLASSES, (common.batch,), generator=generator).to(common.place)

        def build(name: str) -> Variant:
            net = build_net(name, common.shape)
            step = TrainStep(net, images, labels, common.dtype, common.compile, common.channels_last)
            kept = step.kept_bytes()
            step()  # makes the optimizer's states
            return Variant(name, step, held_bytes=step.held_bytes(), kept_bytes=kept)

        return common.measure(build)


class TrainStep:
    """A classifier with its optimizer; a call is one step.

    Args:
        net: The backbone; its last output is (N, C) or (N, C, H, W).
        images: Batches (N, 3, H, W).
        labels: (N,).
        dtype: float32, or what autocast casts to.
        compile: Run the net through ``torch.compile``.
        channels_last: Weights in channels-last layout.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Rotation,
        labels: Tensor,
        dtype: torch.dtype,
        compile: bool = False,
        channels_last: bool = False,
    ) -> None:
        self.images, self.labels, self.dtype, self.device = images, labels, dtype, labels.device
        net.to(self.device)
        if channels_last:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            net.eval()
            features = _pooled(net(images.next()[:1])).shape[1]
        net.train()
        self.model = nn.ModuleDict({'net': net, 'head': nn.Linear(features, NUM_CLASSES).to(self.device)})
        if compile:
            net.compile()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, weight_decay=0.05)
        self.scaler = grad_scaler(self.device.type, dtype == torch.float16)

    def loss(self) -> Tensor:
        """Cross-entropy on the next batch."""
        with autocast(self.device, self.dtype):
            return F.cross_entropy(self.model['head'](_pooled(self.model['net'](self.images.next()))), self.labels)

    def __call__(self) -> None:
        """Forward, backward and the optimizer's step; no gradients stay behind."""
        self.scaler.scale(self.loss()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def kept_bytes(self) -> int:
        """What autograd saves in one forward pass; weights, buffers and images apart.

        Raises:
            GateError: The loss is no finite number.
        """
        held = (*self.model.parameters(), *self.model.buffers(), self.images.next())  # copies of images share a storage

        def loss() -> Tensor:
            loss = self.loss()
            if not torch.isfinite(loss):
                raise GateError(f'the loss is {float(loss)}: not timed')
            return loss

        return kept_bytes(loss, held)

    def held_bytes(self) -> int:
        """Weights, buffers and states of the optimizer."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        return weight_bytes(self.model) + sum(s.numel() * s.element_size() for s in states if torch.is_tensor(s))


def _pooled(outputs: Sequence[Tensor]) -> Tensor:
    """(N, C) of a backbone's last output."""
    return outputs[-1].mean((2, 3)) if outputs[-1].ndim == 4 else outputs[-1]
