"""Tables of benchmarks against arithmetic done by hand."""

import csv
import io
import json

import pytest

from lspt_mm.config.benchmarks import VTAB_TASKS
from lspt_mm.errors import InputError
from lspt_mm.search.formats import as_csv, as_latex, as_markdown
from lspt_mm.search.tables import (
    OF_GROUPS,
    OF_TASKS,
    Entry,
    Row,
    collect,
    compact,
    means,
    table_of,
)

SIZES = {'natural': 7, 'specialized': 4, 'structured': 8}
FGVC = ('cub', 'nabirds', 'flowers', 'dogs', 'cars')


def write(
    folder, benchmark, task, method, accuracies, pretraining='mae', weights='x', prompter=None,
    **more,
):
    """What the final runs of a search leave."""
    experiment = {
        'benchmark': benchmark, 'task': task, 'method': method, 'pretraining': pretraining,
        'arch': 'base', 'patch_size': 16, 'img_size': 224, 'official': True, 'head': 'paper',
        'name': f'{benchmark}/{method}_{pretraining}_{task}', **more,
    }
    for seed, accuracy in enumerate(accuracies):
        path = folder / f'{method}_{task.rsplit("/")[-1]}_search/final/seed={seed}/result.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        trainable = {'prompts': 1_000_000, 'backbone': 500_000, 'head': 9, 'all': 99}
        path.write_text(
            json.dumps(
                {'experiment': experiment, 'accuracy': accuracy, 'trainable': trainable,
                 'weights': weights, 'prompter': prompter}
            )
        )


def row_of(text, source='ours'):
    rows = [*csv.DictReader(io.StringIO(text))]
    (row,) = [r for r in rows if r['source'] == source]
    return row


def test_fgvc_with_its_mean_and_the_published_row(tmp_path):
    for task, values in zip(FGVC, ([80, 82], [70, 70], [90, 91], [60, 62], [50, 51]), strict=True):
        write(tmp_path, 'fgvc', task, 'gated', values)
    table = table_of('fgvc', collect([tmp_path])['fgvc'])
    ours = row_of(as_csv(table))
    assert ours['CUB-200-2011'] == '81.00 ± 1.41'
    assert ours['NABirds'] == '70.00 ± 0.00'
    assert ours['mean'] == '70.60'  # (81 + 70 + 90.5 + 61 + 50.5) / 5
    assert ours['parameters (M)'] == '1.500'  # without the head
    published = row_of(as_csv(table), 'arXiv 2306.05067')
    assert (published['CUB-200-2011'], published['mean']) == ('70.56', '73.39')


def test_vtabs_two_means_by_name():
    values = {name: float(number) for number, name in enumerate(VTAB_TASKS)}
    found = means('vtab1k', values)
    # The tasks are in the order of their groups: 0..6, 7..10, 11..18.
    assert (found['natural'], found['specialized'], found['structured']) == (3.0, 8.5, 14.5)
    assert found[OF_TASKS] == pytest.approx(sum(range(19)) / 19)
    assert found[OF_GROUPS] == pytest.approx((3 + 8.5 + 14.5) / 3)
    assert {g: sum(t.group == g for t in VTAB_TASKS.values()) for g in SIZES} == SIZES


def test_no_mean_over_a_part(tmp_path):
    for task, values in (('eurosat', [90.0]), ('resisc45', [80.0]), ('patch_camelyon', [70.0])):
        write(tmp_path, 'vtab1k', task, 'vpt', values)
    row = row_of(as_csv(table_of('vtab1k', collect([tmp_path])['vtab1k'])))
    assert row['EuroSAT'] == '90.00'
    assert row['Retinopathy'] == row['Specialized'] == row[OF_TASKS] == row[OF_GROUPS] == '-'
    write(tmp_path, 'vtab1k', 'diabetic_retinopathy', 'vpt', [60.0])
    row = row_of(as_csv(table_of('vtab1k', collect([tmp_path])['vtab1k'])))
    assert (row['Specialized'], row[OF_TASKS]) == ('75.00', '-')


