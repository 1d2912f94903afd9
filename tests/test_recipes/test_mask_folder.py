"""maskfolder/transfer.py: arguments, and defaults that follow from the data and the ViT."""

import json

import pytest
import timm
import torch
from miniatures import CONFIGS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from mmseg.registry import MODELS
from PIL import Image

from lspt_mm.config.load import read_config
from lspt_mm.engine.runner import prepare_for_cpu
from lspt_mm.errors import InputError
from lspt_mm.recipes.mask_folder import HEADS
from lspt_mm.recipes.segmentation import METHODS
from lspt_mm.recipes.vits import file_vit, timm_vit, vit_of

ABOUT = {
    'name': 'mine', 'classes': ['a', 'b', 'c'], 'palette': [[0, 0, 0], [1, 2, 3], [4, 5, 6]],
    'images': {'train': 16, 'val': 4}, 'pixels': [8100, 900, 0],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'about.json').write_text(json.dumps(ABOUT))
    return tmp_path


def read(folder, arguments=''):
    return read_config(f'{CONFIGS / "maskfolder/transfer.py"}:data={folder}{arguments}')


def build(cfg):
    init_default_scope('mmseg')
    cfg.launcher = 'none'
    prepare_for_cpu(cfg)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('iters', [1, 10, 19, 20, 100])
def test_no_warm_up_of_a_single_step(folder, iters):
    schedule = read(folder, f',iters={iters}').param_scheduler
    assert all(part['end'] - part['begin'] > 1 for part in schedule if part['type'] == 'LinearLR')
    assert schedule[-1]['end'] == iters and schedule[0]['begin'] == 0


def test_methods_include_those_of_ade20k():
    files = {p.name.split('_upernet')[0] for p in (CONFIGS / 'ade20k').glob('*_upernet_ade20k.py')}
    assert files | {'lspt'} <= set(METHODS)


def test_what_follows_from_the_data(folder):
    cfg = read(folder)
    assert cfg.model.decode_head.num_classes == 3 and cfg.model.auxiliary_head is None
    assert cfg.train_dataloader.dataset.metainfo.classes == ABOUT['classes']
    assert cfg.test_dataloader.dataset.ann_file == 'val.json'
    assert cfg.train_cfg.max_iters == 1000  # 60 * 16 / 8 is less
    many = dict(ABOUT, images={'train': 1000, 'val': 100, 'test': 7})
    (folder / 'about.json').write_text(json.dumps(many))
    cfg = read(folder)
    assert cfg.train_cfg.max_iters == 7500 == cfg.param_scheduler[-1].end
    assert cfg.test_dataloader.dataset.ann_file == 'test.json'


@pytest.mark.parametrize('head', HEADS)
def test_every_head_builds_and_gives_logits(folder, head):
    cfg = read(folder, f',head={head},method=vpt,crop=64,channels=8')
    with torch.device('meta'):
        images = torch.empty(2, 3, 64, 64)
    model = build(cfg)
    logits = model.decode_head(model.extract_feat(images))
    assert logits.shape[:2] == (2, 3)
    rates = cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert all(any(key in name for name, _ in model.named_parameters()) for key in rates)
    assert cfg.default_hooks.linear_baseline.start == (head != 'paper')


def test_a_frozen_linear_head_is_a_fit(folder):
    cfg = read(folder, ',head=linear,method=frozen')
    assert cfg.train_cfg.to_dict() == {'type': 'lspt_mm.LinearProbeLoop', 'max_epochs': 1}
    assert not cfg.param_scheduler


def test_none_is_a_choice(folder):
    cfg = read(folder, ',balance=none,flip=none')
    assert 'RandomFlip' not in str(cfg.train_pipeline)


