"""The benchmark's reference computes what the fast paths compute."""

import pytest
import torch
from torch import nn

from lspt_mm.analysis.flops import count_flops
from lspt_mm.models import PromptedViT
from projects.benchmark.reference import reference_forward

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 4, 'feedforward_channels': 32}
METHODS = {
    'none': None,
    'vpt': {'type': 'VPT', 'num_tokens': 3},
    'vpt-deep': {'type': 'VPT', 'num_tokens': 3, 'deep': True},
    'gated': {'type': 'GatedPrompt', 'num_tokens': 3, 'gate_init': 0.5},
    'bilinear-deep': {'type': 'BilinearPrompt', 'num_tokens': 3, 'rank': 4, 'deep': True},
    'pro-vpt': {'type': 'PROVPT', 'num_tokens': 3},
    'lspt': {'type': 'LSPT', 'num_tokens': 3},
    'lspt-late': {'type': 'LSPT', 'num_tokens': 3, 'start_block': 2, 'hidden_norm': True},
    'lspt-own-prompts': {'type': 'LSPT', 'num_tokens': 3, 'standardize': True, 'own_prompts': True},
    'lspt-low-rank': {'type': 'LSPT', 'num_tokens': 3, 'cell': 'low-rank', 'rank': 2},
    'lspt-no-lpc': {'type': 'LSPT', 'num_tokens': 3, 'lpc': False},
    'lspt-no-gspc': {'type': 'LSPT', 'num_tokens': 3, 'gspc': False},
    'e2vpt': {'type': 'E2VPT', 'num_tokens': 3, 'num_keys_values': 2},
    'cvpt': {'type': 'CVPT', 'num_tokens': 3},
    'approximated': {'type': 'ApproximatedPrompt', 'num_tokens': 3, 'rank': 2},
}


@pytest.mark.parametrize('name', METHODS)
def test_equal_in_value_and_gradient_and_more_work(name):
    torch.manual_seed(0)
    vit = PromptedViT(arch=ARCH, img_size=32, patch_size=8, prompter=METHODS[name]).double()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.3)
    vit.train()
    img = torch.randn(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    leaves = [img, *(p for p in vit.parameters() if p.requires_grad)]
    found = []
    for forward in (lambda: vit(img)[0], lambda: reference_forward(vit, img)):
        out = forward()
        found.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)
    fast, plain = (
        sum(count_flops(lambda f=f: f(img)).values())
        for f in (vit, lambda x: reference_forward(vit, x))
    )
    assert fast < plain
