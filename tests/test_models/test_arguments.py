"""Bad values are refused at construction, by name."""

import math

import numpy as np
import pytest
from method_table import METHODS
from vit_oracles import ARCH, IMG, PATCH

from lspt_mm.checkpoints.records import META, record_of, records_in_meta, records_json
from lspt_mm.models import LSPT, PromptedViT

WIDTH, DEPTH = ARCH['embed_dims'], ARCH['num_layers']

#: Arguments every method has, then those of one method.
BAD_FOR_ALL = [
    ('num_tokens', 0),
    ('num_tokens', -1),
    ('num_tokens', 2.5),
    ('num_tokens', True),
    ('num_tokens', 'a'),
    ('num_tokens', None),
    ('num_tokens', 10**30),
    ('dropout', 1.0),
    ('dropout', -0.1),
    ('dropout', math.nan),
    ('dropout', 'x'),
    ('dropout', None),
    ('start_block', 0),
    ('start_block', -1),
    ('start_block', 1.5),
    ('start_block', DEPTH + 1),
]
ONE_OF_EACH = [('num_tokens', 0), ('dropout', 1.0), ('start_block', 0)]
#: For the method in a wrapper.
WRAPPED_BAD = [None, 'VPT', {}, {'type': 'Nonsense'}, {'num_tokens': 3}]
BAD = {
    'VAPT': [('kernel_size', 0), ('kernel_size', 3), ('kernel_size', 1.5), ('rank', 0)],
    'Rein': [('rank', 0), ('rank', WIDTH + 1), ('scale', 'a'), ('scale', 5e9), ('scale', -1)],
    'E2VPT': [
        ('num_keys_values', 0),
        ('num_keys_values', 1.5),
        ('prune', 1.0),
        ('prune', -0.1),
        ('prune', 'half'),
    ],
    'CVPT': [('biases', 'no'), ('biases', 0)],
    'ApproximatedPrompt': [('rank', 0), ('rank', WIDTH + 1), ('rank', None)],
    'PROVPT': [
        ('policy', 'a2c'),
        ('policy', None),
        ('shrink', 1.0),
        ('shrink', -1),
        ('shrink', 'a'),
    ],
    'CondensedPrompt': [
        ('keep', 0),
        ('keep', 1.1),
        ('keep', math.nan),
        ('keep', 'all'),
        ('at', 1.0),
        ('at', -0.5),
        ('at', None),
    ],
    'DAVPT': [
        ('guided_tokens', 0),
        ('guided_tokens', 1.5),
        ('first_guided', 0),
        ('first_guided', DEPTH + 1),
        ('dynamic_kmeans', 0),
        ('patch_weight', -0.1),
        ('class_weight', None),
        ('margin', 'a'),
        ('sharpness', -1),
        ('scale', math.nan),
    ],
    'PAE': [
        ('width', 0),
        ('koopman_weight', -1),
        ('stability_weight', 'a'),
        ('start', 'x'),
        *(('prompter', value) for value in WRAPPED_BAD),
    ],
    'PrototypePrompt': [('weight', -1), *(('prompter', value) for value in WRAPPED_BAD)],
    'NSP2': [
        ('eta', -0.1), ('eta', 1.1), ('eta', None), ('eta', math.nan), ('normalize', 1),
        ('consistency', -1), ('consistency', 'a'),
    ],
    'LSPT': [
        ('cell', 'x'),
        ('cell', None),
        ('cell', ['full']),
        ('rank', 0),
        ('rank', WIDTH + 1),
        ('rank', 1.5),
        ('gspc', 'yes'),
        ('gspc', 1),
        ('lpc', None),
        ('hidden_norm', 'no'),
        ('standardize', 1),
        ('own_prompts', 'yes'),
        ('forget_bias', 'a'),
        ('forget_bias', None),
        ('forget_bias', math.nan),
        ('forget_bias', math.inf),
        ('forget_bias', 1e39),  # infinite in float32
        ('forget_bias', 10**400),
        ('forget_bias', 10**30),  # no int of PyTorch's
    ],
    'GatedPrompt': [
        ('gate_init', 'a'),
        ('gate_init', math.nan),
        ('gate_init', None),
        ('gate_init', 1e39),
        ('hard', 1),
        ('shaping', 'no'),
    ],
    'BilinearPrompt': [
        ('rank', None),
        ('rank', 0),
        ('rank', WIDTH + 1),
        ('rank', 2.0),
        ('deep', 'yes'),
        ('mode', 'x'),
        ('mode', 'fwhiten'),  # with a rank
        ('mode', 'twhiten'),
        ('start', 'kmeans'),
        ('trained_right', 0),
        ('trained_right', 1.5),
        ('epsilon', 0),
        ('epsilon', 1e-13),  # of the size of rounding
        ('epsilon', -1e-3),
        ('epsilon', math.inf),
        ('epsilon', 'a'),
    ],
}
VPT_BAD = [
    ('deep', 1),
    ('deep', None),
    ('dropout_mask', 'batch'),
]
BAD['VPT'] = VPT_BAD + [('project', value) for value in (0, 1.5, True, 10**30)]
BAD['FourierPrompt'] = BAD['VPT'] + [
    ('share', -0.1),
    ('share', 1.1),
    ('share', None),
    ('share', math.nan),
]
BAD['SelfPrompt'] = VPT_BAD + [
    ('project', 4),
    ('start', 'xavier'),
    ('position', None),
]
BAD['VIPAMIN'] = VPT_BAD + [
    ('project', 4),
    ('neighbors', 0),
    ('neighbors', 1.5),
    ('orthogonal', -0.1),
    ('orthogonal', 1.1),
    ('orthogonal', None),
]
#: A valid start for each method, from the table, and what makes the argument at hand count.
GOOD = {}
for _cfg in METHODS.values():
    GOOD.setdefault(_cfg['type'], {k: v for k, v in _cfg.items() if k != 'type'})
