"""Every naming of files: the same weights, renamed by hand, give the same features."""

import hashlib
import json

import pytest
import timm
import torch

from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT, TimmPromptedViT
from lspt_mm.recipes import vits
from lspt_mm.recipes.pretrainings import get_pretraining
from lspt_mm.recipes.vits import vit_of
from lspt_mm.utils.images import IMAGENET_MEAN

WIDTH, DEPTH = 48, 3
ARCH = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=4, feedforward_channels=4 * WIDTH)


def randomized(name, **kwargs):
    torch.manual_seed(0)
    small = dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4, num_classes=0, dynamic_img_size=True)
    vit = timm.create_model(name, **{**small, **kwargs})
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return vit.eval()


def split(state, key, names):
    for name, part in zip(names, state.pop(key).chunk(3), strict=True):
        state[name] = part


def vit_model(vit, prefix='vit.'):
    """``ViTForImageClassification``."""
    state = dict(vit.state_dict())
    found = {f'{prefix}embeddings.cls_token': state['cls_token'],
             f'{prefix}embeddings.position_embeddings': state['pos_embed'],
             f'{prefix}pooler.dense.weight': torch.ones(WIDTH, WIDTH),
             'classifier.weight': torch.ones(5, WIDTH)}
    for kind in ('weight', 'bias'):
        of = f'{prefix}embeddings.patch_embeddings.projection.{kind}'
        found[of] = state[f'patch_embed.proj.{kind}']
        found[f'{prefix}layernorm.{kind}'] = state[f'norm.{kind}']
        for i in range(DEPTH):
            own, layer = f'blocks.{i}.', f'{prefix}encoder.layer.{i}.'
            for ours, theirs in (('norm1', 'layernorm_before'), ('norm2', 'layernorm_after'),
                                 ('attn.proj', 'attention.output.dense'),
                                 ('mlp.fc1', 'intermediate.dense'),
                                 ('mlp.fc2', 'output.dense')):
                found[f'{layer}{theirs}.{kind}'] = state[f'{own}{ours}.{kind}']
            qkv = {'all': state[f'{own}attn.qkv.{kind}']}
            split(qkv, 'all', [f'{layer}attention.attention.{part}.{kind}'
                               for part in ('query', 'key', 'value')])
            found.update(qkv)
    return found


def dinov2_model(vit):
    """``Dinov2WithRegistersModel``."""
    state = {key.replace('vit.', ''): value for key, value in vit_model(vit).items()
             if not key.startswith(('classifier', 'vit.pooler'))}
    for old, new in (('layernorm_before', 'norm1'), ('layernorm_after', 'norm2'),
                     ('intermediate.dense', 'mlp.fc1')):
        state = {key.replace(old, new): value for key, value in state.items()}
    state = {key.replace('.output.dense', '.mlp.fc2') if 'attention' not in key else key: value
             for key, value in state.items()}
    own = vit.state_dict()
    for i in range(DEPTH):
        for part in (1, 2):
            scale = own[f'blocks.{i}.ls{part}.gamma']
            state[f'encoder.layer.{i}.layer_scale{part}.lambda1'] = scale
    state['embeddings.mask_token'] = torch.zeros(1, WIDTH)
    if 'reg_token' in own:
        state['embeddings.register_tokens'] = own['reg_token']
        pos = own['pos_embed']  # theirs has a row of the class token
        state['embeddings.position_embeddings'] = torch.cat((torch.zeros(1, 1, WIDTH), pos), 1)
    return state


