"""TimmPromptedViT against timm's own forward passes, its two paths against each other."""

import pytest
import timm
import torch
from method_table import INSIDE, METHODS, NO_TOKENS
from mmengine.model import Sequential
from vit_oracles import weighted_sum

from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.records import record_of
from lspt_mm.models import PromptedViT, TimmPromptedViT, timm_block
from lspt_mm.models.timm_block import agrees

SMALL = dict(depth=3, embed_dim=48, num_heads=4)
#: A row for each kind of class, block, attention and rotary embedding: name, arguments.
TRUNKS = {
    'vit_small_patch16_dinov3': {},
    'vit_small_patch16_dinov3_qkvb': {},
    'vit_small_plus_patch16_dinov3': {},
    'vit_base_patch16_sapiens2': dict(num_kv_heads=2),
    'vit_small_patch14_reg4_dinov2': {},
    'vit_giant_patch14_reg4_dinov2': {},
    'vit_base_patch16_siglip_224': {},
    'vit_base_patch16_siglip_gap_224': {},
    'vit_pe_core_tiny_patch16_384': {},
    'vit_pe_spatial_tiny_patch16_512': {},
    'eva02_tiny_patch14_224': {},
    'eva02_base_patch14_224': {},
    'eva02_enormous_patch14_clip_224': {},
    'vit_base_patch16_clip_224': {},
    'aimv2_large_patch14_224': {},
    'beit3_base_patch16_224': {},
    'deit3_small_patch16_224': {},
    'deit_small_distilled_patch16_224': {},
    'vit_base_patch16_radio_v3': {},
    'vit_small_patch16_rope_mixed_224': {},
    'vit_medium_patch16_rope_reg1_gap_256': {},
    'vit_small_patch16_18x2_224': {},
    'vit_dpwee_patch16_reg1_gap_256': {},
}
WHOLE = {'eva02_enormous_patch14_clip_224', 'vit_small_patch16_18x2_224',
         'vit_dpwee_patch16_reg1_gap_256'}
WHITENED = dict(type='BilinearPrompt', num_tokens=3, rank=2, start='whiten')
every_trunk = pytest.mark.parametrize('name', TRUNKS)


def build(name, seed=0, grid=4, dtype=torch.float64, **kwargs):
    """A tiny model in which no scale is near 0 and no bias is 0."""
    patch = int((name + '_patch16').partition('_patch')[2][:2])
    torch.manual_seed(seed)  # for what a method keeps fixed
    model = TimmPromptedViT(
        name, img_size=grid * patch, model_args={**SMALL, **TRUNKS[name]}, **kwargs
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise + 0.7 if parameter.dim() == 1 else 0.2 * noise)
    return model.to(dtype).eval()


