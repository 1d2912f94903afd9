"""Checkpoints are whole or absent, whatever the disk does."""

import fcntl
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import threading

import pytest
import torch
from exact_runs import Tool, write_run
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from lspt_mm.engine.hooks.jsonl_logger_hook import (
    FaultTolerantLocalVisBackend,
    JsonlLoggerHook,
    read_log,
)
from lspt_mm.engine.hooks.preemption_hook import EXIT_STOPPED, PreemptionHook
from lspt_mm.engine.hooks.prompt_checkpoint_hook import PromptCheckpointHook
from lspt_mm.engine.runner import run
from lspt_mm.engine.work_dir import latest_checkpoint, read_training_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import atomic_write, write_text
from projects.soak.rounds import ended


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3000))

    def forward(self, inputs, mode='tensor'):
        loss = (self.weight * inputs.mean()).sum()
        return {'loss': loss} if mode == 'loss' else [loss]


class Rising(BaseMetric):
    """A score that is better in every validation."""

    score = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.score += 1
        return {'score': self.score}


def train(
    folder, iterations=6, hooks=(), model=None, accumulative_counts=1, more=None, runner=Runner,
    **checkpoint,
):
    """Iterations of a toy, a checkpoint after each second one."""
    checkpoint = {'interval': 2, 'by_epoch': False, **checkpoint}
    runner = runner(
        model or Toy(), str(folder),
        DataLoader([{'inputs': torch.rand(2)} for _ in range(4)], batch_size=2),
        train_cfg={'by_epoch': False, 'max_iters': iterations, 'val_interval': 2},
        log_level='ERROR', **(more or {}),
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1},
                       'accumulative_counts': accumulative_counts},
        default_hooks={'checkpoint': PromptCheckpointHook(**checkpoint)},
        custom_hooks=list(hooks), experiment_name=f'{folder}{iterations}{checkpoint}',
    )
    runner.train()
    return runner


def names(folder, pattern='*.pth'):
    return sorted(path.name for path in folder.glob(pattern))


class Disk:
    """Lets the writes of checkpoints fail that are told."""

    def __init__(self, monkeypatch, *fail):
        self.count, self.fail = 0, fail
        original = torch.save

        def save(content, file, *args, **kwargs):
            self.count += 1
            original(content, file, *args, **kwargs)

        def replace(one, other, original=os.replace):
            if str(other).endswith('.pth') and self.count in self.fail:
                raise OSError(28, 'No space left on device', str(one))
            original(one, other)

        monkeypatch.setattr(torch, 'save', save)
        monkeypatch.setattr(os, 'replace', replace)


def test_old_ones_go_when_the_new_one_is_there(tmp_path):
    train(tmp_path, max_keep_ckpts=2)
    assert names(tmp_path) == ['iter_4.pth', 'iter_6.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_6.pth')
    assert not names(tmp_path, '.*')


def test_another_backend(tmp_path):
    train(tmp_path, backend_args={'backend': 'local'}, max_keep_ckpts=1)
    assert names(tmp_path) == ['iter_6.pth']


def validation():
    images = DataLoader([{'inputs': torch.rand(2)}], batch_size=1)
    return {'val_dataloader': images, 'val_cfg': {}, 'val_evaluator': Evaluator([Rising()])}


def test_the_best_one_is_saved_and_replaced(tmp_path):
    train(tmp_path, max_keep_ckpts=1, save_best='score', rule='greater', more=validation())
    assert names(tmp_path) == ['best_score_iter_6.pth', 'iter_6.pth']
    kept = torch.load(tmp_path / 'iter_6.pth', weights_only=False)['message_hub']
    assert kept['runtime_info']['best_score'] == 3


def test_the_former_best_one_is_still_known_after_a_full_disk(tmp_path, monkeypatch):
    # Writes of each validation: the regular checkpoint, the best one, the regular one again.
    disk = Disk(monkeypatch, 5)
    train(tmp_path, max_keep_ckpts=1, save_best='score', rule='greater', more=validation())
    assert disk.count == 8  # the third of iteration 4 was not tried
    assert names(tmp_path) == ['best_score_iter_6.pth', 'iter_6.pth']  # that of 2 was removed


