"""Mixed precision on any device, and optimizers for mostly frozen models."""

from collections import defaultdict
from contextlib import contextmanager
from typing import List, Optional

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner.amp import autocast
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lspt_mm.errors import InputError
from lspt_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward pass runs under bfloat16 autocast, on CPU and GPU alike.

    MMEngine's ``AmpOptimWrapper`` refuses to start without an accelerator. bfloat16 has
    float32's range, so no loss scaling is needed.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Enter gradient-accumulation context and bfloat16 autocast."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_NORMS_OF_TIMM = ('RmsNorm', 'SimpleNorm')  # with RmsNorm2d and others
_KEYS = ('custom_keys', 'norm_decay_mult', 'bias_decay_mult')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's default constructor, for models with mostly frozen parameters.

    Frozen parameters are silently left out (MMEngine logs a line for each, or passes them to the
    optimizer), and parameters with equal settings share a group.

    Args:
        optim_wrapper_cfg (dict): As in MMEngine.
        paramwise_cfg (dict, optional): ``custom_keys`` (a part of a parameter's name to
            ``dict(lr_mult=, decay_mult=)``; only the longest match counts, of several the last in
            the name),
            ``norm_decay_mult``, ``bias_decay_mult``. A key without ``decay_mult`` leaves these two
            in force (in MMEngine it does not).
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None):
        paramwise_cfg = dict(paramwise_cfg or {})
        for key in paramwise_cfg:
            if key not in _KEYS:
                raise InputError(f'paramwise_cfg: {key!r} is none of {", ".join(_KEYS)}')
        optimizer = optim_wrapper_cfg.get('optimizer') or {}
        name = optimizer.get('type')
        if isinstance(name, str) and OPTIMIZERS.get(name) is None:
            raise InputError(f'optimizer type={name!r}: no such optimizer is registered')
        for key in ('lr', 'weight_decay'):
            if not isinstance(optimizer.get(key), (int, float, type(None))):
                raise InputError(f'optimizer {key}={optimizer[key]!r}: expected a number')
        # The base class makes groups only if paramwise_cfg is not empty.
        paramwise_cfg.setdefault('custom_keys', {})
        super().__init__(optim_wrapper_cfg, paramwise_cfg)

    def add_params(self, params: List[dict], module: nn.Module, **kwargs) -> None:
        """Append to ``params`` one group per pair of multipliers."""
        groups, seen = defaultdict(list), set()  # tied parameters have two names
        for prefix, owner in module.named_modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if parameter.requires_grad and parameter not in seen:
                    seen.add(parameter)
                    full_name = f'{prefix}.{name}' if prefix else name
                    groups[self._multipliers(full_name, name, owner)].append(parameter)
        for (lr_mult, decay_mult), members in groups.items():
            group = {'params': members}
            if self.base_lr is not None:
                group['lr'] = self.base_lr * lr_mult
            if self.base_wd is not None:
                group['weight_decay'] = self.base_wd * decay_mult
            params.append(group)
        if not params:
            raise InputError('nothing to train: no parameter has requires_grad (see tune=)')

    def _multipliers(self, full_name: str, name: str, owner: nn.Module):
        decay = 1.0
        if isinstance(owner, _NORMS) or type(owner).__name__.startswith(_NORMS_OF_TIMM):
            decay = self.paramwise_cfg.get('norm_decay_mult', 1.0)
        elif name.endswith('bias'):  # q_bias as well
            decay = self.paramwise_cfg.get('bias_decay_mult', 1.0)
        custom = self.paramwise_cfg['custom_keys']
        found = [key for key in custom if key in full_name]
        if not found:
            return 1.0, decay
        own = custom[max(found, key=lambda key: (len(key), full_name.rfind(key)))]
        return own.get('lr_mult', 1.0), own.get('decay_mult', decay)
