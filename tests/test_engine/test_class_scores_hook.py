"""Scores of each class after a validation, by arithmetic on three images."""

import json
from types import SimpleNamespace

import pytest
import torch

from lspt_mm.engine.hooks import ClassScoresHook


class Images(list):
    """As a data set of three images."""

    metainfo = {'classes': [*'abcd']}

    def __init__(self):
        super().__init__(range(3))


class Sample(SimpleNamespace):
    """As a data sample: fields by name, and which there are."""

    def __contains__(self, name):
        return hasattr(self, name)


@pytest.fixture
def told():
    return []


@pytest.fixture
def runner(tmp_path, told):
    loader = SimpleNamespace(dataset=Images())
    return SimpleNamespace(
        cfg=dict(default_scope='mmseg'), work_dir=str(tmp_path), iter=7,
        model=SimpleNamespace(decode_head=SimpleNamespace(num_classes=4)),
        val_dataloader=loader, test_dataloader=loader,
        logger=SimpleNamespace(warning=told.append),
    )


def validate(runner):
    """0 and 2 are true, 1 and 0 predicted; 255 counts for nothing."""
    hook = ClassScoresHook()
    hook.before_val_epoch(runner)
    for truth, predicted in (([[0, 0]], [[0, 1]]), ([[0, 255]], [[0, 3]]), ([[2, 2]], [[1, 1]])):
        truth, predicted = (SimpleNamespace(data=torch.tensor([a])) for a in (truth, predicted))
        hook.after_val_iter(runner, 0, None, [Sample(gt_sem_seg=truth, pred_sem_seg=predicted)])
    hook.after_val_epoch(runner)
    return hook


def test_the_file_of_a_validation(runner, tmp_path):
    validate(runner)
    found = json.loads((tmp_path / 'validation.json').read_text())
    assert found['classes'] == {'a': pytest.approx(200 / 3), 'b': 0.0, 'c': 0.0, 'd': None}
    assert found['value'] == pytest.approx(200 / 9)
    assert (found['metric'], found['class_metric'], found['iter']) == ('mIoU', 'IoU', 7)


def test_classes_that_are_never_predicted(runner, told):
    validate(runner).after_train(runner)
    assert told == ['1 of the 2 classes in the last validation are never predicted: c']


@pytest.mark.parametrize('rank', [0, 1])
def test_images_that_a_process_repeats_are_not_counted(rank, runner, monkeypatch):
    """Two processes have two images each: 0 and 2, 1 and 0 again."""
    hooks = 'lspt_mm.engine.hooks.class_scores_hook'
    monkeypatch.setattr(f'{hooks}.get_world_size', lambda: 2)
    monkeypatch.setattr(f'{hooks}.get_rank', lambda: rank)
    hook = ClassScoresHook()
    hook.before_val_epoch(runner)
    for image in (0, 2) if rank == 0 else (1, 0):
        one = SimpleNamespace(data=torch.tensor([[[image]]]))
        hook.after_val_iter(runner, 0, None, [Sample(gt_sem_seg=one, pred_sem_seg=one)])
    counted = [0, 2] if rank == 0 else [1]
    assert hook.counts.diagonal().nonzero()[0].tolist() == counted


def test_without_a_validation(runner, told, tmp_path):
    ClassScoresHook().after_train(runner)
    assert not told and not (tmp_path / 'validation.json').exists()


def test_images_without_a_truth_are_not_counted(runner, tmp_path):
    hook = ClassScoresHook()
    hook.before_test_epoch(runner)
    predicted = SimpleNamespace(data=torch.tensor([[[0, 1]]]))
    hook.after_test_iter(runner, 0, None, [Sample(pred_sem_seg=predicted)])
    hook.after_test_epoch(runner)
    assert not (tmp_path / 'test.json').exists()
