"""Runs that are killed and taken up again end to the bit as those that were left alone."""

import json
import re
import shutil
import signal
import sys
import time

import pytest
from exact_runs import Tool, write_run
from miniatures import once, run_command

from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.engine.hooks.preemption_hook import EXIT_STOPPED
from projects.soak.rounds import done_iterations, ended

#: Name to kind, loader workers and further options; what they differ in has state of its own.
RUNS = {
    'segmentation': ('segmentation', 0, ['--checkpoint', 'prompts']),
    'segmentation-workers': ('segmentation', 2, ['--amp']),
    'classification': ('classification', 0, []),
    'classification-workers': ('classification', 2, ['--checkpoint', 'prompts', '--amp']),
}


def start(folder, work, *more):
    config = next(folder.glob('mini_*.py'))
    return Tool(
        'train.py', config, '--work-dir', work, '--resume', *more, cwd=folder,
        output=work.with_suffix('.txt'),
    )


def text_of(work):
    return work.with_suffix('.txt').read_text()


def runs(*quick, among=tuple(RUNS)):
    """Each of ``RUNS``, slow but for those named."""
    names = [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in among
    ]
    return pytest.mark.parametrize('whole', names, indirect=True)


@pytest.fixture
def whole(request, tmp_path_factory):
    """A folder with a run that nobody interrupted, and the options it was run with."""
    kind, workers, more = RUNS[request.param]

    def make(folder):
        write_run(folder, kind, workers)
        assert start(folder, folder / 'whole', *more).wait() == 0, text_of(folder / 'whole')

    return once(tmp_path_factory, f'exact_{request.param}', make), more


def end_at(process, work, iteration, number):
    """Send a signal when so many iterations are done; return the exit code."""
    begun = time.monotonic()
    while process.poll() is None and done_iterations(work) < iteration:
        assert time.monotonic() - begun < 300
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait()


@runs('segmentation-workers')
def test_killed_and_taken_up(whole, tmp_path):
    folder, more = whole
    work = tmp_path / 'killed'
    for iteration in (1, 7):  # before the first checkpoint, and between two
        assert end_at(start(folder, work, *more), work, iteration, signal.SIGKILL) == -9
    assert start(folder, work, *more).wait() == 0, text_of(work)
    assert ended(work) == ended(folder / 'whole')


