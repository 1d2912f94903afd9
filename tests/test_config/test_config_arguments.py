"""Arguments after a config's name, and names of experiments."""

import argparse

import pytest
from miniatures import CONFIGS
from mmengine.config import Config

from lspt_mm.config import preflight
from lspt_mm.config.arguments import parse, split_arguments, split_list
from lspt_mm.config.load import choose_weights, read_config
from lspt_mm.config.options import add_run_arguments
from lspt_mm.errors import InputError

VTAB = str(CONFIGS / 'vtab1k/transfer.py')


@pytest.mark.parametrize(
    ('text', 'path', 'values'),
    [
        ('a/b.py', 'a/b.py', {}),
        ('a/b.py:task=dtd', 'a/b.py', {'task': 'dtd'}),
        ('a/b.py:lr=0.5,official=False', 'a/b.py', {'lr': 0.5, 'official': False}),
        ('C:\\x\\b.py', 'C:\\x\\b.py', {}),
        ('C:\\x\\b.py:lr=1e-3', 'C:\\x\\b.py', {'lr': 0.001}),
        ('b.py:task=/data/x y, lr=1', 'b.py', {'task': '/data/x y', 'lr': 1}),
        ('b.py:gate_init=None', 'b.py', {'gate_init': None}),
        ("b.py:data='my,data(1',lr=1", 'b.py', {'data': 'my,data(1', 'lr': 1}),
        ("b.py:data=Ann's,lr=1", 'b.py', {'data': "Ann's", 'lr': 1}),
        ("b.py:arch={'a,b':[1,2]},lr=1", 'b.py', {'arch': {'a,b': [1, 2]}, 'lr': 1}),
        ('b.py:data=photos(1', 'b.py', {'data': 'photos(1'}),
        ("b.py:data=photos (Ann's),lr=1", 'b.py', {'data': "photos (Ann's)", 'lr': 1}),
        ('vtab1k/lspt_mae_dsprites_loc', VTAB,
         {'method': 'lspt', 'pretraining': 'mae', 'task': 'dsprites_loc'}),
        ('vtab1k/vpt-deep_mocov3_dtd:lr=2.5', VTAB,
         {'method': 'vpt-deep', 'pretraining': 'mocov3', 'task': 'dtd', 'lr': 2.5}),
        ('vtab1k/transfer.py', 'vtab1k/transfer.py', {}),
        ('elsewhere/a_b_c', 'elsewhere/a_b_c', {}),
    ],
)
def test_split(text, path, values):
    assert split_arguments(text) == (path, values)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('b.py:lr=1,lr=2', 'lr is given twice'),
        ('b.py:task=dtd,mae', "'mae': expected name=value"),
        ('b.py:task=dtd,', "'': expected name=value"),
        ('b.py:2x=1', "'2x=1': expected name=value"),
        ('b.py:data=photos(1,lr=1', 'unmatched bracket or quote'),
        ("b.py:data='photos,lr=1", 'unmatched bracket or quote'),
        ('vtab1k/lspt_mae_dtd:task=svhn', 'task is in the name already'),
    ],
)
def test_malformed(text, said):
    with pytest.raises(InputError, match=said):
        split_arguments(text)


def test_what_looks_like_arguments_in_a_path(tmp_path):
    path = tmp_path / 'selection/lr=0.1/config.py'
    path.parent.mkdir(parents=True)
    assert split_arguments(str(path)) == (str(path), {})
    odd = tmp_path / 'a:b=1.py'
    odd.write_text('x = 1')
    assert split_arguments(str(odd)) == (str(odd), {})
    assert split_arguments(f'{path}:lr=1') == (str(path), {'lr': 1})
    # Longer than a file's name may be.
    assert split_arguments(f'{path}:x={"y" * 300}') == (str(path), {'x': 'y' * 300})


@pytest.mark.parametrize('name', ['vtab1k/lspt_mae', 'vtab1k/lspt-mae-dtd', 'cub'])
def test_a_name_that_is_none_is_told_the_form(name):
    with pytest.raises(InputError, match='BENCHMARK/METHOD_PRETRAINING_TASK'):
        read_config(name)


def test_brackets_keep_commas():
    assert [*split_list('1,[2,3],(4,5)')] == ['1', '[2,3]', '(4,5)']
    assert [parse(part) for part in split_list('1,[2,3],x')] == [1, [2, 3], 'x']


