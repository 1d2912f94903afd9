"""A method that starts from training data, run by the tools: prepared once, then in checkpoints."""

import shutil

import pytest
import torch
from miniatures import FROM_DATA, ok, once, run_tool, write_classification, write_segmentation


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    def train(folder):
        mini = write_segmentation(folder)
        text = mini.config.read_text() + f"model['backbone']['prompter'].update({FROM_DATA!r})\n"
        mini.config.write_text(text)
        run = ok(run_tool('train.py', mini.config, '--work-dir', folder / 'work', cwd=folder))
        (folder / 'out.txt').write_text(run.out)

    return once(tmp_path_factory, 'prepared', train)


def prompter_of(checkpoint):
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    return {k.split('prompter.')[1]: v for k, v in state.items() if '.prompter.' in k}


def test_prepared_before_the_first_iteration(trained):
    out = (trained / 'out.txt').read_text()
    # Four training images of 32x32 in patches of 8.
    assert out.count('whitening of blocks 1, 2, 3, 4 from 64 patch tokens') == 1
    assert out.index('whitening of blocks') < out.index('Iter(train)')


def test_checkpoints_hold_it(trained):
    states = [prompter_of(trained / f'work/iter_{i}.pth') for i in (2, 4)]
    for state in states:
        assert set(state) == {'left', 'right_fixed', 'right_tuned', 'prepared'}
        assert state['prepared']
    assert torch.equal(states[0]['right_fixed'], states[1]['right_fixed'])
    assert not torch.equal(states[0]['right_tuned'], states[1]['right_tuned'])


def test_resuming_does_not_prepare_again(trained, tmp_path):
    run = ok(
        run_tool(
            'train.py',
            trained / 'mini_seg.py',
            '--work-dir',
            tmp_path / 'work',
            '--resume',
            trained / 'work/iter_2.pth',
            cwd=tmp_path,
        )
    )
    assert 'whitening' not in run.out
    resumed, whole = (
        prompter_of(tmp_path / 'work/iter_4.pth'),
        prompter_of(trained / 'work/iter_4.pth'),
    )
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_testing_needs_no_training_data(trained, tmp_path):
    data = tmp_path / 'ADEChallengeData2016'
    shutil.copytree(trained / 'ADEChallengeData2016', data)
    shutil.rmtree(data / 'images/training')
    run = ok(
        run_tool(
            'test.py',
            trained / 'mini_seg.py',
            trained / 'work/iter_4.pth',
            '--data-root',
            data,
            '--work-dir',
            tmp_path / 'work',
            cwd=tmp_path,
        )
    )
    assert 'mIoU' in run.out and 'whitening' not in run.out


@pytest.mark.parametrize('start', ['sample', 'kmeans', 'mean'])
def test_prompts_from_the_images_of_a_classifier(start, tmp_path):
    config = write_classification(tmp_path).config
    prompter = {'_delete_': True, 'type': 'SelfPrompt', 'num_tokens': 3, 'start': start}
    config.write_text(
        config.read_text() + f"model['backbone']['prompter'].update({prompter!r})\n"
        'train_cfg = dict(max_epochs=1, val_interval=1)\n'
    )
    run = ok(run_tool('train.py', config, '--work-dir', tmp_path / 'work', cwd=tmp_path))
    assert f'prompts of 1 block(s) started from patch tokens ({start})' in run.out


def test_a_checkpoint_that_was_never_prepared_is_refused(trained, tmp_path):
    checkpoint = torch.load(trained / 'work/iter_4.pth', weights_only=False)
    checkpoint['state_dict']['backbone.prompter.prepared'].fill_(False)
    torch.save(checkpoint, tmp_path / 'unprepared.pth')
    run = run_tool(
        'test.py', trained / 'mini_seg.py', tmp_path / 'unprepared.pth', '--work-dir',
        tmp_path / 'work', cwd=tmp_path,
    )
    assert run.code == 2
    assert 'BilinearPrompt starts from training data and has not been prepared' in run.err