def dinov3_model(vit):
    """``DINOv3ViTModel``."""
    own = vit.state_dict()
    state = {'embeddings.cls_token': own['cls_token'],
             'embeddings.register_tokens': own['reg_token'],
             'embeddings.mask_token': torch.zeros(1, 1, WIDTH)}
    gated = 'blocks.0.mlp.fc1_g.weight' in own
    for kind in ('weight', 'bias'):
        state[f'embeddings.patch_embeddings.{kind}'] = own[f'patch_embed.proj.{kind}']
        state[f'norm.{kind}'] = own[f'norm.{kind}']
        for i in range(DEPTH):
            layer, of = f'layer.{i}.', f'blocks.{i}.'
            mlp = (('mlp.fc1_g', 'mlp.gate_proj'), ('mlp.fc1_x', 'mlp.up_proj')) if gated else (
                ('mlp.fc1', 'mlp.up_proj'),
            )
            for ours, theirs in (('norm1', 'norm1'), ('norm2', 'norm2'), *mlp,
                                 ('mlp.fc2', 'mlp.down_proj'),
                                 ('attn.proj', 'attention.o_proj')):
                state[f'{layer}{theirs}.{kind}'] = own[f'{of}{ours}.{kind}']
            for part in (1, 2):
                state[f'{layer}layer_scale{part}.lambda1'] = own[f'{of}gamma_{part}']
            for part in 'qv':
                if f'{of}attn.{part}_bias' in own:
                    state[f'{layer}attention.{part}_proj.bias'] = own[f'{of}attn.{part}_bias']
            qkv = {'all': own[f'{of}attn.qkv.weight']}
            split(qkv, 'all', [f'{layer}attention.{part}_proj.weight' for part in 'qkv'])
            state.update(qkv)
    return state


def same(loaded, vit, path, img):
    loaded.init_weights()
    features = vit.forward_features(img)
    found = loaded.eval()(img)[0]
    cls = features[:, :1]
    want = torch.cat((cls, features[:, vit.num_prefix_tokens :]), dim=1)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('wrappers', [(), ('state_dict',), ('model', 'net', 'module')])
def test_vits(wrappers, tmp_path):
    vit = randomized('vit_small_patch16_224', img_size=64)
    state = vit_model(vit)
    for wrapper in wrappers:
        state = {wrapper: state, 'epoch': 3}
    torch.save(state, tmp_path / 'vit.bin')
    for build in (
        lambda **kwargs: PromptedViT(ARCH, img_size=64, **kwargs),
        lambda **kwargs: TimmPromptedViT(
            'vit_small_patch16_224', img_size=64,
            model_args=dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4), **kwargs),
    ):
        model = build(out_type='raw', pretrained=str(tmp_path / 'vit.bin'))
        same(model, vit, tmp_path, torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize('name', ['vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2'])
def test_dinov2(name, tmp_path):
    vit = randomized(name, img_size=56)
    torch.save(dinov2_model(vit), tmp_path / 'vit.pth')
    registers = 4 if 'reg4' in name else 0
    for model in (
        PromptedViT(ARCH, img_size=56, patch_size=14, num_registers=registers, out_type='raw',
                    layer_scale_init_value=1.0, pretrained=str(tmp_path / 'vit.pth')),
    ):
        same(model, vit, tmp_path, torch.randn(2, 3, 56, 56))


@pytest.mark.parametrize('name', [
    'vit_small_patch16_dinov3', 'vit_small_patch16_dinov3_qkvb', 'vit_small_plus_patch16_dinov3'
])
def test_dinov3(name, tmp_path):
    vit = randomized(name)
    torch.save(dinov3_model(vit), tmp_path / 'vit.pth')
    model = TimmPromptedViT(
        name, model_args=dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4), out_type='raw',
        pretrained=str(tmp_path / 'vit.pth'),
    )
    same(model, vit, tmp_path, torch.randn(2, 3, 64, 96))
    with pytest.raises(InputError, match='a DINOv3, whose positions are rotary'):
        PromptedViT(ARCH, pretrained=str(tmp_path / 'vit.pth')).init_weights()


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


def test_what_is_not_whole_is_refused(tmp_path):
    state = vit_model(randomized('vit_small_patch16_224', img_size=64))
    layer = 'vit.encoder.layer.1.'
    other = {key.replace('vit.', 'teacher.'): value for key, value in state.items()}
    for changed, message in (
        (without(state, f'{layer}attention.attention.key.weight'), 'lacks the weight of k'),
        (without(state, f'{layer}output.dense.bias'), r'missing: layers\.1\.ffn'),
        ({**state, **other}, 'several Vision Transformers in it, below teacher, vit'),
    ):
        torch.save(changed, tmp_path / 'vit.pth')
        model = PromptedViT(ARCH, img_size=64, pretrained=str(tmp_path / 'vit.pth'))
        with pytest.raises(InputError, match=message):
            model.init_weights()


