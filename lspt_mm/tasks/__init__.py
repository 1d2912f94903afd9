"""Tasks, such as segmentation: one file and one object for each, found by ``default_scope``."""

from lspt_mm.tasks import classification, segmentation  # noqa: F401  (they register themselves)
from lspt_mm.tasks.base import (
    ClassShare,
    Description,
    Prediction,
    Task,
    register_task,
    takes_rgb,
    task_of,
)

__all__ = [
    'ClassShare', 'Description', 'Prediction', 'Task', 'register_task', 'takes_rgb', 'task_of',
]
