"""Several processes do what one does; they stop together, and the first to fail says why."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from exact_runs import write_run
from miniatures import FROM_DATA, TOOLS, free_port, once, run_command

from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.engine.hooks.preemption_hook import EXIT_STOPPED
from projects.soak.rounds import done_iterations, ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which('bash') is None, reason='shell scripts'),
]

#: A linear head without batch statistics or dropout; random augmentation as in the other runs.
PLAIN = """
model['neck'] = None
model['auxiliary_head'] = None
model['backbone'].update(drop_path_rate=0., prompter={prompter!r})
model['decode_head'] = dict(
    _delete_=True, type='FCNHead', num_convs=0, concat_input=False, in_channels=16, channels=16,
    in_index=3, dropout_ratio=0., num_classes=150, norm_cfg=None, align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0))
train_dataloader['batch_size'] = {batch}
optim_wrapper = dict(optimizer=dict(lr=0.01))
custom_hooks = [
    dict(type=f'lspt_mm.{{name}}Hook') for name in ('BackboneWeights', 'PromptInit', 'Prompter')]
"""
SPT = {'_delete_': True, 'type': 'SelfPrompt', 'num_tokens': 3, 'deep': True}
MOVING = {'_delete_': True, 'type': 'PROVPT', 'num_tokens': 3}
FEWER = {'_delete_': True, 'type': 'CondensedPrompt', 'num_tokens': 3}
PAE = {
    '_delete_': True, 'type': 'PAE', 'num_tokens': 3, 'width': 4,
    'prompter': {'type': 'VPT', 'deep': True},
}
PROMPTERS = {
    'lspt': {'num_tokens': 3, 'dropout': 0.0}, 'bpt': FROM_DATA, 'spt': SPT, 'pro-vpt': MOVING,
    'condensed': FEWER, 'pae': PAE,
}


def config_for(folder, method, processes):
    config = write_run(folder, 'segmentation', iterations=6)
    more = PLAIN.format(prompter=PROMPTERS[method], batch=4 // processes)
    config.write_text(config.read_text() + more)
    return config


def run_on(folder, method, processes):
    folder.mkdir()
    config = config_for(folder, method, processes)
    if processes == 1:
        command = [sys.executable, TOOLS / 'train.py', config]
    else:
        command = ['bash', TOOLS / 'dist_train.sh', config, processes]
    run = run_command(
        *command, '--work-dir', folder / 'work', cwd=folder, MASTER_PORT=free_port()
    )
    assert run.code == 0, run.err[-4000:]
    lines = [line for line in read_log(folder / 'work') if line['mode'] == 'train']
    last = torch.load(folder / 'work/iter_6.pth', weights_only=False)
    return [line['loss'] for line in lines], last['state_dict'], last['optimizer']['state']


@pytest.mark.parametrize('method', PROMPTERS)
def test_several_processes_equal_one(method, tmp_path):
    losses, state, moments = run_on(tmp_path / '1', method, 1)
    assert len(losses) == 6 and losses[0] - losses[-1] > 0.01  # something is learned
    for processes in (2, 4):
        others, other_state, other_moments = run_on(
            tmp_path / str(processes), method, processes
        )
        assert others == pytest.approx(losses, rel=1e-5)
        # Adam divides gradients by their size: of the smallest (1e-6), rounding becomes a step. A
        # wrong gradient would move weights by up to 6 steps of 0.01.
        for name, tensor in state.items():
            torch.testing.assert_close(other_state[name], tensor, rtol=1e-4, atol=5e-5, msg=name)
        # Adam's first moments are means of gradients.
        for key, values in moments.items():
            torch.testing.assert_close(
                other_moments[key]['exp_avg'], values['exp_avg'], rtol=1e-3, atol=1e-5
            )


ON_EACH = """
import sys
import torch
from mmengine.dist import get_rank, get_world_size
from lspt_mm.models.prompters.base import Training
from lspt_mm.registry import PROMPTERS
if len(sys.argv) > 2:
    torch.distributed.init_process_group('gloo')