@pytest.mark.parametrize('biased', [False, True])
def test_a_file_says_which_dinov3_it_is(biased, tmp_path):
    name = 'vit_small_patch16_dinov3' + '_qkvb' * biased
    vit = timm.create_model(name, num_classes=0)
    if biased:
        torch.nn.init.ones_(vit.blocks[3].attn.q_bias)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    found = vit_of(str(tmp_path / 'vit.pth'))
    assert found.backbone == dict(type='lspt_mm.TimmPromptedViT', model=name)
    assert found.measures['embed_dims'] == 384 and found.patch_size == 16
    with pytest.raises(InputError, match=f'patch_size=14: .* is a {name}, and already determines'):
        vit_of(str(tmp_path / 'vit.pth'), patch_size=14)


def chunked(vit, size=2):
    """DINOv2 as its authors train it (``block_chunks``)."""
    state = vit.state_dict()
    return {f'blocks.{int(k.split(".")[1]) // size}.{k[7:]}' if k.startswith('blocks.') else k: v
            for k, v in state.items()}


def biases_apart(vit):
    """BEiT's form; keys have no bias."""
    state = dict(vit.state_dict())
    for i in range(DEPTH):
        q, k, v = state.pop(f'blocks.{i}.attn.qkv.bias').chunk(3)
        state.update({f'blocks.{i}.attn.q_bias': q, f'blocks.{i}.attn.v_bias': v})
    return state


def mmpretrain_model(vit, prefix='backbone.', attention=('qkv.', 'proj.')):
    state = {}
    for name, value in vit.state_dict().items():
        for old, new in (
            ('patch_embed.proj', 'patch_embed.projection'), ('mlp.fc1', 'ffn.layers.0.0'),
            ('mlp.fc2', 'ffn.layers.1'), ('norm1', 'ln1'), ('norm2', 'ln2'), ('blocks', 'layers'),
            ('attn.qkv.', f'attn.{attention[0]}'), ('attn.proj.', f'attn.{attention[1]}'),
        ):
            name = name.replace(old, new)
        state[prefix + name.replace('norm.', 'ln1.')] = value
    return {**state, 'decode_head.conv_seg.weight': torch.ones(2, 2, 1, 1)}


def mmseg_model(vit):
    return mmpretrain_model(vit, attention=('attn.in_proj_', 'attn.out_proj.'))


@pytest.mark.parametrize('trunk', ['mmpretrain', 'timm'])
@pytest.mark.parametrize('naming', [
    lambda vit: vit.state_dict(), chunked, biases_apart, mmpretrain_model, mmseg_model, vit_model,
    lambda vit: mmpretrain_model(vit, ''), lambda vit: {'model_ema': {'module': chunked(vit)}},
    lambda vit: {'teacher': {f'backbone.{k}': v for k, v in chunked(vit, 1).items()}},
    lambda vit: {'net': biases_apart(vit), 'step': 3},
], ids=['timm', 'chunks', 'biases', 'mmpretrain', 'mmseg', 'transformers', 'bare', 'ema', 'teacher',
        'net'])
def test_one_vit_in_every_naming(naming, trunk, tmp_path):
    vit = randomized('vit_small_patch16_224', img_size=64)
    for block in vit.blocks:
        torch.nn.init.zeros_(block.attn.qkv.bias[WIDTH : 2 * WIDTH])
    torch.save(naming(vit), tmp_path / 'vit.pth')
    kwargs = dict(img_size=64, out_type='raw', pretrained=str(tmp_path / 'vit.pth'))
    model = PromptedViT(ARCH, **kwargs) if trunk == 'mmpretrain' else TimmPromptedViT(
        'vit_small_patch16_224', model_args=dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4),
        **kwargs,
    )
    same(model, vit, tmp_path, torch.randn(2, 3, 64, 64))


