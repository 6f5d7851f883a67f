"""mmengine's two training loops, able to go on exactly where a checkpoint was written."""

from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from .random_state import get_random_state, set_random_state
from .repeatable_data import EndlessBatches, make_repeatable, sampler_of, start_pass


def seed_of_all(runner: Any) -> int:
    """Return the seed that all processes of a run share: ``diff_rank_seed`` has added each one's rank to its own."""
    return runner.seed - (get_rank() if runner._randomness_cfg.get('diff_rank_seed', False) else 0)


class ExactResume:
    """What both loops need to go on exactly; mixed into them.

    Attributes:
        random_state: While validating, the random state that training goes on with; None otherwise. Validation leaves
            no trace in the random numbers of training, so that it does not matter how often it ran.
    """

    runner: Any
    dataloader: Any
    val_begin: int
    val_interval: int
    random_state: dict[str, Any] | None = None

    def position_after(self, epoch: int) -> tuple[int, int]:
        """Tell where a checkpoint of ``epoch`` complete epochs, saved now, goes on.

        Returns:
            Complete passes over the data set, and batches taken from the present one.
        """
        raise NotImplementedError

    def validate_if_due(self, step: int, last: int) -> None:
        """Validate after ``step`` of ``last`` steps if the config says so."""
        self._decide_current_val_interval()  # type: ignore[attr-defined]
        if self.runner.val_loop is None or step < self.val_begin or (step % self.val_interval and step != last):
            return
        self.random_state = get_random_state()
        try:
            self.runner.val_loop.run()
        finally:
            set_random_state(self.random_state)
            self.random_state = None

    def take_resumed(self) -> dict[str, Any] | None:
        """Hand over, once, what ``resume_position`` gave; set the seeds of the data and the random state."""
        state = getattr(self.runner, 'resumed_state', None)
        self.runner.resumed_state = None
        if state is not None and state['position'] is not None:
            sampler = sampler_of(self.dataloader)
            if state['sampler_seed'] is not None and hasattr(sampler, 'seed'):
                sampler.seed = state['sampler_seed']
            if hasattr(self.dataloader.batch_sampler, 'start_pass'):
                self.dataloader.batch_sampler.seed = state['data_seed']
        if state is not None and state['random'] is not None:
            set_random_state(state['random'])
        return state


class ResumableEpochLoop(ExactResume, EpochBasedTrainLoop):
    """``EpochBasedTrainLoop`` that resumes in the middle of an epoch too; takes the same arguments.

    mmengine's begins the epoch anew while its iterations count on. Validation that was due when the checkpoint was
    written is made up for, since learning rates and the best checkpoint may hang on it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader = make_repeatable(self.dataloader, seed_of_all(self.runner))
        self._batches = 0
        self._after_hooks: dict[str, Any] | None = None

    def position_after(self, epoch: int) -> tuple[int, int]:
        """Tell where a checkpoint goes on; one saved at the end of an epoch at the beginning of the next."""
        return (epoch, 0) if epoch > self._epoch else (self._epoch, self._batches)

    def run(self) -> nn.Module:
        """Launch training."""
        self.runner.call_hook('before_train')
        state = self.take_resumed()
        if state is not None:
            if state['position'] is not None:
                self._epoch, self._batches = state['position']
            else:
                self._batches = max(self._iter - self._epoch * len(self.dataloader), 0)
            if self._epoch and not self._batches and not state['validated']:
                self.validate_if_due(self._epoch, self._max_epochs)
            if self._batches:
                self._after_hooks = state['random']
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Iterate one epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        if self._after_hooks is not None:
            # In the middle of an epoch these hooks had run long before the checkpoint was written.
            set_random_state(self._after_hooks)
            self._after_hooks = None
        for index, batch in enumerate(start_pass(self.dataloader, self._epoch, self._batches), self._batches):
            self._batches = index + 1
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._batches = 0


class ResumableIterLoop(ExactResume, IterBasedTrainLoop):
    """``IterBasedTrainLoop`` that resumes exactly, with any sampler; takes the same arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dataloader = make_repeatable(self.dataloader, seed_of_all(self.runner))
        self.dataloader_iterator = EndlessBatches(self.dataloader)

    def position_after(self, epoch: int) -> tuple[int, int]:
        """Tell where a checkpoint goes on; this loop knows no epochs."""
        return self.dataloader_iterator.passes, self.dataloader_iterator.batches

    def run(self) -> nn.Module:
        """Launch training."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        state = self.take_resumed()
        if state is not None:
            if not getattr(self, 'fast_forward_on_resume', False):  # True asks to begin with the first batch
                self.dataloader_iterator.go_to(*(state['position'] or self._guess_position()))
            if self._iter and not state['validated']:
                self.validate_if_due(self._iter, self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self.validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _guess_position(self) -> tuple[int, int]:
        if isinstance(sampler_of(self.dataloader), InfiniteSampler):
            return 0, self._iter
        return divmod(self._iter, len(self.dataloader))
