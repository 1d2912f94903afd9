"""``--cfg-options``: rejects mistyped keys, which MMEngine would silently add."""

import copy
import importlib.util
import inspect
from typing import Any, Optional, Set

import mmengine.registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import LogProcessor, Runner
from torch.utils.data import DataLoader

from lspt_mm.errors import InputError
from lspt_mm.utils.checks import constructor_parameters, named_parameters
from lspt_mm.utils.text import did_you_mean

#: Dicts that take any key.
_FREE = {'custom_keys', 'data_prefix', 'metainfo', 'arch', 'dist_cfg'}
#: Top-level keys besides the Runner's own arguments.
_TOP_LEVEL = {'tta_model', 'tta_pipeline', 'runner_type', 'compile', 'activation_checkpointing',
              'find_unused_parameters', 'model_wrapper_cfg', 'data_preprocessor'}
#: Keys of dicts without a type, besides those in the config.
_UNTYPED = {
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'clip_grad': {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'},
    'log_processor': set(inspect.signature(LogProcessor).parameters),
}
#: Keys of dicts with a type, besides the arguments of its class.
_TYPED = {'init_cfg', 'constructor', 'paramwise_cfg', 'optimizer', 'priority',
          'convert_to_iter_based', '_delete_', '_scope_'}


def merge_options(cfg: Config, options: Optional[dict]) -> None:
    """Merge ``--cfg-options`` into ``cfg``, all of them or none.

    A key has to exist, or be an argument of the class that its dict configures.

    Raises:
        InputError: For unknown keys, all of them; the message suggests similar ones.
    """
    trial = copy.deepcopy(cfg) if options else cfg
    # Types first: the other options of the dict are arguments of the new class.
    keys = sorted(options or {}, key=lambda k: not k.endswith('.type'))
    problems = []
    for key in keys:
        try:
            _check_key(trial, key)
            _merge(trial, key, options[key])
        except InputError as error:
            problems.append(str(error))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            problems.append(
                f'--cfg-options {key}={options[key]!r}: does not fit the value in the config '
                f'({error})'
            )
    if problems:
        raise InputError('\n'.join(problems))
    for key in keys:
        _merge(cfg, key, options[key])


def _merge(cfg: Config, key: str, value: Any) -> None:
    """Merge one option; a None on the path of its key becomes an empty dict."""
    owner: Any = cfg
    for part in key.split('.')[:-1]:
        node = owner[int(part)] if isinstance(owner, (list, tuple)) else owner.get(part)
        if node is None:
            if isinstance(owner, (dict, Config)) and part in owner:
                owner[part] = ConfigDict()
            break
        owner = node
    cfg.merge_from_dict({key: value})


def _check_key(cfg: Config, key: str) -> None:
    node: Any = cfg
    path = key.split('.')
    for depth, part in enumerate(path):
        parent = path[depth - 1] if depth else ''
        here = '.'.join(path[:depth]) or 'the config'
        if node is None:
            return  # may become a dict
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(
                    f'--cfg-options {key}: {here} is a list of {len(node)}, {part!r} is none of '
                    f'its indices 0 to {len(node) - 1}'
                )
            node = node[int(part)]
            continue
        if not isinstance(node, (dict, Config)):
            raise InputError(f'--cfg-options {key}: {here} is {node!r}, it has no {part!r}')
        known = _known_keys(node, depth, parent)
        if depth == 0 and part in node and part not in known:
            raise InputError(
                f'--cfg-options {key}: {part} is a variable of the config file, already used where '
                'the file mentions it, so that a change here has no effect; give the full key of '
                'each value instead (for data and weights there are --data-root and --pretrained)'
            )
        new_hook = parent == 'default_hooks' and path[depth + 1 :] == ['type']
        if known is not None and part not in known and parent not in _FREE and not new_hook:
            hint = did_you_mean(part, sorted(known))
            raise InputError(f'--cfg-options {key}: {here} has no {part!r}; {hint}')
        if part not in node:
            return
        node = node[part]


def _known_keys(node, depth: int, name: str) -> Optional[Set[str]]:
    """Keys that this dict may have; None if any key is allowed."""
    if depth == 0:
        return named_parameters(Runner.__init__) - {'cfg'} | _TOP_LEVEL
    if name in _UNTYPED:
        return {*node, *_UNTYPED[name]}
    if name.endswith('_dataloader'):
        return {*node, *inspect.signature(DataLoader).parameters, 'num_batch_per_epoch'}
    if 'type' in node:
        accepted = arguments_of(node['type'])
        return None if accepted is None else {*node, *accepted}
    # Without a type, the class of a data preprocessor is the model's default.
    return None if name == 'data_preprocessor' else set(node) or None


def arguments_of(kind) -> Optional[Set[str]]:
    """Keys of a dict whose ``type`` is a registered name or a class; None for an unknown type."""
    found = _find(kind) if isinstance(kind, str) else kind
    if inspect.isclass(found):
        known = constructor_parameters(found)
        # EMAHook passes further arguments on to the class that its ema_type names.
        passed_on = [
            arguments_of(p.default) or () for name, p in known.items()
            if name.endswith('_type') and isinstance(p.default, str)
        ]
        return {*known, *_TYPED}.union(*passed_on)
    return found and named_parameters(found)


def _find(name: str):
    """Look a name up in all registries, in the default scope first."""
    from lspt_mm.registry import PROMPTERS

    names = [name]
    scope = DefaultScope.get_current_instance()
    if scope is not None and importlib.util.find_spec(scope.scope_name):
        # A scope's registries exist only after the import of their module.
        importlib.import_module(f'{scope.scope_name}.registry')
        names.insert(0, f'{scope.scope_name}.{name}')
    registries = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]
    found = (registry.get(n) for registry in [PROMPTERS, *registries] for n in names)
    return next((one for one in found if one is not None), None)
