"""Whatever stands behind a config's name or ``--cfg-options`` works or is one InputError."""


from fuzzing import many
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import init_default_scope

from lspt_mm.config.arguments import parse, split_arguments
from lspt_mm.config.cfg_options import merge_options
from lspt_mm.config.load import read_config
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT

CELL = 'vtab1k/lspt_mae_dtd'


WORDS = st.one_of(
    st.text(max_size=12), st.sampled_from([
        '', '0', '-1', '1e309', 'nan', 'None', 'True', '[1,2', '(3,)', '{[]: 1}', "'x'", '1j',
        '10**9', '__import__("os")', '[' * 300, '0x10', '1_000', '..', '\0', '🙂', 'deit-tiny',
        '4', '8', '32', '0.1', '64',
    ]), st.integers(-2, 80).map(str), st.floats(width=32).map(str),
)
NAMES = st.sampled_from([
    'img_size', 'patch_size', 'num_tokens', 'epochs', 'batch_size', 'lr', 'weight_decay',
    'optimizer', 'rank', 'gate_init', 'official', 'dropout', 'nothing', 'Lr',
])


@many(400)
@given(WORDS)
def test_parsing(word):
    try:
        parse(word)
        split_arguments(f'config.py:{word}')
        split_arguments(f'{CELL}:a={word}')
    except InputError as error:
        assert 'config' in str(error)


@many(60)
@given(st.dictionaries(NAMES, WORDS, min_size=1, max_size=3))
def test_arguments_of_a_cell(arguments):
    text = ','.join(f'{name}={value}' for name, value in arguments.items())
    try:
        cfg = read_config(f'{CELL}:arch=deit-tiny,{text}')
    except InputError as error:
        assert any(name in str(error) for name in arguments) or 'expected' in str(error)
        return
    backbone = {k: v for k, v in cfg.model.backbone.items() if k not in ('type', 'pretrained')}
    if backbone.get('img_size', 224) <= 64 and backbone['prompter']['num_tokens'] <= 64:
        PromptedViT(**backbone)


BASE = read_config(f'{CELL}:arch=deit-tiny,img_size=32')
KEYS = st.one_of(
    st.sampled_from([
        'train_cfg.max_epochs', 'model.backbone.prompter.num_tokens', 'model.backbone.tune',
        'optim_wrapper.optimizer.lr', 'optim_wrapper.clip_grad.max_norm', 'param_scheduler.0.end',
        'train_dataloader.batch_size', 'default_hooks.checkpoint', 'model', 'a.b.c', 'seed',
        'param_scheduler.9.end', 'model.backbone.promter.num_tokens', 'custom_hooks.0',
    ]), st.text(alphabet='abm.0_', max_size=12),
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers()),
)


@many(150)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=2))
def test_options(options):
    init_default_scope('mmpretrain')
    cfg = Config(BASE.to_dict())
    try:
        merge_options(cfg, options)
    except InputError as error:
        assert any(key in str(error) for key in options), str(error)