def test_published_figures_stand_beside_their_own_vit_only(tmp_path):
    write(tmp_path, 'fgvc', 'cub', 'vpt', [50.0], arch='deit-tiny')
    table = table_of('fgvc', collect([tmp_path])['fgvc'])
    assert [row[5] for row in table.rows] == ['ours']
    assert table.rows[0][2] == 'deit-tiny/16, 224 px'


def test_a_fitted_head_has_a_row_of_its_own_and_no_published_figures(tmp_path):
    write(tmp_path / 'a', 'fgvc', 'cub', 'vpt', [50.0])
    write(tmp_path / 'b', 'fgvc', 'cub', 'vpt', [60.0], head='fitted')
    rows = table_of('fgvc', collect([tmp_path / 'a', tmp_path / 'b'])['fgvc']).rows
    ours = {row[2]: row[6] for row in rows if row[5] == 'ours'}
    assert ours == {'base/16, 224 px': '50.00', 'base/16, 224 px, fitted head': '60.00'}
    fitted_only = table_of('fgvc', collect([tmp_path / 'b'])['fgvc'])
    assert [row[5] for row in fitted_only.rows] == ['ours']


def test_splits_that_are_not_official_are_marked(tmp_path):
    write(tmp_path, 'vtab1k', 'eurosat', 'vpt', [50.0], official=False)
    row = row_of(as_csv(table_of('vtab1k', collect([tmp_path])['vtab1k'])))
    assert row['EuroSAT'] == '50.00 (not the official split)'


def test_rows_by_method_without_prompts_first_and_folders_as_columns(tmp_path):
    for method in ('lspt', 'linear', 'vpt'):
        for task in ('/data/shells', 'data/leaves/'):
            write(tmp_path / task.strip('/'), 'imagefolder', task, method, [1.0])
    table = table_of('imagefolder', collect([tmp_path])['imagefolder'])
    assert table.header[6:] == ['leaves', 'shells']
    assert [row[0] for row in table.rows] == ['Linear probe', 'LSPT', 'VPT-shallow']


def test_a_prompter_of_ones_own_has_its_own_row(tmp_path):
    for folder, prompter in ((tmp_path / 'a', 'LSPT'), (tmp_path / 'b', 'MyPrompt')):
        write(folder, 'fgvc', 'cub', 'lspt', [50.0], prompter=prompter)
    write(tmp_path, 'fgvc', 'cub', 'linear', [40.0])
    table = table_of('fgvc', collect([tmp_path])['fgvc'])
    ours = [row[0] for row in table.rows if row[5] == 'ours']
    assert ours == ['Linear probe', 'LSPT', 'MyPrompt']
    assert not any(row[0] == 'MyPrompt' and row[5] != 'ours' for row in table.rows)


def test_one_experiment_in_two_places(tmp_path):
    write(tmp_path / 'a', 'fgvc', 'cub', 'vpt', [50.0])
    write(tmp_path / 'b', 'fgvc', 'cub', 'vpt', [51.0])
    with pytest.raises(InputError, match='fgvc/vpt_mae_cub was run in two places'):
        collect([tmp_path])
    assert len(collect([tmp_path / 'a'])['fgvc']) == 1


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(InputError, match='no final run'):
        collect([tmp_path])


def test_formats():
    row = Row('mae', 'base', 16, 224, 'lspt')
    table = table_of('imagefolder', {row: {'a_b': Entry((1.0, 2.0), 10)}})
    assert as_markdown(table) == (
        '| method | pre-training | ViT | parameters (M) | seeds | source | a_b |\n'
        '| --- | --- | --- | --- | --- | --- | --- |\n'
        '| LSPT | mae | base/16, 224 px | 0.000 | 2 | ours | 1.50 ± 0.71 |\n'
    )
    latex = as_latex(table)
    assert r'LSPT & mae & base/16, 224 px & 0.000 & 2 & ours & 1.50 $\pm$ 0.71 \\' in latex
    assert r'a\_b' in latex
    assert '{lllrrlr}' in latex
    assert [*csv.reader(io.StringIO(as_csv(table)))][1][-1] == '1.50 ± 0.71'


