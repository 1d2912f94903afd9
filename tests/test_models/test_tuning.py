"""What is trained, what is frozen, and what train mode means for each."""

import pytest
import torch
from method_table import IN_LOSSES, METHODS, OF_THE_IMAGE, has_output
from vit_oracles import ARCH, build, images, weighted_sum

from lspt_mm.models import PromptedViT, TimmPromptedViT

DEPTH = ARCH['num_layers']
LSPT = METHODS['lspt']
PROMPTER = {
    'prompter.prompts',
    'prompter.lstm.weight_ih',
    'prompter.lstm.weight_hh',
    'prompter.lstm.bias_ih',
    'prompter.lstm.bias_hh',
}
LAYER = ('ln1', 'attn.qkv', 'attn.proj', 'ln2', 'ffn.layers.0.0', 'ffn.layers.1')
LINEAR_AND_NORMS = ['patch_embed.projection', 'ln1'] + [
    f'layers.{i}.{m}' for i in range(DEPTH) for m in LAYER
]
BIASES = {f'{m}.bias' for m in LINEAR_AND_NORMS}
VIT = {'cls_token', 'pos_embed'} | BIASES | {f'{m}.weight' for m in LINEAR_AND_NORMS}


def last_blocks(k):
    modules = [f'layers.{i}.{m}' for i in range(DEPTH - k, DEPTH) for m in LAYER] + ['ln1']
    return {f'{m}.{p}' for m in modules for p in ('weight', 'bias')}


def biases(*modules):
    return {f'layers.{i}.{m}.bias' for i in range(DEPTH) for m in modules}


TUNED = {
    'prompts': PROMPTER,
    'nothing': set(),
    'bias': BIASES,
    'prompts+bias': PROMPTER | BIASES,
    'bias-proj': biases('attn.proj'),
    'bias-norm1-fc1': biases('ln1', 'ffn.layers.0.0'),
    'prompts+bias-v-proj-fc2-norm2': PROMPTER
    | biases('attn.qkv', 'attn.proj', 'ffn.layers.1', 'ln2'),
    'partial-1': last_blocks(1),
    'partial-2': last_blocks(2),
    f'partial-{DEPTH}': last_blocks(DEPTH),
    'full': VIT | PROMPTER,
}


