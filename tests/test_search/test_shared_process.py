"""Runs that follow each other in one process: results are those of separate processes."""

import pickle

import numpy as np
import pytest
import torch
from exact_runs import write_run
from miniatures import _forks, once

from lspt_mm.config.load import read_config, turn_on_amp
from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.search.decoded_images import KeptImages
from lspt_mm.search.launcher import Launcher
from lspt_mm.search.worker import main
from lspt_mm.utils.atomic_io import read_json

#: Raises during training, after it has changed settings of the process.
HOOK = """
import os, signal, torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
@HOOKS.register_module()
class RaisingHook(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        os.chdir('/')
        raise RuntimeError('an error of this run')
"""
RAISES = dict(
    custom_imports=dict(imports=['raising_hook']), custom_hooks=[dict(type='RaisingHook')]
)
#: In the order in which they share a process: kind, seed, amp, other settings.
RUNS = {
    'amp': ('classification', 1, True, {'model.backbone.prompter.num_tokens': 2}),
    'absent': ('segmentation', 1, False, {'model.backbone.pretrained': 'absent.pth'}),
    'segmentation': ('segmentation', 2, False, {}),
    'raises': ('classification', 1, False, RAISES),
    'classification': ('classification', 3, False, {}),
    'again': ('classification', 3, False, {}),
}
COMPARED = ('amp', 'segmentation', 'classification')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """shared/RUN, executed by one process, and alone/RUN, each by a new one."""

    def make(folder):
        (folder / 'raising_hook.py').write_text(HOOK)
        configs = {kind: write_run(folder / kind, kind, iterations=9)
                   for kind in ('classification', 'segmentation')}
        for name, (kind, seed, amp, options) in RUNS.items():
            cfg = read_config(str(configs[kind]))
            interval = {'segmentation': 9}.get(kind, 3)
            cfg.merge_from_dict({
                'train_cfg.val_interval': interval, 'randomness.seed': seed,
                'launcher': 'none', **options,
            })
            for key in ('test_dataloader', 'test_cfg', 'test_evaluator'):
                cfg[key] = None
            if amp:
                turn_on_amp(cfg)
            for place in ('shared', 'alone')[: 1 + (name in COMPARED)]:
                (folder / place / name).mkdir(parents=True)
                cfg.dump(folder / place / name / 'config.py')
        codes = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            patch.setenv('OMP_NUM_THREADS', '1')
            Launcher(folder)([folder / 'shared' / name for name in RUNS], codes.__setitem__)
        (folder / 'codes').write_bytes(pickle.dumps({p.name: c for p, c in codes.items()}))
        for name in COMPARED:
            process = _forks.Process(target=execute, args=(str(folder / 'alone' / name),))
            process.start()
            process.join()

    return once(tmp_path_factory, 'shared_process', make)


def execute(folder):
    torch.set_num_threads(1)
    main(folder)


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others(runs):
    codes = pickle.loads((runs / 'codes').read_bytes())
    assert codes == {name: {'absent': 2, 'raises': 1}.get(name, 0) for name in RUNS}
    assert 'RuntimeError: an error of this run' in (runs / 'shared/raises/log.txt').read_text()
    log = (runs / 'shared/absent/log.txt').read_text()
    assert 'absent.pth' in log and 'an error of this run' not in log


@pytest.mark.slow
@pytest.mark.parametrize('name', [*COMPARED, 'again'])
def test_results_are_those_of_a_process_of_its_own(name, runs):
    shared, alone = runs / 'shared' / name, runs / 'alone' / name.replace('again', COMPARED[-1])
    results = [read_json(folder / 'result.json') for folder in (shared, alone)]
    for result in results:
        del result['seconds']
    assert results[0] == results[1]
    logs = [losses(folder / 'run') for folder in (shared, alone)]
    assert len(logs[0]) > 6 and logs[0] == logs[1]
    weights = [state(folder / 'run') for folder in (shared, alone)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def losses(folder):
    return [{k: v for k, v in line.items() if 'time' not in k} for line in read_log(folder)]


def state(folder):
    path = (folder / 'last_checkpoint').read_text().strip()
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.slow
def test_each_run_has_a_log_of_its_own(runs):
    for name in COMPARED:
        text = (runs / 'shared' / name / 'log.txt').read_text()
        assert f'shared/{name}/run' in text
        assert not any(f'shared/{other}/run' in text for other in RUNS if other != name)


def test_kept_images_are_copies_and_bounded():
    kept, calls = KeptImages(limit=30), []

    def compute(size):
        calls.append(size)
        return {'img': np.zeros(size, np.uint8), 'fields': []}

    for _ in range(2):  # 20 bytes fit, another 20 do not, 10 do
        for key, size in ((b'a', 20), (b'b', 20), (b'c', 10)):
            found = kept.get(key, lambda size=size: compute(size))
            assert found['img'].sum() == 0 and found['fields'] == []
            found['img'][:] = 1
            found['fields'].append('label')
    assert calls == [20, 20, 10, 20]
