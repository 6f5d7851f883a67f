"""Dynamic sparse training as a hook of mmengine's runner."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..checkpoints.loading import unwrap
from ..registry import HOOKS, register
from ..utils.checks import check_int, check_number
from ..utils.errors import CheckpointError, ConfigError, first_names
from .masked import MaskedWeights
from .rules import cosine_rate, snip_counts
from .snip import snip_scores
from .state import SPARSITY_KEY, SparsityState, check_identical, compare_settings, masks_that_fit, unpack
from .units import GRANULARITIES
from .weights import checked_patterns, maskable_weights, masks_from_zeros

MODES = ('dynamic', 'fixed')
# What only 'dynamic' reads, with its defaults.
DYNAMIC_ONLY = {
    'sparsity': 0.4,
    'prune_rate': 0.5,
    'final_prune_rate': 0.005,
    'update_interval': 2000,
    'sync_interval': None,
    'seed': None,
}

# What a checkpoint keeps to compare with on resume; ``seed`` is kept as drawn.
SETTINGS = (
    'mode',
    'granularity',
    'sparsity',
    'prune_rate',
    'final_prune_rate',
    'update_interval',
    'sync_interval',
    'dense_above',
    'total_steps',
    'include',
)


@register(HOOKS)
class DynamicSparsityHook(Hook):
    """Trains with a part of the weights held at zero, and moves that part (SLaK's recipe, used by PeLK).

    ``mode='dynamic'``: before the first step, SNIP scores of that step's batch decide how dense each layer is, and a
    random mask of that density is drawn. After every optimizer step the weights are multiplied by their masks. Every
    ``update_interval`` steps each layer drops the ``ceil(p * kept)`` kept weights of smallest magnitude and takes up
    as many at random, which start at 0; p falls by a cosine from ``prune_rate`` to ``final_prune_rate`` over the run.
    PeLK-T: ``update_interval=2000, prune_rate=0.5``; S and B: ``100, 0.3`` (sources: PeLK, arXiv 2403.07589, section
    4.4; SLaK, arXiv 2207.03620; what they leave open is decision D5 of ``docs/paper/sparse_training.md``).

    ``granularity='filter'``: masks cover only the parallel paths of mixers (``ShiftwiseConv``) and drop whole N x N
    filters. SNIP scores are averaged over a filter, and the first masks are the same for all paths; then each path
    drops its filters of smallest L1 norm and takes up others by itself. Every ``sync_interval``-th move the paths get
    one mask instead, ranked by norms summed over the paths. SW: ``sparsity=0.3, prune_rate=0.3, update_interval=100,
    sync_interval=131`` (source: the public code of SW, arXiv 2401.12736; what is ours is decision D6).

    ``mode='fixed'``: for fine-tuning. What the loaded checkpoint (``load_from`` or ``init_cfg``) left pruned stays
    zero: its masks where it holds any, else the layers with more than ``1 - dense_above`` exact zeros.

    A step is a step of the optimizer: accumulated iterations and steps that a loss scaler skips do not count. Every
    process computes the same masks, and checksums are compared whenever they change. Weight averages (``EMAHook``)
    follow: a pruned entry is 0 at once, one taken up starts from the model's value. Checkpoints hold the masks under
    ``sparsity``, and a resumed run goes on exactly. The log lists the density of each layer when masks are made or
    restored; the visualizer's back-ends (TensorBoard) get ``sparsity/...`` scalars every ``log_interval`` steps.

    Args:
        sparsity: Share of the masked weights to hold at zero, in [0, 1).
        prune_rate: p at the start, in [0, 1].
        final_prune_rate: p at the end, in [0, 1].
        update_interval: Optimizer steps between two moves, at least 1.
        mode: 'dynamic' or 'fixed'.
        include: Regular expressions (``re.search``) on parameter names: mask these weights only. None for the weights
            of all convolutions, linears and token mixers; never norms, biases, layer scale, embeddings.
        dense_above: A layer with at least this density is not masked, in (0, 1].
        seed: Of the random choices; None for the runner's.
        log_interval: Optimizer steps between two entries of the log, at least 1.
        granularity: What is dropped: an 'element', or a 'filter' of modules with ``filter_parameters``.
        sync_interval: Moves from one that makes the paths of a filter mask equal to the next, at least 1. None for
            never. Only for ``granularity='filter'``.

    Raises:
        TypeError, ValueError: An argument is out of its range, or given where nothing uses it (``mode='fixed'``,
            ``granularity='element'``).
        ConfigError: When a run starts: two such hooks, several optimizers, ``include`` matches nothing, no filters.
        CheckpointError: When a run is resumed: no masks, masks of another model, another sparsity or granularity.
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook

    def __init__(
        self,
        sparsity: float = 0.4,
        prune_rate: float = 0.5,
        final_prune_rate: float = 0.005,
        update_interval: int = 2000,
        mode: str = 'dynamic',
        include: Sequence[str] | None = None,
        dense_above: float = 0.99,
        seed: int | None = None,
        log_interval: int = 1000,
        granularity: str = 'element',
        sync_interval: int | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f'mode must be one of {", ".join(MODES)}, but got {mode!r}')
        if granularity not in tuple(GRANULARITIES):
            raise ValueError(f'granularity must be one of {", ".join(GRANULARITIES)}, but got {granularity!r}')
        check_number('sparsity', sparsity, 0)
        if not sparsity < 1:
            raise ValueError(f'sparsity must be in [0, 1), but got {sparsity}')
        check_number('prune_rate', prune_rate, 0, 1)
        check_number('final_prune_rate', final_prune_rate, 0, 1)
        check_int('update_interval', update_interval, 1)
        if sync_interval is not None:
            check_int('sync_interval', sync_interval, 1)
            if granularity != 'filter':
                raise ValueError(
                    f"sync_interval={sync_interval} is for the paths of granularity='filter', "
                    f'but granularity is {granularity!r}'
                )
        check_number('dense_above', dense_above, 0, 1)
        if not dense_above > 0:
            raise ValueError(f'dense_above must be in (0, 1], but got {dense_above}')
        if seed is not None:
            check_int('seed', seed, 0)
        check_int('log_interval', log_interval, 1)
        self.include = None if include is None else checked_patterns(include)
        self.sparsity, self.prune_rate, self.final_prune_rate = sparsity, prune_rate, final_prune_rate
        self.update_interval, self.seed, self.mode = update_interval, seed, mode
        self.dense_above, self.log_interval = dense_above, log_interval
        self.granularity, self.sync_interval, self.units = granularity, sync_interval, GRANULARITIES[granularity]
        if mode == 'fixed':
            given = [name for name, default in DYNAMIC_ONLY.items() if getattr(self, name) != default]
            if given:
                raise ValueError(f"mode='fixed' keeps the masks it finds and has no use for {', '.join(given)}")
        self.state: SparsityState | None = None
        self.masked: MaskedWeights | None = None
        self.weights: dict[str, nn.Parameter] = {}
        self.total_steps = 0
        self._loaded: Any = None
        self._training = False
        self._handle: Any = None

    def before_run(self, runner: Runner) -> None:
        """Look for the weights, before anything is loaded or written."""
        if sum(isinstance(hook, DynamicSparsityHook) for hook in runner.hooks) > 1:
            raise ConfigError('custom_hooks names DynamicSparsityHook more than once, which is one too many')
        self.state = self.masked = self._loaded = None
        self._training = isinstance(runner.optim_wrapper, OptimWrapper)
        if not self._training:  # validation or test
            return
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise ConfigError('the sparsity hook needs one optimizer, but the config has several')
        if is_model_wrapper(runner.model) and not isinstance(runner.model, DistributedDataParallel):
            kind = type(runner.model).__name__
            raise ConfigError(f'the sparsity hook needs whole weights in every process, which {kind} does not keep')
        self.weights = maskable_weights(unwrap(runner.model), self.include, self.units)
        self.total_steps = math.ceil(runner.max_iters / runner.optim_wrapper._accumulative_counts)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take a checkpoint's masks; refuse to resume from one whose masks do not fit."""
        self._loaded = checkpoint.get(SPARSITY_KEY)
        if self._training and runner._resume and (self._loaded is not None or self.mode == 'dynamic'):
            self.state = self._unpack(runner, self._loaded)

    def before_train(self, runner: Runner) -> None:
        """Put restored masks in force, or find them in loaded weights."""
        loaded, self._loaded = self._loaded, None
        if self.state is not None:
            self._start(runner, f'restored at step {self.state.step}')
        elif self.mode == 'fixed':
            self._find(runner, loaded)
        elif loaded is not None:
            runner.logger.warning(
                'The loaded checkpoint holds sparsity masks. They are not used: new ones are drawn at the first step. '
                "To keep its zeros set mode='fixed', to go on with its run use --resume"
            )
        if self.mode == 'fixed' and self.masked is None:
            return
        self._runner = runner
        # torch calls this after each step that is really made, wherever the step is called from.
        self._handle = runner.optim_wrapper.optimizer.register_step_post_hook(self._after_step)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Draw the masks on the first batch."""
        if self.state is None:
            self._draw(runner, data_batch)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the masks."""
        if self.state is not None and (self.state.masks or self.mode == 'dynamic'):
            checkpoint[SPARSITY_KEY] = self.state.pack(self.weights, self._settings())

    def after_train(self, runner: Runner) -> None:
        """Let the optimizer go."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _unpack(self, runner: Runner, loaded: Any) -> SparsityState:
        """Read the state to resume from; name the settings that have changed."""
        if loaded is None:
            raise CheckpointError(
                'the checkpoint holds no sparsity masks, so dynamic sparse training cannot go on from it. Start anew '
                "from its weights with --cfg-options load_from=PATH, or keep the zeros they have with mode='fixed'"
            )
        state = unpack(loaded, self.weights, self.units)
        notes = compare_settings(loaded['settings'], self._settings())
        if self.seed is not None and self.seed != state.seed:
            notes.append(f'seed was {state.seed}, is {self.seed}')
            state.seed = self.seed
        for note in notes:
            runner.logger.warning(f'Sparsity: {note}')
        return state

    def _find(self, runner: Runner, loaded: Any) -> None:
        """Read the masks off a loaded checkpoint or its zeros."""
        masks = masks_from_zeros(self.weights, self.dense_above, self.units)
        masks.update(masks_that_fit(loaded, self.weights, self.units))
        self.state = SparsityState({name: masks[name] for name in self.weights if name in masks}, 0, 0)
        if not masks:
            runner.logger.warning(
                "Sparsity: mode='fixed', but no weight of the model has been pruned: there is nothing to keep at zero. "
                'Was a sparse checkpoint meant to be loaded (load_from, init_cfg)?'
            )
            return
        self._start(runner, 'found in the loaded weights')
        self._log(runner, runner.iter)

    def _draw(self, runner: Runner, data_batch: Any) -> None:
        """SNIP densities and random masks of those densities."""
        seed = torch.tensor(self.seed if self.seed is not None else runner.seed or 0)
        broadcast(seed)  # each process may have a seed of its own
        self.state = SparsityState({}, 0, int(seed))
        trained = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        if not trained:
            raise ConfigError('every weight that the sparsity hook could mask is frozen')
        scores = snip_scores(unwrap(runner.model), data_batch, runner.optim_wrapper, trained)
        unranked = [name for name, score in scores.items() if not score.any()]
        for name in unranked:
            del scores[name]
        if unranked:
            runner.logger.warning(
                f'Sparsity: {first_names(unranked)} stay dense: all their weights or all their gradients are zero'
            )
        scores = {name: self.units.scores(score) for name, score in scores.items()}
        for name, keep in snip_counts(scores, self.sparsity).items() if scores else ():
            if keep < self.dense_above * scores[name].numel():
                weight = self.weights[name]
                self.state.masks[name] = self.units.draw(weight.shape, keep, self.state.seed, name).to(weight.device)
        self._start(runner, 'drawn')
        self._log(runner, runner.iter)

    def _start(self, runner: Runner, how: str) -> None:
        """Apply new masks, compare them between processes, and list them in the log."""
        assert self.state is not None
        check_identical(self.state.masks, f'at step {self.state.step}')
        averages = [
            dict(hook.ema_model.module.named_parameters()) for hook in runner.hooks if hasattr(hook, 'ema_model')
        ]
        self.masked = MaskedWeights(self.weights, averages, self.state.masks, self.units)
        self.masked.apply_to_all()
        runner.logger.info(
            f'Sparsity masks {how}: density {self.masked.total_density():.4f} over {len(self.weights)} layers, '
            f'{len(self.state.masks)} of them masked\n{self.masked.table()}'
        )

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Mask the weights, and move the masks when it is time; torch calls this at the end of ``optimizer.step()``."""
        skipped = getattr(optimizer, 'found_inf', None)
        if skipped is not None and bool(skipped):  # a fused optimizer is called in any case, and skips by itself
            return
        state, masked = self.state, self.masked
        assert state is not None
        assert masked is not None
        state.step += 1
        masked.apply()
        if self.mode == 'dynamic':
            if state.step > 1 and (state.step - 1) % self.update_interval == 0:
                masked.averages_take_up()
            # What the very last step took up could no longer be trained.
            if state.step % self.update_interval == 0 and state.step < self.total_steps:
                masked.move(self._rate(), state.seed, state.step, self._synchronises())
                check_identical(state.masks, f'at step {state.step}')
        if state.step % self.log_interval == 0:
            self._log(self._runner, self._runner.iter + 1)

    def _rate(self) -> float:
        assert self.state is not None
        return cosine_rate(self.state.step, self.total_steps, self.prune_rate, self.final_prune_rate)

    def _synchronises(self) -> bool:
        """Whether the move of this step makes the paths equal."""
        assert self.state is not None
        move = self.state.step // self.update_interval
        return self.sync_interval is not None and move % self.sync_interval == 0

    def _log(self, runner: Runner, iteration: int) -> None:
        assert self.masked is not None
        total = self.masked.total_density()
        layers = {f'sparsity/layer/{name}': density for name, density in self.masked.density().items()}
        scalars = {'sparsity/density': total, **layers}
        if self.mode == 'dynamic':
            scalars['sparsity/prune_rate'] = self._rate()
        runner.message_hub.update_scalar('train/density', total)
        runner.visualizer.add_scalars(scalars, step=iteration)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SETTINGS}
