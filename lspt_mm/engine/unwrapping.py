"""Unwraps a run's model."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def model_of(runner: Runner) -> nn.Module:
    """The :func:`unwrapped` model of a run."""
    return unwrapped(runner.model)


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without wrappers for processes and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
