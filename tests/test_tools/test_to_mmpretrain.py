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
        assert content['meta']['source'] == str(tmp_path / 'vit.pth')
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