def images(model, rows=4, columns=6, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    high, wide = model.patch_size
    x = torch.randn(batch, 3, rows * high, columns * wide, generator=generator)
    return x.to(next(model.parameters()))


def generic(model):
    model._apart = (False,) * model.num_layers
    return model


@every_trunk
def test_zero_prompts_are_timms_own(name):
    model = build(name, out_type='featmap', out_indices=(0, 1, 2), final_norm=False)
    assert model._apart == ((name not in WHOLE),) * 3
    img = images(model)
    with torch.no_grad():
        want = model.vit.forward_intermediates(
            img, indices=3, intermediates_only=True, norm=False
        )
        for a, b in zip(model(img), want, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        for a, b in zip(generic(model)(img), want, strict=True):
            assert torch.equal(a, b)


@every_trunk
def test_out_types(name):
    """What timm gives after its final norm and pooling; the last block's cut changes nothing."""
    model = build(name, out_type='raw', prompter=METHODS['vpt-deep'])
    prefix, cls = model.num_prefix_tokens, model.num_extra_tokens
    img = images(model)
    with torch.no_grad():
        (plain,) = model(img, prompter=False)
        features = model.vit.forward_features(img)
        if isinstance(model.vit.norm, torch.nn.Identity):  # the norm comes after a mean
            features = model.vit.fc_norm(features)
        kept = torch.cat((features[:, :cls], features[:, prefix:]), dim=1)
        torch.testing.assert_close(plain, kept, rtol=1e-12, atol=1e-12)
        (raw,) = model(img)
        assert (raw - plain).abs().max() > 1e-4
        patches = raw[:, cls:]
        model.out_type = 'featmap'
        torch.testing.assert_close(
            model(img)[0], patches.mT.unflatten(2, (4, 6)), rtol=1e-12, atol=1e-12
        )
        if cls:
            model.out_type = 'cls_token'
            torch.testing.assert_close(model(img)[0], raw[:, 0], rtol=1e-12, atol=1e-12)
        if 'distilled' in name:
            return
        model.out_type = 'pooled'
        pooled = model.vit.forward_head(model.vit.forward_features(img), pre_logits=True)
        torch.testing.assert_close(model(img, prompter=False)[0], pooled, rtol=1e-12, atol=1e-12)


@every_trunk
def test_images_of_other_sizes_and_one_by_one(name):
    model = build(name, out_type='featmap', prompter=METHODS['lspt'])
    high, wide = model.patch_size
    with torch.no_grad():
        for size in ((high * 4, wide * 4), (high * 7, wide * 2), (high * 3 - 5, wide * 5 + 1)):
            img = torch.randn(2, 3, *size).double()
            (both,) = model(img)
            assert both.shape[2:] == (-(-size[0] // high), -(-size[1] // wide))
            for one, out in zip(img, both, strict=True):
                torch.testing.assert_close(model(one[None])[0][0], out, rtol=1e-11, atol=1e-11)
        padded = torch.nn.functional.pad(img, (0, -size[1] % wide, 0, -size[0] % high))
        torch.testing.assert_close(model(padded)[0], both, rtol=0, atol=0)


def results(model, img, out_type):
    model.out_type = out_type
    model.train()
    torch.manual_seed(0)
    outs = model(img)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [*outs, *torch.autograd.grad(weighted_sum(outs), trained, allow_unused=True)]


@pytest.mark.parametrize(
    ('name', 'method'),
    [*(('vit_small_patch14_reg4_dinov2', name) for name in METHODS
       if name not in NO_TOKENS | INSIDE),  # no path knows the other's part
     *((name, method) for method in ('vpt', 'vpt-deep', 'lspt', 'vapt', 'pro-vpt') for name in (
         'vit_small_patch16_dinov3_qkvb', 'vit_base_patch16_sapiens2', 'eva02_base_patch14_224',
         'vit_small_patch16_rope_mixed_224', 'vit_pe_core_tiny_patch16_384',
         'vit_small_plus_patch16_dinov3', 'aimv2_large_patch14_224',
     ))],
)
def test_both_paths_agree(name, method):
    """Outputs and gradients, in train mode."""
    kwargs = dict(prompter=METHODS[method], out_type='featmap')
    try:
        model = build(name, **kwargs)
    except ValueError as error:
        if METHODS[method]['type'] == 'DAVPT':  # no class token, or keys of another width
            assert 'class_weight=0.01: expected 0 here' in str(error)
        else:  # norms of queries and keys, keys and values shared by heads
            assert any(word in str(error) for word in ('whiten', 'project', 'shares values'))
            assert name == 'vit_base_patch16_sapiens2'
        return
    img = images(model)
    for out_type in ('featmap', 'avg_tokens'):
        want = results(generic(build(name, **kwargs)), img, out_type)
        found = results(model, img, out_type)
        for a, b in zip(found, want, strict=True):
            if a is None or b is None:
                assert a is b is None
                continue
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', [
    'vit_small_patch16_dinov3_qkvb', 'vit_small_patch14_reg4_dinov2', 'eva02_base_patch14_224',
])
def test_a_temperature_divides_the_queries(name):
    """As queries do whose projection is divided."""
    model = build(name, prompter=METHODS['gated'], out_type='featmap')
    img, temperatures = images(model), torch.tensor([1.7, 0.6, 2.3], dtype=torch.float64)
    with torch.no_grad():
        model.prompter.temperatures.copy_(temperatures)
        found = model(img)[0]
        model.prompter.temperatures.fill_(1.0)
        for block, value in zip(model.vit.blocks, temperatures, strict=True):
            attn = block.attn
            if attn.qkv is None:
                queries = [attn.q_proj.weight, attn.q_proj.bias]
            else:
                width = attn.qkv.out_features // 3
                own = getattr(attn, 'q_bias', None)
                queries = [attn.qkv.weight[:width],
                           attn.qkv.bias[:width] if own is None else own]
            for part in queries:
                part /= value
        torch.testing.assert_close(model(img)[0], found, rtol=1e-11, atol=1e-11)


def test_methods_that_a_block_cannot_serve_are_refused():
    for name in NO_TOKENS | INSIDE:
        with pytest.raises(ValueError, match=r'block \d of this ViT can only be run as a whole'):
            build('vit_small_patch16_18x2_224', prompter=METHODS[name])
    with pytest.raises(ValueError, match=r'whiten block 1 .* it can only be run as a whole'):
        build('vit_small_patch16_18x2_224', prompter=WHITENED)
    for name in ('vipamin', 'nsp2'):
        with pytest.raises(ValueError, match=r'block 1 .* can only be run as a whole'):
            build('vit_small_patch16_18x2_224', prompter=METHODS[name])
    for prompter in (WHITENED, METHODS['nsp2']):
        with pytest.raises(ValueError, match='queries and keys pass a norm'):
            build('vit_base_patch16_sapiens2', prompter=prompter)
    with pytest.raises(ValueError, match='block 1 of this ViT shares values among heads'):
        build('vit_base_patch16_sapiens2', prompter=METHODS['vipamin'])


@pytest.mark.parametrize('method', ['none', 'vpt-deep', 'lspt', 'gated'])
def test_the_same_weights_in_mmpretrains_vit(method, tmp_path):
    """To the last bit, at the native size in float32."""
    own = build('vit_small_patch14_reg4_dinov2', prompter=METHODS.get(method), out_type='featmap',
                out_indices=(1, 2), dtype=torch.float32)
    torch.save(own.vit.state_dict(), tmp_path / 'vit.pth')
    arch = dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=192)
    other = PromptedViT(
        arch, img_size=56, patch_size=14, num_registers=4, layer_scale_init_value=1.0,
        prompter=METHODS.get(method), out_type='featmap', out_indices=(1, 2),
        pretrained=str(tmp_path / 'vit.pth'),
    )
    other.init_weights()
    if own.prompter is not None:
        other.prompter.load_state_dict(own.prompter.state_dict())
    img = images(own, 4, 4)
    for a, b in zip(own(img), other.eval()(img), strict=True):
        assert torch.equal(a, b)


def test_attention_that_we_read_wrongly_runs_as_a_whole(monkeypatch, caplog):
    def drifted(self, x, *args, forward=timm.layers.attention.Attention.forward, **kwargs):
        return forward(self, x, *args, **kwargs) * 1.01

    monkeypatch.setattr(timm.layers.attention.Attention, 'forward', drifted)
    with caplog.at_level('WARNING'):
        model = build('vit_small_patch14_reg4_dinov2', out_type='raw', final_norm=False)
    assert model._apart == (False,) * 3
    img = images(model)
    want = model.vit.forward_intermediates(
        img, indices=[2], intermediates_only=True, norm=False, output_fmt='NLC'
    )
    assert torch.equal(model(img)[0][:, 1:], want[0])


def test_the_check_sees_a_wrong_bias_and_a_wrong_rotation(monkeypatch):
    block = build('vit_small_patch16_dinov3_qkvb').block(1)
    assert agrees(block, 5, rotary=True)
    with monkeypatch.context() as patch:
        patch.setattr(timm_block, '_packed_bias', lambda attn: None)
        assert not agrees(block, 5, rotary=True)
    block.rotate = lambda x, rope, leading: x
    assert not agrees(block, 5, rotary=True)


def test_a_wrong_bias_is_seen_before_weights_are_read(monkeypatch):
    """timm's biases are 0 then."""
    small = dict(model_args=SMALL, img_size=64)
    assert all(TimmPromptedViT('vit_small_patch16_224', **small)._apart)
    right = timm_block._packed_bias
    monkeypatch.setattr(timm_block, '_packed_bias', lambda attn: right(attn).roll(48))
    model = TimmPromptedViT('vit_small_patch16_224', **small)
    assert not any(model._apart)
    assert not any(block.attn.qkv.bias.any() for block in model.vit.blocks)  # as they were


@pytest.mark.parametrize(('tune', 'trained'), [
    ('nothing', ()), ('bias', ('bias',)), ('partial-1', ('vit.blocks.2.', 'vit.norm.')),
    ('full', ('vit.',)),
])
def test_what_is_trained(tune, trained):
    model = build('vit_small_patch16_dinov3_qkvb', tune=tune)
    for name, parameter in model.named_parameters():
        want = name.startswith(trained or '-') or (tune == 'bias' and name.endswith('bias'))
        assert parameter.requires_grad == want, name
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert ('vit.blocks.0.attn.q_bias' in names) == (tune in ('bias', 'full'))
    model.train()
    rope = model.vit.rope
    assert rope.training == (tune == 'full')
    assert model.get_layer_depth('backbone.vit.blocks.1.attn.proj.weight', 'backbone.') == (2, 5)
    for name in ('head.fc.weight', 'backbone.prompter.prompts', 'backbone.lora.0.up'):
        assert model.get_layer_depth(name, 'backbone.') == (4, 5)


def test_initialising_leaves_the_vit_alone():
    model = build('vit_small_patch16_dinov3')
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    Sequential(model).init_weights()  # as a segmentor does
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(model='vit_small_patch16_dinov4'), r"timm [\d.]+ has no model of this name"),
    (dict(model=torch.nn.Linear(2, 2)), r"^model: got Linear, expected timm's name .*pretrained="),
    (dict(model='resnet18'), 'takes no dynamic_img_size.* or an Eva'),
    (dict(model='naflexvit_base_patch16_gap'), 'takes no dynamic_img_size.* or an Eva'),
    (dict(model='beit_base_patch16_224'), 'takes no dynamic_img_size.* or an Eva'),
    (dict(model='vit_small_patch16_siglip_224'), 'no model of this name'),
    (dict(model='vit_base_patch16_siglip_224', out_type='cls_token'), 'has no class token'),
    (dict(model='vit_small_patch16_dinov3', out_type='avg_featmap'), "out_type='avg_featmap'"),
    (dict(model='vit_small_patch16_dinov3', out_indices=3), 'counted from 0 to 2'),
    (dict(model='vit_small_patch16_dinov3', model_args=dict(num_classes=3)), 'cannot be given'),
    (dict(model='vit_small_patch16_dinov3', model_args=dict(wide=3)), 'timm says'),
])
def test_refused(arguments, message):
    arguments.setdefault('model_args', dict(depth=3, embed_dim=48, num_heads=4))
    if arguments['model'] == 'resnet18':
        arguments['model_args'] = {}
    with pytest.raises(ValueError, match=message):
        TimmPromptedViT(**arguments)


