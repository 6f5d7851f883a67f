"""One training step of a classifier on PeLK beside its rivals: time, and memory kept for the backward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..harness import GateError, Measured, Variant, check_run, measure, reason
from ..machine import benchmark_settings, cache_bytes, check_device
from ..rotation import Rotation
from .evaluation import autocast, check_images, check_nets
from .rivals import build_net, resolve_arch, weight_bytes

NUM_CLASSES = 1000


def benchmark_train(
    *,
    arch: str = 'tiny',
    channels: Sequence[int] | None = None,
    size: int = 224,
    batch: int = 4,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = 'cpu',
    repeats: int = 5,
    compile: bool = False,
    channels_last: bool = False,
    tf32: bool = False,
    limit: float | None = None,
    nets: Collection[str] | None = None,
) -> Measured:
    """Time forward, cross-entropy on random labels, backward and AdamW of :data:`.rival_nets.RIVALS`.

    A linear classifier of 1000 classes stands on the pooled last output. Arguments as for
    :func:`.model_benchmark.benchmark_model`; float16 steps go through a ``GradScaler``. ``peak_bytes`` of a net counts
    its weights and the states of its optimizer, ``kept_bytes`` what autograd saves for the backward pass (tensors that
    share a storage once; weights, buffers and images not).

    Raises:
        GateError: The loss of a PeLK is no finite number.
        ValueError: An argument is out of its range.
    """
    names, device = check_nets(nets), check_device(device)
    check_run(repeats, limit)
    check_images(size, batch, dtype)
    resolved = resolve_arch(arch, channels)
    generator = torch.Generator().manual_seed(0)
    ready: list[Variant] = []
    skipped: dict[str, str] = {}
    with benchmark_settings(device, tf32), torch.enable_grad():
        image = torch.randn(batch, 3, size, size, generator=generator).to(device)
        images = Rotation(image, cache_bytes(device), channels_last=channels_last)
        labels = torch.randint(NUM_CLASSES, (batch,), generator=generator).to(device)
        for name in names:
            try:
                step = TrainStep(build_net(name, resolved), images, labels, dtype, compile, channels_last)
                kept = step.kept_bytes()
                step()  # makes the optimizer's states
            except GateError:
                raise
            except Exception as problem:  # a missing package, too little memory
                skipped[name] = reason(problem)
                continue
            ready.append(Variant(name, step, held_bytes=step.held_bytes(), kept_bytes=kept))
        result = measure(ready, device=device, repeats=repeats, limit=limit)
    result.skipped = skipped | result.skipped
    return result


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
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)

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
        own = {tensor.untyped_storage().data_ptr() for tensor in held}
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor  # which keeps the storage, so that its address stays its own

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        if not torch.isfinite(loss):
            raise GateError(f'the loss is {float(loss)}: not timed')
        return sum(saved.values())

    def held_bytes(self) -> int:
        """Weights, buffers and states of the optimizer."""
        states = (value for state in self.optimizer.state.values() for value in state.values())
        return weight_bytes(self.model) + sum(s.numel() * s.element_size() for s in states if torch.is_tensor(s))


def _pooled(outputs: Sequence[Tensor]) -> Tensor:
    """(N, C) of a backbone's last output."""
    return outputs[-1].mean((2, 3)) if outputs[-1].ndim == 4 else outputs[-1]
