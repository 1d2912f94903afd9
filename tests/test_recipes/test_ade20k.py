"""ADE20K on any ViT: the recipe of DINOv3's linear evaluation, other heads, methods and ViTs."""

import json

import pytest
import timm
import torch
from miniatures import CONFIGS, run_ok, write_ade20k
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from lspt_mm.config.load import read_config
from lspt_mm.engine.runner import prepare_for_cpu
from lspt_mm.errors import InputError
from lspt_mm.models.heads import LinearSegHead
from lspt_mm.recipes.methods import METHODS

CONFIG = CONFIGS / 'ade20k/transfer.py'


def read(arguments=''):
    return read_config(f'{CONFIG}:{arguments}' if arguments else str(CONFIG))


def test_the_recipe_is_that_of_dinov3s_authors():
    cfg = read()
    model, wrapper = cfg.model, cfg.optim_wrapper
    backbone, head = model.backbone, model.decode_head
    assert backbone.pretrained == 'timm:vit_base_patch16_dinov3.lvd1689m'
    assert (backbone.out_indices, backbone.final_norm, backbone.tune) == ((11,), True, 'nothing')
    assert (head.norm_cfg.type, head.dropout_ratio, head.num_classes) == ('SyncBN', 0.1, 150)
    assert model.neck is None and model.auxiliary_head is None
    optimizer = wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 1e-3)
    assert cfg.train_cfg.max_iters == 40000 and cfg.param_scheduler[0].end == 1500
    assert cfg.train_dataloader.batch_size == 16
    assert model.test_cfg.crop_size == (512, 512) and model.test_cfg.stride == (341, 341)
    steps = {step.type: step for step in cfg.train_pipeline}
    assert steps['RandomResize'].ratio_range == (0.5, 2.0) and 'RandomFlip' in steps
    assert 'PhotoMetricDistortion' not in steps
    assert cfg.tta_pipeline[1].transforms[0][0].scale == (1024, 256)


@pytest.mark.parametrize(('arguments', 'width', 'outs'), [
    ('pretrained=timm:vit_small_patch16_dinov3.lvd1689m,method=lspt', 384, (11,)),
    ('pretrained=timm:vit_large_patch16_dinov3.lvd1689m,method=lora,head=upernet', 1024,
     (5, 11, 17, 23)),
    ('pretrained=dinov2,method=gated,head=upernet', 768, (2, 5, 8, 11)),
    ('pretrained=siglip2,method=vpt-deep', 768, (11,)),
])
def test_every_vit_and_head_builds_and_gives_logits(arguments, width, outs):
    cfg = read(f'{arguments},crop=112')
    backbone = cfg.model.backbone
    assert backbone.out_indices == outs
    init_default_scope('mmseg')
    cfg.launcher = 'none'
    prepare_for_cpu(cfg)
    backbone.pretrained = None
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.embed_dims == width
    side = 112 // model.backbone.patch_size[0]
    maps = [torch.empty(2, width, side, side, device='meta') for _ in outs]
    logits = model.decode_head(model.neck(maps) if cfg.model.neck else maps)
    assert logits.shape[:2] == (2, 150)


@pytest.mark.parametrize(('arguments', 'part', 'rate'), [
    ('method=lspt', 'prompter', METHODS['lspt'].lr),
    ('method=lora', 'backbone', METHODS['lora'].lr),
    ('method=bias,head=upernet', 'backbone', METHODS['bias'].lr),
    ('method=full', 'backbone', 1e-4), ('method=vpt,prompt_lr=0.25', 'prompter', 0.25),
])
def test_what_is_in_the_vit_has_a_rate_of_its_own(arguments, part, rate):
    wrapper = read(arguments).optim_wrapper
    share = wrapper.paramwise_cfg.custom_keys[part].lr_mult
    assert share * wrapper.optimizer.lr == pytest.approx(rate)


@pytest.mark.parametrize(('arguments', 'said'), [
    ('pretrained=dinov2,crop=512', 'crop=512: expected a multiple of .* 14, such as 504'),
    ('heads=linear', 'configs/ade20k/transfer.py takes no argument .heads.; did you mean head'),
    ('head=light', "head='light': expected one of"),
    ('num_tokens=5', 'method=frozen has no prompts'),
    ('rank=5,method=lspt', 'rank=5: method=lspt has none'),
    ('iters=0', 'iters=0'),
    ('lr=-1', 'lr=-1'),
])
def test_arguments_that_are_none(arguments, said):
    with pytest.raises(InputError, match=said):
        read(arguments)


def test_the_rank_of_lora():
    assert read('method=lora').model.backbone.tune == 'lora-8'
    assert read('method=lora,rank=3').model.backbone.tune == 'lora-3'
    assert read('method=bilinear-deep,rank=3').model.backbone.prompter.rank == 3
    cell = 'vtab1k/lora_mae_eurosat'
    optimizer = read_config(cell).optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', METHODS['lora'].lr)  # not GaPT's SGD
    assert read_config(cell).model.backbone.tune == 'lora-8'
    assert read_config(f'{cell}:rank=4').model.backbone.tune == 'lora-4'


def test_patches_of_14_get_crops_of_504():
    cfg = read('pretrained=dinov2,method=bilinear')
    assert cfg.model.backbone.img_size == 504 and cfg.model.test_cfg.crop_size == (504, 504)
    assert cfg.test_pipeline[1].scale == (2016, 504)


def test_the_linear_head_with_a_norm_is_a_norm_and_a_layer():
    torch.manual_seed(0)
    init_default_scope('mmseg')
    head = LinearSegHead([6, 4], num_classes=3, norm_cfg=dict(type='BN'), align_corners=False)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    maps = [torch.randn(2, 6, 5, 4), torch.randn(2, 4, 5, 4)]
    x = torch.cat(maps, dim=1)
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    bn, layer = head.norm, head.conv_seg
    x = (x - mean) / (var + 1e-5).sqrt() * bn.weight.view(1, -1, 1, 1) + bn.bias.view(1, -1, 1, 1)
    want = torch.einsum('bchw,kc->bkhw', x, layer.weight[:, :, 0, 0]) + layer.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(head(maps), want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_on_a_file_of_dinov3(tmp_path):
    write_ade20k(tmp_path / 'ade', height=64, width=80)
    torch.save(timm.create_model('vit_small_patch16_dinov3').state_dict(), tmp_path / 'vit.pth')
    config = f'{CONFIG}:pretrained={tmp_path}/vit.pth,method=lspt,num_tokens=4,crop=64,iters=2'
    config += ',batch_size=2'
    loaders = [f'{name}_dataloader.{option}' for name in ('train', 'val')
               for option in ('num_workers=0', 'persistent_workers=False')]
    work = tmp_path / 'work'
    run_ok('train.py', config, '--data-root', tmp_path / 'ade', '--work-dir', work,
                   '--checkpoint', 'prompts', '--cfg-options', *loaders)
    lines = (work / 'log.jsonl').read_text().splitlines()
    assert any('mIoU' in json.loads(line) for line in lines)
    files = work / 'transfer.py', work / 'iter_2.pth'
    run_ok('test.py', *files, '--work-dir', work / 'test')
