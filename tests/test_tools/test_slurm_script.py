"""tools/slurm_train.sh with an srun and an scontrol that note what they are asked."""

import shutil
import stat

import pytest
from miniatures import TOOLS, run_command

pytestmark = pytest.mark.skipif(shutil.which('bash') is None, reason='shell scripts')


@pytest.fixture
def slurm(tmp_path):
    """Run the script; ``codes`` are what srun ends with, call by call."""

    def run(*codes, **env):
        (tmp_path / 'codes').write_text(' '.join(map(str, codes)))
        script = (
            '#!/bin/bash\n'
            f'echo "$(basename "$0") $*" >> {tmp_path}/calls\n'
            '[ "$(basename "$0")" = srun ] || exit 0\n'
            f'read -r code rest < {tmp_path}/codes; echo "$rest" > {tmp_path}/codes; exit $code\n'
        )
        folder = tmp_path / 'bin'
        folder.mkdir()
        for name in ('srun', 'scontrol'):
            (folder / name).write_text(script)
            (folder / name).chmod(stat.S_IRWXU)
        done = run_command(
            'bash', '-c', f'PATH={folder}:$PATH exec bash "$@"', '-', TOOLS / 'slurm_train.sh',
            'gpu', 'name', 'config.py', 'work dir', '--amp', GPUS='2', **env,
        )
        return done.code, (tmp_path / 'calls').read_text().splitlines()

    return run


def test_one_run(slurm):
    code, calls = slurm(0, SRUN_ARGS='--time=1-0 --signal=TERM@120')
    assert code == 0 and len(calls) == 1
    for part in ('--partition=gpu', '--ntasks=2', '--time=1-0 --signal=TERM@120',
                 'train.py config.py --work-dir work dir --launcher slurm --amp'):
        assert part in calls[0]
    assert '--resume' not in calls[0]


def test_failures_are_not_repeated(slurm):
    code, calls = slurm(2)
    assert code == 2 and len(calls) == 1


def test_stopped_runs_are_queued_again_and_go_on(slurm):
    code, calls = slurm(75, 75, 0)
    assert code == 0 and len(calls) == 3
    assert [call.endswith('--amp --resume') for call in calls] == [False, True, True]


def test_unless_told_not_to(slurm):
    code, calls = slurm(75, REQUEUE='0')
    assert code == 75 and len(calls) == 1


def test_inside_a_job(slurm):
    code, calls = slurm(75, SLURM_JOB_ID='123')
    assert code == 75 and calls[1:] == ['scontrol requeue 123']


def test_a_job_that_was_queued_again_goes_on(slurm):
    code, calls = slurm(0, SLURM_JOB_ID='123', SLURM_RESTART_COUNT='1')
    assert code == 0 and calls[0].endswith('--resume')
