"""The converter: mmpretrain's own ViT loads what it writes, and computes timm's features."""

import pytest
import torch
from miniatures import ARCH, run_tool, tiny_vit, write_vit
from mmpretrain.models.backbones import VisionTransformer
from safetensors.torch import load_file

SCRIPT = 'model_converters/to_mmpretrain.py'


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_mmpretrain_computes_timms_features(prefix, suffix, tmp_path):
    out = tmp_path / f'out.{suffix}'
    run = run_tool(SCRIPT, write_vit(tmp_path / 'vit.pth'), out, '--prefix', prefix)
    assert run.code == 0, run.out + run.err
    if suffix == 'pth':
        content = torch.load(out, weights_only=True)
        state = content['state_dict']
        assert content['meta']['source'] == 'vit.pth'
    else:
        state = load_file(out)
    assert all(k.startswith(prefix) for k in state)
    model = VisionTransformer(arch=ARCH, img_size=32, patch_size=8, out_type='raw')
    model.eval()
    model.double()
    model.load_state_dict({k[len(prefix) :]: v for k, v in state.items()}, strict=True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)).double()
    expected = tiny_vit().double().forward_features(images)
    torch.testing.assert_close(model(images)[0], expected, rtol=1e-6, atol=1e-6)


def test_it_replaces_nothing_unasked(tmp_path):
    vit, out = write_vit(tmp_path / 'vit.pth'), tmp_path / 'out.pth'
    out.write_text('mine')
    run = run_tool(SCRIPT, vit, out)
    assert run.code == 2 and '--force' in run.err and out.read_text() == 'mine'
    assert run_tool(SCRIPT, vit, out, '--force').code == 0
    assert 'cls_token' in torch.load(out, weights_only=True)['state_dict']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(('typo.pth', 'out.pth'), 'typo.pth'), (('vit.pth', 'out.onnx'), '.safetensors'),
     (('text.pth', 'out.pth'), 'text.pth'), (('vit.pth', 'text.pth/x.pth'), 'cannot be written')],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_line(arguments, message, tmp_path):
    write_vit(tmp_path / 'vit.pth')
    (tmp_path / 'text.pth').write_text('404')
    run = run_tool(SCRIPT, *(tmp_path / a for a in arguments))
    assert run.code == 2 and message in run.err and 'Traceback' not in run.err
    assert not list(tmp_path.glob('*.part'))


def test_the_grid_goes_with_the_file(tmp_path):
    from lspt_mm.checkpoints import load_backbone
    from lspt_mm.models import PromptedViT

    source = write_vit(tmp_path / 'vit.pth', img_size=(16, 64))
    run = run_tool(SCRIPT, source, tmp_path / 'out.pth', '--grid', '2', '8')
    assert run.code == 0, run.err
    report = load_backbone(PromptedViT(ARCH, img_size=32, patch_size=8), tmp_path / 'out.pth')
    assert report.resized == ['pos_embed 2x8 -> 4x4']
    run = run_tool(SCRIPT, source, tmp_path / 'wrong.pth', '--grid', '3', '3')
    assert run.code == 2 and '16 patches' in run.err and not (tmp_path / 'wrong.pth').exists()


def test_tied_tensors_and_damaged_ones(tmp_path):
    state = tiny_vit().state_dict()
    state['blocks.1.norm1.weight'] = state['blocks.0.norm1.weight']
    torch.save(state, tmp_path / 'tied.pth')
    run = run_tool(SCRIPT, tmp_path / 'tied.pth', tmp_path / 'out.safetensors')
    assert run.code == 0, run.err
    state['blocks.0.norm1.weight'][0] = float('nan')
    torch.save(state, tmp_path / 'nan.pth')
    run = run_tool(SCRIPT, tmp_path / 'nan.pth', tmp_path / 'nan_out.pth')
    assert run.code == 2 and 'finite' in run.err and not (tmp_path / 'nan_out.pth').exists()
