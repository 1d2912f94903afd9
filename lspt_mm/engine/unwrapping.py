"""Unwraps a run's model from its distributed wrapper."""

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def model_of(runner: Runner) -> nn.Module:
    """The model of a run, without a distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
