"""Training loops that resume exactly, at any iteration."""

from typing import List, Optional, Tuple

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals

from lspt_mm.engine.resumable_dataloader import cycle_batches, make_resumable
from lspt_mm.errors import InputError
from lspt_mm.registry import LOOPS
from lspt_mm.utils.checks import check_int
from lspt_mm.utils.seed import seed_iteration

#: Key in the message hub: iterations before the last logged validation (``JsonlLoggerHook``).
VALIDATED = 'last_validation'


class _Resumable:
    """Parts common to both loops."""

    def _build_loader(self, runner, dataloader, skip_bad: int):
        check_int('train_cfg.skip_bad', skip_bad, 0)
        if runner._randomness_cfg.get('diff_rank_seed', False):
            raise InputError(
                'randomness.diff_rank_seed=True: a resumed run would draw the order of the data '
                'again. Remove it: each process has its own random numbers anyway'
            )
        loader = runner.build_dataloader(dataloader, seed=runner.seed)
        return make_resumable(loader, runner.seed, skip_bad)

    def _follow_seed(self) -> None:
        """Use the seed of the resumed run, which is in its checkpoint."""
        sampler = self.dataloader.batch_sampler.sampler
        if hasattr(sampler, 'seed'):
            sampler.seed = self.runner.seed
        self.dataloader.dataset.seed = self.runner.seed

    def _validate_if_missed(self) -> None:
        """Validate if the run was interrupted between a checkpoint and its validation."""
        if self._iter > 0 and self.runner.message_hub.runtime_info.get(VALIDATED) != self._iter:
            self._validate_if_due()

    def _validate_if_due(self) -> None:
        raise NotImplementedError

    def run_iter(self, *args) -> None:
        """Run one iteration, seeded by the run's seed and the iteration's number."""
        seed_iteration(self.runner.seed, self._iter, get_rank())
        super().run_iter(*args)


@LOOPS.register_module()
class ResumableIterBasedTrainLoop(_Resumable, IterBasedTrainLoop):
    """MMEngine's ``IterBasedTrainLoop`` that resumes exactly.

    A run resumed at any iteration sees the same images, order and augmentation as an uninterrupted
    one, and draws the same random numbers. This holds for any number of loader workers. On one
    machine, with the same number of processes, the weights are bit-identical on CPUs.

    Args:
        runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals: As MMEngine's.
        skip_bad (int): Number of unreadable training files to skip with a warning; one more is an
            error.

    Raises:
        ValueError: For an argument out of range, or a loader without batches or indices.
    """

    def __init__(
        self, runner, dataloader, max_iters: int, val_begin: int = 1, val_interval: int = 1000,
        dynamic_intervals: Optional[List[Tuple[int, int]]] = None, skip_bad: int = 0,
    ):
        # MMEngine's constructor may start reading data before the first iteration is known.
        BaseLoop.__init__(self, runner, self._build_loader(runner, dataloader, skip_bad))
        if int(max_iters) != max_iters or max_iters < 0:
            raise InputError(f'train_cfg.max_iters={max_iters}: expected an integer >= 0')
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._iter = self._epoch = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(
            val_interval, dynamic_intervals
        )
        metainfo = getattr(self.dataloader.dataset, 'metainfo', None)
        if metainfo is not None:
            runner.visualizer.dataset_meta = metainfo

    def run(self):
        """Train to ``max_iters``."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self._follow_seed()
        self._validate_if_missed()
        batches = cycle_batches(self.dataloader, self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _validate_if_due(self) -> None:
        last = self._iter == self._max_iters
        due = self._iter >= self.val_begin and (self._iter % self.val_interval == 0 or last)
        if self.runner.val_loop is not None and due:
            self.runner.val_loop.run()


@LOOPS.register_module()
class ResumableEpochBasedTrainLoop(_Resumable, EpochBasedTrainLoop):
    """MMEngine's ``EpochBasedTrainLoop`` that resumes exactly, also within an epoch.

    Args:
        runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals: As MMEngine's.
        skip_bad (int): As of :class:`ResumableIterBasedTrainLoop`.

    Raises:
        ValueError: As :class:`ResumableIterBasedTrainLoop`; also for a checkpoint of a run with
            another number of iterations per epoch.
    """

    def __init__(
        self, runner, dataloader, max_epochs: int, val_begin: int = 1, val_interval: int = 1,
        dynamic_intervals: Optional[List[Tuple[int, int]]] = None, skip_bad: int = 0,
    ):
        if int(max_epochs) != max_epochs or max_epochs < 0:
            raise InputError(f'train_cfg.max_epochs={max_epochs}: expected an integer >= 0')
        loader = self._build_loader(runner, dataloader, skip_bad)
        if len(loader) == 0:
            raise InputError(
                f'train_dataloader: {len(loader.dataset)} images are fewer than one batch, and '
                'drop_last is set'
            )
        super().__init__(runner, loader, max_epochs, val_begin, val_interval, dynamic_intervals)

    def run(self):
        """Train to ``max_epochs``."""
        self.runner.call_hook('before_train')
        done = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= done <= len(self.dataloader):
            raise InputError(
                f'the checkpoint (iteration {self._iter}, epoch {self._epoch}) is of a run with '
                f'another number of iterations per epoch than {len(self.dataloader)}: resume '
                'with its batch size, data and number of processes'
            )
        self._follow_seed()
        if done == 0:
            self._validate_if_missed()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch(done)
            done = 0
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self, done: int = 0) -> None:
        """Run an epoch, after its first ``done`` iterations."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.dataloader.batch_sampler.start_at(self._epoch, done)
        for number, batch in enumerate(self.dataloader, done):
            self.run_iter(number, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _validate_if_due(self) -> None:
        last = self._epoch == self._max_epochs
        due = self._epoch >= self.val_begin and (self._epoch % self.val_interval == 0 or last)
        if self.runner.val_loop is not None and due:
            self.runner.val_loop.run()
