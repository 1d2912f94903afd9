"""The two phases, with a launcher that trains nothing: who sees which data, what is refused."""

import csv
import json

import pytest
from mmengine.config import Config

from lspt_mm.config.load import read_config
from lspt_mm.errors import InputError
from lspt_mm.search.grid import Outcome, expand_grid
from lspt_mm.search.plan import final_config, usual_final_on
from lspt_mm.search.protocol import Search, mean_and_deviation
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import write_json

#: What a run of a learning rate comes to on validation data.
ON_VAL = {0.1: 40.0, 0.25: 50.0, 0.5: 70.0, 1.0: 70.0}


class Pretender:
    """Writes results as a worker would; keeps the configs it was given."""

    def __init__(self, fail=()):
        self.seen, self.fail = [], list(fail)

    def __call__(self, folders, on_done):
        for folder in folders:
            self.seen.append(folder.name)
            if folder.name in self.fail:
                (folder / 'log.txt').write_text('chatter\nerror: no memory left\nfor this\n')
                on_done(folder, 2)
                continue
            cfg = Config.fromfile(folder / 'config.py')
            lr, seed = cfg.optim_wrapper.optimizer.lr, cfg.randomness.seed
            tested = cfg.get('test_dataloader') is not None
            write_json(folder / 'result.json', {
                'accuracy': 60 + seed / 100 if tested else ON_VAL[lr],
                'trainable': {'prompts': 5, 'backbone': 0, 'head': 7, 'all': 99},
            })
            on_done(folder, 0)


def config_of(point):
    return read_config('vtab1k/lspt_mae_dtd:arch=deit-tiny,img_size=32', point)


def search(folder, launcher=None, lrs=(0.1, 0.5, 1.0), **kwargs):
    kwargs = {'seeds': [1, 2], **kwargs}
    return Search(
        folder, config_of, expand_grid({'lr': list(lrs)}), launcher or Pretender(), **kwargs
    )


def run(it):
    chosen = it.select()
    return chosen, it.finish(chosen)


