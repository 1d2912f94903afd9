"""From a command line to a Runner: data sets found, devices prepared, errors put into words."""

import argparse
import copy
import os

import mmengine.device
import pytest
import torch
from miniatures import CONFIGS, free_port
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import LinearLR, OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from lspt_mm.config.load import load_config, turn_on_amp
from lspt_mm.config.options import add_common_arguments
from lspt_mm.config.preflight import datasets_of
from lspt_mm.engine.runner import check_batch_norm, check_warm_up, prepare_for_cpu, steps_to_cpu
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages


def dataset(name):
    return {'type': 'X', 'data_root': name, 'pipeline': []}


@pytest.mark.parametrize(
    ('cfg', 'names'),
    [
        (dataset('a'), 'a'),
        ({'type': 'RepeatDataset', 'times': 2, 'dataset': dataset('a')}, 'a'),
        ({'type': 'ConcatDataset', 'datasets': [dataset('a'), dataset('b')]}, 'ab'),
        (
            {
                'type': 'RepeatDataset',
                'dataset': {
                    'type': 'ConcatDataset',
                    'datasets': [
                        dataset('a'),
                        {'type': 'ClassBalancedDataset', 'dataset': dataset('b')},
                        {'type': 'ConcatDataset', 'datasets': (dataset('c'),)},
                    ],
                },
            },
            'abc',
        ),
        ([dataset('a'), dataset('b')], 'ab'),
        (None, ''),
    ],
)
def test_datasets_inside_wrappers(cfg, names):
    cfg = Config({'train_dataloader': {'dataset': cfg}, 'val_dataloader': None})
    found = datasets_of(cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader'))
    assert sorted(d['data_root'] for d in found) == list(names)


def test_no_sync_bn_is_left_on_a_cpu():
    cfg = Config.fromfile(CONFIGS / 'lspt_upernet_ade20k.py')
    cfg.model.decode_head = ConfigDict(layers=[{'norm_cfg': {'type': 'SyncBN'}}, ('SyncBN', 1)])
    before = copy.deepcopy(cfg.model)
    cfg.launcher = 'none'
    prepare_for_cpu(cfg)

    def types(node):
        if isinstance(node, dict):
            yield node.get('type')
            for value in node.values():
                yield from types(value)
        elif isinstance(node, (list, tuple)):
            for value in node:
                yield from types(value)

    was, now = list(types(before)), list(types(cfg.model))
    assert was.count('SyncBN') == 3
    assert [t.replace('SyncBN', 'BN') if t else t for t in was] == now
    assert 'model_wrapper_cfg' not in cfg


@pytest.mark.parametrize('worker', [False, True])
def test_one_message_and_code_2(worker, capsys):
    message = 'x.png: label value 151'
    if worker:  # as torch's DataLoader raises what a worker process met
        message = (
            'Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent '
            f'call last):\n  File "x.py"\nlspt_mm.errors.InputError: {message}\n'
        )
    with pytest.raises(SystemExit) as end, input_errors_as_messages():
        raise InputError(message)
    assert end.value.code == 2
    assert capsys.readouterr().err == 'error: x.png: label value 151\n'


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), input_errors_as_messages():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ('rank', 'of_machine', 'said'),
    [(0, 0, 'error: x\n'), (1, 1, ''), (8, 0, 'error (process 8): x\n')],
)
def test_the_first_process_of_each_machine_speaks(rank, of_machine, said, monkeypatch, capsys):
    monkeypatch.setenv('RANK', str(rank))
    monkeypatch.setenv('LOCAL_RANK', str(of_machine))
    with pytest.raises(SystemExit) as end, input_errors_as_messages():
        raise InputError('x')
    assert end.value.code == 2 and capsys.readouterr().err == said


def test_tasks_of_slurm_are_processes_of_one_run_only_with_its_launcher(monkeypatch, capsys):
    """A sweep is a run in each task: every one prints its errors and locks its work dir."""
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('SLURM_PROCID', '9')
    monkeypatch.setenv('SLURM_LOCALID', '1')
    with pytest.raises(SystemExit), input_errors_as_messages():
        raise InputError('x')
    assert capsys.readouterr().err == 'error: x\n'
    monkeypatch.setenv('RANK', '0')  # and taken back at the end
    config(CONFIGS / 'lspt_upernet_ade20k.py', '--launcher', 'slurm')
    assert (os.environ['RANK'], os.environ['LOCAL_RANK']) == ('9', '1')


def test_slurm_without_gpus(monkeypatch):
    with pytest.raises(InputError, match='launcher slurm: .* no GPU; .*dist_train.sh'):
        prepare_for_cpu(Config({'launcher': 'slurm'}))


def test_macs_train_on_the_cpu(monkeypatch):
    monkeypatch.setattr(mmengine.device.utils, 'DEVICE', 'mps')
    prepare_for_cpu(Config({'launcher': 'none'}))
    assert mmengine.device.get_device() == 'mps'  # not asked for on other machines
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    prepare_for_cpu(Config({'launcher': 'none'}))
    assert mmengine.device.get_device() == 'cpu'


