"""docs/add_a_backbone.md, done to the letter: torchvision's ViT against its own forward pass."""

import re
import sys

import pytest
import torch
from miniatures import ROOT

from lspt_mm.registry import MODELS

pytestmark = pytest.mark.docs
PAGE = (ROOT / 'docs' / 'add_a_backbone.md').read_text()
STEP = re.compile(r'^`([^`\n]+)`, new:\n\n```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)
METHODS = {
    'vpt-deep': dict(type='VPT', num_tokens=3, deep=True), 'lspt': dict(type='LSPT', num_tokens=3),
    'vfpt': dict(type='FourierPrompt', num_tokens=3, deep=True),
}
SMALL = dict(img_size=32, patch_size=8, embed_dims=32, num_layers=3, num_heads=4)


@pytest.fixture(scope='module')
def vit_class(tmp_path_factory):
    folder = tmp_path_factory.mktemp('page')
    ((name, text),) = STEP.findall(PAGE)
    (folder / name).write_text(text)
    sys.path.insert(0, str(folder))
    try:
        yield __import__(name.removesuffix('.py')).TorchvisionPromptedViT
    finally:
        sys.path.remove(str(folder))
        MODELS.module_dict.pop('TorchvisionPromptedViT')


def build(vit_class, seed=0, **kwargs):
    torch.manual_seed(seed)
    vit = vit_class(**SMALL, **kwargs)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return vit.double().eval()


def test_zero_prompts_are_torchvisions_own(vit_class):
    vit = build(vit_class)
    img = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert torch.equal(vit(img)[0], vit.vit(img))
    assert vit(torch.randn(2, 3, 40, 24, dtype=torch.float64))[0].shape == (2, 32)


@pytest.mark.parametrize('method', METHODS)
def test_methods_train(vit_class, method):
    vit = build(vit_class, prompter=METHODS[method]).train()
    img = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    vit(img)[0].sum().backward()
    trained = {name for name, p in vit.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith('prompter.') for name in trained)
    assert all(p.grad is not None for p in vit.prompter.parameters() if p.requires_grad)


def test_files_and_layers(vit_class, tmp_path):
    other = build(vit_class, seed=3)
    state = {**other.vit.state_dict(), 'heads.head.weight': torch.ones(5, 32)}
    torch.save({k: v.float() for k, v in state.items()}, tmp_path / 'vit.pth')
    vit = vit_class(**SMALL, pretrained=str(tmp_path / 'vit.pth')).eval()
    vit.init_weights()
    img = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(vit(img)[0], other.float()(img)[0])
    depths = {vit.depth_of(name) for name, _ in vit.named_parameters()}
    assert depths == {0, 1, 2, 3, 4}
    last = vit_class(**SMALL, tune='partial-1')
    trained = {name for name, p in last.named_parameters() if p.requires_grad}
    assert {last.depth_of(name) for name in trained} <= {3, 4} and trained


def test_what_a_whole_block_cannot_do_is_refused(vit_class):
    for kwargs in (dict(tune='lora-2'), dict(prompter=dict(type='GatedPrompt', num_tokens=3))):
        with pytest.raises(ValueError, match='as a whole|taken apart'):
            vit_class(**SMALL, **kwargs)
