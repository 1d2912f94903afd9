"""Every config loads, names only what exists, and builds in a clean process."""

import copy
import functools
import json

import pytest
import torch
from miniatures import CONFIGS, once, run_ok
from mmengine.config import Config
from mmengine.registry import DefaultScope

import lspt_mm.models  # noqa: F401  (registers the methods)
from lspt_mm.analysis.flops import count_flops
from lspt_mm.recipes import METHODS as RECIPES
from lspt_mm.recipes import PRETRAININGS
from lspt_mm.registry import PROMPTERS

NAMES = sorted(
    p.relative_to(CONFIGS).with_suffix('').as_posix()
    for p in CONFIGS.rglob('*.py')
    # These read their folder of data.
    if '_base_' not in p.parts and p.parent.name not in ('imagefolder', 'maskfolder')
)
#: One experiment of each method, and of each pre-training; the data set changes only numbers.
EXPERIMENTS = [f'fgvc/{method}_mae_cub' for method in RECIPES] + [
    f'fgvc/lspt_{pretraining}_cub' for pretraining in PRETRAININGS if pretraining != 'mae'
]
PAPER = 'lspt_upernet_ade20k'
PROMPTER_FILES = sorted((CONFIGS / '_base_/prompters').glob('*.py'))

#: Builds the models of configs on the meta device, resolves every type, and prints reports.
BUILD = """
import functools, json, sys
import lspt_mm
import torch
from mmengine.registry import DefaultScope
import mmengine.registry as registries
from lspt_mm.config.load import read_config
from lspt_mm.engine.runner import prepare_for_cpu
from lspt_mm.registry import PROMPTERS

@functools.cache
def found(name, scope):
    roots = [r for r in vars(registries).values() if isinstance(r, registries.Registry)]
    for root in [PROMPTERS, *roots]:
        child = root._children.get(scope)
        if any(r is not None and r.get(name) is not None for r in (child, root)):
            return True
    return False

def unknown(node, path, scope):
    if isinstance(node, dict):
        # norm_cfg and init_cfg name things of other registries; these are built with the model.
        if 'type' in node and not found(node['type'], scope):
            yield f"{path}: {node['type']}"
        for key, value in node.items():
            yield from unknown(value, f'{path}.{key}', scope)
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from unknown(value, f'{path}.{i}', scope)

def report(name):
    cfg = read_config(name)
    cfg.launcher = 'none'
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        registries.init_default_scope(cfg.default_scope)
        ends = ('_dataloader', '_evaluator', 'hooks', 'wrapper', 'scheduler', 'visualizer',
                'pipeline', 'backends', '_cfg')
        keys = [key for key in cfg if key.endswith(ends) or key == 'model']
        missing = [one for key in keys for one in unknown(cfg[key], key, cfg.default_scope)]
        prepare_for_cpu(cfg)
        model_cfg = cfg.model
        if cfg.get('data_preprocessor') is not None:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        with torch.device('meta'):
            model = registries.MODELS.build(model_cfg)
    counts = {}
    for parameter, p in model.named_parameters():
        part = 'prompter' if '.prompter.' in parameter else parameter.split('.')[0]
        counts.setdefault(part, [0, 0])
        counts[part][0] += p.numel() * p.requires_grad
        counts[part][1] += p.numel()
    return {'unknown': missing, 'counts': counts}

reports = {}
for name in sys.argv[2:]:
    try:
        reports[name] = report(name)
    except Exception as error:
        reports[name] = {'error': f'{type(error).__name__}: {error}'}
with open(sys.argv[1], 'w') as file:
    json.dump(reports, file)
"""


#: Models of ADE20K's configs for other classes; building them is slow.
LATER = {name for name in NAMES if name.startswith(('camvid/', 'demo/'))}


def later_ones_slow(names):
    return [pytest.param(n, marks=pytest.mark.slow) if n in LATER else n for n in names]


