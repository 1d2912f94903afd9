"""The small tables' data sets, methods, learning rates and seeds (docs/protocol.md)."""

from typing import Dict, NamedTuple, Optional, Tuple

#: Learning rates of methods, and the methods of the tables in the order of their runs.
_PROMPTS, _SMALLER = (1e-3, 3e-3, 1e-2), (3e-4, 1e-3, 3e-3)
RATES: Dict[str, Tuple[float, ...]] = {
    'bias': _SMALLER, 'lora': _SMALLER, 'vpt-deep': _PROMPTS, 'lspt': _SMALLER, 'gated': _PROMPTS,
    'bilinear-deep': _PROMPTS, 'vapt': _PROMPTS, 'da-vpt': _PROMPTS, 'vpt': _PROMPTS,
    'lspt-no-gspc': _SMALLER, 'lspt-no-lpc': _SMALLER, 'vfpt': _PROMPTS, 'spt': _PROMPTS,
    'bilinear': _PROMPTS, 'full': (1e-5, 3e-5, 1e-4),
}  # fmt: skip
SEEDS, SELECTION_SEED = (1, 2, 3), 0


class Task(NamedTuple):
    """A data set of a table.

    Attributes:
        table: Name of the table.
        config: A config with ``{data}``, ``{weights}`` and ``{method}`` for the names of folders,
            files and methods; a learning rate is appended.
        data_root: With ``{data}``; None if the config names the data.
        selects: Whether learning rates are chosen on it.
        amp: Whether runs are in mixed precision.
    """

    table: str
    config: str
    data_root: Optional[str] = None
    selects: bool = False
    amp: bool = True


_COMMON = ('pretraining={weights},img_size=112,head=fitted,method={method},batch_size=32,'
           'head_lr=1e-3,weight_decay=0,warmup=2')  # fmt: skip
_VTAB = 'vtab1k/transfer.py:task={task},official=False,epochs=10,' + _COMMON
_MASKS = ('maskfolder/transfer.py:data={data}/{task},pretrained={weights},method={method},crop=224,'
          'batch_size=4,head=linear,iters=150')  # fmt: skip
TASKS: Dict[str, Task] = {
    'eurosat': Task('classification', _VTAB, '{data}/vtab-1k', selects=True),
    'flowers36': Task(
        'classification', 'imagefolder/transfer.py:task={data}/{task},epochs=24,' + _COMMON,
        selects=True,
    ),
    'caltech101': Task('classification', _VTAB, '{data}/vtab-1k'),
    'cifar': Task('classification', _VTAB, '{data}/vtab-1k'),
    'camvid': Task('segmentation', _MASKS, selects=True, amp=False),
    'drive': Task('segmentation', _MASKS, selects=True, amp=False),
    'ccp59': Task('segmentation', _MASKS, amp=False),
}  # fmt: skip
