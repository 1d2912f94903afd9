"""``--cfg-options``: what is taken, what is refused with a hint."""

import argparse
import copy
import sys

import pytest
from miniatures import CONFIGS, TOOLS, run_command
from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope

from lspt_mm.config.cfg_options import arguments_of, merge_options
from lspt_mm.config.load import apply_common_options, read_config_file
from lspt_mm.errors import InputError


@pytest.fixture(scope='module')
def configs():
    names = (
        'lspt_upernet_ade20k', 'classification/lspt_imagefolder', 'camvid/frozen_upernet_camvid',
    )
    return {name.split('/')[-1]: Config.fromfile(CONFIGS / f'{name}.py') for name in names}


def merged(configs, *options, name='lspt_upernet_ade20k'):
    """The config after options as they are written on the command line."""
    cfg = copy.deepcopy(configs[name])
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args(['--cfg-options', *options])
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        merge_options(cfg, args.cfg_options)
    return cfg


#: What users of OpenMMLab write, and where it lands.
ACCEPTED = {
    'train_cfg.max_iters=100': 100,
    'train_cfg.val_begin=5': 5,
    'train_cfg.dynamic_intervals=[(1,2)]': [(1, 2)],
    'train_dataloader.batch_size=2': 2,
    'train_dataloader.num_workers=0': 0,
    'train_dataloader.persistent_workers=False': False,
    'train_dataloader.drop_last=True': True,
    'train_dataloader.pin_memory=True': True,
    'train_dataloader.prefetch_factor=4': 4,
    'train_dataloader.sampler.shuffle=False': False,
    'train_dataloader.sampler.seed=3': 3,
    'train_dataloader.dataset.data_root=/x': '/x',
    'train_dataloader.dataset.ann_file=train.txt': 'train.txt',
    'train_dataloader.dataset.indices=10': 10,
    'train_dataloader.dataset.img_suffix=.png': '.png',
    'train_dataloader.dataset.data_prefix.img_path=a': 'a',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,64)': (64, 64),
    'train_dataloader.dataset.pipeline.1.void=[9]': [9],
    'train_dataloader.dataset.pipeline.1.imdecode_backend=cv2': 'cv2',
    'train_dataloader.dataset.pipeline.0.backend_args.backend=local': 'local',
    'val_evaluator.iou_metrics=[mDice]': ['mDice'],
    'val_evaluator.format_only=True': True,
    'val_cfg.fp16=True': True,
    'optim_wrapper.type=AmpOptimWrapper': 'AmpOptimWrapper',
    'optim_wrapper.accumulative_counts=4': 4,
    'optim_wrapper.clip_grad.max_norm=1': 1,
    'optim_wrapper.optimizer.lr=0.1': 0.1,
    'optim_wrapper.optimizer.weight_decay=0': 0,
    'optim_wrapper.optimizer.betas=(0.9,0.95)': (0.9, 0.95),
    'optim_wrapper.optimizer.amsgrad=True': True,
    'optim_wrapper.optimizer.fused=True': True,
    'optim_wrapper.optimizer.eps=1e-6': 1e-6,
    'optim_wrapper.paramwise_cfg.norm_decay_mult=1': 1,
    'optim_wrapper.paramwise_cfg.custom_keys.prompter.lr_mult=2': 2,
    'optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult=2': 2,
    'param_scheduler.0.end=10': 10,
    'param_scheduler.1.power=0.9': 0.9,
    'randomness.seed=1': 1,
    'randomness.deterministic=True': True,
    'randomness.diff_rank_seed=True': True,
    'default_hooks.logger.interval=1': 1,
    'default_hooks.checkpoint.interval=1': 1,
    'default_hooks.checkpoint.save_best=mIoU': 'mIoU',
    'default_hooks.checkpoint.max_keep_ckpts=1': 1,
    'default_hooks.checkpoint.out_dir=/x': '/x',
    'default_hooks.visualization.draw=True': True,
    'default_hooks.visualization.interval=1': 1,
    'env_cfg.cudnn_benchmark=False': False,
    'env_cfg.mp_cfg.mp_start_method=spawn': 'spawn',
    'env_cfg.dist_cfg.backend=gloo': 'gloo',
    'env_cfg.dist_cfg.timeout=3600': 3600,
    'env_cfg.resource_limit=8192': 8192,
    'load_from=/x.pth': '/x.pth',
    'work_dir=/x': '/x',
    'resume=True': True,
    'log_level=DEBUG': 'DEBUG',
    'experiment_name=x': 'x',
    'auto_scale_lr.base_batch_size=16': 16,
    'log_processor.window_size=10': 10,
    'visualizer.name=x': 'x',
    'visualizer.save_dir=/x': '/x',
    'visualizer.alpha=0.5': 0.5,
    'model.backbone.pretrained=/x.pth': '/x.pth',
    'model.backbone.with_cp=True': True,
    'model.backbone.tune=full': 'full',
    'model.backbone.img_size=256': 256,
    'model.backbone.drop_path_rate=0.1': 0.1,
    'model.backbone.out_indices=(2,5,8,11)': (2, 5, 8, 11),
    'model.backbone.init_cfg.type=Pretrained': 'Pretrained',
    'model.backbone.prompter=None': None,
    'model.backbone.prompter.num_tokens=5': 5,
    'model.backbone.prompter.rank=4': 4,
    'model.backbone.prompter.cell=low-rank': 'low-rank',
    'model.backbone.prompter.gspc=False': False,
    'model.decode_head.num_classes=3': 3,
    'model.decode_head.ignore_index=0': 0,
    'model.decode_head.loss_decode.loss_weight=2': 2,
    'model.decode_head.loss_decode.avg_non_ignore=True': True,
    'model.decode_head.loss_decode.class_weight=[1,2]': [1, 2],
    'model.decode_head.norm_cfg.type=BN': 'BN',
    'model.decode_head.norm_cfg.eps=1e-3': 1e-3,
    'model.decode_head.norm_cfg.momentum=0.01': 0.01,
    'model.decode_head.sampler.type=OHEMPixelSampler': 'OHEMPixelSampler',
    'model.decode_head.init_cfg.std=0.1': 0.1,
    'model.auxiliary_head=None': None,
    'model.data_preprocessor.size=(64,64)': (64, 64),
    'model.data_preprocessor.test_cfg.size_divisor=32': 32,
    'model.test_cfg.mode=whole': 'whole',
    'model.test_cfg.stride=(64,64)': (64, 64),
    'model.train_cfg.sampler=x': 'x',
    'model.pretrained=/x.pth': '/x.pth',
    'model.init_cfg.type=Pretrained': 'Pretrained',
    'tta_model.type=SegTTAModel': 'SegTTAModel',
    'custom_hooks.0.allow_random=True': True,
    'custom_hooks.1.priority=LOW': 'LOW',
    'find_unused_parameters=True': True,
    'model_wrapper_cfg.type=MMDistributedDataParallel': 'MMDistributedDataParallel',
    'compile=True': True,
    'launcher=pytorch': 'pytorch',
    'visualizer.vis_backends.0.type=TensorboardVisBackend': 'TensorboardVisBackend',
    'val_cfg=None': None,
    'val_dataloader=None': None,
    'default_hooks.early_stopping.type=EarlyStoppingHook': 'EarlyStoppingHook',
    'default_hooks.checkpoint.save_optimizer=False': False,
    'default_hooks.checkpoint.published_keys=[state_dict]': ['state_dict'],
    'default_hooks.logger.ignore_last=False': False,
}