NEEDS = {('LSPT', 'rank'): {'cell': 'low-rank'}}


def vit(**kwargs):
    return PromptedViT(**dict({'arch': ARCH, 'img_size': IMG, 'patch_size': PATCH}, **kwargs))


def assert_named(error, name, value):
    message = str(error.value)
    # A wrapped method is named by its type.
    assert name in message or (name == 'prompter' and repr(value.get('type')) in message), message


@pytest.mark.parametrize(
    ('method', 'name', 'value'),
    # What the base class checks: all of it once, and that each method passes it on.
    [(m, n, v) for m in GOOD
     for n, v in [*(BAD_FOR_ALL if m == 'LSPT' else ONE_OF_EACH), *BAD.get(m, [])]],
    ids=lambda value: str(value).replace(' ', ''),
)
def test_bad_prompter_argument(method, name, value):
    cfg = dict(GOOD[method], type=method, **NEEDS.get((method, name), {}))
    cfg[name] = value
    with pytest.raises(ValueError) as error:
        vit(prompter=cfg)
    assert_named(error, name, value)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('out_indices', []),
        ('out_indices', ()),
        ('out_indices', (-1, DEPTH - 1)),
        ('img_size', 'abc'),
        ('img_size', 0),
        ('img_size', (32, 32, 3)),
        ('img_size', (32, -1)),
        ('patch_size', 0),
        ('patch_size', 8.0),
        ('num_registers', -1),
        ('num_registers', 1.0),
        ('with_cp', 'no'),
        ('final_norm', 'no'),
        ('with_cls_token', 'no'),
        ('prompter', {'type': 'Nonsense'}),
        ('prompter', {'type': None}),
        ('prompter', {'type': 3}),
        ('prompter', {'num_tokens': 3}),
        ('prompter', {}),
        ('prompter', 'LSPT'),
        ('prompter', ['LSPT']),
        ('tune', 'partial-0'),
        ('tune', f'partial-{DEPTH + 1}'),
        ('tune', 'partial-99'),
        ('tune', 'partial--1'),
        ('tune', 'partial-'),
        ('tune', 'partial-1.5'),
        ('tune', 'x'),
        ('tune', None),
        ('tune', ['full']),
        ('out_type', 'x'),
        ('out_type', None),
        ('out_type', 'avg_prompts'),
        ('out_type', ['raw']),
        ('out_indices', DEPTH),
        ('out_indices', -DEPTH - 1),
        ('out_indices', [0, DEPTH]),
        ('out_indices', 'x'),
        ('out_indices', None),
        ('out_indices', 1.5),
        ('out_indices', [0, 1.5]),
        ('arch', 'nonsense'),
        ('arch', None),
        ('arch', {}),
        ('arch', {k: v for k, v in ARCH.items() if k != 'num_heads'}),
        ('arch', dict(ARCH, embed_dims=18)),
        ('arch', dict(ARCH, num_heads=0)),
        ('arch', dict(ARCH, num_layers=0)),
        ('arch', dict(ARCH, embed_dims='16')),
        ('frozen_stages', 1),
        ('frozen_stages', -1),
    ],
    ids=lambda value: str(value).replace(' ', ''),
)
def test_bad_backbone_argument(name, value):
    with pytest.raises(ValueError) as error:
        vit(**{name: value})
    bad = value.get('type', value) if name == 'prompter' and isinstance(value, dict) else value
    assert_named(error, name, bad)