@pytest.fixture(scope='module')
def reports(tmp_path_factory):
    """Reports of configs by name; those that are slow are built when the first is asked for."""

    class Reports(dict):
        def __missing__(self, name):
            names = [n for n in [*NAMES, *EXPERIMENTS] if (n in LATER) == (name in LATER)]

            def build(folder):
                (folder / 'build.py').write_text(BUILD)
                run_ok(folder / 'build.py', 'reports.json', *names, cwd=folder)

            folder = once(tmp_path_factory, f'configs_{name in LATER}', build)
            self.update(json.loads((folder / 'reports.json').read_text()))
            return self[name]

    return Reports()


@functools.cache
def read(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def load(name):
    return copy.deepcopy(read(name))


def test_there_are_configs():
    assert {PAPER, 'camvid/lspt_upernet_camvid', 'classification/lspt_imagefolder'} <= set(NAMES)


@pytest.mark.parametrize('name', later_ones_slow([*NAMES, *EXPERIMENTS]))
def test_builds_in_a_clean_process(name, reports):
    assert 'error' not in reports[name], reports[name]['error']


@pytest.mark.parametrize('name', later_ones_slow([*NAMES, *EXPERIMENTS]))
def test_every_type_is_registered(name, reports):
    assert reports[name]['unknown'] == []


#: Every method but LSPT, and what of its prompter is trained on ADE20K (D = 768, L = 12).
METHODS = {
    'vpt': 100 * 768,
    'vpt-deep': 12 * 10 * 768,
    'gated': 100 * 768 + 11 + 12,
    'bilinear': 65_100,
    'bilinear-deep': 183_600,
    'spt': 12 * 20 * 768,
    'vfpt': 12 * 10 * 768,
}
#: Of the baselines, what is trained of the ViT.
_BLOCK = 12 * 768 * 768 + 13 * 768
_BIASES = 768 + 12 * (2 * 768 + 3 * 768 + 768 + 4 * 768 + 768)
TUNED_VITS = {
    'ade20k/lora_upernet_ade20k': 12 * 8 * (768 + 3 * 768),
    'ade20k/bias_upernet_ade20k': _BIASES,
    'ade20k/vpt-deep-bias_upernet_ade20k': _BIASES,
    'ade20k/partial-1_upernet_ade20k': _BLOCK,
    'ade20k/full_upernet_ade20k': 768 * 769 + 768 + 1025 * 768 + 12 * _BLOCK,
}
#: LSPT's config that the configs of other methods are to be compared with.
FAMILIES = {
    'ade20k/{}_upernet_ade20k': PAPER,
    'ade20k/{}_setr-pup_ade20k': 'ade20k/lspt_setr-pup_ade20k',
    'ade20k/{}_segformer_ade20k': 'ade20k/lspt_segformer_ade20k',
    'camvid/{}_upernet_camvid': 'camvid/lspt_upernet_camvid',
}


#: Configs of a family, by method, that have their method from its file.
OF_METHODS = [
    (method.stem, family) for family in FAMILIES for method in PROMPTER_FILES
    if method.stem not in ('lspt', 'vpt-deep-bias') and family.format(method.stem) in NAMES
]


@pytest.mark.parametrize(('method', 'family'), OF_METHODS)
def test_a_method_differs_in_the_prompter_only(method, family):
    config, lspt = load(family.format(method)).to_dict(), load(FAMILIES[family]).to_dict()
    prompter = config['model']['backbone'].pop('prompter')
    assert lspt['model']['backbone'].pop('prompter')['type'] == 'LSPT' != prompter['type']
    assert config == lspt
    code = (CONFIGS / f'{family.format(method)}.py').read_text().split('"""')[2]
    assert len(code.strip().splitlines()) == 2


def test_every_method_has_its_configs():
    assert {f.format(m) for f in FAMILIES for m in METHODS} <= set(NAMES)
    files = {p.stem: load(f'_base_/prompters/{p.stem}').method for p in PROMPTER_FILES}
    assert {m.prompter.type for m in files.values()} == set(PROMPTERS.module_dict)


def test_nothing_of_a_methods_file_is_left_over():
    assert [name for name in NAMES if 'method' in load(name)] == []


def test_a_config_of_a_method_can_be_inherited_with_another_method(tmp_path):
    base = [str(CONFIGS / name) for name in ('ade20k/gated_upernet_ade20k.py',
                                             '_base_/prompters/vpt-deep.py')]
    text = (CONFIGS / 'ade20k/vpt-deep_upernet_ade20k.py').read_text().split('\n')[2]
    (tmp_path / 'mine.py').write_text(f'_base_ = {base}\n{text}\n')
    mine = Config.fromfile(tmp_path / 'mine.py').to_dict()
    assert mine == load('ade20k/vpt-deep_upernet_ade20k').to_dict()


@pytest.mark.parametrize('head', ['upernet', 'setr-pup', 'segformer'])
@pytest.mark.parametrize('method', METHODS)
def test_trainable_parameters_of_the_methods(method, head, reports):
    counts = reports[f'ade20k/{method}_{head}_ade20k']['counts']
    assert counts['prompter'] == [METHODS[method]] * 2


@pytest.mark.parametrize('name', TUNED_VITS)
def test_trainable_parameters_of_the_baselines(name, reports):
    counts = reports[name]['counts']
    assert counts['backbone'][0] == TUNED_VITS[name]
    assert ('prompter' in counts) == ('vpt' in name)


def test_facts_of_setr_pup():
    cfg = load('ade20k/gated_setr-pup_ade20k')
    model = cfg.model
    # Blocks 5, 9 and 12, counted from 1.
    assert tuple(model.backbone.out_indices) == (4, 8, 11) and model.get('neck') is None
    heads = [model.decode_head, *model.auxiliary_head]
    assert [h.in_index for h in heads] == [2, 0, 1]
    assert all((h.type, h.num_classes) == ('lspt_mm.SETRUPHead', 150) for h in heads)
    prompter = model.backbone.prompter
    assert (prompter.num_tokens, prompter.gate_init, cfg.train_dataloader.batch_size) == (
        100, 10.0, 16
    )
    assert cfg.optim_wrapper.optimizer.lr == 1e-3


def head_flops(name):
    """Products of neck and heads for one image of 512 pixels; on no device."""
    from mmseg.registry import MODELS

    model = json.loads(json.dumps(load(name).model.to_dict()).replace('SyncBN', 'BN'))
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmseg'):
        neck, *heads = (
            MODELS.build(model[k]).eval() for k in ('neck', 'decode_head', 'auxiliary_head')
        )
        maps = [torch.empty(1, 768, 32, 32) for _ in range(4)]

    def run():
        pyramid = neck(maps)
        return [head(pyramid) for head in heads]

    return sum(count_flops(run).values())


def test_the_light_head_is_a_fraction_of_upernet():
    upernet, light = head_flops(PAPER), head_flops('ade20k/lspt_segformer_ade20k')
    # 1x1 to 256 and 3x3 at four scales; 1x1 at four scales, joined, classified; auxiliary head.
    lateral, scales = 4 * 768 * 256 * 32**2, [128**2, 64**2, 32**2, 16**2]
    joined = (4 * 256 * 256 + 256 * 150) * 128**2
    auxiliary = (9 * 256 * 256 + 256 * 150) * 32**2
    assert light == 2 * (lateral + (9 + 1) * 256 * 256 * sum(scales) + joined + auxiliary)
    assert light < 0.12 * upernet


@pytest.mark.parametrize(
    'name', later_ones_slow([n for n in NAMES if 'mae_' not in n and n not in TUNED_VITS])
)
def test_vit_is_frozen_and_the_rest_is_trained(name, reports):
    for part, (trained, total) in reports[name]['counts'].items():
        assert trained == (0 if part == 'backbone' else total), part


@pytest.mark.parametrize('name', NAMES)
def test_data_lie_below_the_working_directory(name):
    cfg = load(name)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(loader):
            assert cfg[loader].dataset.data_root.startswith(('data/', 'work_dirs/'))


@pytest.mark.parametrize('name', [n for n in NAMES if n.split('/')[-1].startswith('frozen_')])
def test_the_baseline_differs_in_the_prompter_only(name):
    (lspt,) = [load(f) for k, f in FAMILIES.items() if k.format('frozen') == name]
    lspt, frozen = lspt.to_dict(), load(name).to_dict()
    assert frozen['model']['backbone'].pop('prompter') is None
    # Without a prompter there is nothing to tune, whichever of the two words says so.
    assert {c['model']['backbone'].pop('tune') for c in (lspt, frozen)} <= {'nothing', 'prompts'}
    assert lspt['model']['backbone'].pop('prompter')['type'] == 'LSPT'
    assert frozen == lspt


@pytest.mark.parametrize('name', [n for n in NAMES if 'upernet' in n])
def test_heads_and_labels_agree(name):
    cfg = load(name)
    classes = cfg.model.decode_head.num_classes
    assert cfg.load_labels.num_classes == classes
    neck = cfg.model.neck
    width = neck.get('neck', neck).embed_dim  # inside a Standardize, or alone
    assert cfg.model.decode_head.in_channels == [width] * 4
    if cfg.model.auxiliary_head is not None:
        assert cfg.model.auxiliary_head.num_classes == classes
        assert cfg.model.auxiliary_head.in_channels == width
    else:
        assert cfg.model.decode_head.linear_in_channels == neck.in_channels == [width] * 4
    crop, size = tuple(cfg.crop_size), cfg.model.backbone.img_size
    assert crop == tuple(cfg.model.data_preprocessor.size)
    assert crop == (tuple(size) if isinstance(size, (list, tuple)) else (size, size))
    crops = [t.crop_size for t in cfg.train_dataloader.dataset.pipeline if t.type == 'RandomCrop']
    assert [tuple(c) for c in crops] == [crop]


# ---- the main job -----------------------------------------------------------------------------


def test_facts_of_the_main_job():
    cfg = load(PAPER)
    vit, model = cfg.model.backbone, cfg.model
    assert (vit.arch, vit.patch_size, vit.img_size) == ('base', 16, 512)
    assert tuple(vit.out_indices) == (3, 5, 7, 11)
    assert vit.final_norm is False and vit.out_type == 'featmap' and vit.tune == 'prompts'
    assert vit.pretrained.endswith('mae_pretrain_vit_base.pth')
    assert (vit.prompter.type, vit.prompter.num_tokens) == ('LSPT', 100)
    assert model.neck.type == 'Feature2Pyramid' and model.neck.rescales == [4, 2, 1, 0.5]
    heads = [model.decode_head.type, model.auxiliary_head.type]
    assert heads == ['lspt_mm.UPerHead', 'lspt_mm.FCNHead']
    assert model.decode_head.num_classes == 150
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.param_scheduler[-1].end == 160000 and not cfg.param_scheduler[-1].by_epoch
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.model.test_cfg.mode == 'slide'
    assert tuple(cfg.model.test_cfg.crop_size) == (512, 512)
    assert max(cfg.model.test_cfg.stride) < 512
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.type == 'ADE20KDataset'
        assert loader.dataset.data_root.endswith('ADEChallengeData2016')


def test_the_main_jobs_data_set_ignores_label_zero():
    from mmseg.datasets import ADE20KDataset

    dataset = ADE20KDataset(lazy_init=True, pipeline=[])
    assert dataset.reduce_zero_label is True
    assert len(dataset.metainfo['classes']) == 150


def test_multi_scale_testing_of_the_main_job():
    (tta,) = [t for t in load(PAPER).tta_pipeline if t['type'] == 'TestTimeAug']
    scales, flips = tta.transforms[:2]
    assert len(scales) > 1 and tuple(scales[2].scale) == (2048, 512)
    assert [t.prob for t in flips] == [0.0, 1.0]
    assert load(PAPER).tta_model.type == 'lspt_mm.SegTTAModel'


def test_trainable_parameters_of_lspt(reports):
    # 12 P^l of 100 tokens, and one LSTM cell: 2 (4D, D) matrices and 2 biases of 4D, D = 768.
    cell = 2 * 4 * 768 * 768 + 2 * 4 * 768
    assert cell == 4_724_736
    counts = reports[PAPER]['counts']
    assert counts['prompter'] == [cell + 12 * 100 * 768] * 2
    # ViT-B/16 with 32x32 positions and without its final norm: 85.8 M and the difference.
    vit = 768 * (3 * 256 + 1) + 768 + (32 * 32 + 1) * 768
    vit += 12 * (4 * 768 + 4 * 768 * 768 + 4 * 768 + 2 * 4 * 768 * 768 + 5 * 768)
    assert counts['backbone'] == [0, vit]