@runs('classification')
@pytest.mark.parametrize(
    'number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_told_to_stop(whole, tmp_path, number):
    folder, more = whole
    work = tmp_path / 'stopped'
    assert end_at(start(folder, work, *more), work, 4, number) == EXIT_STOPPED, text_of(work)
    assert (work / 'last_checkpoint').read_text().endswith('interrupted.pth')
    stopped = done_iterations(work)
    assert 4 <= stopped < 12 and f'after iteration {stopped}' in text_of(work)
    assert start(folder, work, *more).wait() == 0, text_of(work)
    assert f'iter: {stopped}' in text_of(work)
    assert ended(work) == ended(folder / 'whole')
    assert not (work / 'interrupted.pth').exists()


@pytest.mark.slow
@pytest.mark.parametrize('iteration', [4, 8])
def test_stopped_before_and_after_pruning(tmp_path, iteration):
    """E2VPT collects scores in the second of four passes of 3 iterations, and prunes after it."""
    config = write_run(tmp_path, 'classification')
    prompter = dict(type='E2VPT', num_tokens=4, prune=0.5, dropout=0.1, _delete_=True)
    config.write_text(config.read_text() + f"model['backbone']['prompter'] = {prompter}\n")
    whole, work = tmp_path / 'whole', tmp_path / 'stopped'
    assert start(tmp_path, whole).wait() == 0, text_of(whole)
    assert 'E2VPT: kept 2 of 4 tokens and 8 of 16 segments' in text_of(whole)
    assert end_at(start(tmp_path, work), work, iteration, signal.SIGTERM) == EXIT_STOPPED
    assert start(tmp_path, work).wait() == 0, text_of(work)
    assert ended(work) == ended(whole)


@runs('segmentation-workers', 'classification')
def test_log_has_every_iteration_once(whole):
    folder, _ = whole
    lines = list(read_log(folder / 'whole'))
    assert [line['iter'] for line in lines if line['mode'] == 'train'] == list(range(1, 13))
    validated = [line['iter'] for line in lines if line['mode'] == 'val']
    assert validated == ([10, 12] if 'decode.loss_ce' in lines[0] else [6, 12])


@runs('classification')
def test_another_seed_ends_differently(whole, tmp_path):
    folder, more = whole
    assert start(folder, tmp_path / 'other', '--seed', 1, *more).wait() == 0
    one, other = ended(folder / 'whole'), ended(tmp_path / 'other')
    assert one.weights != other.weights and one.log != other.log


@pytest.mark.slow
def test_workers_do_not_matter(tmp_path):
    """The number of loader workers decides nothing; what is drawn follows from the sample."""
    ends = []
    for workers in (0, 1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        write_run(folder, 'segmentation', workers, iterations=5)
        assert start(folder, folder / 'work').wait() == 0, text_of(folder / 'work')
        ends.append(ended(folder / 'work'))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize(
    'kind, last',
    [pytest.param('segmentation', 10, marks=pytest.mark.slow), ('classification', 6)],
)
def test_a_validation_that_was_broken_off_is_made_up_for(kind, last, tmp_path):
    write_run(tmp_path, kind, iterations=12)
    assert start(tmp_path, tmp_path / 'whole').wait() == 0
    work = tmp_path / 'work'
    (tmp_path / 'slow_validation.py').write_text(
        'import time\n'
        'from mmengine.runner import ValLoop\n'
        'of_mmengine = ValLoop.run_iter\n'
        'def slowly(*args):\n'
        '    of_mmengine(*args)\n'
        f"    open({str(tmp_path / 'validating')!r}, 'w')\n"
        '    time.sleep(0.5)\n'
        'ValLoop.run_iter = slowly\n'
    )
    config = next(tmp_path.glob('mini_*.py'))
    plain = config.read_text()
    config.write_text(
        f'{plain}\nimport sys\nsys.path.insert(0, {str(tmp_path)!r})\n'
        "custom_imports = dict(imports=['slow_validation'])\n"
    )
    process = start(tmp_path, work)
    while process.poll() is None and not (tmp_path / 'validating').exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == EXIT_STOPPED, text_of(work)
    assert done_iterations(work) == last
    assert 'val' not in {line['mode'] for line in read_log(work)}
    config.write_text(plain)
    assert start(tmp_path, work).wait() == 0, text_of(work)
    assert ended(work) == ended(tmp_path / 'whole')


@runs('classification', among=('classification', 'classification-workers'))
def test_other_epochs_are_refused(whole, tmp_path):
    folder, more = whole
    work = tmp_path / 'work'
    assert end_at(start(folder, work, *more), work, 4, signal.SIGTERM) == EXIT_STOPPED
    shutil.copytree(folder / 'images', tmp_path / 'images')
    for path in list((tmp_path / 'images/train').glob('*/*.jpg')):  # 24 images, not 12
        shutil.copy(path, path.with_name(f'again_{path.name}'))
    process = start(folder, work, *more, '--data-root', tmp_path / 'images')
    assert process.wait() == 2
    assert 'with another number of iterations per epoch than 6' in text_of(work)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['segmentation', 'classification'])
def test_soak(kind, tmp_path):
    """Killed and stopped at twenty random moments, in processes as users start them."""
    config = write_run(tmp_path, kind, workers=2, iterations=240)
    # With SIGINT ignored, as scripts start what runs in the background; runs must not inherit it.
    run = run_command(
        'bash', '-c', 'trap "" INT; exec "$@"', 'bash', sys.executable, '-m', 'lspt_mm', 'soak',
        config, '--kills', 20, '--out', tmp_path / 'soak', cwd=tmp_path,
    )
    assert run.code == 0, run.out[-2000:] + run.err[-3000:]
    report = json.loads((tmp_path / 'soak/soak.json').read_text())
    assert report['differences'] == [] and report['kills'] + report['stops'] == 20, run.out
    assert report['kills'] >= 8 and report['attempts'] == 21, run.out
    assert report['iterations'] == 240


#: Methods whose prompts move or are removed after passes of three iterations.
WITH_SCORES = {
    'pro-vpt': "type='PROVPT', num_tokens=3, dropout=0.1",
    'pro-vpt-ppo': "type='PROVPT', num_tokens=3, dropout=0.1, policy='ppo'",
    'condensed': "type='CondensedPrompt', num_tokens=3, dropout=0.1",
}


@pytest.mark.parametrize(
    'method', [pytest.param(m, marks=() if m == 'pro-vpt' else pytest.mark.slow)
               for m in WITH_SCORES]
)
def test_scores_of_a_pass_are_resumed(method, tmp_path):
    config = write_run(tmp_path, 'classification')
    prompter = f"model['backbone']['prompter'] = dict(_delete_=True, {WITH_SCORES[method]})\n"
    config.write_text(config.read_text() + prompter)
    assert start(tmp_path, tmp_path / 'whole').wait() == 0, text_of(tmp_path / 'whole')
    assert re.search(r': (prompt \d+ moved|kept 4 of 12)', text_of(tmp_path / 'whole'))
    work = tmp_path / 'work'
    for iteration in (4, 8):  # after the first and the second step of a pass
        code = end_at(start(tmp_path, work), work, iteration, signal.SIGTERM)
        assert code == EXIT_STOPPED, text_of(work)
    assert start(tmp_path, work).wait() == 0, text_of(work)
    assert ended(work) == ended(tmp_path / 'whole')