def test_balance(folder):
    weights = read(folder).model.decode_head.loss_decode.class_weight
    assert 'class_weight' not in read(folder, ',head=paper').model.decode_head.loss_decode
    # Shares .9, .1 and 0, which counts as 1e-4: 1 / root, so that a pixel weighs 1 on average.
    roots = [1 / 0.9**0.5, 1 / 0.1**0.5, 100.0]
    average = 0.9 * roots[0] + 0.1 * roots[1]
    assert weights == pytest.approx([root / average for root in roots], rel=1e-4)
    cfg = read(folder, ',balance=sampling')
    assert cfg.train_dataloader.dataset.type == 'ClassBalancedDataset'
    assert cfg.train_dataloader.dataset.dataset.pipeline[3].pixels == [8100, 900, 0]
    losses = [loss.type for loss in read(folder, ',balance=dice').model.decode_head.loss_decode]
    assert losses == ['CrossEntropyLoss', 'lspt_mm.DiceLoss']


def images(folder, size, train=16, val=4):
    (folder / 'images').mkdir()
    names = [f'{i}.png' for i in range(train)]
    for name in names:
        Image.new('RGB', size).save(folder / 'images' / name)
    (folder / 'train.json').write_text(json.dumps(dict.fromkeys(names, 'x.png')))
    about = dict(ABOUT, images=dict(train=train, val=val))
    (folder / 'about.json').write_text(json.dumps(about))


@pytest.mark.parametrize(
    ('size', 'side'), [((100, 90), 64), ((300, 200), 100), ((900, 800), 128)]
)
def test_short_side_is_half_within_one_and_two_crops(size, side, folder):
    images(folder, size)
    resize = read(folder, ',crop=64').train_dataloader.dataset.pipeline[2]
    assert resize.scale[1] == side


def test_shrinking_below_half_is_told(folder, monkeypatch):
    told = []
    monkeypatch.setattr('mmengine.logging.print_log', lambda text, **_: told.append(text))
    images(folder, (900, 800))
    read(folder, ',crop=64,short_side=400')
    assert not told
    read(folder, ',crop=64,short_side=384')
    assert 'images of 900x800 pixels are shrunk to a shorter side of 384' in told[0]


