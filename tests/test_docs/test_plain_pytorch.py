"""The plain loop of docs/backbones.md, with a small timm model."""

import re

import timm
import torch
from miniatures import ROOT


def test_the_loop_trains_prompts_and_head_alone(tmp_path):
    text = (ROOT / 'docs/backbones.md').read_text()
    (code,) = re.findall(r'## In plain PyTorch.*?```python\n(.*?)```', text, re.DOTALL)
    name = 'vit_small_patch14_dinov2.lvd142m'
    torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'vit.pth')
    code = code.replace(f'timm:{name}', str(tmp_path / 'vit.pth')).replace(name, 'test_vit')
    images, labels = torch.rand(4, 3, 112, 112), torch.tensor([0, 1, 2, 3])
    scope = {'loader': 2 * [(images, labels)]}
    exec(code, scope)
    vit, head = scope['vit'], scope['head']
    trained = dict(vit.named_parameters())
    prompts = trained.pop('prompter.prompts')
    assert len(scope['trained']) == 3 and prompts.grad.abs().sum() > 0 < head.weight.grad.norm()
    assert not any(p.requires_grad or p.grad is not None for p in trained.values())
    state = torch.load(tmp_path / 'vit.pth')
    assert torch.equal(vit.vit.blocks[0].attn.qkv.weight, state['blocks.0.attn.qkv.weight'])
