"""Runs whose numbers go wrong end with a name, a place and whole checkpoints."""

import json

import pytest
import torch
from miniatures import run_tool, write_segmentation

from lspt_mm.engine.hooks.check_invalid_loss_hook import CheckInvalidLossHook, files_of
from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.errors import InputError


@pytest.fixture
def mini(tmp_path):
    return write_segmentation(tmp_path)


def train(mini, *options):
    folder = mini.config.parent
    return run_tool(
        'train.py', mini.config, '--work-dir', folder / 'work', '--cfg-options',
        'train_cfg.max_iters=8', 'default_hooks.checkpoint.interval=1', *options, cwd=folder,
    )


def test_a_loss_that_is_not_finite(mini):
    run = train(mini, 'optim_wrapper.optimizer.lr=1e30')
    assert run.code == 2 and 'Traceback' not in run.err, run.err[-3000:]
    message = run.err[run.err.index('error: ') :]
    for part in ('the loss is not finite', 'lr=', 'training_', '.jpg', 'clip_grad'):
        assert part in message, message
    work = mini.config.parent / 'work'
    (dump,) = work.glob('nonfinite_*.json')
    assert dump.stat().st_size < 100_000 and str(dump) in message
    report = json.loads(dump.read_text())
    assert f'iteration {report["iteration"]}:' in message
    assert len(report['files']) == 2 and all(f in message for f in report['files'])
    assert report['trained']['backbone.prompter.prompts']['not_finite'] >= 0
    assert not any('layers' in name and 'prompter' not in name for name in report['trained'])
    for path in work.glob('iter_*.pth'):
        state = torch.load(path, weights_only=False)['state_dict']
        assert all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point())


def test_clipping_is_a_matter_of_config(mini):
    run = train(mini, 'optim_wrapper.clip_grad.max_norm=0.001', 'default_hooks.run_log.interval=1')
    assert run.code == 0, run.err[-3000:]
    lines = list(read_log(mini.config.parent / 'work'))
    assert all(line['grad_norm'] > 0 for line in lines if line['mode'] == 'train')


class Wrapper:
    def __init__(self, scaled):
        if scaled:
            self.loss_scaler = object()

    @staticmethod
    def get_lr():
        return {'lr': [0.5], 'base_lr': [0.25]}


class Run:
    iter, epoch, rank, seed = 4, 0, 0, 7

    def __init__(self, folder, scaled=False):
        self.work_dir, self.optim_wrapper = folder, Wrapper(scaled)
        self.model = torch.nn.Linear(2, 1)


NAN = {'loss': torch.tensor(float('nan')), 'other': torch.tensor([1.0, 2.0])}
FINE = {'loss': torch.tensor(1.0)}


def test_the_scaler_has_patience(tmp_path):
    hook, run = CheckInvalidLossHook(), Run(tmp_path, scaled=True)
    for outputs in [NAN] * 20 + [FINE] + [NAN] * 20:
        hook.after_train_iter(run, 0, {}, outputs)
    with pytest.raises(InputError, match=r'iteration 5: .*loss=nan.*lr=0.5, base_lr=0.25'):
        hook.after_train_iter(run, 0, {}, NAN)


def test_without_a_scaler_there_is_none(tmp_path):
    with pytest.raises(InputError, match='Files of the batch: unknown'):
        CheckInvalidLossHook().after_train_iter(Run(tmp_path), 0, {}, NAN)


def test_a_dump_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match='iteration 5.*cannot be written'):
        CheckInvalidLossHook().after_train_iter(Run(tmp_path / 'nowhere'), 0, {}, NAN)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    state = {'fine': torch.ones(2), 'count': torch.tensor(3), 'bad': torch.tensor([1.0, torch.inf])}
    with pytest.raises(InputError, match=r'not saved \(1, such as bad\)'):
        CheckInvalidLossHook().before_save_checkpoint(Run(tmp_path), {'state_dict': state})
    state.pop('bad')
    CheckInvalidLossHook().before_save_checkpoint(Run(tmp_path), {'state_dict': state})


def test_files_of_whatever_a_batch_is():
    assert files_of(None) == files_of([1]) == files_of({'data_samples': [object()]}) == []