@pytest.mark.parametrize(('val', 'times'), [(4, 5), (200, 2), (800, 1)])
def test_validations_take_a_tenth_of_the_time_at_most(val, times, folder):
    images(folder, (64, 64), val=val)
    cfg = read(folder, ',crop=64,iters=1000,batch_size=4').train_cfg
    # A validation is VAL * 9/4 windows, an iteration 4 images three times as dear.
    cost = val * 9 / 4 / 12
    assert cfg.val_interval == -(-1000 // times)
    assert times == 1 or times * cost <= 100


@pytest.mark.parametrize(
    'method',
    [m if m in ('lspt', 'frozen', 'bilinear-deep') else pytest.param(m, marks=pytest.mark.slow)
     for m in METHODS],
)
def test_every_method_builds(folder, method):
    cfg = read(folder, f',method={method},crop=64,channels=8')
    model = build(cfg)
    given, backbone = METHODS[method], cfg.model.backbone
    assert backbone.tune == given.tune
    assert (backbone.prompter or {}).get('type') == (given.prompter or {}).get('type')
    assert model.backbone.embed_dims == 384
    # A window of 64 pixels has 16 patches of 16: one prompt.
    assert model.backbone.prompter is None or model.backbone.prompter.num_tokens == 1


def test_number_of_prompts(folder):
    def prompter(arguments):
        return read(folder, arguments).model.backbone.prompter

    assert prompter('').num_tokens == 100  # of 1024 patches
    assert prompter(',crop=224').num_tokens == 19  # a tenth of 196
    assert prompter(',crop=224,num_tokens=50').num_tokens == 50
    assert prompter(',method=vpt-deep').num_tokens == 10
    bilinear = prompter(',method=bilinear,num_tokens=20')
    assert (bilinear.num_tokens, bilinear.rank) == (20, 15)  # 75 of 100 in its paper
    for method in ('bilinear', 'rein', 'vapt', 'lspt-low-rank'):
        assert prompter(f',method={method},rank=3').rank == 3


@pytest.mark.parametrize(
    'name',
    ['vit_small_patch16_224.dino', 'vit_base_patch16_224.mae', 'vit_base_patch16_224.augreg_in21k',
     'vit_small_patch14_reg4_dinov2.lvd142m', 'vit_large_patch16_224.mae'],
)
def test_measures_are_those_of_timms_model(folder, name):
    """All weights of timm's model find a place of their shape."""
    from lspt_mm.checkpoints.key_mapping import to_mmpretrain

    patch = 14 if 'patch14' in name else 16
    cfg = read(folder, f',pretrained=timm:{name},crop={4 * patch},channels=8')
    vit = build(cfg).backbone
    with torch.device('meta'):
        theirs = timm.create_model(name, pretrained=False, num_classes=0)
    state = {k: torch.empty(v.shape) for k, v in theirs.state_dict().items()}
    mapped = to_mmpretrain(state, grid=theirs.patch_embed.grid_size).tensors
    wanted = {k: tuple(v.shape) for k, v in vit.describe().tensors.items()}
    for values in (mapped, wanted):
        values.pop('pos_embed')  # of another grid
    unused = {k for k in mapped if k.startswith('ln1.')}
    assert {k: tuple(v.shape) for k, v in mapped.items() if k not in unused} == {
        k: v for k, v in wanted.items() if not k.startswith('ln1.')
    }
    expected = timm.get_pretrained_cfg(name)
    assert cfg.model.data_preprocessor.mean == [round(255 * v, 4) for v in expected.mean]
    assert vit.layers[0].attn.num_heads == theirs.blocks[0].attn.num_heads


def test_a_file_and_its_arch(folder):
    cfg = read(folder, ',pretrained=x/vit.pth,arch=deit-small,patch_size=8,crop=64')
    assert cfg.model.backbone.patch_size == 8 and cfg.model.neck.neck.embed_dim == 384
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert read(folder, ',pretrained=x.npz').model.data_preprocessor.std == [127.5] * 3
    assert read(folder, ',pretrained=x.pth,arch=large').model.backbone.out_indices == (
        7,
        11,
        15,
        23,
    )
    assert read(folder, ',pretrained=x.pth').model.backbone.out_indices == (3, 5, 7, 11)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (',crop=500', 'crop=500: expected a multiple of the patch size 16, such as 496'),
        (',methods=vpt', "no argument 'methods'; did you mean method"),
        (',method=vtp', "method='vtp': expected one of"),
        (',batch_size=1', 'batch_size=1: expected an integer of at least 2'),
        (',method=frozen,num_tokens=3', 'method=frozen has no prompts'),
        (',arch=base', 'already determines it'),
        (',pretrained=timm:resnet50', 'expected a VisionTransformer'),
        (',pretrained=timm:vit_small_resnet26d_224', 'its patches come from another network'),
        (',pretrained=dinov4', "'dinov4': expected timm:NAME, a file"),
        (',pretrained=None', "'None': expected timm:NAME"),
        (',pretrained=x.pth,arch=nope', "arch='nope'"),
        (',pretrained=x.pth,model=5', 'model=5'),
        (',pretrained=timm:vit_tinny', 'timm has no such model'),
        (',flip=vertical', "flip='vertical'"),
        (',lr=-1', 'lr=-1'),
        (',pretrained=x.pth,arch={"embed_dims":8,"num_layers":2,"num_heads":2,'
         '"feedforward_channels":8}', '2 blocks, expected 4, or at least 6'),
    ],
)
def test_arguments_that_are_none(folder, arguments, said):
    with pytest.raises(InputError, match=said):
        read(folder, arguments)


def test_all_wrong_arguments_are_in_one_message(folder):
    with pytest.raises(InputError) as error:
        read(folder, ',method=vtp,head=x,batch_size=1,crop=31,lr=-1,workers=None')
    lines = str(error.value).splitlines()
    said = ["method='vtp'", "head='x'", 'batch_size=1', 'crop=31', 'lr=-1', 'workers=None']
    assert len(lines) == len(said)
    for part in said:
        assert sum(f'{part}: expected ' in line for line in lines) == 1, part


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (None, 'about.json does not exist. Lay out .*own_masks'),
        ('{}', 'about.json: has no name, classes, palette, images, pixels as prepared. '),
        (json.dumps({**ABOUT, 'pixels': 3}), 'about.json: has no pixels as prepared. Lay out '),
    ],
)
def test_a_folder_that_was_not_prepared(tmp_path, content, said):
    if content is not None:
        (tmp_path / 'about.json').write_text(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path)


