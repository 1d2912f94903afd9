"""Experiments of the benchmarks: published numbers arrive in the config."""

import itertools
import json
import math

import mmengine.optim
import pytest
import timm
import torch
from miniatures import ARCH, CONFIGS, write_vit
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import DATASETS

from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS
from lspt_mm.config.load import read_config
from lspt_mm.errors import InputError
from lspt_mm.recipes import (
    BENCHMARKS,
    METHODS,
    PRETRAININGS,
    Experiment,
    default_grid,
    published_results,
    resolve_experiment,
)
from lspt_mm.recipes.published_values import GAPT

#: Read from the paper's table (arXiv 2306.05067), independently of the module.
GAPT_ROWS = {
    ('fgvc', 'cub', 'mae'): (64, 100, 0.1, 5),
    ('fgvc', 'dogs', 'mocov3'): (64, 100, 0.5, 10),
    ('vtab1k', 'oxford_iiit_pet', 'mocov3'): (64, 100, 1, 1),
    ('vtab1k', 'caltech101', 'mocov3'): (128, 10, 2.5, 4),
    ('vtab1k', 'resisc45', 'mae'): (128, 10, 0.25, 5),
    ('vtab1k', 'smallnorb_azi', 'mae'): (128, 1, 0.1, 20),
}


def read(benchmark, task, pretraining, method, more=''):
    return read_config(f'{benchmark}/{method}_{pretraining}_{task}{more}')


@pytest.mark.parametrize('key', GAPT_ROWS, ids='-'.join)
def test_gapts_table_in_the_config(key):
    batch, tokens, lr, gate = GAPT_ROWS[key]
    cfg = read(*key, 'gated')
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.model.backbone.prompter == dict(
        type='GatedPrompt', dropout=0.1, dropout_mask='image', num_tokens=tokens, gate_init=gate
    )
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', momentum=0.9, lr=lr, weight_decay=0)
    assert [(s.type, s.begin, s.end) for s in cfg.param_scheduler] == [
        ('LinearLR', 0, 11), ('CosineAnnealingLR', 10, 100)
    ]
    assert not any(s.get('convert_to_iter_based') for s in cfg.param_scheduler)
    assert cfg.train_cfg.max_epochs == 100
    # The head reads prompts and patches with MAE, the class token with MoCo v3.
    assert cfg.model.backbone.out_type == ('avg_tokens' if key[2] == 'mae' else 'cls_token')


@pytest.mark.parametrize('method', ['gated', 'bilinear'], ids=['by epoch', 'by step'])
@pytest.mark.parametrize('more', ['epochs=15', 'epochs=25', 'epochs=9', 'epochs=100',
                                  'epochs=30,warmup=1'])