def rows(folder):
    with open(folder / 'results.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_selects_on_validation_and_tests_each_seed_once(tmp_path):
    launcher = Pretender()
    chosen, accuracies = run(search(tmp_path, launcher))
    assert (chosen.point, chosen.accuracy) == ({'lr': 0.5}, 70.0)  # the smaller of equals
    assert accuracies == [60.01, 60.02]
    assert launcher.seen == ['lr=0.1', 'lr=0.5', 'lr=1', 'seed=1', 'seed=2']
    assert [
        (r['phase'], r['lr'], r['seed'], r['split'], r['accuracy']) for r in rows(tmp_path)
    ] == [
        ('selection', '0.1', '42', 'val', '40.0000'),
        ('selection', '0.5', '42', 'val', '70.0000'),
        ('selection', '1.0', '42', 'val', '70.0000'),
        ('final', '0.5', '1', 'test', '60.0100'),
        ('final', '0.5', '2', 'test', '60.0200'),
    ]
    assert rows(tmp_path)[0]['prompts'] == '5'


def test_configs_of_selection_do_not_know_the_test_data(tmp_path):
    run(search(tmp_path))
    texts = [p.read_text() for p in tmp_path.glob('selection/*/config.py')]
    assert len(texts) == 3
    for text in texts:
        assert "split='test'" not in text
        cfg = Config.fromstring(text, '.py')
        assert cfg.test_dataloader is cfg.test_cfg is cfg.test_evaluator is None
        assert cfg.train_dataloader.dataset.split == 'train800'
        assert cfg.val_dataloader.dataset.split == 'val200'


def test_final_runs_are_trained_on_both_and_validated_on_nothing(tmp_path):
    run(search(tmp_path))
    cfg = Config.fromfile(tmp_path / 'final/seed=2/config.py')
    assert cfg.train_dataloader.dataset.split == 'train800val200'
    assert cfg.test_dataloader.dataset.split == 'test'
    assert cfg.val_dataloader is cfg.val_cfg is cfg.val_evaluator is None
    assert (cfg.randomness.seed, cfg.optim_wrapper.optimizer.lr) == (2, 0.5)


def test_final_runs_are_trained_as_in_the_papers():
    for name, want in (('fgvc/lspt_mae_cub', 'train'), ('vtab1k/lspt_mae_dtd', 'train+val')):
        assert usual_final_on(read_config(name)) == want


def test_a_search_goes_on_as_it_began(tmp_path):
    for given in ('train', None):
        it = search(tmp_path, final_on=given)
        run(it)
        assert it.final_on == 'train'


def test_without_a_list_of_both_the_data_sets_are_joined(tmp_path):
    def fgvc(point):
        return read_config('fgvc/lspt_mae_cub:arch=deit-tiny', point)

    for on, count in (('train+val', 2), ('train', 1)):
        it = Search(tmp_path / on, fgvc, expand_grid({'lr': [0.1]}), Pretender(), final_on=on)
        run(it)
        dataset = Config.fromfile(
            tmp_path / on / 'final/seed=42/config.py'
        ).train_dataloader.dataset
        parts = dataset.get('datasets', [dataset])
        assert [p.split for p in parts] == ['train', 'val'][:count]
        assert all(p.pipeline == parts[0].pipeline for p in parts)
        assert 'RandomCrop' in {t.type for t in parts[-1].pipeline}


@pytest.mark.parametrize(
    'method, content', [('lspt', 'prompts'), ('linear', 'prompts'), ('full', 'full')]
)
def test_final_checkpoints_leave_out_what_can_be_found_again(method, content):
    name = f'vtab1k/{method}_mae_dtd:arch=deit-tiny,img_size=32'
    cfg = final_config(read_config(name), seed=1)
    assert cfg.default_hooks.checkpoint.content == content


def test_going_on_repeats_nothing_and_ends_with_the_same_file(tmp_path):
    run(search(tmp_path / 'whole'))

    class Killed(Pretender):
        def __call__(self, folders, on_done):
            super().__call__(folders[:2], on_done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(search(tmp_path / 'torn', Killed()))
    assert len(rows(tmp_path / 'torn')) == 2
    # A run that was interrupted has no result, whatever else it left.
    (tmp_path / 'torn/selection/lr=1/run').mkdir()
    launcher = Pretender()
    run(search(tmp_path / 'torn', launcher))
    assert launcher.seen == ['lr=1', 'seed=1', 'seed=2']
    same = [(tmp_path / name / 'results.csv').read_bytes() for name in ('whole', 'torn')]
    assert same[0] == same[1]


def test_failed_runs_are_named_kept_apart_and_tried_again(tmp_path):
    with pytest.raises(
        InputError, match=r'1 of 3 runs failed(.|\n)*error: no memory left for this'
    ):
        run(search(tmp_path, Pretender(fail=['lr=0.5'])))
    assert not (tmp_path / 'final').exists()
    launcher = Pretender()
    run(search(tmp_path, launcher))
    assert launcher.seen[0] == 'lr=0.5'


def test_more_points_before_the_test_but_not_after(tmp_path):
    search(tmp_path, lrs=(0.1,)).select()
    launcher = Pretender()
    run(search(tmp_path, launcher))
    assert launcher.seen[:2] == ['lr=0.5', 'lr=1']
    with pytest.raises(InputError, match='test set has been used.*another --work-dir'):
        search(tmp_path, lrs=(0.1, 0.5)).select()


def test_more_seeds_after_the_test(tmp_path):
    run(search(tmp_path))
    launcher = Pretender()
    run(search(tmp_path, launcher, seeds=[1, 2, 7]))
    assert launcher.seen == ['seed=7']
    assert [r['seed'] for r in rows(tmp_path)][3:] == ['1', '2', '7']


def test_final_runs_on_other_data_are_refused(tmp_path):
    run(search(tmp_path))
    with pytest.raises(
        InputError, match=r'on train\+val; now it would be lr=0.5 trained on train \(--final-on\)'
    ):
        run(search(tmp_path, final_on='train'))


def test_runs_of_other_settings_are_not_taken_for_these(tmp_path):
    run(search(tmp_path))
    with pytest.raises(InputError, match='holds a run with other settings'):
        search(tmp_path, selection_seed=3).select()


def test_state_says_what_was_chosen_and_from_what(tmp_path):
    run(search(tmp_path))
    state = json.loads((tmp_path / 'search.json').read_text())
    assert state['chosen'] == {'lr': 0.5}
    assert state['grid'] == ['lr=0.1', 'lr=0.5', 'lr=1']
    assert state['validation_accuracy'] == 70.0


@pytest.mark.parametrize(
    ('values', 'text'),
    [([71.0], '71.00'), ([70.0, 72.0], '71.00 ± 1.41'), ([1.0, 2.0, 3.0], '2.00 ± 1.00')],
)
def test_mean_and_deviation(values, text):
    assert mean_and_deviation(values) == text


def test_missing_parts_of_a_config_are_named(tmp_path):
    def without(key):
        def config(point):
            cfg = config_of(point)
            cfg[key] = None
            return cfg

        return config

    points = expand_grid({'lr': [0.1]})
    with pytest.raises(InputError, match='no val_dataloader to select on'):
        Search(tmp_path / 'a', without('val_dataloader'), points, Pretender()).select()
    it = Search(tmp_path / 'b', without('test_dataloader'), points, Pretender())
    with pytest.raises(InputError, match='no test_dataloader'):
        it.finish(it.select())


def own(**changes):
    """A config of one's own, of no benchmark."""
    cfg = config_of({})
    for key in ('experiment', 'final', 'default_hooks'):
        cfg.pop(key)
    cfg.merge_from_dict(changes)
    return lambda point: cfg


def test_test_data_that_are_the_validation_data_are_refused(tmp_path):
    """OpenMMLab's idiom test_dataloader = val_dataloader would have the choice tested on itself."""
    cfg = config_of({})
    cfg.test_dataloader.dataset = cfg.val_dataloader.dataset.copy()
    cfg.test_dataloader.dataset.pipeline = []
    points = expand_grid({'lr': [0.1]})
    it = Search(tmp_path, lambda point: cfg, points, Pretender())
    chosen = it.select()
    with pytest.raises(InputError, match='are its validation data.*--select-only'):
        it.finish(chosen)
    assert not (tmp_path / 'final').exists()


@pytest.mark.parametrize(
    'evaluator',
    [
        None,
        {'type': 'IoUMetric'},
        {'type': 'Accuracy', 'topk': (5,)},
        [{'type': 'SingleLabelMetric'}],
    ],
)
def test_another_metric_is_refused_before_the_first_run(evaluator, tmp_path):
    cfg = config_of({})
    cfg.val_evaluator = evaluator
    launcher = Pretender()
    with pytest.raises(InputError, match='val_evaluator of this config measures no top-1'):
        Search(tmp_path, lambda point: cfg, expand_grid({'lr': [0.1]}), launcher).select()
    assert launcher.seen == []


@pytest.mark.parametrize(('metrics', 'measured'), [(['mDice'], False), (['mDice', 'mIoU'], True)])
def test_segmentation_without_miou_is_not_selected_by_it(metrics, measured):
    evaluator = dict(type='lspt_mm.IoUMetric', iou_metrics=metrics)
    segmentation = task_of({'default_scope': 'mmseg'})
    assert segmentation.measured_by(evaluator) == measured
    cfg = Config({'test_evaluator': evaluator})
    segmentation.dump(cfg, 'out')  # masks are written all the same
    assert cfg.test_evaluator.output_dir == 'out'


def test_configs_of_ones_own(tmp_path):
    """No default_hooks, a list of evaluators, iterations rather than epochs."""
    accuracy = {'type': 'mmpretrain.Accuracy', 'topk': 1}
    config = own(
        val_evaluator=[accuracy], test_evaluator=[accuracy],
        train_cfg={'_delete_': True, 'by_epoch': False, 'max_iters': 70},
    )
    run(Search(tmp_path, config, [{}], Pretender()))
    cfg = Config.fromfile(tmp_path / 'final/seed=42/config.py')
    hook = cfg.default_hooks.checkpoint
    assert (hook.type, hook.by_epoch, hook.interval) == ('lspt_mm.PromptCheckpointHook', False, 70)
    assert len(cfg.train_dataloader.dataset.datasets) == 2


def test_validation_images_are_wrapped_as_those_of_training(tmp_path):
    cfg = own()({})
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    cfg.train_dataloader.dataset = {'type': 'RepeatDataset', 'times': 2, 'dataset': train}
    run(Search(tmp_path, lambda point: cfg, [{}], Pretender()))
    found = Config.fromfile(tmp_path / 'final/seed=42/config.py').train_dataloader.dataset
    assert [part.type for part in found.datasets] == ['RepeatDataset'] * 2
    assert found.datasets[1].dataset.to_dict() == {**val, 'pipeline': train.pipeline}


def test_a_wrapper_that_cannot_be_joined_is_told_how(tmp_path):
    cfg = own()({})
    cfg.train_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': []}
    it = Search(tmp_path, lambda point: cfg, [{}], Pretender())
    with pytest.raises(InputError, match='ConcatDataset has no pipeline.*final = dict'):
        it.finish(it.select())


def test_a_final_phase_that_never_came_to_the_test_locks_nothing(tmp_path):
    with pytest.raises(InputError, match='runs failed'):
        run(search(tmp_path, Pretender(fail=['seed=1', 'seed=2']), lrs=(0.1,)))
    assert (tmp_path / 'final').is_dir()
    chosen, accuracies = run(search(tmp_path))
    assert chosen.point == {'lr': 0.5}
    assert accuracies == [60.01, 60.02]


def test_a_test_that_was_begun_locks(tmp_path):
    with pytest.raises(InputError, match='runs failed'):
        run(search(tmp_path, Pretender(fail=['seed=1', 'seed=2']), lrs=(0.1,)))
    (tmp_path / 'final/seed=2/test_begun').touch()
    with pytest.raises(InputError, match='the test set has been used, for lr=0.1'):
        run(search(tmp_path))


def test_another_choice_after_the_test_changes_nothing(tmp_path):
    run(search(tmp_path))
    before = (tmp_path / 'search.json').read_bytes()
    path = tmp_path / 'selection/lr=0.1/result.json'
    path.write_text(path.read_text().replace('40.0', '99.0'))
    with pytest.raises(InputError, match=r'used, for lr=0\.5 .* it would be lr=0\.1'):
        run(search(tmp_path))
    assert (tmp_path / 'search.json').read_bytes() == before
    (tmp_path / 'search.json').unlink()
    with pytest.raises(InputError, match=r'has final runs, but no search\.json'):
        run(search(tmp_path))


@pytest.mark.parametrize(
    ('file', 'text', 'said'),
    [
        ('search.json', '', 'search.json: not a JSON file'),
        ('search.json', '{}', 'search.json: not as a search writes it'),
        ('search.json', '[]', 'search.json: not as a search writes it'),
        ('search.json', 'null', 'search.json: not as a search writes it'),
        ('selection/lr=0.1/result.json', '{', 'result.json: not a JSON file'),
        ('selection/lr=0.1/result.json', '{}', 'not a result of a run; remove the file'),
        ('selection/lr=0.1/result.json', 'null', 'not a result of a run; remove the file'),
    ],
)
def test_damaged_files(file, text, said, tmp_path):
    run(search(tmp_path))
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=said):
        run(search(tmp_path))


def test_a_users_copy_of_a_run_is_left_alone(tmp_path):
    run(search(tmp_path))
    for name in ('seed=1.bak', 'seed=x'):
        (tmp_path / 'final' / name).mkdir()
    _, accuracies = run(search(tmp_path))
    assert accuracies == [60.01, 60.02]


def test_the_mean_is_of_all_seeds_there_are(tmp_path):
    run(search(tmp_path))
    _, accuracies = run(search(tmp_path, seeds=[7]))
    assert accuracies == [60.01, 60.02, 60.07]


def test_a_search_without_a_grid_has_no_validation_accuracy(tmp_path):
    Search(tmp_path, config_of, [{}], Pretender()).finish(Outcome({}, float('nan')))
    assert json.loads((tmp_path / 'search.json').read_text())['validation_accuracy'] is None
