"""tools/train.py and tools/test.py on a miniature folder of images."""

import json
import pickle

import pytest
import torch
from miniatures import once, run_ok, tiny_vit, write_classification


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Config and data in the folder; trained for two epochs in work/, tested in test/."""

    def make(folder):
        config = write_classification(folder).config
        run_ok('train.py', config, '--work-dir', folder / 'work', cwd=folder)
        run_ok(
            'test.py', config, folder / 'work/epoch_2.pth', '--work-dir', folder / 'test',
            '--out', folder / 'out.pkl', '--show-dir', folder / 'shown', cwd=folder,
        )

    return once(tmp_path_factory, 'cls_runs', make)


def test_vit_is_frozen_and_the_rest_learns(runs):
    state = torch.load(runs / 'work/epoch_2.pth', weights_only=False)['state_dict']
    vit = tiny_vit().state_dict()
    assert torch.equal(state['backbone.cls_token'], vit['cls_token'])
    assert torch.equal(state['backbone.pos_embed'], vit['pos_embed'])
    for theirs, ours in (('norm.weight', 'ln1.weight'),
                         ('blocks.3.attn.qkv.weight', 'layers.3.attn.qkv.weight'),
                         ('blocks.0.mlp.fc2.bias', 'layers.0.ffn.layers.1.bias')):
        assert torch.equal(state[f'backbone.{ours}'], vit[theirs])
    assert state['backbone.prompter.prompts'].ne(0).any()
    assert state['head.fc.weight'].shape == (3, 16)


def test_out_holds_all_predictions(runs):
    with open(runs / 'out.pkl', 'rb') as file:
        predictions = pickle.load(file)
    assert len(predictions) == 6
    # Three classes of two images, in the order of their folders.
    assert [int(p['gt_label']) for p in predictions] == [0, 0, 1, 1, 2, 2]
    right = sum(int(p['pred_label']) == int(p['gt_label']) for p in predictions)
    assert accuracy_of_test(runs) == pytest.approx(100 * right / 6, abs=1e-4)


def accuracy_of_test(runs):
    (file,) = (runs / 'test').glob('*/*.json')
    return json.loads(file.read_text())['accuracy/top1']


def test_same_accuracy_in_training_and_testing(runs):
    (log,) = (runs / 'work').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    (validated,) = [r['accuracy/top1'] for r in records if 'accuracy/top1' in r]
    assert accuracy_of_test(runs) == pytest.approx(validated, abs=1e-9)


def test_show_dir_holds_pictures(runs):
    assert len([*(runs / 'shown').rglob('*.png')]) == 6