def test_registers_of_mmpretrains_names_in_timms_vit(tmp_path):
    vit = randomized('vit_small_patch14_reg4_dinov2', img_size=56)
    path = str(tmp_path / 'vit.pth')
    torch.save(vit.state_dict(), path)
    ours = PromptedViT(ARCH, img_size=56, patch_size=14, num_registers=4, out_type='raw',
                       layer_scale_init_value=1.0, pretrained=path)
    ours.init_weights()
    with torch.no_grad():
        ours.pos_embed[:, 0] += 1.0  # in timm's form it is a part of the class token
    torch.save(ours.state_dict(), path)
    model = TimmPromptedViT(
        'vit_small_patch14_reg4_dinov2', img_size=56, out_type='raw', pretrained=path,
        model_args=dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4),
    )
    model.init_weights()
    img = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(model.eval()(img)[0], ours.eval()(img)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('key', 'message'), [
    ('base_model.model.blocks.0.attn.qkv.lora_A.default.weight', 'LoRA .* merge it first'),
    ('lora.0.down', 'LoRA .*merge_lora'),
    ('layers.0.blocks.0.attn.relative_position_bias_table', r'a model of stages \(Swin'),
    ('stages.0.downsample.0.weight', r'a model of stages \(Swin, ConvNeXt'),
    ('layer1.0.conv1.weight', 'a ResNet'),
    ('blocks.0.attn.relative_position_bias_table', 'a ViT of relative positions .BEiT'),
    ('image_encoder.blocks.0.attn.rel_pos_h', 'a ViT of relative positions'),
    ('vision_model.embeddings.patch_embedding.weight', 'a CLIP or SigLIP .* take timm'),
])
def test_other_models_are_refused_by_name(key, message, tmp_path):
    path = str(tmp_path / 'other.pth')
    torch.save({'patch_embed.proj.weight': torch.ones(48, 3, 16, 16), key: torch.ones(2)}, path)
    for model in (PromptedViT(ARCH, pretrained=path),
                  TimmPromptedViT('vit_tiny_patch16_224', pretrained=path)):
        with pytest.raises(InputError, match=f'other.pth: {message}'):
            model.init_weights()


def with_a_gap(vit):
    return without_block(chunked(vit, 1), 'blocks.1.')


def without_block(state, start):
    return {name: value for name, value in state.items() if not name.startswith(start)}


def restarted(vit):
    """Chunks of two blocks, numbered anew in each."""
    state = chunked(vit)
    return {name.replace('blocks.1.2.', 'blocks.1.0.'): value for name, value in state.items()}


def two_names(vit):
    state = dict(vit.state_dict())
    return {**state, 'layers.0.ln1.weight': state['blocks.0.norm1.weight'] + 1}


def two_biases(vit):
    return {**biases_apart(vit), 'blocks.0.attn.qkv.bias': torch.ones(3 * WIDTH)}


@pytest.mark.parametrize(('damage', 'message'), [
    (with_a_gap, 'a block is missing among its chunks'),
    (lambda vit: without_block(restarted(vit), 'blocks.0.1.'), None),
    (two_names, 'under another name as well|without a place'),
    (two_biases, 'q_bias beside qkv.bias'),
    (lambda vit: without_block(biases_apart(vit), 'blocks.1.attn.v_bias'), 'q_bias without v_bias'),
    (lambda vit: {}, 'no Vision Transformer in it'),
])
def test_damaged_files_are_refused(damage, message, tmp_path):
    path = str(tmp_path / 'vit.pth')
    torch.save(damage(randomized('vit_small_patch16_224', img_size=64)), path)
    small = dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4)
    for model in (
        PromptedViT(ARCH, img_size=64, pretrained=path),
        TimmPromptedViT('vit_small_patch16_224', img_size=64, model_args=small, pretrained=path),
    ):
        with pytest.raises(InputError, match=f'vit.pth: .*{message or "missing"}'):
            model.init_weights()


def test_chunks_that_number_their_blocks_anew(tmp_path):
    vit = randomized('vit_small_patch16_224', img_size=64)
    torch.save(restarted(vit), tmp_path / 'vit.pth')
    model = PromptedViT(ARCH, img_size=64, out_type='raw', pretrained=str(tmp_path / 'vit.pth'))
    same(model, vit, tmp_path, torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(('content', 'message'), [
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'a pointer of Git LFS'),
    (b'\n<!DOCTYPE html><html>', 'a web page'),
])
def test_what_a_download_may_be(content, message, tmp_path):
    (tmp_path / 'vit.pth').write_bytes(content)
    with pytest.raises(InputError, match=message):
        PromptedViT(ARCH, pretrained=str(tmp_path / 'vit.pth')).init_weights()