def test_timm_without_weights_costs_no_memory():
    assert timm_vit('timm:vit_huge_patch14_224.mae').backbone['arch']['num_layers'] == 32


@pytest.mark.parametrize(
    'name', ['vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2', 'vit_tiny_patch16_224']
)
def test_a_file_is_measured_as_the_name_is(name, folder):
    torch.save(timm.create_model(name).half().state_dict(), folder / 'vit.pth')
    by_name, by_file = timm_vit(f'timm:{name}').backbone, file_vit(str(folder / 'vit.pth'))
    assert VisionTransformer.arch_zoo[by_file.pop('arch')] == by_name.pop('arch')
    assert by_file == by_name
    cfg = read(folder, f',pretrained={folder}/vit.pth')
    assert cfg.model.backbone.img_size % by_name['patch_size'] == 0
    MODELS.build(dict(cfg.model.backbone, _scope_='mmseg')).init_weights()  # every tensor fits


@pytest.mark.parametrize(('method', 'decayed'), [
    ('bias', set()), ('lora', set()), ('lspt', set()),
    ('full', {'weight', 'cls_token', 'pos_embed'}),
])
def test_weight_decay_is_for_weights_alone(method, decayed, folder):
    cfg = read(folder, f',method={method},head=linear')
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {id(p): name for name, p in model.backbone.named_parameters()}
    found = {
        names[id(p)].rsplit('.', 1)[-1]
        for group in wrapper.optimizer.param_groups if group['weight_decay']
        for p in group['params'] if id(p) in names
    }
    assert found == decayed
    layers = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    norms = [p for layer in layers for p in layer.parameters()]
    assert not {id(p) for p in norms} & {
        id(p) for g in wrapper.optimizer.param_groups if g['weight_decay'] for p in g['params']
    }


@pytest.mark.parametrize(('method', 'rate'), [('bias', 1e-3), ('partial-1', 1e-4)])
def test_the_vits_own_parameters_have_their_own_rate(folder, method, rate):
    wrapper = read(folder, f',method={method}').optim_wrapper
    share = wrapper.paramwise_cfg.custom_keys.backbone.lr_mult
    assert share * wrapper.optimizer.lr == pytest.approx(rate)
    assert 'backbone' not in read(folder, ',method=lspt').optim_wrapper.paramwise_cfg.custom_keys


@pytest.mark.parametrize('method', ['vpt-deep-bias', 'da-vpt-plus'])
def test_biases_beside_prompts_have_the_prompts_rate(folder, method):
    cfg = read(folder, f',method={method},prompt_lr=1e-5,crop=64,channels=8')
    model = build(cfg)
    names = {id(p): name for name, p in model.named_parameters()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {names[id(p)]: (round(group['lr'], 12), group['weight_decay'])
             for group in wrapper.optimizer.param_groups for p in group['params']}
    own = {name: found for name, found in rates.items() if name.startswith('backbone.')}
    assert any('prompter' in name for name in own)
    assert any('prompter' not in name for name in own)
    assert set(own.values()) == {(1e-5, 0.0)}
    assert 1e-5 not in {lr for name, (lr, _) in rates.items() if name not in own}


def test_vits_that_mmpretrain_lacks_come_from_timm(folder):
    name = 'vit_small_patch16_dinov3.lvd1689m'
    cfg = read(folder, f',pretrained=timm:{name}')
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.model) == ('lspt_mm.TimmPromptedViT', name)
    assert backbone.out_indices == (3, 5, 7, 11) and 'arch' not in backbone
    assert cfg.model.neck.in_channels == [384] * 4
    built = MODELS.build(dict(backbone, _scope_='mmseg'))
    assert built.img_size == (cfg.model.data_preprocessor.size[0],) * 2
    half = read(folder, ',pretrained=timm:vit_pe_core_base_patch16_224.fb')
    assert half.model.data_preprocessor.mean == [127.5] * 3


