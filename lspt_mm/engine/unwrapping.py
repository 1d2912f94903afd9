"""A run's model, without what wraps it for several processes."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def model_of(runner: Runner) -> nn.Module:
    """The model of the config."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
