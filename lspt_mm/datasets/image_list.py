"""Images with labels, named in a split file; the file is checked before anything is trained."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Collection, List, Mapping, Optional, Tuple

from mmpretrain.datasets import BaseDataset

from lspt_mm.errors import InputError
from lspt_mm.registry import DATASETS
from lspt_mm.utils.checks import check_choice
from lspt_mm.utils.split_files import Label, is_inside, read_json_list, read_text_list


@DATASETS.register_module()
class ListedImages(BaseDataset):
    """Image classification from a split file of one of the two usual forms.

    - ``.txt``: a line for each image, ``relative/path label``, as in the community's VTAB-1K;
    - ``.json``: ``{"relative/path": label, ...}``, as in the published FGVC splits; with
      ``multi_label`` ``{"relative/path": [label, ...], ...}``, and ``[]`` for none.

    Labels are integers from 0. Paths are relative to ``data_prefix`` below ``data_root``.

    Args:
        ann_file (str): The split file, relative to ``data_root``.
        num_classes (int): Labels are 0 to ``num_classes - 1``.
        num_images (int, optional): How many images the split has; None for any number.
        multi_label (bool): Whether images have lists of labels; ``.json`` only.
        **kwargs: As mmpretrain's ``BaseDataset`` (data_root, data_prefix, pipeline, ...).

    Raises:
        InputError: When the data are read: if the file is missing, malformed or of another number
            of images, names an image twice or a label outside the range, or an image is missing.
    """

    #: How to allow any number of images, for messages.
    ANY_NUMBER = 'num_images=None'

    def __init__(
        self, ann_file: str, num_classes: int, num_images: Optional[int] = None,
        multi_label: bool = False, **kwargs,
    ):
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.num_images = num_images
        kwargs.setdefault('metainfo', {'classes': [str(i) for i in range(num_classes)]})
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> List[dict]:
        """One dict for each image, in the order of the file."""
        path = Path(self.ann_file)
        if not path.is_file():
            raise InputError(f'split file {path} does not exist')
        if path.suffix == '.json':
            pairs = read_json_list(path, self.multi_label)
        elif self.multi_label:
            raise InputError(f'{path}: multi_label=True, expected a list that ends in .json')
        else:
            pairs = read_text_list(path)
        self._check(path, pairs)
        found = [
            {'img_path': os.path.join(self.img_prefix or '', name), 'gt_label': label}
            for name, label in pairs
        ]
        missing = [entry['img_path'] for entry in found if not os.path.isfile(entry['img_path'])]
        if missing:
            raise InputError(
                f'{path}: {len(missing)} of its {len(found)} images do not exist, such as '
                f'{missing[0]}'
            )
        return found

    def _check(self, path: Path, pairs: List[Tuple[str, Label]]) -> None:
        if not pairs:
            raise InputError(f'{path}: names no image')
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        if count > 1:
            raise InputError(f'{path}: image {name} occurs {count} times, expected once')
        for name, label in pairs:
            if not is_inside(name):
                raise InputError(
                    f'{path}: image {name} lies outside the data; expected a path below '
                    f'{self.img_prefix or "."}'
                )
            for one in label if isinstance(label, list) else [label]:
                if not 0 <= one < self.num_classes:
                    raise InputError(
                        f'{path}: image {name} has label {one}, expected 0 to '
                        f'{self.num_classes - 1}'
                    )
        if self.num_images is not None and len(pairs) != self.num_images:
            raise InputError(
                f'{path}: has {len(pairs)} images, expected {self.num_images}. If this is a part '
                f'of the data on purpose: {self.ANY_NUMBER}'
            )


class BenchmarkImages(ListedImages):
    """A task of a benchmark, with as many images in each split as the benchmark says.

    Subclasses set ``tasks``, ``splits``, ``root``, ``suffix``, and ``count``.

    Args:
        task (str): One of ``tasks``, and the name of a folder below ``data_root``.
        split (str): One of ``splits``, and the name of a list in that folder.
        data_root (str, optional): By default ``root``.
        official_counts (bool): Whether the split must have the benchmark's number of images.
        **kwargs: As :class:`ListedImages` (pipeline, ...).

    Raises:
        ValueError: For another task or split.
        InputError: As :class:`ListedImages`.
    """

    ANY_NUMBER = 'official_counts=False (official=False after the name of a transfer.py)'
    tasks: Mapping
    splits: Collection[str]
    root: str
    suffix: str

    def __init__(
        self, task: str, split: str, data_root: Optional[str] = None,
        official_counts: bool = True, **kwargs,
    ):
        check_choice('task', task, self.tasks)
        check_choice('split', split, self.splits)
        super().__init__(
            ann_file=f'{task}/{split}{self.suffix}', data_root=data_root or self.root,
            data_prefix=task, num_classes=self.tasks[task].num_classes,
            num_images=self.count(self.tasks[task], split) if official_counts else None, **kwargs,
        )

    @staticmethod
    def count(facts: Any, split: str) -> int:
        """The number of images of a task's split."""
        raise NotImplementedError
