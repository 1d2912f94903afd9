"""Runs of methods with losses of their own: their log, resuming, testing, reporting, exporting."""

import json
import signal

import pytest
import torch
from exact_runs import Tool, write_run
from miniatures import once, run_ok, run_tool, write_segmentation

from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from projects.soak.rounds import done_iterations, ended

# Three classes and two guided prompts: k-means runs after every pass.
DAVPT = {'type': 'DAVPT', 'guided_tokens': 2, 'first_guided': 3}
METHODS = {
    'da-vpt': {**DAVPT, 'num_tokens': 3, 'dropout': 0.1},
    'all': {
        'type': 'PrototypePrompt',
        'num_tokens': 2,
        'dropout': 0.1,
        'prompter': {'type': 'PAE', 'prompter': DAVPT, 'width': 4},
    },
}
LOSSES = {
    'da-vpt': {'loss_davpt_patches', 'loss_davpt_class'},
    'all': {
        'loss_prototypeprompt_distance', 'loss_prototypeprompt_pae_koopman',
        'loss_prototypeprompt_pae_stability', 'loss_prototypeprompt_pae_davpt_patches',
        'loss_prototypeprompt_pae_davpt_class',
    },
}


def start(folder, work):
    return Tool(
        'train.py', folder / 'mini_cls.py', '--work-dir', work, '--resume', '--checkpoint',
        'prompts', cwd=folder, output=work.with_suffix('.txt'),
    )


def text_of(work):
    return work.with_suffix('.txt').read_text()


@pytest.fixture(scope='module', params=['da-vpt', pytest.param('all', marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    """A method's name and the folder of its run."""

    def make(folder):
        config = write_run(folder, 'classification')
        prompter = dict(METHODS[request.param], _delete_=True)
        config.write_text(f"{config.read_text()}\nmodel['backbone']['prompter'] = {prompter!r}\n")
        assert start(folder, folder / 'whole').wait() == 0, text_of(folder / 'whole')

    return request.param, once(tmp_path_factory, f'losses_{request.param}', make)


def test_losses_are_in_the_log(run):
    name, folder = run
    lines = [line for line in read_log(folder / 'whole') if line['mode'] == 'train']
    assert len(lines) == 12
    for line in lines:
        assert LOSSES[name] == {key for key in line if key.startswith('loss_')} - {'loss_cls'}
        parts = sum(line[key] for key in line if key.startswith('loss_'))
        assert line['loss'] == pytest.approx(parts, rel=1e-4)
        assert all(line[key] >= 0 for key in LOSSES[name])


def test_it_is_prepared_once_and_clustered_after_every_pass(run):
    name, folder = run
    text = text_of(folder / 'whole')
    assert text.count('backbone.prompter: 3 classes are mapped to') == 1
    assert text.count('INFO - ' + type_of(name) + ': ') == 4  # a line for each pass
    assert ('; prototypes of 3 classes from' in text) == (name == 'all')


def type_of(name):
    return METHODS[name]['type']


def test_stopped_in_the_middle_of_a_pass_and_resumed(run, tmp_path):
    _, folder = run
    work = tmp_path / 'stopped'
    process = start(folder, work)
    while process.poll() is None and done_iterations(work) < 4:
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75, text_of(work)
    state = torch.load(work / 'interrupted.pth', map_location='cpu', weights_only=False)
    counts = [v for k, v in state['state_dict'].items() if k.endswith('classes.counts')]
    assert done_iterations(work) % 3 == 0 or counts[0].sum() > 0
    assert start(folder, work).wait() == 0, text_of(work)
    assert 'backbone.prompter: 3 classes' not in text_of(work).split('interrupted.pth')[-1]
    assert ended(work) == ended(folder / 'whole')


def test_its_checkpoint_is_tested_reported_and_exported(run, tmp_path):
    _, folder = run
    work = folder / 'whole'
    checkpoint = (work / 'last_checkpoint').read_text()
    run_ok('test.py', work / 'mini_cls.py', checkpoint, '--work-dir', tmp_path / 'test',
                    cwd=tmp_path)
    (tested,) = (tmp_path / 'test').glob('*/*.json')
    found = json.loads(tested.read_text())['accuracy/top1']
    assert found == [line for line in read_log(work) if line['mode'] == 'val'][-1]['accuracy/top1']
    run_ok('report.py', work, '--out', tmp_path / 'page.html', cwd=tmp_path)
    out = tmp_path / 'model.pt2'
    run_ok('deployment/export.py', work, out, cwd=tmp_path)
    assert out.stat().st_size > 0


def segmentation(folder, prompter):
    config = write_segmentation(folder).config
    prompter = dict(prompter, _delete_=True)
    config.write_text(f"{config.read_text()}\nmodel['backbone']['prompter'] = {prompter!r}\n")
    return run_tool('train.py', config, '--work-dir', folder / 'work', cwd=folder)


def test_a_segmentation_maps_the_classes_of_its_images(tmp_path):
    done = segmentation(tmp_path, {**DAVPT, 'num_tokens': 3})
    assert done.code == 0, done.err[-3000:]
    assert 'classes are mapped to 2 of 2 prompts' in done.out
    lines = [line for line in read_log(tmp_path / 'work') if line['mode'] == 'train']
    assert all(line[key] > 0 for line in lines for key in LOSSES['da-vpt'])


def test_a_segmentation_has_no_vectors_for_prototypes(tmp_path):
    done = segmentation(tmp_path, {**METHODS['all'], 'prompter': {'type': 'VPT'}})
    assert done.code == 2 and 'Traceback' not in done.err
    assert "PrototypePrompt: out_type='featmap' is no vector per image" in done.err
