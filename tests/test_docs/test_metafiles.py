"""model-index.yml and metafiles: configs that build, parameters counted, the results measured."""

import json
import re
import sys

import modelindex
import pytest
import torch
import yaml
from miniatures import CONFIGS, ROOT
from mmengine.config.utils import _get_cfg_metainfo
from mmengine.registry import MODELS, init_default_scope

from lspt_mm.config.load import read_config
from lspt_mm.engine.runner import prepare_for_cpu
from lspt_mm.recipes import METHODS
from lspt_mm.registry import PROMPTERS

pytestmark = pytest.mark.docs

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
FILES = {path: yaml.safe_load((ROOT / path).read_text()) for path in INDEX}
MODELS_OF = {path: content['Models'] for path, content in FILES.items()}
COLLECTIONS = {c['Name']: c for content in FILES.values() for c in content.get('Collections', [])}
ENTRIES = [model for models in MODELS_OF.values() for model in models]
RESULTS = (ROOT / 'docs' / 'results.md').read_text()

#: Methods by their labels in the tables of docs/results.md, where these are not their titles.
LABELS = {
    **{method.title: name for name, method in METHODS.items()},
    'no prompts': 'frozen', 'all of the ViT': 'full',
}
#: The paper that the file of a method names.
PAPER = re.compile(r'arXiv (\d{4}\.\d{5})\)\.$', re.MULTILINE)


def collection_of(prompter):
    """Name of the collection whose paper the method's own file names."""
    (paper,) = PAPER.findall(sys.modules[PROMPTERS.get(prompter.type).__module__].__doc__)
    (name,) = [n for n, c in COLLECTIONS.items() if c.get('Paper', '').endswith(f'/{paper}')]
    return name


def column(name):
    """Cells by method of a column of the page's table of methods, without the empty ones."""
    found = re.search(r'^\| method \|.*(?:\n\|.*)+', RESULTS, re.MULTILINE)[0]
    header, _, *rows = [[c.strip() for c in row.split('|')[1:-1]] for row in found.splitlines()]
    cells = {}
    for label, *row in rows:
        title = label.split(' (')[0]
        cells[LABELS.get(title, title)] = row[header.index(name) - 1]
    return {method: cell for method, cell in cells.items() if cell}


def measured(path):
    """Metrics by method and data set, of a metafile."""
    found = {}
    for model in MODELS_OF[path]:
        method = re.split(r'_(?:mae|upernet|linear)_', model['Name'])[0]
        for result in model['Results']:
            values = {k: f'{v:.2f}' for k, v in result['Metrics'].items()}
            kind = '_linear_' in model['Name']
            found[method, kind, result['Dataset'].split(', ')[-1]] = values
    return found


def test_model_index_is_as_the_package_modelindex_wants_it(capsys):
    index = modelindex.load(str(ROOT))
    index.build_models_with_collections()
    assert index.check(silent=False) is not False
    assert 'All good!' in capsys.readouterr().out
    assert len(index.models) == len(ENTRIES) and len(index.collections) == len(COLLECTIONS)


def test_every_metafile_is_imported():
    assert {p.relative_to(ROOT).as_posix() for p in CONFIGS.rglob('*.yml')} == set(INDEX)


def test_names_are_unique_and_as_mim_takes_them():
    names = [model['Name'] for model in ENTRIES]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() for name in names)  # mim asks in lower case


def test_no_weights_are_promised():
    assert not [model['Name'] for model in ENTRIES if 'Weights' in model]


def test_papers_are_those_that_the_methods_themselves_name():
    modules = {sys.modules[cls.__module__].__doc__ for cls in PROMPTERS.module_dict.values()}
    cited = {paper for text in modules for paper in PAPER.findall(text)}
    papers = {c['Paper'].rsplit('/', 1)[-1] for c in COLLECTIONS.values() if 'Paper' in c}
    assert papers == cited and len(papers) >= 6


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Where ``data/flowers36`` is a folder that prepare.py wrote, of 36 classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/flowers36').mkdir(parents=True)
    about = {'classes': [f'class {i}' for i in range(36)], 'images': {'test': 36}}
    (tmp_path / 'data/flowers36/about.json').write_text(json.dumps(about))


@pytest.mark.parametrize('model', ENTRIES, ids=lambda model: model['Name'])
def test_config_builds_and_has_the_parameters_that_are_named(model, folders):
    meta = model['Metadata']
    arguments = meta.get('Config Arguments')
    assert (ROOT / model['Config']).is_file()
    cfg = read_config(str(ROOT / model['Config']) + (f':{arguments}' if arguments else ''))
    cfg.launcher = 'none'
    init_default_scope(cfg.default_scope)
    prepare_for_cpu(cfg)
    with torch.device('meta'):
        built = MODELS.build(cfg.model)
    sizes = {n: (p.numel(), p.requires_grad) for n, p in built.named_parameters()}
    assert meta['Parameters'] == sum(size for size, _ in sizes.values())
    assert meta['Trainable Parameters'] == sum(size for size, trained in sizes.values() if trained)
    assert meta['Trainable Parameters of the Backbone'] == sum(
        size for name, (size, trained) in sizes.items() if trained and name.startswith('backbone.')
    )
    assert meta['Batch Size'] == cfg.train_dataloader.batch_size
    length = ('Epochs', 'max_epochs') if 'Epochs' in meta else ('Iterations', 'max_iters')
    assert meta[length[0]] == cfg.train_cfg[length[1]]
    prompter = cfg.model.backbone.get('prompter')
    plain = 'Full fine-tuning' if cfg.model.backbone.get('tune') == 'full' else 'No prompts'
    assert model['In Collection'] == (collection_of(prompter) if prompter else plain)
    assert model['In Collection'] in COLLECTIONS
    if arguments:
        assert f'method={model["Name"].split("_")[0]},' in arguments
        assert model['Name'].split('_')[0] in METHODS


def test_camvid_is_the_pages_column():
    expected = {(m, False, 'validation'): {'mIoU': v} for m, v in column('CamVid').items()}
    assert measured('configs/camvid/metafile.yml') == expected and len(expected) == 9


def classification(name):
    """A column's cells by method; without prompts the head is a linear probe."""
    return {'linear' if m == 'frozen' else m: cell for m, cell in column(name).items()}


@pytest.mark.parametrize(('folder', 'name'), [('vtab1k', 'EuroSAT'), ('imagefolder', 'Flowers36')])
def test_classification_is_the_pages_columns(folder, name):
    page = classification(name)
    found = measured(f'configs/{folder}/metafile.yml')
    assert {m: list(v.values()) for (m, _, _), v in found.items()} == {
        method: cell.split(' ± ') for method, cell in page.items()
    }
    assert len(found) == 11


def test_trained_beside_the_head_is_the_pages_column():
    page = classification('trained beside the head (EuroSAT)')
    models = {m['Name'].split('_')[0]: m for m in MODELS_OF['configs/vtab1k/metafile.yml']}
    assert page.keys() == models.keys()
    for method, cell in page.items():
        of_backbone = models[method]['Metadata']['Trainable Parameters of the Backbone']
        assert cell == f'{of_backbone:,}'


def test_mmengine_finds_a_config_in_the_index(tmp_path):
    """As ``mmengine.hub.get_config`` looks it up, where a wheel has these files."""
    (tmp_path / '.mim').symlink_to(ROOT)
    found = _get_cfg_metainfo(str(tmp_path), 'camvid/lspt_upernet_camvid.py')
    assert found['Results'][0]['Metrics'] == {'mIoU': 34.23}