def value_at(cfg, key):
    for part in key.split('.'):
        cfg = cfg[int(part)] if isinstance(cfg, (list, tuple)) else cfg[part]
    return cfg


@pytest.mark.parametrize('option', ACCEPTED)
def test_accepted(option, configs):
    value = value_at(merged(configs, option), option.split('=')[0])
    assert value == ACCEPTED[option]


@pytest.mark.parametrize(
    ('option', 'value'),
    {
        'model.head.num_classes=7': 7,
        'model.head.topk=(1,2)': (1, 2),
        'model.head.init_cfg.bias=0.1': 0.1,
        'model.backbone.out_type=cls_token': 'cls_token',
        'model.train_cfg.augments.type=Mixup': 'Mixup',
        'data_preprocessor.num_classes=7': 7,
        'data_preprocessor.to_rgb=False': False,
        'train_cfg.max_epochs=3': 3,
        'optim_wrapper.optimizer.nesterov=True': True,
        'train_dataloader.dataset.with_label=False': False,
        'train_dataloader.dataset.classes=[a,b]': ['a', 'b'],
        'train_dataloader.dataset.extensions=[.png]': ['.png'],
        'train_dataloader.dataset.pipeline.1.scale=64': 64,
        'train_dataloader.collate_fn.type=default_collate': 'default_collate',
        'val_evaluator.topk=(1,5)': (1, 5),
        'param_scheduler.0.convert_to_iter_based=True': True,
    }.items(),
)
def test_accepted_in_classification(option, value, configs):
    cfg = merged(configs, option, name='lspt_imagefolder')
    assert value_at(cfg, option.split('=')[0]) == value


