"""Exported models against PyTorch: every method, every head, images of other sizes."""

import copy
import shutil

import numpy as np
import pytest
import torch
from miniatures import CONFIGS, run_ok, run_tool, write_segmentation
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from mmseg.registry import MODELS as SEGMENTATION
from torch import nn

from lspt_mm import recipes
from lspt_mm.analysis.flops import count_flops
from lspt_mm.config.load import read_config
from lspt_mm.deployment import (
    Exportable,
    export_model,
    export_onnx,
    export_program,
    largest_difference,
    run_onnx,
)
from lspt_mm.deployment.exportable import _AveragePool
from lspt_mm.engine.runner import prepare_for_cpu
from lspt_mm.errors import InputError

WIDTH, DEPTH, TOKENS = 32, 3, 6
ARCH = {
    'embed_dims': WIDTH, 'num_layers': DEPTH, 'num_heads': 4, 'feedforward_channels': 2 * WIDTH,
}
METHODS = [name for name, method in recipes.METHODS.items() if method.tune == 'prompts']
HEADS = ['lspt_upernet_ade20k', 'ade20k/lspt_segformer_ade20k', 'ade20k/lspt_setr-pup_ade20k']
#: Number, height, width: none of them what is traced.
SIZES = [(1, 64, 64), (3, 48, 128), (1, 80, 32)]
OF_SEGMENTORS = [(1, 64, 64), (3, 80, 128), (1, 112, 64)]
CLOSE = 1e-5


def randomized(model, scope):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        for name, buffer in model.named_buffers():
            if 'running' in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    model.cfg = Config({'default_scope': scope})
    return model.eval()


def classifier(method='lspt', **vit):
    init_default_scope('mmpretrain')
    recipe = recipes.METHODS[method]
    prompter = recipe.prompter and dict(recipe.prompter, num_tokens=TOKENS)
    if 'rank' in recipe.extra_args:
        prompter['rank'] = 4
    torch.manual_seed(0)
    return randomized(ImageClassifier(
        backbone=dict(
            type='lspt_mm.PromptedViT', arch=ARCH, img_size=64, prompter=prompter, **vit
        ),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=WIDTH),
        data_preprocessor=dict(mean=[120.0, 110, 100], std=[50.0, 60, 70], to_rgb=True),
    ), 'mmpretrain')


def narrow(node):
    """Heads and necks of a config for the small ViT."""
    for key, value in node.items():
        if key in ('in_channels', 'embed_dim'):
            node[key] = [WIDTH] * len(value) if isinstance(value, (list, tuple)) else WIDTH
        elif key in ('channels', 'out_channels') and isinstance(value, int):
            node[key] = WIDTH
        elif isinstance(value, dict):
            narrow(value)


def segmentor(config, **preprocessor):
    init_default_scope('mmseg')
    cfg = read_config(str(CONFIGS / f'{config}.py'))
    cfg.launcher = 'none'
    prepare_for_cpu(cfg)
    vit = cfg.model.backbone
    outputs = len(vit.out_indices)
    vit.update(arch=dict(ARCH, num_layers=outputs), img_size=64, pretrained=None)
    vit.out_indices = tuple(range(outputs))
    vit.prompter.num_tokens = TOKENS
    for part in ('neck', 'decode_head'):
        narrow(cfg.model.get(part) or {})
    cfg.model.auxiliary_head = None
    cfg.model.data_preprocessor.update(preprocessor)
    cfg.model.test_cfg = dict(mode='whole')
    torch.manual_seed(0)
    return randomized(SEGMENTATION.build(cfg.model), 'mmseg')


