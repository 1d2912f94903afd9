"""The small tables' data sets, methods, learning rates and seeds (docs/protocol.md)."""

from typing import Dict, NamedTuple, Optional

#: All learning rates. A method tries three, and the next one while the best is the first or last.
LADDER = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
#: The second of these three, one of ``LADDER``; methods in the order of their runs.
RATES: Dict[str, float] = {
    'vpt-deep': 3e-3, 'lspt': 1e-3, 'bias': 1e-3, 'lora': 1e-3, 'lspt-plus': 3e-3, 'gated': 3e-3,
    'bilinear-deep': 3e-3, 'full': 3e-5, 'lspt-no-gspc': 1e-3, 'lspt-no-lpc': 3e-3, 'vpt': 3e-3,
    'vapt': 3e-3, 'da-vpt': 3e-3, 'vfpt': 3e-3, 'spt': 3e-3, 'bilinear': 3e-3,
}
#: Arguments in classification, where a method's published values differ by task.
ARGUMENTS = {'gated': 'gate_init=5'}
#: Ours: ranked in place of LSPT, in a ranking of its own.
LSPT_PLUS = 'lspt-plus'
#: Near copies of LSPT, which have no rank beside it.
LSPT_VARIANTS = ('lspt-no-gspc', 'lspt-no-lpc', LSPT_PLUS)
#: The method of each table that is logistic regression on frozen features.
PROBES = {'classification': 'linear', 'segmentation': 'frozen'}
#: The head alone, trained as beside a method.
HEAD = 'head'
SEEDS, SELECTION_SEED = (1, 2, 3), 0
#: Runs with the first seed that are trained longer: phase and number of times.
LENGTHS = {'x2': 2, 'x4': 4}
LONGER_METHODS = ('vpt-deep', 'gated', 'bilinear-deep', 'lspt', 'bias')


class Task(NamedTuple):
    """A data set of a table.

    Attributes:
        table: Name of the table.
        config: A config with ``{data}``, ``{weights}``, ``{task}``, ``{method}`` and ``{epochs}``;
            a learning rate is appended.
        data_root: With ``{data}``; None if the config names the data.
        epochs: Length, where it is in epochs.
        selects: Whether learning rates are chosen on it.
    """

    table: str
    config: str
    data_root: Optional[str] = None
    epochs: Optional[int] = None
    selects: bool = False


_COMMON = ('epochs={epochs},pretraining={weights},img_size=112,head=fitted,method={method},'
           'batch_size=32,weight_decay=0')
_VTAB = 'vtab1k/transfer.py:task={task},official=False,' + _COMMON
_MASKS = ('maskfolder/transfer.py:data={data}/{task},pretrained={weights},method={method},crop=224,'
          'batch_size=4,head=linear,iters=150')
TASKS: Dict[str, Task] = {
    'eurosat': Task('classification', _VTAB, '{data}/vtab-1k', 5, selects=True),
    'flowers36': Task(
        'classification', 'imagefolder/transfer.py:task={data}/{task},' + _COMMON,
        epochs=12, selects=True,
    ),
    'caltech101': Task('classification', _VTAB, '{data}/vtab-1k', 5),
    'cifar': Task('classification', _VTAB, '{data}/vtab-1k', 5),
    'camvid': Task('segmentation', _MASKS, selects=True),
    'drive': Task('segmentation', _MASKS, selects=True),
    'ccp59': Task('segmentation', _MASKS),
}