def test_cls_token_without_class_token():
    with pytest.raises(ValueError, match='cls_token'):
        vit(with_cls_token=False, out_type='cls_token')


@pytest.mark.parametrize('method', GOOD)
def test_unknown_prompter_argument_is_named(method):
    with pytest.raises(Exception, match='gpsc'):
        vit(prompter=dict(GOOD[method], type=method, gpsc=True))


def test_misspelt_backbone_argument_is_named():
    with pytest.raises(Exception, match='drop_pathrate'):
        vit(drop_pathrate=0.1)


def test_unknown_method_lists_the_known_ones():
    with pytest.raises(ValueError, match='LSPT'):
        vit(prompter={'type': 'LPST', 'num_tokens': 2})


@pytest.mark.parametrize(
    'kind',
    ['LSPT', 'lspt_mm.LSPT', LSPT, 'lspt_mm.models.prompters.LSPT',
     'lspt_mm.models.prompters.lspt.LSPT'], ids=str,
)
def test_ways_to_name_a_method(kind):
    assert isinstance(vit(prompter={'type': kind, 'num_tokens': 2}).prompter, LSPT)


@pytest.mark.parametrize(
    'cfg',
    [
        {'dropout': 0},
        {'forget_bias': 0},
        {'forget_bias': -1},
        {'cell': 'low-rank', 'rank': WIDTH},
        {'cell': 'low-rank', 'rank': 1},
        {'start_block': DEPTH},
        # Without LPC the cell's arguments have no effect; so has the rank of a full cell.
        {'lpc': False, 'rank': 999, 'cell': 'full'},
        {'rank': WIDTH + 1},
    ],
    ids=str,
)
def test_good_edges(cfg):
    vit(prompter=dict({'type': 'LSPT', 'num_tokens': 1}, **cfg))


@pytest.mark.parametrize('fact', ['embed_dims', 'num_layers', 'patch_size', 'vit', 'vpt', 'self'])
@pytest.mark.parametrize('method', ['LSPT', 'SelfPrompt'])
def test_what_the_backbone_fills_in_is_no_argument(method, fact):
    with pytest.raises(ValueError, match=f"has no argument '{fact}'"):
        vit(prompter=dict(GOOD[method], type=method, **{fact: 16}))


def test_arguments_that_are_handed_on_are_known():
    prompter = vit(prompter={'type': 'FourierPrompt', 'num_tokens': 4, 'project': 5}).prompter
    assert {'share', 'project', 'dropout', 'start_block'} <= prompter.argument_names()
    assert prompter.prompts.shape == (1, 4, 5)


def test_vit_facts_are_filled_in():
    prompter = vit(prompter={'type': 'LSPT', 'num_tokens': 2}).prompter
    facts = (prompter.embed_dims, prompter.num_layers, prompter.patch_size)
    assert facts == (WIDTH, DEPTH, PATCH)


@pytest.mark.parametrize('arch', ['deit-tiny', 'DeiT-Tiny'])
def test_arch_by_name(arch):
    model = PromptedViT(arch, img_size=32, patch_size=16)
    assert (model.embed_dims, model.num_layers, model.prompter) == (192, 12, None)


def test_prompts_after_the_last_output_are_refused():
    # They would be trainable and never get a gradient.
    with pytest.raises(ValueError, match=r'out_indices=\[0\]'):
        vit(prompter=dict(METHODS['lspt']), out_indices=[0])


@pytest.mark.parametrize('tune', ['full', 'bias', 'partial-1'])
def test_what_is_trained_behind_the_last_output(tune):
    with pytest.raises(ValueError, match='never get a gradient'):
        vit(tune=tune, out_indices=0, out_type='raw')
    vit(tune='nothing', out_indices=0, out_type='raw')


