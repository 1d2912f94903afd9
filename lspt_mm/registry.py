"""Registries of the scope ``lspt_mm``, children of MMEngine's.

``locations`` let ``lspt_mm.X`` in a config find its class from any default scope (``mmseg`` or
``mmpretrain``) without ``custom_imports``.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import Registry

SCOPE = 'lspt_mm'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['lspt_mm.models'])
PROMPTERS = Registry('prompter', scope=SCOPE, locations=['lspt_mm.models.prompters'])
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope=SCOPE, locations=['lspt_mm.datasets']
)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE, locations=['lspt_mm.datasets']
)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope=SCOPE, locations=['lspt_mm.engine'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope=SCOPE, locations=['lspt_mm.engine'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['lspt_mm.engine'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope=SCOPE, locations=['lspt_mm.engine']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope=SCOPE,
    locations=['lspt_mm.engine'],
)
VISBACKENDS = Registry(
    'vis_backend', parent=MMENGINE_VISBACKENDS, scope=SCOPE, locations=['lspt_mm.engine']
)


def takes_prompts(backbone: dict) -> bool:
    """Whether a backbone's config names a class of this package or a subclass of one."""
    kind = backbone.get('type')
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return any(c.__module__.startswith(f'{SCOPE}.') for c in getattr(found, '__mro__', ()))
