"""A hook that tests a model in its deployed form."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checkpoints.deploy import switch_to_deploy
from ..registry import HOOKS, register


@register(HOOKS)
class SwitchToDeployHook(Hook):
    """Switches the model to its deployed form before testing.

    ``custom_hooks = [dict(type='pelk_mm.SwitchToDeployHook')]`` or ``tools/test.py --deploy``. Training and validation
    keep the form that can be trained. The switch is in place: after ``runner.test()`` the model stays deployed.

    Raises:
        ValueError: Before testing, if no module of the model has ``switch_to_deploy()``.
    """

    def before_test(self, runner: Runner) -> None:
        """Switch, once the weights have been loaded."""
        switched = switch_to_deploy(runner.model)
        if not switched:
            raise ValueError(f'{type(runner.model).__name__} has no module with switch_to_deploy(): nothing to merge')
        for hook in runner.hooks:  # EMAHook exchanges the weights with those of its copy, which has to look the same
            if hasattr(hook, 'ema_model'):
                switch_to_deploy(hook.ema_model.module)
        runner.logger.info(f'Switched to the deployed form: {", ".join(switched)}')