def trainable(model):
    return {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('tune', TUNED)
def test_trainable_names(tune):
    assert trainable(build(LSPT, tune=tune)) == TUNED[tune]


@pytest.mark.parametrize('tune', TUNED)
def test_trainable_names_without_prompter(tune):
    assert trainable(build(tune=tune)) == TUNED[tune] - PROMPTER


@pytest.mark.parametrize('tune', TUNED)
def test_names_survive_train_and_init_weights(tune):
    model = build(LSPT, tune=tune)
    model.init_weights()
    model.train().eval().train(True)
    assert trainable(model) == TUNED[tune]


@pytest.mark.parametrize('tune', TUNED)
def test_only_tuned_parameters_change(tune):
    model = build(LSPT, tune=tune, out_type='raw').train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    if parameters:
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        for step in range(3):
            optimizer.zero_grad()
            weighted_sum(model(images(seed=step))).backward()
            optimizer.step()
    else:
        assert not model(images())[0].requires_grad
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == TUNED[tune]


GRADIENTS = dict(
    METHODS,
    **{
        f'{cell}-{start}': {
            'type': 'LSPT', 'num_tokens': 2, 'cell': cell, 'rank': 2, 'start_block': start,
        }
        for cell in ('full', 'low-rank', 'diagonal')
        for start in (1, DEPTH - 1, DEPTH)
    },
    **{
        f'no-lpc-{start}': {
            'type': 'LSPT', 'num_tokens': 2, 'lpc': False, 'gspc': False, 'start_block': start,
        }
        for start in (1, DEPTH)
    },
)


@pytest.mark.parametrize('tune', ['bias', 'partial-1', 'full'])
def test_a_norm_that_no_output_passes_is_not_trained(tune):
    model = build(tune=tune, final_norm='identity').train()
    weighted_sum(model(images())).backward()
    assert not any(p.requires_grad for p in model.ln1.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('name', 'tune'), [(name, 'full' if name in METHODS else 'prompts') for name in GRADIENTS]
)
def test_every_tuned_parameter_gets_a_gradient(name, tune):
    # A trainable parameter without one stops distributed training.
    model = build(GRADIENTS[name], tune=tune).train()
    weighted_sum(model(images())).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter_name not in IN_LOSSES:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
            assert parameter.grad.ne(0).any(), parameter_name
        else:
            assert parameter.grad is None, parameter_name


@pytest.mark.parametrize(
    ('name', 'out_type'),
    [
        (name, out_type)
        for name in ('vpt', 'vpt-deep', 'vapt', 'rein', 'lspt')
        for out_type in ('raw', 'featmap', 'avg_featmap', 'avg_tokens', 'avg_prompts')
        if has_output(name, out_type)
    ],
)
def test_every_tuned_parameter_gets_a_gradient_from_any_output(name, out_type):
    model = build(METHODS[name], tune='full', out_type=out_type).train()
    weighted_sum(model(images())).backward()
    missing = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert missing <= IN_LOSSES


@pytest.mark.parametrize('name', METHODS)
def test_init_weights_leaves_the_prompter_alone(name):
    model = build(METHODS[name])
    before = {k: v.clone() for k, v in model.prompter.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.prompter.state_dict().items())


# ---- some of the biases -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'qkv'),
    [
        ('vit_tiny_patch16_224', {'q': ['qkv.bias'], 'k': ['qkv.bias'], 'v': ['qkv.bias']}),
        ('eva02_tiny_patch14_224', {'q': ['q_bias'], 'v': ['v_bias'], 'k': None}),
        ('eva02_base_patch14_224', {'q': ['q_proj.bias'], 'v': ['v_proj.bias'], 'k': None}),
        ('vit_small_plus_patch16_dinov3', {'q': None, 'k': None, 'v': None}),
    ],
)
def test_some_biases_of_timms_vits(name, qkv):
    size = dict(img_size=28 if 'patch14' in name else 32)

    def leaves(tune):
        model = TimmPromptedViT(name, model_args=dict(depth=2), tune=tune, **size)
        return {n.removeprefix('vit.blocks.') for n in trainable(model)}

    for bias, ends in qkv.items():
        if ends is None:
            with pytest.raises(ValueError, match='this ViT have none of these biases'):
                leaves(f'bias-{bias}')
            assert leaves(f'bias-{bias}-proj') == leaves('bias-proj')
        else:
            assert leaves(f'bias-{bias}') == {f'{i}.attn.{end}' for i in (0, 1) for end in ends}
    found = leaves('bias-norm1-fc1-fc2-norm2-proj')
    for part in ('norm1.bias', 'norm2.bias', 'mlp.fc2.bias', 'attn.proj.bias'):
        assert {f'0.{part}', f'1.{part}'} <= found
    assert any('mlp.fc1' in n for n in found) and all(n.endswith('bias') for n in found)


@pytest.mark.parametrize('tune', ['bias-', 'bias-x', 'bias-v-', 'prompts+bias-V', 'prompts-v'])
def test_unknown_biases(tune):
    with pytest.raises(ValueError, match='bias-NAME-NAME'):
        build(tune=tune)


def test_a_bias_that_the_vit_lacks():
    with pytest.raises(ValueError, match="bias-v'.*the blocks of this ViT have none of these"):
        build(tune='bias-v', qkv_bias=False)


def test_the_biases_of_da_vpt_plus():
    # The paper's 36,864 and the biases of queries and keys, which one tensor holds with v's.
    with torch.device('meta'):
        vit = PromptedViT('base', tune='bias-v-proj-fc2-norm2')
    trained = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    assert trained == 36_864 + 2 * 12 * 768