#: Typos, with what the message has to name.
REFUSED = {
    'trian_cfg.max_iters=1': ['trian_cfg', 'train_cfg'],
    'train_cfg.max_iter=1': ['train_cfg', 'max_iter', 'max_iters'],
    'train_dataloader.batchsize=1': ['batchsize', 'batch_size'],
    'train_dataloader.sampler.shufle=1': ['shufle', 'shuffle'],
    'train_dataloader.dataset.dataroot=x': ['dataroot', 'data_root'],
    'train_dataloader.dataset.pipeline.3.cropsize=1': ['cropsize', 'crop_size'],
    'train_dataloader.dataset.pipeline.99.type=x': ['99', '0 to 6'],
    'train_dataloader.dataset.pipeline.first.type=x': ['first'],
    'train_dataloader.dataset.pipeline.-1.type=x': ['-1'],
    'model.backbne.tune=full': ['backbne', 'backbone'],
    'model.backbone.tuned=full': ['tuned', 'tune'],
    'model.backbone.frozen_stage=1': ['frozen_stage'],
    'model.backbone.prompter.num_token=1': ['num_token', 'num_tokens'],
    'model.decode_head.num_class=1': ['num_class', 'num_classes'],
    'model.decode_head.loss_decode.weight=1': ['loss_decode', 'weight', 'loss_weight'],
    'model.test_cfg.strides=1': ['strides', 'stride'],
    'model.data_preprocessor.siz=1': ['siz', 'size'],
    'optim_wrapper.optimiser.lr=1': ['optimiser', 'optimizer'],
    'optim_wrapper.optimizer.learning_rate=1': ['learning_rate'],
    'optim_wrapper.clip_grads.max_norm=1': ['clip_grads', 'clip_grad'],
    'optim_wrapper.paramwise_cfg.norm_decay=1': ['norm_decay', 'norm_decay_mult'],
    'optim_wrapper.paramwise_cfg.custom_keys.prompter.lr_mul=1': ['lr_mul', 'lr_mult'],
    'param_scheduler.0.strat=1': ['strat'],
    'param_scheduler.2.end=1': ['2'],
    'randomness.sed=1': ['sed', 'seed'],
    "custom_imports.imports=['x']": ['custom_imports'],  # read before the options
    'default_hooks.checkpoints.interval=1': ['checkpoints', 'checkpoint'],
    'default_hooks.checkpoint.intervall=1': ['intervall', 'interval'],
    'default_hooks.checkpoint.save_bset=mIoU': ['save_bset', 'save_best'],
    'env_cfg.cudnn_benchmarks=1': ['cudnn_benchmarks', 'cudnn_benchmark'],
    'val_evaluator.metrics=[x]': ['metrics', 'iou_metrics'],
    'custom_hooks.0.allow_randm=1': ['allow_randm', 'allow_random'],
    'work_dirs=x': ['work_dirs', 'work_dir'],
    'visualizer.save_dirs=1': ['save_dirs', 'save_dir'],
    'log_level.x=1': ['log_level', 'INFO'],
}


@pytest.mark.parametrize('option', REFUSED)
def test_refused(option, configs):
    with pytest.raises(InputError) as error:
        merged(configs, option)
    for part in ('--cfg-options', *REFUSED[option]):
        assert part in str(error.value)


@pytest.mark.parametrize('name', ['data_root', 'crop_size', 'img_ratios', 'train_pipeline'])
def test_variables_of_the_file_are_refused_with_the_reason(name, configs):
    with pytest.raises(InputError, match=f'{name} is a variable of the config file'):
        merged(configs, f'{name}=1')


def test_max_iters_of_camvid_is_a_variable(configs):
    with pytest.raises(InputError, match='max_iters is a variable'):
        merged(configs, 'max_iters=1', name='frozen_upernet_camvid')


