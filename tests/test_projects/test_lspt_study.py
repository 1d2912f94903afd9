"""What `measures` counts, on hand-made tokens and on a run."""

import csv
import importlib
import sys

import numpy as np
import pytest
import torch
from miniatures import run_ok, write_classification

from lspt_mm.models import PromptedViT
from lspt_mm.registry import PROMPTERS
from projects.lspt_study import measures


def test_measures_by_hand():
    one, two = torch.eye(4)[:2]
    mean = torch.stack([3 * one, 4 * two])  # of two images: their mean is (1.5, 2, 0, 0)
    outputs = torch.stack([torch.stack([2 * one, 4 * two])] * 2)
    # Image 1 has two copies of a prompt, image 2 two orthogonal prompts.
    prompts = torch.stack([torch.stack([one, one]), torch.stack([one, two])])
    found = measures.measures([(mean, outputs, prompts, torch.tensor([5.0, 7.0]))])
    assert found == pytest.approx(dict(
        patch_mean=3.5, shared=6.25 / 12.5, outputs=3, prompts=1, patches=6, copies=0.5,
        of_image=1 - 1.5 / 2,  # mean (1, 0, 0, 0, .5, .5, 0, 0), squared length 1.5 of 2
    ))


@pytest.mark.slow
@pytest.mark.parametrize('which', ['start', 'folder', 'checkpoint'])
def test_of_a_run(which, tmp_path, monkeypatch, capsys):
    mini = write_classification(tmp_path)
    run = tmp_path / 'run'
    arguments = {
        'start': [mini.config, 'start'], 'folder': [run],
        'checkpoint': [run / 'mini_cls.py', run / 'epoch_1.pth'],
    }[which]
    if which != 'start':
        run_ok('train.py', mini.config, '--work-dir', run, '--cfg-options',
                        'train_cfg.max_epochs=1', cwd=tmp_path)
    out = tmp_path / 'measures.csv'
    monkeypatch.setattr(sys, 'argv', ['measures', *map(str, arguments), '--out', str(out)])
    measures.main()
    with open(out, newline='') as file:
        rows = list(csv.DictReader(file))
    assert [int(row['block']) for row in rows] == [1, 2, 3]
    assert 0 <= float(rows[0]['saturated']) <= 1 and 'patch_mean' in capsys.readouterr().out


@pytest.fixture
def variants(monkeypatch):
    # Other tests take all registered methods.
    monkeypatch.setattr(PROMPTERS, '_module_dict', dict(PROMPTERS.module_dict))
    monkeypatch.delitem(sys.modules, 'projects.lspt_study.variants', raising=False)
    importlib.import_module('projects.lspt_study.variants')


@pytest.mark.parametrize('code', ['centered', 'scaled', 'attended'])
def test_codes(code, variants):
    torch.manual_seed(0)
    prompter = PROMPTERS.build(dict(
        type='LSPTVariant', num_tokens=2, code=code, length=3.0, embed_dims=4, num_layers=3,
        num_heads=2, patch_size=2,
    ))
    prompts, patches, mean = torch.randn(1, 2, 4), torch.randn(1, 5, 4), torch.randn(2, 4)
    prompter.mean, prompter.deviation = mean, torch.full((2, 4), 2.0)
    own = patches[0].numpy().mean(0) - mean[1].numpy()
    logits = np.exp(prompts[0].numpy() @ patches[0].numpy().T / 2)  # sqrt(4)
    wanted = {
        'centered': own, 'scaled': own / 2 * 3 / 2,
        'attended': logits / logits.sum(1, keepdims=True) @ patches[0].numpy(),
    }
    found = prompter.spatial_code(1, prompts, patches)[0]
    np.testing.assert_allclose(found, np.atleast_2d(wanted[code]), rtol=1e-5, atol=1e-6)


def test_released_start_of_bpt(variants):
    """W by numpy, block 1: logits averaged over images, S divided by D."""
    torch.manual_seed(0)
    dims = 16
    arch = dict(embed_dims=dims, num_layers=2, num_heads=2, feedforward_channels=32)
    cfg = dict(type='ReleasedBilinearPrompt', num_tokens=3, mode='fwhiten', deep=True)
    vit = PromptedViT(prompter=cfg, arch=arch, img_size=(32, 64), patch_size=8).double().eval()
    for p in vit.parameters():
        torch.nn.init.normal_(p, std=0.3)
    images = torch.randn(2, 3, 32, 64).double()  # 32 patches: W has no free direction
    vit.prompter.prepare(vit, [(images[:1], None), (images[1:], None)])
    layer = vit.layers[0]
    x = layer.ln1(vit.embed(images).tokens)[:, 1:].detach()
    weight_q, weight_k, _ = layer.attn.qkv.weight.detach().chunk(3)
    logits = (weight_q.T @ weight_k).numpy() @ x.mean(0).numpy().T
    values, vectors = np.linalg.eigh(logits @ logits.T / dims)
    want = (vectors * values**-0.5) @ vectors.T
    np.testing.assert_allclose(vit.prompter.right[0].detach(), want, rtol=1e-4)