def test_a_bias_of_all_keys_changes_no_output():
    model = build(METHODS['vpt-deep'], out_type='raw')
    before = model(images())[0]
    width = ARCH['embed_dims']
    with torch.no_grad():
        for layer in model.layers:
            layer.attn.qkv.bias[width : 2 * width] += torch.randn(width)
    torch.testing.assert_close(model(images())[0], before, rtol=1e-10, atol=1e-10)


# ---- modes ------------------------------------------------------------------------------------


def modes(model):
    return {n: m.training for n, m in model.named_modules()}


@pytest.mark.parametrize('tune', TUNED)
def test_frozen_modules_stay_in_eval_mode(tune):
    model = build(LSPT, tune=tune, drop_path_rate=0.3, drop_rate=0.1)
    assert model.train() is model
    mode = modes(model)
    assert mode.pop('') is True  # with_cp and mmengine ask the backbone itself
    tuned = TUNED[tune]
    for name, training in mode.items():
        below = any(n.startswith(name + '.') for n in tuned)
        parameters = any(n.startswith(name + '.') for n in VIT | PROMPTER)
        if parameters:
            assert training == below, name
        elif tune in ('prompts', 'nothing'):
            assert not training, name  # dropout and drop path of the frozen ViT
        elif tune == 'full':
            assert training, name


@pytest.mark.parametrize('tune', TUNED)
def test_eval_means_all_of_it(tune):
    model = build(LSPT, tune=tune)
    model.train()
    assert model.eval() is model
    assert model.train(False) is model
    assert not any(modes(model).values())


def test_partial_leaves_drop_path_of_frozen_blocks_off():
    model = build(LSPT, tune='partial-1', drop_path_rate=0.3).train()
    assert not any(m.training for m in model.layers[0].modules())
    assert all(m.training for m in model.layers[-1].modules())


@pytest.mark.parametrize('name', ['vpt', 'lspt'])
def test_frozen_backbone_trains_without_noise(name):
    model = build(METHODS[name], tune='prompts', drop_path_rate=0.3, drop_rate=0.3).train()
    assert torch.equal(model(images(8))[0], model(images(8))[0])


@pytest.mark.parametrize('drop', [{'drop_path_rate': 0.5}, {'drop_rate': 0.3}], ids=str)
def test_full_tuning_trains_with_noise(drop):
    model = build(LSPT, tune='full', **drop).train()
    assert not torch.equal(model(images(8))[0], model(images(8))[0])
    model.eval()
    assert torch.equal(model(images(8))[0], model(images(8))[0])


@pytest.mark.parametrize('name', METHODS)
def test_prompt_dropout_in_train_mode_only(name):
    cfg = dict(METHODS[name], dropout=0.5)
    model, plain = build(cfg).train(), build(METHODS[name])
    assert not torch.equal(model(images())[0], model(images())[0])
    model.eval()
    assert torch.equal(model(images())[0], plain(images())[0])


@pytest.mark.parametrize('tune', ['nothing', 'bias', 'partial-1'])
def test_no_prompt_dropout_where_prompts_are_frozen(tune):
    model = build(dict(LSPT, dropout=0.5), tune=tune).train()
    assert torch.equal(model(images())[0], model(images())[0])


@pytest.mark.parametrize('name', [name for name in METHODS if name not in OF_THE_IMAGE])
def test_one_dropout_mask_for_the_batch(name):
    model = build(dict(METHODS[name], dropout=0.5)).train()
    same = images(1).expand(4, -1, -1, -1)
    out = model(same)[0]
    for other in out[1:]:
        torch.testing.assert_close(other, out[0], rtol=1e-12, atol=1e-12)


def test_dropout_scales_what_it_keeps():
    model = build(dict(LSPT, dropout=0.25)).train()
    torch.manual_seed(0)
    prompts, _ = model.prompter.first(
        torch.zeros(1, 4, ARCH['embed_dims'], dtype=torch.float64), (2, 2)
    )
    raw = model.prompter.prompts[:1]
    kept = prompts.ne(0)
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(prompts[kept], raw[kept] / 0.75)