def test_folders_that_overlap_count_once(tmp_path):
    write(tmp_path / 'a', 'fgvc', 'cub', 'vpt', [61.0, 62.0])
    link = tmp_path / 'link'
    link.symlink_to(tmp_path / 'a')
    (entries,) = collect([tmp_path / 'a', tmp_path, link])['fgvc'].values()
    assert entries['cub'].accuracies == (61.0, 62.0)


def test_a_mean_over_data_that_are_not_official_says_so(tmp_path):
    for task in FGVC:
        write(tmp_path, 'fgvc', task, 'lspt', [50.0], official=task != 'dogs')
    row = row_of(as_csv(table_of('fgvc', collect([tmp_path])['fgvc'])))
    assert row['mean'] == '50.00 (not the official split)'
    assert row['CUB-200-2011'] == '50.00'


def test_a_random_vit_is_not_called_pre_trained(tmp_path):
    write(tmp_path, 'fgvc', 'cub', 'vpt', [50.0], weights=None)
    table = table_of('fgvc', collect([tmp_path])['fgvc'])
    assert [row[1] for row in table.rows] == ['random']  # and no published row beside it


def test_the_number_of_seeds_is_shown(tmp_path):
    write(tmp_path, 'fgvc', 'cub', 'vpt', [50.0])
    write(tmp_path, 'fgvc', 'dogs', 'vpt', [50.0, 51.0, 52.0])
    assert row_of(as_csv(table_of('fgvc', collect([tmp_path])['fgvc'])))['seeds'] == '1 to 3'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'not a JSON file'),
        ('{}', 'not a result of a run'),
        ('[]', 'not a result of a run'),
        ('{"accuracy": "50", "trainable": {"prompts": 1, "backbone": 0, "head": 1}}', 'not a res'),
        ('{"accuracy": 5, "trainable": {"prompts": 1, "backbone": 0, "head": 1}, "experiment": {}}',
         'its experiment lacks arch, benchmark'),
    ],
)
def test_damaged_results(text, said, tmp_path):
    write(tmp_path, 'fgvc', 'cub', 'vpt', [50.0])
    (tmp_path / 'vpt_cub_search/final/seed=0/result.json').write_text(text)
    with pytest.raises(InputError, match=said):
        collect([tmp_path])


@pytest.mark.parametrize(
    'experiment', [{'task': 'imagenet'}, {'method': 'nosuch'}]
)
def test_experiments_of_no_benchmark(experiment, tmp_path):
    experiment = {'task': 'cub', 'method': 'vpt', 'pretraining': 'mae', **experiment}
    write(tmp_path, 'fgvc', accuracies=[50.0], **experiment)
    with pytest.raises(InputError, match='belongs to none of the benchmarks'):
        collect([tmp_path])


def test_other_weights_come_last(tmp_path):
    for pretraining in ('/data/vit.pth', 'mae', 'timm:vit_base_patch14_dinov2.lvd142m'):
        name = pretraining.split(':')[-1].replace('/', '_')
        arch = dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)
        write(tmp_path / name, 'imagefolder', '/data/mine', 'vpt', [50.0], pretraining, arch=arch)
    table = table_of('imagefolder', collect([tmp_path])['imagefolder'])
    assert [row[1] for row in table.rows] == ['mae', 'vit', 'vit_base_patch14_dinov2.lvd142m']
    assert table.rows[0][2] == '384 wide, 12 blocks/16, 224 px'


def test_compact_tables_leave_out_what_was_not_run(tmp_path):
    write(tmp_path, 'fgvc', 'dogs', 'gated', [50.0])
    table = compact(table_of('fgvc', collect([tmp_path])['fgvc']))
    assert table.header[6:] == ['Stanford Dogs']
    # The published figure beside it stays.
    assert [row[6:] for row in table.rows] == [['50.00'], ['78.90']]
