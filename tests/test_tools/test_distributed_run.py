"""tools/dist_train.sh and dist_test.sh on two CPU processes (gloo)."""

import re
import shutil

import pytest
from miniatures import FROM_DATA, TOOLS, free_port, once, run_command, write_segmentation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which('bash') is None, reason='shell scripts'),
]


#: Methods to train on two processes; the second one starts from data that rank 0 reads.
PROMPTERS = {
    'lspt': {},
    'bilinear': FROM_DATA,
}
#: What their checkpoints hold.
CONTENT = {'lspt': 'full', 'bilinear': 'prompts'}


@pytest.fixture(scope='module', params=PROMPTERS)
def trained(request, tmp_path_factory):
    """Two iterations on two processes; each writes down the state that it ends with."""

    def make(folder):
        config = write_segmentation(folder).config
        (folder / 'note.py').write_text(
            'import torch\n'
            'from mmengine.hooks import Hook\n'
            'from mmengine.registry import HOOKS\n'
            'from mmengine.dist import get_rank, get_world_size, get_backend\n'
            '@HOOKS.register_module()\n'
            'class Note(Hook):\n'
            '    def after_train(self, runner):\n'
            '        state = runner.model.state_dict()\n'
            "        note = {'size': get_world_size(), 'backend': get_backend(), 'state': state}\n"
            f"        torch.save(note, {str(folder)!r} + f'/rank_{{get_rank()}}.pt')\n"
        )
        config.write_text(
            config.read_text() + "custom_imports = dict(imports=['note'])\n"
            "hooks = ('lspt_mm.BackboneWeightsHook', 'lspt_mm.PromptInitHook', 'Note')\n"
            'custom_hooks = [dict(type=hook) for hook in hooks]\n'
            f"model['backbone']['prompter'].update({PROMPTERS[request.param]!r})\n"
        )
        run = run_command(
            'bash', TOOLS / 'dist_train.sh', config, 2, '--work-dir', folder / 'work',
            '--checkpoint', CONTENT[request.param], '--cfg-options', 'train_cfg.max_iters=2',
            cwd=folder, PYTHONPATH=str(folder), MASTER_PORT=free_port(),
        )
        assert run.code == 0, run.err[-4000:]
        (folder / 'out.txt').write_text(run.out)

    return once(tmp_path_factory, f'dist_{request.param}', make)


def test_weights_are_in_sync(trained):
    import torch

    first, second = (torch.load(trained / f'rank_{r}.pt') for r in (0, 1))
    assert first['size'] == second['size'] == 2
    assert first['backend'] == second['backend'] == 'gloo'
    assert first['state'].keys() == second['state'].keys()
    for name, value in first['state'].items():
        # Each process normalises over its own images.
        if not re.search('running_|num_batches', name):
            assert torch.equal(value, second['state'][name]), name
    prepared = [v for k, v in first['state'].items() if k.endswith('prompter.prepared')]
    assert all(prepared)
    assert (trained / 'out.txt').read_text().count('whitening of blocks') == len(prepared)
    saved = torch.load(trained / 'work/iter_2.pth', weights_only=False)['state_dict']
    assert ('backbone.cls_token' in saved) == (not prepared)  # BPT's run keeps prompts only


def test_going_on(trained):
    run = run_command(
        'bash', TOOLS / 'dist_train.sh', trained / 'mini_seg.py', 2, '--work-dir',
        trained / 'on', '--resume', trained / 'work/iter_2.pth', '--cfg-options',
        'train_cfg.max_iters=3', cwd=trained, PYTHONPATH=str(trained), MASTER_PORT=free_port(),
    )
    assert run.code == 0, run.err[-4000:]
    assert 'resumed epoch: 0, iter: 2' in run.out and 'whitening of blocks' not in run.out


def test_dist_test(trained):
    run = run_command(
        'bash', TOOLS / 'dist_test.sh', trained / 'mini_seg.py', trained / 'work/iter_2.pth', 2,
        '--work-dir', trained / 'test', cwd=trained, PYTHONPATH=str(trained),
        MASTER_PORT=free_port(),
    )
    assert run.code == 0, run.err[-4000:]
    assert 'mIoU' in run.out


def test_bad_input_is_one_message(trained):
    run = run_command(
        'bash', TOOLS / 'dist_train.sh', trained / 'mini_seg.py', 2, '--work-dir', 'w',
        '--data-root', 'typo', cwd=trained, PYTHONPATH=str(trained), MASTER_PORT=free_port(),
    )
    assert run.code != 0
    assert (run.out + run.err).count('error: ') == 1 and 'typo' in run.err


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_usage(script):
    run = run_command('bash', TOOLS / script)
    assert run.code == 2 and 'usage:' in run.err
