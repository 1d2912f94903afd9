"""Reference forward pass of a prompted ViT, as papers describe it: all tokens in every block.

Benchmarks and tests compare the fast paths with it. It runs on the parameters of a
:class:`PromptedViT` and gives the same features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lspt_mm.models import PromptedViT
from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.mmpretrain_block import MMPretrainBlock
from lspt_mm.models.prompters.lspt import LSPT
from lspt_mm.models.prompters.lstm_cells import FullCell


def reference_forward(vit: PromptedViT, img: Tensor) -> Tensor:
    """Class token (B, D) of images (B, 3, H, W) after the final norm.

    Prompts are concatenated with the tokens of each image and run through every whole block, also
    the last one. Attention weights are formed, and the temperature divides the logits. LSPT's full
    cell is PyTorch's ``lstm_cell`` on each image's tokens.

    Args:
        vit: With a class token and without registers.
        img: Images.
    """
    x, grid, _ = vit.embed(img)
    prompter = vit.prompter
    prompts = state = None
    for number, layer in enumerate(vit.layers, 1):
        temperature = further = adapter = None
        if prompter is not None and number >= prompter.start_block:
            if number == prompter.start_block:
                prompts, state = prompter.first(x[:, 1:], grid)
            temperature = prompter.temperature(number)
            further, adapter = prompter.keys_values(number), prompter.adapter(number)
        number_of_prompts = 0 if prompts is None else prompts.size(1)
        if prompts is not None:
            prompts = prompts.expand(x.size(0), -1, -1)
            x = torch.cat((x[:, :1], prompts, x[:, 1:]), dim=1)
        x = _block(layer, x, temperature, further, adapter)
        out = x[:, 1 : 1 + number_of_prompts]
        x = torch.cat((x[:, :1], x[:, 1 + number_of_prompts :]), dim=1)
        if prompter is not None and prompter.start_block <= number < len(vit.layers):
            if isinstance(prompter, LSPT) and isinstance(prompter.lstm, FullCell):
                prompts, state = _lspt(prompter, number, out, x[:, 1:], state)
            else:
                prompts, state = prompter.next(number, prompts, out, x[:, 1:], state)
    return vit.ln1(x)[:, 0]


def _block(layer, x: Tensor, temperature, further, adapter) -> Tensor:
    attn = layer.attn
    adapter = adapter or BlockAdapter()
    batch, length, width = x.shape
    normed = layer.ln1(x)
    packed = attn.qkv(normed).reshape(batch, length, 3, attn.num_heads, -1)
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    if further is not None:
        k, v = (torch.cat((more.expand(*own.shape[:2], -1, -1), own), dim=2)
                for more, own in zip(further, (k, v), strict=True))
    logits = q @ k.transpose(-2, -1) * q.size(-1) ** -0.5
    if temperature is not None:
        logits = logits / temperature
    out = (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, width)
    x = x + attn.gamma1(adapter.attention_output(attn.proj(out), normed))
    x = adapter.before_mlp(x, MMPretrainBlock(layer))
    return adapter.block_output(layer.ffn(layer.ln2(x), identity=x), 1)


def _lspt(prompter: LSPT, number: int, out: Tensor, patches: Tensor, state):
    """Global spatial prompt coding and one step of the LSTM, image by image."""
    cell, _, inserted = state
    step = number - prompter.start_block
    mean = patches.mean(dim=1, keepdim=True)
    if prompter.standardize:
        mean = (mean - prompter.mean[step]) / prompter.deviation[step]
    spatial = out + mean if prompter.gspc else out
    hidden = F.layer_norm(spatial, spatial.shape[-1:]) if prompter.hidden_norm else spatial
    p = inserted[step].expand_as(hidden)
    cell = torch.zeros_like(hidden) if cell is None else cell.expand_as(hidden)
    lstm = prompter.lstm
    prompts, cell = torch.lstm_cell(
        p.flatten(0, 1), (hidden.flatten(0, 1), cell.flatten(0, 1)),
        lstm.weight_ih, lstm.weight_hh, lstm.bias_ih, lstm.bias_hh,
    )
    prompts, cell = prompts.view_as(hidden), cell.view_as(hidden)
    if prompter.scales is not None:
        prompts = p + prompter.scales[step] * prompts
    return prompts, (cell, None, inserted)