def test_a_file_of_no_known_size_asks_for_its_arch(folder):
    vit = timm.models.VisionTransformer(
        img_size=32, embed_dim=48, depth=6, num_heads=3, num_classes=0, qkv_bias=False
    )
    torch.save({'model': vit.state_dict()}, folder / 'vit.pth')
    with pytest.raises(InputError, match='vit.pth: .* give it as arch='):
        read(folder, f',pretrained={folder}/vit.pth')
    arch = "{'embed_dims':48,'num_layers':6,'num_heads':3,'feedforward_channels':192}"
    backbone = read(folder, f',pretrained={folder}/vit.pth,arch={arch}').model.backbone
    assert backbone.qkv_bias is False and backbone.arch.num_heads == 3
    with pytest.raises(InputError, match='crop=100.* patch size 16, such as 96'):
        read(folder, f',pretrained={folder}/vit.pth,arch={arch},crop=100')


@pytest.mark.parametrize(('name', 'key'), [
    ('vit_base_patch16_clip_224', 'pre_norm'), ('vit_pe_core_tiny_patch16_384', 'pre_norm'),
    ('vit_base_patch16_siglip_224', 'attn_pool'), ('aimv2_large_patch14_224', 'without a bias'),
    ('eva02_base_patch14_224', 'q_proj'),
])
def test_a_file_that_does_not_say_what_it_computes_asks_for_its_name(folder, name, key):
    vit = timm.create_model(name, depth=6, embed_dim=48, num_heads=3, num_classes=0)
    torch.save(vit.state_dict(), folder / 'vit.pth')
    file = f',pretrained={folder}/vit.pth'
    with pytest.raises(InputError, match=f'do not determine the model .*{key}.* model=NAME'):
        read(folder, file)
    with pytest.raises(InputError, match=f"arch='base': model={name} already determines it"):
        read(folder, f'{file},model={name},arch=base')
    cfg = read(folder, f'{file},model={name}')
    assert cfg.model.backbone.model == name and cfg.model.backbone.pretrained.endswith('vit.pth')
    assert tuple(cfg.model.data_preprocessor.mean) == timm_vit(f'timm:{name}').mean


@pytest.mark.parametrize('registers', [0, 4])
def test_dinov2s_largest_says_what_it_is(registers, tmp_path):
    state = {
        'patch_embed.proj.weight': torch.zeros(1536, 3, 14, 14), 'mask_token': torch.zeros(1, 1536),
        'pos_embed': torch.zeros(1, 1370, 1536), 'blocks.0.mlp.w12.weight': torch.zeros(8192, 1536),
        **({'register_tokens': torch.zeros(1, 4, 1536)} if registers else {}),
    }
    torch.save(state, tmp_path / 'vit.pth')
    name = f'vit_giant_patch14{"_reg4" * bool(registers)}_dinov2'
    assert vit_of(str(tmp_path / 'vit.pth')).backbone['model'] == name


def test_short_names_of_weights(folder):
    assert read(folder, ',pretrained=dinov3').model.backbone.pretrained.startswith('timm:vit_base')


def test_rotary_vits_ask_for_their_name(folder):
    for name in ('vit_base_patch16_rope_reg1_gap_256', 'vit_base_patch16_rope_224'):
        vit = timm.create_model(name, depth=6, embed_dim=48, num_heads=3, num_classes=0)
        torch.save(vit.state_dict(), folder / 'vit.pth')
        with pytest.raises(InputError, match='do not determine the model .*no pos_embed'):
            read(folder, f',pretrained={folder}/vit.pth')


def test_a_file_without_its_first_block(folder):
    state = timm.create_model('vit_tiny_patch16_224', num_classes=0).state_dict()
    state = {name: value for name, value in state.items() if not name.startswith('blocks.0.')}
    torch.save(state, folder / 'vit.pth')
    with pytest.raises(InputError, match='block 0 is missing'):
        read(folder, f',pretrained={folder}/vit.pth')