def test_a_full_disk_costs_the_new_checkpoint_alone(tmp_path, monkeypatch):
    Disk(monkeypatch, 3)
    runner = train(tmp_path, 8, max_keep_ckpts=2)
    assert names(tmp_path) == ['iter_4.pth', 'iter_8.pth']  # of 2, 4, (6), 8
    assert runner.iter == 8 and not names(tmp_path, '.*')


def test_nothing_is_removed_for_one_that_fails(tmp_path, monkeypatch):
    Disk(monkeypatch, 2, 3)
    with pytest.raises(InputError, match=r'iter_6.pth, the last one.*No space.*--resume'):
        train(tmp_path, max_keep_ckpts=1)
    assert names(tmp_path) == ['iter_2.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_2.pth')
    assert read_training_checkpoint(tmp_path / 'iter_2.pth')['meta']['iter'] == 2


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path):
    (tmp_path / '.iter_2.pth.part').write_bytes(b'half')
    train(tmp_path, 1)
    assert not names(tmp_path, '.*')


def test_the_list_of_kept_ones_survives_a_failure(tmp_path, monkeypatch):
    Disk(monkeypatch, 2)
    runner = train(tmp_path, 6, max_keep_ckpts=2)
    assert names(tmp_path) == ['iter_2.pth', 'iter_6.pth']
    assert runner.message_hub.get_info('keep_ckpt_ids') == [2, 6]


# ---- which one is gone on from ----------------------------------------------------------------


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    train(folder, 4)
    return folder