def both_files(model, folder):
    program = export_program(model, (64, 64))
    torch.export.save(program, str(folder / 'model.pt2'))
    export_onnx(program, folder / 'model.onnx')
    return torch.export.load(str(folder / 'model.pt2')).module(), run_onnx(folder / 'model.onnx')


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_every_method_by_both_ways(method, tmp_path):
    pytest.importorskip('onnxruntime')
    model = Exportable(classifier(method))
    # VAPT's maps are a patch smaller than the grid, and torch.export fixes a size of 1.
    sizes = [size for size in SIZES if method != 'vapt' or min(size[1:]) > 32]
    assert sizes
    for run in both_files(model, tmp_path):
        assert largest_difference(model, run, sizes) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize('config', HEADS)
def test_every_head_by_both_ways(config, tmp_path):
    pytest.importorskip('onnxruntime')
    model = Exportable(segmentor(config))
    for run in both_files(model, tmp_path):
        assert largest_difference(model, run, OF_SEGMENTORS) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize(
    'vit',
    [dict(num_registers=2), dict(out_type='avg_tokens'), dict(out_type='avg_featmap')],
    ids=str,
)
def test_other_outputs(vit, tmp_path):
    pytest.importorskip('onnxruntime')
    model = Exportable(classifier('lspt', **vit))
    for run in both_files(model, tmp_path):
        assert largest_difference(model, run, SIZES) < CLOSE


TIMM = ['vit_small_patch16_dinov3_qkvb', 'vit_base_patch16_siglip_224',
        'eva02_base_patch16_clip_224', 'vit_small_patch16_rope_mixed_224',
        'vit_pe_core_tiny_patch16_384']


def timm_classifier(name, method):
    init_default_scope('mmpretrain')
    prompter = recipes.METHODS[method].prompter
    return randomized(ImageClassifier(
        backbone=dict(
            type='lspt_mm.TimmPromptedViT', model=name, img_size=64, out_type='avg_patches',
            model_args=dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4),
            prompter=dict(prompter, num_tokens=TOKENS),
        ),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=WIDTH),
        data_preprocessor=dict(mean=[120.0, 110, 100], std=[50.0, 60, 70], to_rgb=True),
    ), 'mmpretrain')


@pytest.mark.slow
@pytest.mark.parametrize('method', ['vpt-deep', 'lspt', 'gated'])
@pytest.mark.parametrize('name', TIMM)
def test_vits_of_timm_by_both_ways(name, method, tmp_path):
    """At the size that is traced, the model's own, and others."""
    pytest.importorskip('onnxruntime')
    model = timm_classifier(name, method)
    images = torch.randint(0, 256, (2, 3, 64, 96)).float()
    with torch.no_grad():
        want = model(model.data_preprocessor({'inputs': images.flip(1)})['inputs'], mode='tensor')
        torch.testing.assert_close(Exportable(model)(images), want, rtol=1e-5, atol=1e-5)
    model = Exportable(model)
    for run in both_files(model, tmp_path):
        assert largest_difference(model, run, [*SIZES, (2, 64, 80)]) < CLOSE


# ---- the copy is the model ----------------------------------------------------------------------


@pytest.mark.parametrize('method', METHODS)
def test_a_classifiers_logits_are_mmpretrains(method):
    model = classifier(method)
    bgr = torch.randint(0, 256, (2, 3, 64, 64)).float()
    data = model.data_preprocessor({'inputs': bgr})
    with torch.no_grad():
        wanted = model(data['inputs'], mode='tensor')
        found = Exportable(model)(bgr.flip(1))
        plain = Exportable(model, preprocess=False)(data['inputs'])
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(plain, wanted)


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
@pytest.mark.parametrize('config', HEADS)
def test_a_segmentors_logits_are_mmsegs(config, bgr_to_rgb):
    model = segmentor(config, bgr_to_rgb=bgr_to_rgb)
    bgr = torch.randint(0, 256, (2, 3, 64, 96)).float()
    inputs = torch.stack([
        ((one.flip(0) if bgr_to_rgb else one) - model.data_preprocessor.mean)
        / model.data_preprocessor.std for one in bgr
    ])
    metas = [dict(ori_shape=(64, 96), img_shape=(64, 96), pad_shape=(64, 96))] * 2
    with torch.no_grad():
        wanted = model.encode_decode(inputs, metas)
        found = Exportable(model)(bgr.flip(1))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('output', [1, 2, 3, 6, (2, 5), (None, 3)])
