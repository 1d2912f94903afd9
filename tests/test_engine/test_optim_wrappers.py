"""The optimizer holds what is trained, in groups by hand-written multipliers."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from lspt_mm.engine import Bf16OptimWrapper, TrainableOptimWrapperConstructor


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.prompter = nn.Module()
        self.prompter.prompts = nn.Parameter(torch.zeros(1, 2))
        self.prompter.lstm = nn.LSTMCell(2, 2)
        self.neck = nn.Conv2d(2, 2, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2)])
        self.partly = nn.Linear(2, 2)
        self.partly.weight.requires_grad_(False)


def groups(model, paramwise=None, **optimizer):
    """(lr, weight decay) to the sorted names with them; the SGD is real."""
    cfg = {'optimizer': {'type': 'SGD', 'lr': 0.1, 'weight_decay': 0.01, **optimizer}}
    wrapper = TrainableOptimWrapperConstructor(cfg, paramwise)(model)
    assert isinstance(wrapper, OptimWrapper)
    names = {id(p): n for n, p in model.named_parameters()}
    result = {}
    for group in wrapper.optimizer.param_groups:
        key = (round(group['lr'], 9), round(group['weight_decay'], 9))
        assert key not in result  # equal settings share a group
        result[key] = sorted(names[id(p)] for p in group['params'])
    return result


PROMPTER = [
    'prompter.lstm.bias_hh', 'prompter.lstm.bias_ih', 'prompter.lstm.weight_hh',
    'prompter.lstm.weight_ih', 'prompter.prompts',
]
NORMS = sorted(f'norms.{i}.{n}' for i in range(3) for n in ('bias', 'weight'))


def test_one_group_without_multipliers():
    trained = sorted(['neck.bias', 'neck.weight', 'partly.bias', *NORMS, *PROMPTER])
    assert groups(Toy()) == {(0.1, 0.01): trained}
    assert groups(Toy(), {}) == {(0.1, 0.01): trained}


def test_groups_of_the_schedule():
    paramwise = {
        'norm_decay_mult': 0.0,
        'bias_decay_mult': 0.5,
        'custom_keys': {'prompter': {'lr_mult': 10.0, 'decay_mult': 0.0}},
    }
    assert groups(Toy(), paramwise) == {
        (1.0, 0.0): PROMPTER,
        (0.1, 0.01): ['neck.weight'],
        (0.1, 0.005): ['neck.bias', 'partly.bias'],
        (0.1, 0.0): NORMS,
    }


def test_norms_and_biases_by_other_names():
    """timm's RMS norms; q_bias and v_bias of EVA and DINOv3."""
    from timm.layers import RmsNorm, RmsNorm2d, SimpleNorm

    model = nn.ModuleList([nn.RMSNorm(2), RmsNorm(2), RmsNorm2d(2), SimpleNorm(2)])
    model.q_bias = nn.Parameter(torch.zeros(2))
    model.weight = nn.Parameter(torch.zeros(2))
    paramwise = {'norm_decay_mult': 0.0, 'bias_decay_mult': 0.0}
    assert groups(model, paramwise) == {
        (0.1, 0.0): ['0.weight', '1.weight', '2.weight', '3.weight', 'q_bias'],
        (0.1, 0.01): ['weight'],
    }


def test_of_two_keys_as_long_the_last_in_the_name_counts():
    model = nn.ModuleDict({'backbone': nn.ModuleDict({
        'prompter': nn.Linear(2, 2, bias=False), 'blocks': nn.Linear(2, 2, bias=False),
    })})
    custom = {'prompter': {'lr_mult': 5.0}, 'backbone': {'lr_mult': 2.0}}
    assert groups(model, {'custom_keys': custom}) == {
        (0.5, 0.01): ['backbone.prompter.weight'], (0.2, 0.01): ['backbone.blocks.weight'],
    }


def test_the_longest_key_counts_and_alone():
    custom = {'prompter': {'lr_mult': 10.0}, 'prompter.lstm': {'decay_mult': 0.0},
              'norms.1': {'lr_mult': 2.0}}
    result = groups(Toy(), {'custom_keys': custom, 'norm_decay_mult': 0.0, 'bias_decay_mult': 0.0})
    assert result[1.0, 0.01] == ['prompter.prompts']
    # lr_mult of the shorter key is not inherited; joined with others of the same settings
    assert set(PROMPTER[:4]) <= set(result[0.1, 0.0])
    assert result[0.2, 0.0] == ['norms.1.bias', 'norms.1.weight']  # its rate is not its decay


def test_frozen_parameters_get_no_group_and_no_state():
    model = Toy()
    wrapper = TrainableOptimWrapperConstructor({'optimizer': {'type': 'AdamW', 'lr': 0.1}})(model)
    held = {id(p) for g in wrapper.optimizer.param_groups for p in g['params']}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_parameters_used_twice_are_held_once():
    model = nn.ModuleDict({'a': nn.Linear(2, 2)})
    model['b'] = model['a']
    assert groups(model) == {(0.1, 0.01): ['a.bias', 'a.weight']}


def test_tied_parameters_are_held_once():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert groups(model) == {(0.1, 0.01): ['0.weight']}


@pytest.mark.parametrize('key', ['norm_decay', 'lr_mult', 'dwconv_decay_mult', 'custom_key'])
def test_unknown_key(key):
    with pytest.raises(ValueError, match=f"'{key}' is none of custom_keys"):
        groups(Toy(), {key: 0.0})


def test_nothing_to_train():
    with pytest.raises(ValueError, match='nothing to train'):
        groups(nn.Linear(2, 2).requires_grad_(False))


def test_the_config_is_not_changed():
    paramwise = {'norm_decay_mult': 0.0}
    groups(Toy(), paramwise)
    assert paramwise == {'norm_decay_mult': 0.0}


def test_bf16_step_on_cpu():
    model = nn.Linear(4, 3)
    wrapper = Bf16OptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    before, images = model.weight.detach().clone(), torch.randn(2, 4)
    with wrapper.optim_context(model):
        out = model(images)
        assert out.dtype == torch.bfloat16
        loss = out.float().square().sum()
    assert model(images).dtype == torch.float32  # outside again
    wrapper.update_params(loss)
    assert model.weight.dtype == torch.float32 and not torch.equal(model.weight, before)


def test_bf16_accumulates():
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = Bf16OptimWrapper(optimizer=optimizer, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    before = model.weight.detach().clone()
    for changed in (False, True):
        with wrapper.optim_context(model):
            loss = model(torch.ones(2, 4)).float().sum()
        wrapper.update_params(loss)
        assert torch.equal(model.weight, before) != changed
