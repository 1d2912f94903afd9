"""Telling a mistyped ``--cfg-options`` key before the run, rather than ignoring it."""

import copy
import difflib
import importlib.util
import inspect
from typing import Any, Iterable, Optional, Set

import mmengine.registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

from lspt_mm.errors import InputError
from lspt_mm.utils.signatures import constructor_arguments, named_parameters

#: Dicts whose keys are free: what is added there cannot be checked.
_FREE = {'custom_keys', 'data_prefix', 'metainfo', 'arch', 'dist_cfg'}

#: Keys of a config that the tools and MMEngine read besides the Runner's own arguments.
_TOP_LEVEL = {'tta_model', 'tta_pipeline', 'custom_imports', 'runner_type', 'compile',
              'activation_checkpointing', 'find_unused_parameters', 'model_wrapper_cfg',
              'data_preprocessor'}  # fmt: skip


#: Keys of dicts without a type, besides those that a config has already.
_UNTYPED = {
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'},
    'log_processor': set(inspect.signature(LogProcessor).parameters),
}

#: What optimizer wrappers, schedulers, hooks and the like are told besides their arguments.
_BESIDE = {'init_cfg', 'constructor', 'paramwise_cfg', 'optimizer', 'priority',
           'convert_to_iter_based'}  # fmt: skip


def merge_options(cfg: Config, options: Optional[dict]) -> None:
    """Merge ``--cfg-options`` into ``cfg``.

    MMEngine adds unknown keys without a word, so that a typo trains with the default. Here a key
    has to exist, or to be an argument of the class that its dict configures.

    Raises:
        InputError: Naming the key and the nearest ones there are.
    """
    if not options:
        return
    trial = copy.deepcopy(cfg)
    # A type first: what else is set beside it are arguments of the new class.
    keys = sorted(options, key=lambda k: not k.endswith('.type'))
    for key in keys:
        _check_key(trial, key)
        _open_none(trial, key)
        try:
            trial.merge_from_dict({key: options[key]})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f'--cfg-options {key}={options[key]!r}: does not fit what the config has there '
                f'({error})'
            ) from error
    for key in keys:
        _open_none(cfg, key)
        cfg.merge_from_dict({key: options[key]})


def _open_none(cfg: Config, key: str) -> None:
    """Put an empty dict where ``cfg`` has None and ``key`` goes on below it."""
    node = cfg
    for part in key.split('.')[:-1]:
        node, owner = node[int(part)] if isinstance(node, (list, tuple)) else node.get(part), node
        if node is None:
            if isinstance(owner, (dict, Config)) and part in owner:
                owner[part] = ConfigDict()
            return


def _check_key(cfg: Config, key: str) -> None:
    node: Any = cfg
    path = key.split('.')
    for depth, part in enumerate(path):
        here = '.'.join(path[:depth]) or 'the config'
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(
                    f'--cfg-options {key}: {here} is a list of {len(node)}, {part!r} is none of '
                    f'its indices 0 to {len(node) - 1}'
                )
            node = node[int(part)]
            continue
        if node is None or not isinstance(node, (dict, Config)):
            if node is None:
                return  # a dict may be given where the config has None
            raise InputError(f'--cfg-options {key}: {here} is {node!r}, it has no {part!r}')
        known = _known_keys(node, depth, path[depth - 1] if depth else '')
        last_free = depth and path[depth - 1] in _FREE
        if depth == 0 and part in node and part not in known:
            raise InputError(
                f'--cfg-options {key}: {part} is a variable of the config file, already used where '
                'the file mentions it, so that a change here has no effect; give the full key of '
                'each value instead (for data and weights there are --data-root and --pretrained)'
            )
        if here == 'default_hooks' and path[depth + 1 :] == ['type']:
            return  # a hook of the user's own
        if known is not None and part not in known and not last_free:
            raise InputError(_unknown(key, part, here, known))
        if part not in node:
            return
        node = node[part]


def _known_keys(node, depth: int, name: str) -> Optional[Set[str]]:
    """Keys that mean something in this dict, or None where that cannot be told."""
    if depth == 0:
        runner = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
        return runner | _TOP_LEVEL
    present = set(node)
    if name in _UNTYPED:
        return present | _UNTYPED[name]
    if name.endswith('_dataloader'):
        return present | set(inspect.signature(DataLoader).parameters) | {'num_batch_per_epoch'}
    if 'type' not in node:
        if name == 'data_preprocessor':
            return None  # its class is the model's default
        return present or None
    accepted = arguments_of(node['type'])
    return None if accepted is None else present | accepted | {'_delete_', '_scope_'}


def arguments_of(type_name) -> Optional[Set[str]]:
    """Names of a registered class's arguments; None where they cannot be told."""
    cls = type_name if inspect.isclass(type_name) else _find_class(type_name)
    if cls is None:
        return None
    if not inspect.isclass(cls):
        return named_parameters(cls)
    return constructor_arguments(cls) | set(_BESIDE)


def _find_class(name: str):
    from lspt_mm.registry import PROMPTERS

    scope = DefaultScope.get_current_instance()
    if scope is not None and importlib.util.find_spec(scope.scope_name):
        # A scope's registries exist only once its package has made them.
        importlib.import_module(f'{scope.scope_name}.registry')
    roots = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]
    for registry in [PROMPTERS, *roots]:
        child = registry._children.get(scope.scope_name) if scope else None
        for candidate in (child, registry):
            found = None
            if candidate is not None:
                try:
                    found = candidate.get(name)
                except (RuntimeError, ImportError):
                    found = None
            if found is not None:
                return found
    return None


def _unknown(key: str, part: str, here: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(part, known, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(close)}?' if close else f'known: {", ".join(sorted(known))}'
    return f'--cfg-options {key}: {here} has no {part!r}; {hint}'