def test_prompts_are_asked_for_before_they_enter():
    prompter = {'type': 'VPT', 'num_tokens': 2, 'start_block': DEPTH}
    with pytest.raises(ValueError, match=f'enter at block {DEPTH}'):
        vit(prompter=prompter, out_type='avg_prompts', out_indices=(0, -1))
    vit(prompter=prompter, out_type='avg_prompts', out_indices=-1)


@pytest.mark.parametrize('name', ['num_tokens', 'dropout', 'start_block'])
@pytest.mark.parametrize('wrapper', ['PAE', 'PrototypePrompt'])
def test_arguments_of_a_wrapper_are_not_given_to_the_method_in_it(wrapper, name):
    inner = {'type': 'VPT', 'deep': True, name: 1}
    with pytest.raises(ValueError, match=f'{name} is an argument of {wrapper} itself'):
        vit(prompter={'type': wrapper, 'num_tokens': 2, 'prompter': inner})


@pytest.mark.parametrize('wrapper', ['PAE', 'PrototypePrompt'])
def test_arguments_of_the_method_in_a_wrapper_are_checked(wrapper):
    for inner, word in (
        ({'type': 'VPT', 'deeep': True}, 'VPT has no argument .deeep'),
        ({'type': 'VPT', 'deep': 3}, 'deep=3'),
        ({'type': 'VTP'}, "type='VTP': expected one of APT"),
        ({'type': 'mmseg.VPT'}, "type='mmseg.VPT': expected one of APT"),
    ):
        with pytest.raises(ValueError, match=f'{wrapper}: .*{word}'):
            vit(prompter={'type': wrapper, 'num_tokens': 2, 'prompter': inner})


@pytest.mark.parametrize(
    ('inner', 'why'),
    [
        ({'type': 'VPT'}, 'VPT as it is configured has prompts that depend on'),
        ({'type': 'PROVPT'}, 'PROVPT as it is configured moves or drops prompts'),
        ({'type': 'CondensedPrompt'}, 'CondensedPrompt as it is configured moves or drops'),
        ({'type': 'LSPT'}, 'LSPT as it is configured'),
        ({'type': 'GatedPrompt'}, 'GatedPrompt as it is configured'),
        ({'type': 'VAPT', 'kernel_size': 1}, 'VAPT as it is configured'),
        ({'type': 'APT'}, 'APT as it is configured'),
        ({'type': 'DAVPT', 'guided_tokens': 3}, 'has blocks with other than 2 prompts'),
    ],
)
def test_pae_needs_prompts_of_its_own_in_every_block(inner, why):
    with pytest.raises(ValueError, match=f'PAE: .*{why}.*expected a method with prompts'):
        vit(prompter={'type': 'PAE', 'num_tokens': 2, 'prompter': inner})


@pytest.mark.parametrize(
    'inner',
    [
        {'type': 'SelfPrompt', 'deep': True},
        {'type': 'VPT', 'deep': True, 'project': 4},
    ],
)
def test_a_start_from_bands_needs_vpt(inner):
    with pytest.raises(ValueError, match="start='mpa': expected prompter=dict.type='VPT'"):
        vit(prompter={'type': 'PAE', 'num_tokens': 2, 'prompter': inner, 'start': 'mpa'})


def test_an_argument_that_a_method_needs():
    with pytest.raises(ValueError, match="prompter: VPT: missing .* argument: 'num_tokens'"):
        PromptedViT(ARCH, img_size=32, patch_size=8, prompter=dict(type='VPT'))


def test_two_files_of_weights_are_refused():
    other = dict(type='Pretrained', checkpoint='b.pth')
    with pytest.raises(ValueError, match=r"pretrained='a.pth' and init_cfg=.*b.pth.* two files"):
        vit(pretrained='a.pth', init_cfg=other)
    assert vit(pretrained='b.pth', init_cfg=other).pretrained == 'b.pth'


def test_numbers_of_numpy_are_in_the_record_as_numbers():
    vit = PromptedViT(arch=ARCH, img_size=IMG, patch_size=PATCH, prompter=dict(
        type='VPT', num_tokens=np.int64(3), dropout=np.float64(0.25)))
    record = record_of(vit, 'vit.pth')
    found = records_in_meta({META: records_json({'backbone': record})})['backbone']
    assert found.prompter == record.prompter and found.prompter['num_tokens'] == 3
