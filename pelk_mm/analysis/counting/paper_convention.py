"""What the paper counts: the convention under which its parameters and FLOPs come out of our nets.

PeLK trains nets 1.3 times wider at 40 % dynamic sparsity and prints what is left. The rules were found by fitting the
published rows (``docs/paper/published_rows.md`` lists all of them with what they do not explain):

- one multiply-add is one FLOP; in the backbone only convolutions and linears count, every tap of an expanded K x K
  kernel at every pixel, padding included; norms, biases, h and the parallel 5x5 branch do not;
- the weights of the backbone, and of the classifier of an ImageNet net, are sparse: they count ``1 - sparsity`` times,
  in multiply-adds and in parameters; a peripheral kernel has the parameters of ``w_theta``;
- necks and task heads are dense and count as mmengine counts them, norms and resizing included;
- norms, biases and layer scale are dense parameters; h and the 5x5 branch are left out of the parameters as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from ...layers import TokenMixer
from ...models import LargeKernelBackbone
from .tensor_forward import kind_of

#: Operations with weights, by their names in :class:`~pelk_mm.analysis.counting.op_counter.OpCounter`.
WEIGHTED = ('conv', 'linear', 'depthwise_conv2d', 'shiftwise_conv2d', 'window_conv2d')


@dataclass(frozen=True)
class PaperConvention:
    """The rules above for one sparsity.

    Args:
        sparsity: Share of the weights that are zero, in [0, 1); 0 counts a dense net by the same rules.

    Raises:
        ValueError: ``sparsity`` is out of range.
    """

    sparsity: float

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f'sparsity must be in [0, 1), but got {self.sparsity}')

    def share(self, model: nn.Module, module: str, operation: str) -> float:
        """By how much the multiply-adds of an operation count that ran in the module named ``module``."""
        if not is_sparse(model, module):
            return 1.0
        return 1.0 - self.sparsity if operation in WEIGHTED else 0.0

    def params_nonzero(self, model: nn.Module) -> int:
        """Parameters of ``model`` that are left at this sparsity.

        Raises:
            ValueError: A mixer is deployed: its merged kernel is none that was ever sparse.
        """
        if any(getattr(module, 'deployed', False) for module in model.modules() if isinstance(module, TokenMixer)):
            raise ValueError('sparsity is counted in the training form, but the model is deployed')
        left_out = {id(parameter) for parameter in (*pos_embeds(model), *small_branches(model))}
        sparse = dense = 0
        for name, parameter in model.named_parameters():
            if id(parameter) in left_out:
                continue
            if parameter.ndim > 1 and is_sparse(model, name):
                sparse += parameter.numel()
            else:
                dense += parameter.numel()
        return round((1 - self.sparsity) * sparse) + dense


def is_sparse(model: nn.Module, name: str) -> bool:
    """Whether a parameter or module of this name lies where training is sparse: backbone, or ImageNet classifier."""
    part = name.partition('.')[0]
    return part == 'backbone' or (part == 'head' and kind_of(model) == 'classifier')


def pos_embeds(model: nn.Module) -> Iterator[Tensor]:
    """The kernel-wise positional embeddings h of a model."""
    for module in model.modules():
        if isinstance(module, LargeKernelBackbone):
            yield from getattr(module, 'pos_embeds', ())


def small_branches(model: nn.Module) -> Iterator[Tensor]:
    """Kernels and norms of the parallel small branches of a model's mixers."""
    for module in model.modules():
        if isinstance(module, TokenMixer):
            yield from (parameter for name, parameter in module.named_parameters() if name.startswith('small_'))