def test_a_refused_option_changes_nothing(configs):
    cfg = copy.deepcopy(configs['lspt_upernet_ade20k'])
    with DefaultScope.overwrite_default_scope('mmseg'), pytest.raises(InputError):
        merge_options(cfg, {'train_cfg.max_iters': 1, 'train_cfg.typo': 1})
    assert cfg.train_cfg.max_iters == 160000


def test_all_refused_options_are_in_one_message(configs):
    cfg = copy.deepcopy(configs['lspt_upernet_ade20k'])
    wrong = ['train_cfg.typo', 'typo.x', 'log_level.x']
    with DefaultScope.overwrite_default_scope('mmseg'), pytest.raises(InputError) as error:
        merge_options(cfg, {'train_cfg.max_iters': 1, **dict.fromkeys(wrong, 1)})
    lines = str(error.value).splitlines()
    assert [line.split(': ')[0] for line in lines] == [f'--cfg-options {key}' for key in wrong]


@pytest.mark.parametrize('options', [None, {}])
def test_no_options(options, configs):
    cfg = copy.deepcopy(configs['lspt_upernet_ade20k'])
    merge_options(cfg, options)
    assert cfg.to_dict() == configs['lspt_upernet_ade20k'].to_dict()


def test_several_options_that_build_on_each_other(configs):
    cfg = merged(
        configs, 'model.backbone.prompter.cell=low-rank', 'model.backbone.prompter.rank=2',
        'optim_wrapper.clip_grad.max_norm=1', 'optim_wrapper.clip_grad.norm_type=2',
    )
    assert cfg.optim_wrapper.clip_grad == {'max_norm': 1, 'norm_type': 2}
    assert cfg.model.backbone.prompter.rank == 2


def test_type_and_its_argument_in_one_command(configs):
    cfg = merged(
        configs, 'optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.momentum=0.9'
    )
    assert cfg.optim_wrapper.optimizer.momentum == 0.9


def test_prompter_of_a_config_without_one(configs):
    cfg = merged(
        configs, 'model.backbone.prompter.type=LSPT', 'model.backbone.prompter.num_tokens=2',
        name='frozen_upernet_camvid',
    )
    assert cfg.model.backbone.prompter == {'type': 'LSPT', 'num_tokens': 2}


def test_arguments_of_follows_kwargs_to_base_classes():
    names = arguments_of('lspt_mm.CamVidDataset')
    assert {'split', 'data_root', 'img_suffix', 'pipeline'} <= names
    assert {'num_tokens', 'gspc', 'rank'} <= arguments_of('LSPT')
    assert arguments_of('NoSuchClass') is None


@pytest.mark.slow
def test_in_a_process_that_has_not_imported_mmseg(tmp_path):
    """As the tools do it: other tests' imports must not be what makes a typo known."""
    done = run_command(
        sys.executable, TOOLS / 'train.py', CONFIGS / 'lspt_upernet_ade20k.py', '--cfg-options',
        'model.backbne.tune=full', cwd=tmp_path,
    )
    assert done.code == 2 and 'did you mean backbone' in done.err, done.err[-2000:]


def test_a_data_root_needs_a_place():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='X', data_prefix='a'))))
    with pytest.raises(InputError, match='--data-root /b: no data set .* has a data_root'):
        apply_common_options(cfg, None, '/b')
    cfg.train_dataloader.dataset.data_root = '/a'
    apply_common_options(cfg, None, '/b')
    assert cfg.train_dataloader.dataset.data_root == '/b'


@pytest.mark.parametrize(('of_a_run', 'inherits'), [(True, False), (False, False), (True, True)])
def test_data_in_a_run_that_was_moved(of_a_run, inherits, tmp_path):
    """Those of its own config alone: another config beside another folder data keeps its own."""
    for folder in ('moved/data', 'data'):
        (tmp_path / folder).mkdir(parents=True)
    config = tmp_path / 'moved/run.py'
    config.write_text(
        "work_dir = 'runs/x'\ntrain_dataloader = dict(dataset=dict(data_root='runs/x/data'))\n"
    )
    if of_a_run:
        (tmp_path / 'moved/last_checkpoint').touch()
    if inherits:
        config = tmp_path / 'mine.py'
        config.write_text("_base_ = 'moved/run.py'\n")
    root = read_config_file(config).train_dataloader.dataset.data_root
    moved = of_a_run and not inherits
    assert root == (str(tmp_path / 'moved/data') if moved else 'runs/x/data')