for name in ('PROVPT', 'CondensedPrompt'):
    torch.manual_seed(0)
    prompter = PROMPTERS.get(name)(3, embed_dims=8, num_layers=4, num_heads=2).double()
    for step in range(12):
        shares = torch.Generator().manual_seed(step)
        weights = torch.randn(4, 12, 8, generator=shares, dtype=torch.float64)
        weights = weights[get_rank() :: get_world_size()].mean(0)  # four images in all
        prompter.before_step()
        parts = [part[0] for part in prompter.first(None, None)[1] if part is not None]
        (torch.cat(parts) * weights[: sum(map(len, parts))]).sum().backward()
        prompter.after_step()
        if step % 2:
            print(prompter.after_epoch(Training(step // 2 + 1, 6, 1 / (step + 1), lambda *_: None)))
    torch.save(prompter.state_dict(), f'{sys.argv[1]}/{name}_{get_rank()}.pth')
"""


def test_all_processes_take_the_same_decisions(tmp_path):
    """Before the hook broadcasts the first one's state."""
    script = tmp_path / 'on_each.py'
    script.write_text(ON_EACH)
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        launcher = ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}']
        more = [*launcher, f'--master_port={free_port()}'] if processes > 1 else []
        run = run_command(sys.executable, *more, script, folder, *more[:1], cwd=tmp_path)
        assert run.code == 0, run.err[-4000:]
        found[processes] = {path.name: torch.load(path) for path in folder.iterdir()}
    for name, state in found[1].items():
        moved = state['block'] != torch.arange(1, 5).repeat_interleave(3)
        assert moved.any()
        first, second = (found[2][name.replace('_0', f'_{rank}')] for rank in (0, 1))
        for key, value in state.items():
            assert torch.equal(first[key], second[key]), key
            torch.testing.assert_close(first[key], value)


def start(config, work, output, *more):
    return subprocess.Popen(
        ['bash', TOOLS / 'dist_train.sh', config, '2', '--work-dir', work, '--resume', *more],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable,
             'MASTER_PORT': free_port()},
        cwd=config.parent, stdout=output.open('a'), stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """A run on two processes, with all that is random, left alone."""

    def make(folder):
        config = write_run(folder, 'segmentation', workers=2, iterations=60)
        config.write_text(config.read_text() + "model['decode_head']['norm_cfg'] = None\n")
        assert start(config, folder / 'whole', folder / 'whole.txt').wait() == 0

    return once(tmp_path_factory, 'dist_two', make)


def wait_for(process, work, iteration):
    begun = time.monotonic()
    while process.poll() is None and done_iterations(work) < iteration:
        assert time.monotonic() - begun < 300
        time.sleep(0.01)


@pytest.mark.parametrize(
    ('told', 'iteration'), [('launcher', 12), ('one process', 12), ('one process', 10)]
)
def test_all_stop_together_and_go_on(two, tmp_path, told, iteration):
    """Told in the middle, and while they validate or are about to."""
    work, output, config = tmp_path / 'work', tmp_path / 'out.txt', two / 'mini_seg.py'
    process = start(config, work, output)
    wait_for(process, work, iteration)
    if told == 'launcher':
        process.send_signal(signal.SIGTERM)
    else:
        mains = [pid for pid in processes_of(work) if is_main(pid)]
        (second,) = [pid for pid in mains if '\0RANK=1\0' in of(pid, 'environ')]
        os.kill(int(second), signal.SIGTERM)
    assert process.wait() == EXIT_STOPPED, output.read_text()[-4000:]
    said = output.read_text()
    (iteration,) = set(re.findall(r'after iteration (\d+)', said))
    assert done_iterations(work) == int(iteration) < 60
    assert start(config, work, output).wait() == 0, output.read_text()[-4000:]
    assert ended(work) == ended(two / 'whole')


def processes_of(work):
    run = subprocess.run(['pgrep', '-f', str(work)], capture_output=True, text=True)
    return run.stdout.split()


def of(pid, what):
    return Path(f'/proc/{pid}/{what}').read_text()


def is_main(pid):
    """Not a loader's worker: the parent is the launcher."""
    parent = of(pid, 'stat').rsplit(')', 1)[1].split()[1]
    return 'torch.distributed.run' in of(parent, 'cmdline')


def test_killed_and_taken_up(two, tmp_path):
    work, output, config = tmp_path / 'work', tmp_path / 'out.txt', two / 'mini_seg.py'
    process = start(config, work, output)
    wait_for(process, work, 10)
    for pid in processes_of(work):
        os.kill(int(pid), signal.SIGKILL)
    process.wait()
    assert start(config, work, output).wait() == 0, output.read_text()[-4000:]
    assert ended(work) == ended(two / 'whole')


def test_the_process_that_fails_says_so_and_ends_the_job(tmp_path):
    config = write_run(tmp_path, 'segmentation', iterations=60)
    bad = tmp_path / 'ADEChallengeData2016/images/training/training_2.jpg'
    bad.write_bytes(b'not an image')
    output = tmp_path / 'out.txt'
    code = start(config, tmp_path / 'work', output, '--no-check').wait()
    assert code not in (0, EXIT_STOPPED)
    messages = re.findall(r'^error.*$', output.read_text(), re.MULTILINE)
    assert len(messages) == 1 and str(bad) in messages[0], messages


COUNTING = """
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
@METRICS.register_module()
class Counting(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [sample['img_path'] for sample in data_samples]
    def compute_metrics(self, results):
        return {'count': len(results), 'different': len(set(results))}
"""


def test_uneven_last_batches_are_counted_once(tmp_path):
    """Three validation images on two processes: one is read twice and counted once."""
    config = write_run(tmp_path, 'segmentation', iterations=10)
    (tmp_path / 'counting.py').write_text(COUNTING)
    config.write_text(
        config.read_text() + f'import sys\nsys.path.insert(0, {str(tmp_path)!r})\n'
        "custom_imports = dict(imports=['counting'])\n"
        "val_evaluator = dict(_delete_=True, type='Counting')\n"
    )
    assert start(config, tmp_path / 'work', tmp_path / 'out.txt').wait() == 0
    (line,) = [line for line in read_log(tmp_path / 'work') if line['mode'] == 'val']
    assert (line['count'], line['different']) == (3, 3)
