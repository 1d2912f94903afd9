"""Training loop for linear probes: the head is fitted, nothing is trained by steps."""

from lspt_mm.engine.hooks.linear_baseline_hook import LinearBaselineHook
from lspt_mm.engine.loops import ResumableEpochBasedTrainLoop
from lspt_mm.errors import InputError
from lspt_mm.registry import LOOPS


@LOOPS.register_module()
class LinearProbeLoop(ResumableEpochBasedTrainLoop):
    """Saves and validates once the head that ``LinearBaselineHook`` has fitted.

    Args:
        runner, dataloader: As MMEngine's.
        max_epochs (int): 1.
        skip_bad (int): As of :class:`ResumableIterBasedTrainLoop`.

    Raises:
        InputError: If the config has no ``LinearBaselineHook``.
    """

    def __init__(self, runner, dataloader, max_epochs: int = 1, skip_bad: int = 0):
        if max_epochs != 1:
            raise InputError(f'train_cfg.max_epochs={max_epochs}: a linear probe has 1')
        super().__init__(runner, dataloader, max_epochs, skip_bad=skip_bad)
        if not any(isinstance(hook, LinearBaselineHook) for hook in runner.hooks):
            raise InputError(
                'LinearProbeLoop: nothing fits the head; add '
                "dict(type='lspt_mm.LinearBaselineHook') to custom_hooks"
            )

    def run(self):
        """Let the hook fit the head; save and validate."""
        self.runner.call_hook('before_train')
        if self._epoch == 0:
            self._iter = len(self.dataloader)  # as after a whole epoch, for --resume
            self.runner.call_hook('after_train_epoch')
            self._epoch = 1
            self._validate_if_due()
        else:
            self._validate_if_missed()
        self.runner.call_hook('after_train')
        return self.runner.model