@pytest.fixture
def copied(two, tmp_path):
    for path in two.glob('*.pth'):
        shutil.copy(path, tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
    return tmp_path


@pytest.mark.parametrize('percent', range(0, 100, 5))
def test_torn_at_every_twentieth(copied, percent):
    whole = (copied / 'iter_4.pth').read_bytes()
    (copied / 'iter_4.pth').write_bytes(whole[: len(whole) * percent // 100])
    assert latest_checkpoint(copied) == str(copied / 'iter_2.pth')


def test_one_changed_byte_of_the_weights(copied):
    content = bytearray((copied / 'iter_4.pth').read_bytes())
    at = content.find(torch.load(copied / 'iter_4.pth', weights_only=False)
                      ['state_dict']['weight'].numpy().tobytes()[:64])
    assert at > 0
    content[at + 17] ^= 1
    (copied / 'iter_4.pth').write_bytes(content)
    assert torch.load(copied / 'iter_4.pth', weights_only=False)  # torch takes it
    with pytest.raises(InputError, match='checksum'):
        read_training_checkpoint(copied / 'iter_4.pth')
    assert latest_checkpoint(copied) == str(copied / 'iter_2.pth')


@pytest.mark.parametrize('text', [None, '', 'nowhere/iter_9.pth', '\0\0\0', '\udcff'])
def test_a_torn_pointer(copied, text):
    file = copied / 'last_checkpoint'
    file.unlink() if text is None else file.write_bytes(text.encode(errors='surrogateescape'))
    assert latest_checkpoint(copied) == str(copied / 'iter_4.pth')


def test_a_copied_folder_has_its_own(copied, tmp_path_factory):
    """The pointer of a copy names the original's file, which may be another by now."""
    original = tmp_path_factory.mktemp('original')
    shutil.copy(copied / 'iter_2.pth', original / 'iter_4.pth')
    (copied / 'last_checkpoint').write_text(str(original / 'iter_4.pth'))
    assert latest_checkpoint(copied) == str(copied / 'iter_4.pth')


def test_a_moved_folder(copied, tmp_path_factory):
    (copied / 'last_checkpoint').write_text('/no/such/place/iter_4.pth')
    assert latest_checkpoint(copied) == str(copied / 'iter_4.pth')


def test_the_greatest_iteration_not_the_greatest_name(copied):
    (copied / 'last_checkpoint').unlink()
    (copied / 'iter_2.pth').rename(copied / 'iter_10.pth')
    (copied / 'best_mIoU_iter_9.pth').write_bytes(b'not looked at')
    assert latest_checkpoint(copied) == str(copied / 'iter_4.pth')


def test_none_is_whole(copied):
    for name in names(copied):
        (copied / name).write_bytes(b'')
    with pytest.raises(InputError, match='iter_4.pth.*iter_2.pth'):
        latest_checkpoint(copied)


def test_none_at_all(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / 'not there') is None


def test_not_of_a_run(tmp_path):
    torch.save({'state_dict': {}}, tmp_path / 'iter_1.pth')
    with pytest.raises(InputError, match='no state of a training run'):
        latest_checkpoint(tmp_path)
    (tmp_path / 'iter_1.pth').unlink()
    (tmp_path / 'iter_1.pth').mkdir()
    with pytest.raises(InputError, match='no such checkpoint file'):
        latest_checkpoint(tmp_path)


# ---- files ------------------------------------------------------------------------------------


def test_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / 'file.txt'
    write_text(file, 'one')
    with pytest.raises(ZeroDivisionError), atomic_write(file) as unfinished:
        unfinished.write_text('tw')
        raise ZeroDivisionError
    assert file.read_text() == 'one' and list(tmp_path.iterdir()) == [file]
    write_text(file, 'two')
    assert file.read_text() == 'two'


def test_what_is_synced_is_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses others. Folders, which it cannot open, are synced elsewhere only."""
    def fsync(descriptor):
        assert stat.S_ISDIR(os.fstat(descriptor).st_mode) or (
            fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        )

    monkeypatch.setattr(os, 'fsync', fsync)
    write_text(tmp_path / 'file.txt', 'one')
    assert (tmp_path / 'file.txt').read_text() == 'one'


def test_size_limit_of_the_system(tmp_path):
    """A limit on the size of files, which holds for everyone, as a disk that is full."""
    file = tmp_path / 'file.txt'
    write_text(file, 'one')
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            write_text(file, 'x' * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert file.read_text() == 'one' and list(tmp_path.iterdir()) == [file]


# ---- the log ----------------------------------------------------------------------------------


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch):
    (tmp_path / 'log.jsonl').mkdir(parents=True)
    train(tmp_path, 2, hooks=[JsonlLoggerHook(1)])
    assert names(tmp_path) == ['iter_2.pth']


def test_torn_lines_are_left_out(tmp_path):
    good = b'{"mode": "train", "iter": 1}\n'
    (tmp_path / 'log.jsonl').write_bytes(good + b'{"mode": "tr\n\xff[]\n3\n' + good)
    assert [line['iter'] for line in read_log(tmp_path)] == [1, 1]
    assert list(read_log(tmp_path / 'nowhere')) == []


def test_losses_are_means_since_the_line_before(tmp_path):
    class Counting(Toy):
        seen = 0

        def forward(self, inputs, mode='tensor'):
            self.seen += 1
            return {'loss': self.weight.sum() * 0 + self.seen}

    train(tmp_path, 7, hooks=[JsonlLoggerHook(3)], model=Counting())
    lines = list(read_log(tmp_path))
    assert [(line['iter'], line['loss'], line['lr']) for line in lines] == [
        (3, 2.0, 0.1), (6, 5.0, 0.1), (7, 7.0, 0.1),
    ]


def test_local_scalars_that_cannot_be_written_end_no_run(tmp_path):
    backend = FaultTolerantLocalVisBackend(str(tmp_path / 'vis'))
    backend.add_scalars({'loss': 1.0}, step=1)
    file = tmp_path / 'vis/scalars.json'
    file.rename(tmp_path / 'kept')
    file.mkdir()
    backend.add_scalars({'loss': 2.0}, step=2)
    file.rmdir()
    backend.add_scalars({'loss': 3.0}, step=3)
    assert json.loads(file.read_text())['loss'] == 3.0
    assert json.loads((tmp_path / 'kept').read_text())['loss'] == 1.0


@pytest.mark.parametrize('interval', [0, -1, 1.5, True, '5'])
def test_interval_of_the_log(interval):
    with pytest.raises(ValueError, match='interval='):
        JsonlLoggerHook(interval)


# ---- a disk that is full, and one that cannot be written -----------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes."""
    place = tmp_path / 'disk'
    place.mkdir()
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', place], capture_output=True
    )
    if done.returncode:
        pytest.skip('no right to mount; the size limit of the system is tested above')
    yield place
    subprocess.run(['umount', '-l', place], check=True)


@pytest.mark.slow
def test_a_run_on_a_disk_that_is_full(small_disk, tmp_path):
    config = write_run(tmp_path, 'segmentation')

    def start(work):
        output = tmp_path / 'out.txt'
        return Tool('train.py', config, '--work-dir', work, '--resume', cwd=tmp_path,
                    output=output).wait(), output.read_text()

    assert start(tmp_path / 'whole')[0] == 0
    work = small_disk / 'work'
    # Room for two and a half checkpoints beside what else the run writes, in pages of 4 KiB.
    sizes = {path: path.stat().st_size for path in (tmp_path / 'whole').rglob('*')}
    checkpoint = max(size for path, size in sizes.items() if path.suffix == '.pth')
    others = sum(size + 4096 for path, size in sizes.items() if path.suffix != '.pth')
    (small_disk / 'ballast').write_bytes(bytes(4 * 2**20 - others - int(2.5 * checkpoint)))
    code, said = start(work)
    assert code == 2, said
    assert 'checkpoint iter_9.pth cannot be written' in said and 'The run continues' in said
    assert 'error: the checkpoint iter_12.pth, the last one of the run, cannot be written' in said
    for name in ('iter_3.pth', 'iter_6.pth'):
        assert read_training_checkpoint(work / name)
    (small_disk / 'ballast').unlink()
    code, said = start(work)
    assert code == 0, said
    assert ended(work) == ended(tmp_path / 'whole')


def test_a_work_dir_that_cannot_be_written(tmp_path):
    config = write_run(tmp_path, 'segmentation')
    (tmp_path / 'file').write_text('in the way')
    output = tmp_path / 'out.txt'
    tool = Tool(
        'train.py', config, '--work-dir', tmp_path / 'file/work', cwd=tmp_path, output=output
    )
    assert tool.wait() == 2
    assert f'error: the work dir {tmp_path / "file/work"} cannot be written' in output.read_text()


# ---- signals in one process -------------------------------------------------------------------


def test_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    train(tmp_path, 2, hooks=[PreemptionHook()])
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_another_thread_cannot_be_told(tmp_path):
    thread = threading.Thread(target=train, args=(tmp_path, 2, [PreemptionHook()]))
    thread.start()
    thread.join()
    assert names(tmp_path) == ['iter_2.pth']


class Telling(Hook):
    """Sends this process a signal behind an iteration."""

    def __init__(self, number, iteration):
        self.number, self.iteration = number, iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            signal.raise_signal(self.number)


def test_stopped_behind_an_optimizers_step(tmp_path):
    hooks = [Telling(signal.SIGTERM, 4), PreemptionHook()]
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path, 12, hooks, accumulative_counts=3, interval=100)
    assert stopped.value.code == EXIT_STOPPED
    assert read_training_checkpoint(tmp_path / 'interrupted.pth')['meta']['iter'] == 6
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_second_interrupt_ends_it(tmp_path):
    hook = PreemptionHook()
    hook._on_signal(signal.SIGINT, None)
    hook._on_signal(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        hook._on_signal(signal.SIGINT, None)


def test_told_in_the_last_iteration(tmp_path):
    train(tmp_path, 4, [Telling(signal.SIGTERM, 4), PreemptionHook()])
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth']


def test_handlers_are_put_back_after_an_error(tmp_path):
    class Failing(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            raise InputError('the loss is not finite')

    class NotTrained(Runner):
        work_dir_lock = None

        def train(self):
            return self

    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    runner = train(tmp_path, 2, [Failing(), PreemptionHook()], runner=NotTrained)
    with pytest.raises(InputError):
        run(runner, lambda: Runner.train(runner))
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