@pytest.mark.parametrize('length', [2, 5])
def test_the_learning_rate_comes_out_of_its_warm_up(method, more, length):
    cfg = read('fgvc', 'cub', 'mae', method, f':lr=0.5,{more}')
    rates = rates_of(cfg, length)
    assert max(rates) == pytest.approx(0.5, rel=0.02)
    assert rates[-1] < 0.05 < rates[len(rates) // 2]


def vpts_factor(epoch, warmup, epochs):
    """VPT's and GaPT's schedule, literally."""
    if epoch < warmup:
        return epoch / warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


@pytest.mark.parametrize(('epochs', 'warmup'), [(100, 10), (30, 1), (9, 0), (12, 11)])
def test_the_authors_schedule_by_epoch(epochs, warmup):
    cfg = read('fgvc', 'cub', 'mae', 'gated', f':lr=0.5,epochs={epochs},warmup={warmup}')
    rates = rates_of(cfg, 3)
    for epoch in range(epochs):
        want = 0.5 * vpts_factor(epoch, warmup, epochs)
        assert rates[3 * epoch : 3 * epoch + 3] == pytest.approx([want] * 3, abs=1e-6)


@pytest.mark.parametrize('length', [1, 2, 7])
@pytest.mark.parametrize('epochs', [5, 12, 20])
@pytest.mark.parametrize('method', ['vpt-deep', 'bilinear-deep', 'bias', 'lora'])
def test_fitted_heads_have_one_schedule_by_step(method, epochs, length):
    cfg = read('fgvc', 'cub', 'mae', method, f':head=fitted,lr=0.5,epochs={epochs}')
    steps, ramp = epochs * length, epochs // 10 * length if epochs >= 20 else 0
    rates = rates_of(cfg, length)
    want = [0.5 * 0.5 * (1 + math.cos(math.pi * (i - ramp) / (steps - ramp)))
            for i in range(ramp, steps)]
    assert rates[ramp:] == pytest.approx(want, rel=1e-5, abs=1e-7)
    assert rates[:ramp] == sorted(rates[:ramp])


def rates_of(cfg, length):
    """The learning rate of each iteration, for epochs of so many."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = []
    for one in cfg.param_scheduler:
        one = dict(one)
        kind = getattr(mmengine.optim, one.pop('type'))
        if one.pop('convert_to_iter_based', False):
            built = kind.build_iter_from_epoch(optimizer, **one, epoch_length=length)
        else:
            built = kind(optimizer, **one)
        schedulers.append(built)
    rates = []
    for iteration in range(1, cfg.train_cfg.max_epochs * length + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for one in schedulers:
            if not one.by_epoch or iteration % length == 0:
                one.step()
    return rates


def test_gapts_table_is_whole():
    tasks = {*BENCHMARKS['fgvc'], *BENCHMARKS['vtab1k']}
    assert set(GAPT) == tasks
    assert len(tasks) == 24
    assert all(set(row) == {'mae', 'mocov3'} for row in GAPT.values())


@pytest.mark.parametrize(
    ('task', 'pretraining', 'method', 'lr', 'decay', 'of_head'),
    [
        ('cub', 'mae', 'bilinear', 0.05, 5e-3, 0.5),
        ('cars', 'mae', 'bilinear', 0.05, 2e-3, 0.1),
        ('cars', 'mae', 'bilinear-deep', 0.05, 5e-3, 0.1),
        ('flowers', 'mae', 'bilinear-deep', 0.1, 5e-3, 1.0),
        ('nabirds', 'mocov3', 'bilinear', 0.05, 1e-3, 0.05),
        ('nabirds', 'mae', 'bilinear', 0.05, 5e-3, 0.1),
        ('nabirds', 'mae', 'bilinear-deep', 0.05, 5e-3, 0.3),
        ('cub', 'supervised', 'bilinear', 5e-3, 0.1, 10),
        ('flowers', 'supervised', 'bilinear', 1e-2, 5e-4, 10),
        ('cub', 'mae', 'spt', 5e-2, 1e-2, 0.5),
        ('flowers', 'mocov3', 'spt', 5e-2, 1e-2, 0.5),
        ('cub', 'supervised', 'spt', 1e-3, 1e-2, 3.0),
    ],
)
def test_the_recipe_of_bpt_and_spt_in_the_optimizer(task, pretraining, method, lr, decay, of_head):
    wrapper = read('fgvc', task, pretraining, method).optim_wrapper
    assert (wrapper.optimizer.type, wrapper.optimizer.lr) == ('AdamW', lr)
    keys = wrapper.paramwise_cfg.custom_keys
    common = wrapper.optimizer.weight_decay
    assert common * keys.backbone.decay_mult == pytest.approx(decay)
    assert common * keys.head.decay_mult == pytest.approx(of_head)
    assert keys['head.fc.bias'].decay_mult == 0


def test_bpts_form_and_schedule():
    cfg = read('fgvc', 'cub', 'mae', 'bilinear')
    assert cfg.model.backbone.prompter == dict(
        type='BilinearPrompt', start='whiten', num_tokens=100, rank=75
    )
    assert cfg.train_dataloader.batch_size == 32
    assert cfg.param_scheduler[-1].eta_min == 1e-8
    assert all(s.convert_to_iter_based for s in cfg.param_scheduler)
    deep = read('fgvc', 'cub', 'mae', 'bilinear-deep').model.backbone.prompter
    assert (deep.num_tokens, deep.rank, deep.deep) == (50, 50, True)
    few = read('fgvc', 'cub', 'mae', 'bilinear', ':num_tokens=8').model.backbone.prompter
    assert (few.num_tokens, few.rank) == (8, 6)
    kinds = [t.type for t in cfg.train_dataloader.dataset.pipeline]
    assert 'RandomResizedCrop' in kinds
    ranks = {task: read('fgvc', task, 'supervised', 'bilinear').model.backbone.prompter.rank
             for task in ('cub', 'cars')}
    assert ranks == {'cub': 25, 'cars': 75}
    assert read('fgvc', 'cub', 'supervised', 'bilinear-deep').model.backbone.prompter.rank == 50


def test_spts_recipe():
    cfg = read('fgvc', 'cub', 'mae', 'spt')
    assert cfg.model.backbone.prompter == dict(
        type='SelfPrompt', num_tokens=20, deep=True, start='sample', position=False
    )
    assert cfg.train_dataloader.batch_size == 32
    assert 'RandomResizedCrop' in [t.type for t in cfg.train_dataloader.dataset.pipeline]


def test_vfpt_is_deep():
    prompter = read('fgvc', 'cub', 'mae', 'vfpt').model.backbone.prompter
    assert (prompter.deep, prompter.num_tokens) == (True, 10)


def test_decay_of_the_head_leaves_out_its_bias():
    cfg = read('fgvc', 'cub', 'mae', 'bilinear', ':head_lr=0.1')
    model = torch.nn.ModuleDict({
        'backbone': torch.nn.ModuleDict({'prompter': torch.nn.Linear(2, 2, bias=False)}),
        'head': torch.nn.ModuleDict({'fc': torch.nn.Linear(2, 3)}),
    })
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    found = {
        tuple(group['params'][0].shape): (group['lr'], round(group['weight_decay'], 9))
        for group in wrapper.param_groups if group['params'][0].dim()  # MMEngine's own is ()
    }
    assert found == {(2, 2): (0.05, 5e-3), (3, 2): (0.1, 0.5), (3,): (0.1, 0)}


@pytest.mark.parametrize(
    ('method', 'decayed'), [('vpt-deep', 0.01), ('full', 0.05), ('linear', 0.01)]
)
def test_no_recipe_decays_the_bias_of_the_head(method, decayed):
    cfg = read('fgvc', 'cub', 'mae', method, f':weight_decay={decayed}')
    model = torch.nn.ModuleDict({'head': torch.nn.ModuleDict({'fc': torch.nn.Linear(2, 3)})})
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    found = {p.dim(): group['weight_decay'] for group in wrapper.optimizer.param_groups
             for p in group['params']}
    assert found == {2: decayed, 1: 0.0}


@pytest.mark.parametrize(
    ('pretraining', 'method', 'std', 'bias'),
    [
        # VPT's MLP: kaiming_normal_(mode='fan_out') has std sqrt(2 / K), K = 200
        ('mae', 'vpt-deep', 0.1, -math.log(99)),
        ('mocov3', 'gated', 0.1, -math.log(99)),
        ('mae', 'linear', 0.1, -math.log(99)),
        ('mae', 'bilinear', 0.02, 0.0),
        ('mocov3', 'bilinear-deep', 0.01, 0.0),
        ('supervised', 'bilinear', 0.02, 0.0),
        ('mae', 'spt', 0.02, 0.0),
    ],
)
def test_random_heads_start_as_in_the_authors_code(pretraining, method, std, bias):
    cfg = read('fgvc', 'cub', pretraining, method).model.head
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = LinearClsHead(cfg.num_classes, cfg.in_channels, cfg.init_cfg)
    torch.manual_seed(0)
    head.init_weights()
    assert float(head.fc.weight.detach().std()) == pytest.approx(std, rel=0.01)
    assert head.fc.bias.detach().numpy() == pytest.approx(bias)


def test_last_block_and_biases_have_the_optimizer_of_vpts_paper():
    """Its table of settings: AdamW for full, partial and bias tuning, SGD for prompts."""
    for method in ('bias', 'partial-1', 'full'):
        assert read('fgvc', 'cub', 'mocov3', method).optim_wrapper.optimizer.type == 'AdamW'
    assert read('fgvc', 'cub', 'mocov3', 'vpt-deep').optim_wrapper.optimizer.type == 'SGD'


def test_pipelines():
    cfg = read('vtab1k', 'dtd', 'mae', 'lspt')
    kinds = [t.type for t in cfg.train_dataloader.dataset.pipeline]
    assert kinds == ['lspt_mm.LoadImage', 'Resize', 'PackInputs']  # nothing augmented
    cfg = read('fgvc', 'cub', 'mae', 'lspt', ':img_size=448')
    resize, crop, flip = cfg.train_dataloader.dataset.pipeline[1:4]
    assert (resize.scale, crop.crop_size, flip.prob) == (512, 448, 0.5)
    of_test = cfg.test_dataloader.dataset.pipeline
    assert [t.type for t in of_test[1:3]] == ['ResizeEdge', 'CenterCrop']


def test_what_a_method_trains():
    assert read('vtab1k', 'dtd', 'mae', 'linear').model.backbone.prompter is None
    assert read('vtab1k', 'dtd', 'mae', 'linear').model.backbone.out_type == 'avg_patches'
    full = read('vtab1k', 'dtd', 'mae', 'full')
    assert (full.model.backbone.tune, full.optim_wrapper.optimizer.type) == ('full', 'AdamW')
    # One command line for all methods: prompts are not asked of those without.
    assert read('vtab1k', 'dtd', 'mae', 'full', ':num_tokens=8').model.backbone.prompter is None
    no_gspc = read('vtab1k', 'dtd', 'mae', 'lspt-no-gspc').model.backbone.prompter
    assert (no_gspc.gspc, no_gspc.num_tokens) == (False, 1)


def test_another_optimizer():
    adamw = read('vtab1k', 'dtd', 'mae', 'lspt', ':optimizer=AdamW,lr=0.001').optim_wrapper
    assert adamw.optimizer == dict(type='AdamW', lr=0.001, weight_decay=0)
    sgd = read('fgvc', 'cub', 'mae', 'full', ':optimizer=SGD').optim_wrapper.optimizer
    assert (sgd.type, sgd.momentum) == ('SGD', 0.9)


def test_normalisation_goes_with_the_checkpoint():
    assert read('fgvc', 'cub', 'mocov3', 'lspt').data_preprocessor.mean == [123.675, 116.28, 103.53]
    supervised = read('fgvc', 'cub', 'supervised', 'lspt')
    assert supervised.data_preprocessor.mean == supervised.data_preprocessor.std == [127.5] * 3


def test_grids():
    def grid(method, **more):
        values = read('vtab1k', 'dtd', 'mae', method).experiment
        return default_grid(Experiment.from_dict({**values, **more}))

    vpt = grid('vpt', batch_size=64)
    # base_lr * batch / 256, ascending: ties go to the smaller one.
    assert vpt['lr'] == pytest.approx(
        (0.0125, 0.025, 0.0625, 0.125, 0.25, 0.625, 1.25, 2.5, 6.25, 12.5)
    )
    assert vpt['weight_decay'] == (0, 0.0001, 0.001, 0.01)
    assert grid('gated')['gate_init'] == (1, 3, 4, 5, 7, 10, 15, 20)
    assert grid('bilinear')['lr'] == (0.05, 0.1)
    assert grid('bilinear', pretraining='supervised')['lr'] == (0.005, 0.01, 0.02)
    assert grid('spt') == dict(lr=(0.05,), weight_decay=(0.01,))


def test_published_means_are_those_of_their_rows():
    for _, values in published_results.FGVC.values():
        tasks = [v for k, v in values.items() if k != 'mean']
        assert not tasks or sum(tasks) / 5 == pytest.approx(values['mean'], abs=0.006)
    for _, values in published_results.VTAB1K.values():
        if 'mean of 19 tasks' not in values:
            continue
        of_tasks = 7 * values['natural'] + 4 * values['specialized'] + 8 * values['structured']
        assert of_tasks / 19 == pytest.approx(values['mean of 19 tasks'], abs=0.006)


@pytest.mark.parametrize('benchmark', ['fgvc', 'vtab1k'])
def test_every_experiment_resolves(benchmark):
    """tests/test_configs.py builds one of each method and pre-training."""
    for task, pretraining, method in itertools.product(
        BENCHMARKS[benchmark], PRETRAININGS, METHODS
    ):
        name = f'{benchmark}/{method}_{pretraining}_{task}'
        exp = resolve_experiment(benchmark, task=task, pretraining=pretraining, method=method)
        cfg = exp.config(7)
        assert cfg['work_dir'] == f'work_dirs/{name}'
        prompter = cfg['model']['backbone']['prompter']
        assert (prompter is None) == (method in ('linear', 'bias', 'lora', 'partial-1', 'full'))
        assert prompter is None or prompter['num_tokens'] >= 1


@pytest.mark.parametrize('benchmark', ['fgvc', 'vtab1k'])
def test_every_data_set_of_a_benchmark_is_built(benchmark):
    for task, spec in {'fgvc': FGVC_TASKS, 'vtab1k': VTAB_TASKS}[benchmark].items():
        cfg = read(benchmark, task, 'mae', 'lspt')
        assert cfg.model.head.num_classes == spec.num_classes
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            DATASETS.build(dict(cfg[loader].dataset, lazy_init=True, pipeline=[]))


def test_there_are_experiments():
    assert len(BENCHMARKS['vtab1k']) * len(PRETRAININGS) == 19 * 3
    assert {'linear', 'full', 'vpt', 'vpt-deep', 'gated', 'bilinear', 'bilinear-deep', 'lspt',
            'lspt-low-rank', 'lspt-no-gspc', 'lspt-no-lpc'} <= set(METHODS)


def test_names_are_in_the_configs_docs():
    for benchmark in ('fgvc', 'vtab1k'):
        text = (CONFIGS / benchmark / 'transfer.py').read_text()
        name = f'{benchmark}/{"lspt_mae_cub" if benchmark == "fgvc" else "gated_mocov3_dtd"}'
        assert name in text
        assert read_config(name).experiment.name == name


def test_a_folder_of_ones_own(tmp_path):
    about = {'classes': ['ant', 'bee'], 'images': {'test': 4}}
    (tmp_path / 'about.json').write_text(json.dumps(about))
    cfg = read_config(f'{CONFIGS / "imagefolder/transfer.py"}:task={tmp_path},method=vpt')
    assert cfg.model.head.num_classes == 2
    assert cfg.train_dataloader.dataset.metainfo == {'classes': ['ant', 'bee']}
    assert cfg.work_dir == f'work_dirs/imagefolder/vpt_mae_{tmp_path.name}'
    assert cfg.model.neck.type == 'lspt_mm.Standardize'
    assert (cfg.train_dataloader.batch_size, cfg.model.backbone.prompter.num_tokens) == (32, 10)
    # Without published values, the paper's head has GaPT's for FGVC.
    arguments = f'task={tmp_path},head=paper,method=vpt'
    cfg = read_config(f'{CONFIGS / "imagefolder/transfer.py"}:{arguments}')
    assert cfg.model.head.type == 'LinearClsHead'
    assert (cfg.train_dataloader.batch_size, cfg.model.backbone.prompter.num_tokens) == (64, 100)
    probe = read_config(f'{CONFIGS / "imagefolder/transfer.py"}:task={tmp_path},method=linear')
    assert probe.train_cfg == {'type': 'lspt_mm.LinearProbeLoop', 'max_epochs': 1}
    assert not probe.param_scheduler
    with pytest.raises(InputError, match='warmup=20: expected less than epochs=20'):
        read_config(f'{CONFIGS / "imagefolder/transfer.py"}:task={tmp_path},warmup=20')


def test_a_folder_of_several_labels(tmp_path):
    about = {'classes': ['ant', 'bee'], 'multi_label': True, 'images': {'train': 4, 'val': 2}}
    (tmp_path / 'about.json').write_text(json.dumps(about))
    cfg = read_config(f'{CONFIGS / "imagefolder/transfer.py"}:task={tmp_path},method=vpt')
    head = cfg.model.head
    assert (head.type, head.num_classes, head.in_channels) == ('MultiLabelLinearClsHead', 2, 768)
    assert head.loss.use_sigmoid and 'init_cfg' not in head
    for split, name in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        data = cfg[f'{split}_dataloader'].dataset
        assert data.multi_label and data.ann_file == f'{name}.json'
    for evaluators in (cfg.val_evaluator, cfg.test_evaluator):
        assert [one.type for one in evaluators] == ['MultiLabelMetric', 'AveragePrecision']
    for balance in ('weights', 'sampling'):
        with pytest.raises(InputError, match=f'balance={balance}: .* is multi-label'):
            read_config(
                f'{CONFIGS / "imagefolder/transfer.py"}:task={tmp_path},balance={balance}'
            )


@pytest.mark.parametrize(('patch', 'size'), [(8, 224), (14, 224), (16, 224), (10, 220), (18, 216)])
def test_the_size_is_a_multiple_of_the_patch(patch, size):
    cfg = read_config(f'vtab1k/transfer.py:task=dtd,method=vpt,patch_size={patch}')
    assert cfg.model.backbone.img_size == size


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (None, 'about.json does not exist. Lay out .*prepare.py imagefolder'),
        ('{"classes"', 'about.json: not a JSON file'),
        ('{}', 'about.json: has no classes, images as prepared. Lay out .*prepare.py imagefolder'),
        ('{"classes": 3, "images": {}}', 'about.json: has no classes as prepared'),
        ('[1]', 'about.json: has no classes, images as prepared'),
    ],
)
def test_a_folder_that_was_not_prepared(tmp_path, content, said):
    if content is not None:
        (tmp_path / 'about.json').write_text(content)
    with pytest.raises(InputError, match=said):
        read_config(f'{CONFIGS / "imagefolder/transfer.py"}:task={tmp_path}')


@pytest.mark.parametrize(('pretraining', 'kind', 'out_type', 'mean'), [
    ('dinov2', 'PromptedViT', 'cls_token', 123.675),
    ('dinov3', 'TimmPromptedViT', 'cls_token', 123.675),
    ('siglip2', 'TimmPromptedViT', 'pooled', 127.5),
    ('pe', 'TimmPromptedViT', 'pooled', 127.5),
    ('timm:vit_base_patch16_clip_224.openai', 'TimmPromptedViT', 'cls_token', 122.7709),
    ('timm:aimv2_large_patch14_224.apple_pt', 'TimmPromptedViT', 'pooled', 122.7709),
])
def test_vits_of_timm(pretraining, kind, out_type, mean):
    cfg = read_config(f'vtab1k/transfer.py:task=dtd,method=lspt,pretraining={pretraining}')
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.out_type) == (f'lspt_mm.{kind}', out_type)
    assert backbone.pretrained.startswith('timm:')
    assert cfg.data_preprocessor.mean[0] == pytest.approx(mean)
    assert cfg.model.head.in_channels == (1024 if 'large' in pretraining else 768)


def test_rates_of_fitted_heads():
    rates = {'vpt-deep': 5e-3, 'lspt': 1e-3, 'bias': 1e-3, 'lora': 2e-3, 'partial-1': 1e-4}
    for method, rate in rates.items():
        cfg = read_config(f'vtab1k/transfer.py:task=dtd,method={method},head=fitted')
        assert cfg.optim_wrapper.optimizer.lr == rate
        head = cfg.optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult
        assert head * rate == pytest.approx(3e-3)
        assert cfg.default_hooks.linear_baseline == dict(
            type='lspt_mm.LinearBaselineHook', start=True, soften=5)
    probe = read_config('vtab1k/transfer.py:task=dtd,method=linear,head=fitted')
    assert 'soften' not in probe.default_hooks.linear_baseline  # its own logits, calibrated
    full = read_config('vtab1k/transfer.py:task=dtd,method=full,head=fitted')
    assert 'soften' not in full.default_hooks.linear_baseline  # its head has the ViT's rate
    for method in ('bilinear', 'spt'):  # papers' decay of the head is for other rates and starts
        cfg = read_config(f'fgvc/transfer.py:task=cub,pretraining=supervised,method={method},'
                          'head=fitted')
        assert cfg.optim_wrapper.paramwise_cfg.custom_keys.head.get('decay_mult', 1) == 0
    cfg = read_config('vtab1k/transfer.py:task=dtd,method=lspt,head=fitted,lr=3e-3')
    assert cfg.optim_wrapper.optimizer.lr == 3e-3


@pytest.mark.parametrize(('pretraining', 'head', 'optimizer', 'lr'), [
    ('mae', 'paper', 'SGD', 0.1), ('mocov3', 'paper', 'SGD', 1), ('supervised', 'paper', 'SGD', 1),
    ('dinov2', 'fitted', 'AdamW', 1e-3), ('timm:vit_base_patch16_224.mae', 'fitted', 'AdamW', 1e-3),
])
def test_vits_without_published_values_start_from_a_fit(pretraining, head, optimizer, lr):
    """MoCo v3's rate of 1 does not train a DINOv2 ViT (docs/results.md)."""
    arguments = f'task=eurosat,method=lspt,pretraining={pretraining}'
    cfg = read_config(f'vtab1k/transfer.py:{arguments}')
    assert cfg.experiment.head == head
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == (optimizer, lr)
    kept = read_config(f'vtab1k/transfer.py:{arguments},head=paper')
    assert kept.experiment.head == 'paper'


def of_weights(weights):
    return read_config(f'vtab1k/transfer.py:pretraining={weights},method=vpt')


def test_a_file_that_determines_the_vit(tmp_path):
    vit = timm.create_model('vit_small_patch16_dinov3', num_classes=0)
    torch.save(vit.state_dict(), tmp_path / 'dinov3.pth')
    backbone = of_weights(tmp_path / 'dinov3.pth').model.backbone
    assert (backbone.type, backbone.model) == (
        'lspt_mm.TimmPromptedViT', 'vit_small_patch16_dinov3')


def test_the_name_has_the_folders_last_part_alone():
    named = Experiment('imagefolder', 'data/my flowers/', 'mae', 'lspt').name
    assert named == 'imagefolder/lspt_mae_my flowers'


def test_names_of_runs_tell_weights_apart(tmp_path):
    names = {
        of_weights(f'timm:vit_base_patch16_224.{tag}').experiment.name
        for tag in ('mae', 'dino')
    }
    assert names == {f'vtab1k/vpt_vit_base_patch16_224.{tag}_eurosat' for tag in ('mae', 'dino')}


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    write_vit(tmp_path / 'vit.pth')
    (tmp_path / 'mine').mkdir()
    about = {'classes': ['ant', 'bee'], 'images': {'test': 4}}
    (tmp_path / 'mine/about.json').write_text(json.dumps(about))
    arch = ','.join(f"'{name}':{value}" for name, value in ARCH.items())
    cfg = read_config(
        f'imagefolder/transfer.py:task=~/mine,pretraining=~/vit.pth,method=vpt,arch={{{arch}}}')
    assert cfg.model.backbone.pretrained == str(tmp_path / 'vit.pth')
    assert cfg.data_root == str(tmp_path / 'mine')
