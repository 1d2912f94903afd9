"""model-index.yml and metafiles: configs that build, parameters counted, the results measured."""

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
    **{method.title: name for name, method in METHODS.items()}, 'no prompts': 'frozen',
}
#: The paper that the file of a method names.
PAPER = re.compile(r'arXiv (\d{4}\.\d{5})\)\.$', re.MULTILINE)


def collection_of(prompter):
    """Name of the collection whose paper the method's own file names."""
    (paper,) = PAPER.findall(sys.modules[PROMPTERS.get(prompter.type).__module__].__doc__)
    (name,) = [n for n, c in COLLECTIONS.items() if c.get('Paper', '').endswith(f'/{paper}')]
    return name


def of_camvid():
    """Cells by method of the page's table of CamVid."""
    found = re.search(r'^\| method \| CamVid \|.*(?:\n\|.*)+', RESULTS, re.MULTILINE)[0]
    _, _, *rows = [[c.strip() for c in row.split('|')[1:-1]] for row in found.splitlines()]
    titles = [(title.split(' (')[0], cell) for title, cell in rows]
    return {LABELS.get(title, title): cell for title, cell in titles}


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


@pytest.mark.parametrize('model', ENTRIES, ids=lambda model: model['Name'])
def test_config_builds_and_has_the_parameters_that_are_named(model):
    meta = model['Metadata']
    assert (ROOT / model['Config']).is_file()
    cfg = read_config(str(ROOT / model['Config']))
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
    assert meta['Iterations'] == cfg.train_cfg.max_iters
    prompter = cfg.model.backbone.get('prompter')
    assert model['In Collection'] == (collection_of(prompter) if prompter else 'No prompts')
    assert model['In Collection'] in COLLECTIONS


def test_camvid_is_the_pages_column():
    found = {}
    for model in MODELS_OF['configs/camvid/metafile.yml']:
        (result,) = model['Results']
        found[model['Name'].split('_upernet_')[0]] = f'{result["Metrics"]["mIoU"]:.2f}'
    assert found == of_camvid() and len(found) == 9


def test_mmengine_finds_a_config_in_the_index(tmp_path):
    """As ``mmengine.hub.get_config`` looks it up, where a wheel has these files."""
    (tmp_path / '.mim').symlink_to(ROOT)
    found = _get_cfg_metainfo(str(tmp_path), 'camvid/lspt_upernet_camvid.py')
    assert found['Results'][0]['Metrics'] == {'mIoU': 34.23}