@pytest.mark.parametrize('size', [(6, 6), (7, 5), (2, 3), (13, 1)])
def test_pooling_is_torchs(output, size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(_AveragePool(output)(x), nn.AdaptiveAvgPool2d(output)(x))


# ---- what is in the file ------------------------------------------------------------------------


def products(model):
    program = export_program(model, (64, 64)).module()
    images = torch.zeros(4, 3, 64, 64)
    return sum(count_flops(lambda: program(images)).values())


@pytest.mark.slow
@pytest.mark.parametrize('method', ['vpt-deep', 'bilinear-deep'])
def test_prompts_are_folded_in(method):
    # Four images, 17 tokens that ask (one in the last block) and TOKENS more keys and values.
    asking = (DEPTH - 1) * 17 + 1
    of_attention = 2 * 2 * 4 * asking * TOKENS * WIDTH
    assert products(Exportable(classifier(method))) == (
        products(Exportable(classifier('linear'))) + of_attention
    )


def test_gates_are_folded_in():
    model = classifier('lspt')
    images = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        model.backbone.fuse()
        kept = sum(count_flops(lambda: model(images, mode='tensor')).values())
        program = export_program(Exportable(model), (64, 64)).module()
        assert sum(count_flops(lambda: program(images)).values()) == kept


def test_the_model_stays_as_it_was():
    model = classifier('vpt-deep').train()
    before = copy.deepcopy(model.state_dict())
    Exportable(model)
    assert model.training and model.backbone.prompter.prompts.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first = model.eval()(images, mode='tensor')
        model.backbone.prompter.prompts.add_(1.0)
        assert not torch.equal(model(images, mode='tensor'), first)


def test_of_one_size_only(tmp_path):
    pytest.importorskip('onnxruntime')
    model = Exportable(classifier())
    exported = export_program(model, (np.int64(64), 96), dynamic=False)
    export_onnx(exported, tmp_path / 'model.onnx')
    program = exported.module()
    for run in (program, run_onnx(tmp_path / 'model.onnx')):
        assert largest_difference(model, run, [(1, 64, 96)]) < CLOSE
    with pytest.raises((AssertionError, RuntimeError)):
        program(torch.zeros(1, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize('make', [classifier, lambda: segmentor(HEADS[2])])
@pytest.mark.parametrize('size', [(50, 64), (64, 65), (79, 90), (15, 64)])
def test_sizes_that_it_does_not_take_are_errors(make, size, tmp_path):
    """PyTorch pads them; what an exported model would drop changes all values."""
    pytest.importorskip('onnxruntime')
    for run in both_files(Exportable(make()), tmp_path):
        with pytest.raises(Exception, match='(?i)guard|constraint|dimension|shape|scale'):
            run(torch.zeros(1, 3, *size))


def test_what_cannot_be_exported():
    with pytest.raises(InputError, match='Linear cannot be exported: its task is not known'):
        Exportable(nn.Linear(2, 2))
    with pytest.raises(InputError, match='Linear cannot be exported: expected a model for class'):
        other = nn.Linear(2, 2)
        other.cfg = {'default_scope': 'mmpretrain'}
        Exportable(other)
    for size in ((64, 60), (16, 64), (0, 64), (64,), '64', 60):
        with pytest.raises(InputError, match='multiples of 16'):
            export_program(Exportable(classifier()), size)


@pytest.mark.parametrize('spoiled', [{0}, {1}, {0, 1, 2, 3}])
def test_a_file_with_nan_is_not_kept(spoiled, tmp_path, monkeypatch):
    calls = []

    def load(path):
        program = load_export(path)
        run = program.module()

        def run_badly(images):
            calls.append(len(images))
            return run(images) * (float('nan') if len(calls) - 1 in spoiled else 1.0)

        program.module = lambda: run_badly
        return program

    load_export = torch.export.load
    monkeypatch.setattr(torch.export, 'load', load)
    (tmp_path / 'model.pt2').write_text('an earlier one')
    with pytest.raises(InputError, match='differs from PyTorch by nan'):
        export_model(classifier(), tmp_path / 'model.pt2')
    assert [path.name for path in tmp_path.iterdir()] == ['model.pt2'] and len(calls) == 4
    assert (tmp_path / 'model.pt2').read_text() == 'an earlier one'


@pytest.mark.parametrize('close', [1e-4, -1.0])
def test_a_large_model_is_two_files_that_belong_together(close, tmp_path, monkeypatch):
    pytest.importorskip('onnxruntime')
    from torch.onnx._internal.exporter import _onnx_program

    monkeypatch.setattr(_onnx_program, '_LARGE_MODEL_THRESHOLD', 1000)  # of 1.5 GB
    monkeypatch.setattr('lspt_mm.deployment.exporting.CLOSE', close)
    out, model = tmp_path / 'out', classifier()
    names = ['model.onnx', 'model.onnx.data']
    if close < 0:  # nothing is as close as that
        with pytest.raises(InputError, match='is not written'):
            export_model(model, out / names[0], dynamic=False)
        assert not list(out.iterdir())
        return
    found = export_model(model, out / names[0], dynamic=False)
    assert found.files == tuple(out / name for name in names)
    assert sorted(path.name for path in out.iterdir()) == names
    shutil.move(out, tmp_path / 'elsewhere')
    images = torch.full((1, 3, *model.backbone.img_size), 99.0)
    logits = run_onnx(tmp_path / 'elsewhere' / names[0])(images)
    torch.testing.assert_close(logits, Exportable(model)(images), rtol=1e-4, atol=1e-4)


def test_where_nothing_can_be_written_nothing_is_traced(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError('traced')

    monkeypatch.setattr('lspt_mm.deployment.exporting.export_program', fail)
    (tmp_path / 'folder.pt2').mkdir()
    for path in ('/proc/x.pt2', tmp_path / 'folder.pt2'):
        with pytest.raises(InputError, match=f'{path}.* cannot be written'):
            export_model(classifier(), path)


# ---- the tool -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tool(tmp_path):
    pytest.importorskip('onnxruntime')
    mini = write_segmentation(tmp_path)
    run_ok('train.py', mini.config, '--work-dir', 'w', cwd=tmp_path)
    checkpoint = max((tmp_path / 'w').glob('iter_*.pth'))
    tool = 'deployment/export.py'
    for name in ('out/model.onnx', 'model.pt2'):
        run = run_ok(tool, mini.config, checkpoint, name, cwd=tmp_path)
        assert 'differs from PyTorch by at most' in run.out and (tmp_path / name).is_file()
    fixed = run_tool(
        tool, mini.config, checkpoint, 'fixed.pt2', '--fixed-size', '--size', 40, 48,
        '--no-preprocess', cwd=tmp_path,
    )
    assert fixed.code == 0 and 'over 1 sizes' in fixed.out, fixed.err
    for arguments, words in {
        (checkpoint, 'model.tflite'): 'ends in .onnx or .pt2',
        ('nothing.pth', 'model.onnx'): 'nothing.pth: no such checkpoint file',
        (checkpoint, 'model.onnx', '--size', 41, 48): 'multiples of 8',
    }.items():
        run = run_tool(tool, mini.config, *arguments, cwd=tmp_path)
        assert run.code == 2 and words in run.err, run.err
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 40, 48)).astype(np.float32)
    logits = run_onnx(tmp_path / 'out/model.onnx')(torch.from_numpy(images))
    assert logits.shape[0] == 1 and logits.shape[2:] == (40, 48)