def test_of_processes_that_know_each_other_the_first_to_fail_speaks(monkeypatch, capsys):
    torch.distributed.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{free_port()}',
                                         rank=0, world_size=1)
    try:
        for said in ('error (process 3): x\n', ''):
            monkeypatch.setenv('RANK', '3')
            monkeypatch.setenv('LOCAL_RANK', '3')
            with pytest.raises(SystemExit), input_errors_as_messages():
                raise InputError('x')
            assert capsys.readouterr().err == said
    finally:
        torch.distributed.destroy_process_group()


def config(*arguments):
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return load_config(parser.parse_args([str(a) for a in arguments]))


def test_data_root_reaches_every_data_set():
    cfg = config(CONFIGS / 'lspt_upernet_ade20k.py', '--data-root', '/elsewhere')
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    assert [x.dataset.data_root for x in loaders] == ['/elsewhere'] * 3


@pytest.mark.parametrize(('end', 'refused'), [(1, True), (2, False)])
def test_a_warm_up_that_would_never_end_is_refused(end, refused):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [LinearLR(optimizer, start_factor=0.01, begin=0, end=end)]
    if refused:
        with pytest.raises(InputError, match='from 0 to 1 is one step long.*0.01'):
            check_warm_up(schedulers)
    else:
        check_warm_up(schedulers)


def test_work_dir():
    path = CONFIGS / 'lspt_upernet_ade20k.py'
    assert config(path).work_dir == 'work_dirs/lspt_upernet_ade20k'
    assert config(path, '--work-dir', 'w').work_dir == 'w'
    assert config(path, '--cfg-options', 'work_dir=v').work_dir == 'v'


@pytest.mark.parametrize('emulated', [True, False])
def test_amp_on_a_gpu_without_bfloat16_units(emulated, monkeypatch):
    """PyTorch says yes to GPUs that only emulate bfloat16, unless it is asked not to."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        torch.cuda, 'is_bf16_supported',
        lambda including_emulation=True: including_emulation or not emulated,
    )
    for kind in ({'type': 'OptimWrapper'}, {'type': 'mmengine.OptimWrapper'}, {},
                 {'type': OptimWrapper}, {'type': 'AmpOptimWrapper', 'loss_scale': 512}):
        cfg = Config({'optim_wrapper': kind})
        turn_on_amp(cfg)
        assert cfg.optim_wrapper == (
            dict(type='AmpOptimWrapper', loss_scale='dynamic') if emulated
            else dict(type='lspt_mm.Bf16OptimWrapper')
        )


def test_amp_with_a_wrapper_that_it_would_not_reach():
    cfg = Config({'optim_wrapper': {'type': 'OptimWrapperDict'}})
    with pytest.raises(InputError, match='--amp: optim_wrapper.type is OptimWrapperDict, .* exp'):
        turn_on_amp(cfg)


def test_a_model_wrapper_of_the_config_stays_on_cpus(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    cfg = Config({'launcher': 'pytorch', 'find_unused_parameters': True})
    prepare_for_cpu(cfg)
    assert cfg.model_wrapper_cfg.find_unused_parameters
    assert cfg.model_wrapper_cfg.device_ids is None
    own = dict(type='MMDistributedDataParallel', static_graph=True)
    cfg = Config({'launcher': 'pytorch', 'model_wrapper_cfg': own})
    prepare_for_cpu(cfg)
    assert cfg.model_wrapper_cfg == own


@pytest.mark.parametrize(
    ('processes', 'norm', 'refused'),
    [
        (1, 'SyncBN on one GPU', True), (1, 'SyncBN', True), (1, 'BN', True), (2, 'BN', True),
        (2, 'SyncBN', False), (1, 'GN', False),
    ],
)
def test_one_image_with_batch_norm_after_pooling(processes, norm, refused):
    layer = {'BN': nn.BatchNorm2d(4), 'GN': nn.GroupNorm(1, 4)}.get(norm, nn.SyncBatchNorm(4))
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), layer)
    if norm == 'SyncBN on one GPU':
        model = revert_sync_batchnorm(model)  # as MMEngine's Runner does
    cfg = Config({'train_dataloader': {'batch_size': 1}})
    if not refused:
        check_batch_norm(model, cfg, processes)
        return
    with pytest.raises(InputError, match='batch_size=1: batch normalisation'):
        check_batch_norm(model, cfg, processes)


@pytest.mark.parametrize('fused', [False, True])
def test_step_counters_of_a_checkpoint_come_to_the_cpu(fused):
    class OnGPU(torch.Tensor):
        def cpu(self):
            return torch.tensor(3.0)

    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))], fused=fused)
    (parameter,) = optimizer.param_groups[0]['params']
    optimizer.state[parameter] = {'step': torch.tensor(0.0).as_subclass(OnGPU)}
    steps_to_cpu(optimizer)
    assert float(optimizer.state[parameter]['step']) == (0 if fused else 3)


def test_processes_wait_hours_for_the_first_one():
    cfg = Config.fromfile(CONFIGS / 'lspt_upernet_ade20k.py')
    assert cfg.env_cfg.dist_cfg.timeout >= 3600  # NCCL's default is ten minutes