def test_a_file_without_arguments_says_so():
    with pytest.raises(InputError, match=r'takes no arguments, but got task.*--cfg-options'):
        read_config(f'{CONFIGS / "lspt_upernet_ade20k.py"}:task=dtd')


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ('task=imagenet', "task='imagenet': expected one of 'cifar', 'caltech101'"),
        ('method=prefix', "method='prefix': expected one of 'linear'"),
        ('pretraining=clip', "'clip': expected one of 'mae', 'mocov3', 'supervised'"),
        ('num_token=3', "no argument 'num_token'; did you mean num_tokens"),
        ('num_tokens=0', 'num_tokens=0: expected an integer of at least 1'),
        ('lr=fast', "lr='fast': expected a finite number"),
        ('arch=huge-and-wide', 'huge-and-wide'),
        ('official=maybe', "official='maybe': expected one of True, False"),
        ('weight_decay=-1', 'weight_decay=-1: expected a number of at least 0'),
        ('optimizer=Lion', "optimizer='Lion': expected one of 'SGD', 'AdamW'"),
        ('batch_size=None', 'batch_size=None: expected an integer of at least 1'),
        ('lr=None', 'lr=None: expected a finite number'),
        ('epochs=None', 'epochs=None: expected an integer of at least 1'),
        ('method=[1]', r"method='\[1\]': expected one of"),
        ('img_size=30,patch_size=8', 'img_size=30: expected a multiple of patch_size=8'),
        ('epochs=5,warmup=5', 'warmup=5: expected less than epochs=5'),
        ('method=lspt,rank=4', 'rank=4: method=lspt has none'),
        ('method=vpt,gate_init=4', 'gate_init=4: method=vpt has none'),
        ('method=linear,dropout=0.1', 'dropout=0.1: method=linear has none'),
    ],
)
def test_values_are_checked(arguments, said):
    with pytest.raises(InputError, match=said):
        read_config(f'{VTAB}:{arguments}')


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ('num_token=3,lr=-1,methd=vpt', ["'num_token'", "'methd'"]),  # names first
        ('task=x,pretraining=y,method=z,lr=-1,epochs=0,arch=a,head=h',
         ["task='x'", "pretraining='y'", "method='z'", 'lr=-1', 'epochs=0', "arch='a'",
          "head='h'"]),
        # All are right by themselves.
        ('method=vpt,rank=4,gate_init=4,epochs=5,warmup=5,img_size=30',
         ['rank=4', 'gate_init=4', 'warmup=5', 'img_size=30']),
    ],
)
def test_all_wrong_arguments_are_in_one_message(arguments, said):
    with pytest.raises(InputError) as error:
        read_config(f'{VTAB}:{arguments}')
    lines = str(error.value).split(f'{VTAB}:{arguments}: ')[1].splitlines()
    assert len(lines) == len(said)
    for part in said:
        assert sum(part in line for line in lines) == 1, part


def test_arguments_do_not_outlive_their_file():
    assert read_config(f'{VTAB}:task=dtd').experiment.task == 'dtd'
    assert read_config(VTAB).experiment.task == 'eurosat'
    with pytest.raises(InputError):
        read_config(f'{VTAB}:task=none-such')
    assert read_config(VTAB).experiment.task == 'eurosat'


def test_a_config_that_inherits_takes_the_arguments_of_its_base(tmp_path):
    (tmp_path / 'mine.py').write_text(f'_base_ = {VTAB!r}\ntrain_cfg = dict(max_epochs=3)\n')
    cfg = read_config(f'{tmp_path / "mine.py"}:task=dtd,method=vpt')
    assert (cfg.experiment.name, cfg.train_cfg.max_epochs) == ('vtab1k/vpt_mae_dtd', 3)
    # Read by MMEngine alone, it has the defaults.
    assert Config.fromfile(tmp_path / 'mine.py').experiment.name == 'vtab1k/lspt_mae_eurosat'


@pytest.mark.parametrize('name', ['2024_05_12', '1.10', '007'])
def test_folders_that_look_like_numbers(name):
    values = split_arguments(f'maskfolder/transfer.py:data={name},iters=1_0')[1]
    assert values == {'data': name, 'iters': 10}


def test_options_may_be_repeated():
    parser = argparse.ArgumentParser()
    add_run_arguments(parser, ['lspt'], 'iters')
    args = parser.parse_args(['--out', 'x', '--options', 'a=1', 'b=2', '--options', 'c=3'])
    assert args.options == [('a', 1), ('b', 2), ('c', 3)]


def missing_of(dataset):
    cfg = Config({'train_dataloader': {'dataset': dataset}, 'model': {'head': {'num_classes': 10}}})
    return preflight._missing_data(cfg, ('train_dataloader',))


@pytest.mark.parametrize('kind', ['CIFAR10', 'CIFAR100', 'MNIST'])
def test_data_sets_that_fetch_themselves_are_left_alone(kind, tmp_path):
    dataset = dict(type=f'mmpretrain.{kind}', data_root=str(tmp_path / 'absent'), split='train')
    assert not missing_of(dataset)
    missing = missing_of(dict(dataset, download=False))
    assert len(missing) == 1 and 'does not exist' in missing[0]
    (tmp_path / 'absent').mkdir()  # with whatever files they have
    assert not missing_of(dict(dataset, download=False))


@pytest.mark.parametrize('kind', ['mmseg.DRIVEDataset', 'mmseg.PascalVOCDataset', 'ADE20KDataset'])
def test_an_absent_folder_of_any_data_set_is_named(kind, tmp_path):
    dataset = dict(type=kind, data_root=str(tmp_path / 'absent'), ann_file='train.txt')
    (problem,) = missing_of(dataset)
    assert 'absent' in problem and 'does not exist' in problem


def test_weights_named_by_init_cfg_or_on_the_command_line(tmp_path):
    cfg = Config(dict(model=dict(backbone=dict(
        type='lspt_mm.PromptedViT',
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'gone.pth')),
    ))))
    (problem,) = preflight._missing_weights(cfg)
    assert 'gone.pth' in problem
    choose_weights(cfg, 'other.pth', False)
    assert (cfg.model.backbone.pretrained, cfg.model.backbone.init_cfg) == ('other.pth', None)
