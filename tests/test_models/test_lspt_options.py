"""LSPT with a standardised spatial code, added to the prompts of each block."""

import pytest
import torch
from vit_oracles import ARCH, build, images

DEPTH, WIDTH = ARCH['num_layers'], ARCH['embed_dims']
BOTH = {'type': 'LSPT', 'num_tokens': 3, 'standardize': True, 'own_prompts': True}


def test_at_its_start_it_is_vpt_deep():
    model, vpt = build(BOTH), build({'type': 'VPT', 'num_tokens': 3, 'deep': True})
    torch.nn.init.zeros_(model.prompter.scales)
    vpt.load_state_dict({k: v for k, v in model.state_dict().items() if k in vpt.state_dict()})
    torch.testing.assert_close(model(images())[0], vpt(images())[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('start', [1, 2])
def test_statistics_are_those_of_the_plain_vit(start):
    model = build(dict(BOTH, start_block=start), out_type='raw', out_indices=tuple(range(DEPTH)),
                  final_norm=False).eval()
    prompter, img = model.prompter, images(7)
    prompter.prepared.fill_(False)
    assert prompter.needs_preparation
    said = prompter.prepare(model, [(img[:4], None), (img[4:], None)])
    assert said == f'statistics of the mean patch after {DEPTH - start} blocks from 7 images'
    assert not prompter.needs_preparation
    outs = model(img, prompter=False)
    for step, block in enumerate(range(start, DEPTH)):
        means = outs[block - 1][:, 1:].mean(1)
        torch.testing.assert_close(prompter.mean[step], means.mean(0))
        torch.testing.assert_close(prompter.deviation[step], means.std(0))


def test_a_constant_channel_is_not_divided_by_zero():
    model = build(BOTH).eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.prompter.prepare(model, [(images(3), None)])
    assert model.prompter.deviation.min() > 0
    assert model(images())[0].isfinite().all()


def test_a_single_image_has_no_deviation():
    model = build(BOTH).eval()
    with pytest.raises(ValueError, match='1 images have no deviation; expected at least 2'):
        model.prompter.prepare(model, [(images(1), None)])
    with pytest.raises(ValueError, match='0 images'):
        model.prompter.prepare(model, [])


def test_without_steps_nothing_is_prepared():
    prompter = build(dict(BOTH, start_block=DEPTH)).prompter
    assert not prompter.needs_preparation and prompter.scales is None


def test_without_a_spatial_code_there_is_nothing_to_standardise():
    with pytest.raises(ValueError, match='standardize=True: there is no mean .* gspc=False'):
        build(dict(BOTH, gspc=False))


def test_the_cell_learns_after_the_first_step():
    model = build(BOTH).train()
    torch.nn.init.zeros_(model.prompter.scales)
    optimizer = torch.optim.SGD(model.prompter.parameters(), lr=0.1)
    for wanted in (False, True):
        optimizer.zero_grad()
        model(images())[0].square().sum().backward()
        assert bool(model.prompter.lstm.weight_hh.grad.ne(0).any()) is wanted
        assert model.prompter.scales.grad.ne(0).all()
        optimizer.step()