@every_trunk
def test_checkpoints_of_every_kind(name):
    """Whole ones in a fresh model, prompt-only ones in a model of the same ViT."""
    prompter = dict(type='LSPT', num_tokens=2)
    model = build(name, prompter=prompter, out_type='avg_patches')
    img = images(model)
    want = model(img)[0]
    fresh = build(name, seed=4, prompter=prompter, out_type='avg_patches')
    assert not torch.allclose(fresh(img)[0], want)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(img)[0], want)
    small = strip_base_weights(model.state_dict(), '', record_of(model, 'somewhere.pth'))
    assert {key.split('.')[0] for key in small} <= {'prompter', 'base_record', 'vit'}
    other = build(name, seed=5, prompter=prompter, out_type='avg_patches')
    other.vit.load_state_dict(model.vit.state_dict())
    other.weights = other.weights._replace(source='somewhere.pth', modified=())
    other.load_state_dict(dict(small))
    assert torch.equal(other(img)[0], want)


@pytest.mark.slow
def test_every_vit_of_timm_runs_or_is_refused_by_name():
    begins = ('vit_', 'eva', 'beit', 'deit', 'aimv2', 'flexivit', 'naflex', 'samvit', 'resnet18')
    built = refused = 0
    for name in timm.list_models():
        if not name.startswith(begins):
            continue
        try:
            with torch.device('meta'):
                TimmPromptedViT(name, out_type='avg_patches')
            built += 1
        except ValueError as error:
            assert f"model={name!r}: " in str(error) and 'VisionTransformer or an Eva' in str(error)
            refused += 1
    assert built >= 254 and refused >= 30  # of timm 1.0.31


@pytest.mark.parametrize('tune', ['bias', 'partial-1', 'full', 'prompts+bias'])
@pytest.mark.parametrize('final_norm', [True, False, 'identity'])
@pytest.mark.parametrize(
    ('name', 'out_type'),
    [
        ('vit_small_patch16_dinov3', 'featmap'),
        ('vit_base_patch16_siglip_224', 'featmap'),
        ('vit_base_patch16_siglip_224', 'pooled'),
        ('vit_pe_core_tiny_patch16_384', 'cls_token'),
        ('vit_medium_patch16_rope_reg1_gap_256', 'avg_patches'),
    ],
)
def test_every_tuned_parameter_gets_a_gradient(name, out_type, final_norm, tune):
    # A trainable parameter without one stops distributed training.
    if out_type == 'pooled' and final_norm is not True:
        with pytest.raises(ValueError, match=r"final_norm=.*'pooled' is timm's pooling"):
            build(name, out_type=out_type, final_norm=final_norm, tune=tune)
        return
    prompter = dict(type='VPT', num_tokens=2, deep=True)
    model = build(name, prompter=prompter, out_type=out_type, final_norm=final_norm, tune=tune)
    weighted_sum(model.train()(images(model))).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