def test_the_source_as_mmengine_names_it(tmp_path):
    vit = randomized('vit_small_patch16_224', img_size=64)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    small = dict(img_size=64, model_args=dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4))
    for path in (tmp_path / 'vit.pth', tmp_path / 'absent.pth'):
        model = TimmPromptedViT('vit_small_patch16_224', out_type='raw', **small,
                                init_cfg=dict(type='Pretrained', checkpoint=str(path)))
        if path.is_file():
            same(model, vit, tmp_path, torch.randn(1, 3, 64, 64))
        else:
            with pytest.raises(InputError, match='absent.pth'):
                model.init_weights()


def test_blocks_without_an_attention_of_that_name_load(tmp_path):
    small = dict(depth=DEPTH, embed_dim=WIDTH, num_heads=4)
    name = 'vit_pwee_patch16_reg1_gap_256'
    vit = timm.create_model(name, num_classes=0, dynamic_img_size=True, **small).eval()
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    model = TimmPromptedViT(name, model_args=small, out_type='pooled',
                            pretrained=str(tmp_path / 'vit.pth'))
    model.init_weights()
    img = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.eval()(img)[0], vit(img))


@pytest.mark.parametrize(('name', 'content'), [
    ('config.json', {'architecture': 'x', 'pretrained_cfg': {'mean': [0.5] * 3, 'std': [0.2] * 3}}),
    ('preprocessor_config.json', {'image_mean': [0.5] * 3, 'image_std': [0.2] * 3}),
])
def test_the_normalisation_beside_a_file(name, content, tmp_path):
    vit = timm.create_model('vit_tiny_patch16_224', num_classes=0)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    assert vit_of(str(tmp_path / 'vit.pth')).mean == IMAGENET_MEAN
    (tmp_path / name).write_text(json.dumps(content))
    found = vit_of(str(tmp_path / 'vit.pth'))
    assert found.mean == pytest.approx([127.5] * 3) and found.std == pytest.approx([51] * 3)


def test_a_sha256_changes_nothing_but_the_check(tmp_path, monkeypatch):
    vit = timm.create_model('vit_tiny_patch16_224', num_classes=0)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    (tmp_path / 'config.json').write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}')
    sha256 = hashlib.sha256((tmp_path / 'vit.pth').read_bytes()).hexdigest()
    monkeypatch.setenv('HOME', str(tmp_path))
    plain = str(tmp_path / 'vit.pth')
    for source in (f'{plain}#sha256={sha256}', '~/vit.pth', f'~/vit.pth#sha256={sha256}'):
        assert vit_of(source) == vit_of(plain)._replace(source=source)
        assert get_pretraining(source) == get_pretraining(plain)._replace(pretrained=source)
    assert vit_of(plain).mean == (127.5,) * 3 and vit_of(plain).arch == 'deit-t'
    with pytest.raises(InputError, match=f'its sha256 is {sha256}'):
        vit_of(f'{plain}#sha256={"0" * 64}')


@pytest.mark.parametrize('content', [
    '{} // c', '[]', '{"pretrained_cfg": null}', '{"mean": [0.5], "std": [0.5]}',
    '{"mean": [123.0, 1, 1], "std": [1, 1, 1]}', '{"mean": ["a", 1, 1], "std": [1, 1, 1]}',
])
def test_other_files_beside_it(content, tmp_path):
    vit = timm.create_model('vit_tiny_patch16_224', num_classes=0)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    (tmp_path / 'config.json').write_text(content)
    assert vit_of(str(tmp_path / 'vit.pth')).mean == IMAGENET_MEAN


def test_dinov3_of_satellite_images(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(vits, 'timm_vit', lambda name: seen.append(name) or vit_of('a.pth'))
    with torch.device('meta'):
        vit = timm.create_model('vit_large_patch16_dinov3', num_classes=0)
    state = {k: torch.zeros(()).expand(v.shape) for k, v in vit.state_dict().items()}
    monkeypatch.setattr(vits, 'read_checkpoint', lambda source: state)
    path = tmp_path / 'dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth'
    path.touch()
    vit_of(str(path))
    assert seen == ['timm:vit_large_patch16_dinov3.sat493m']
