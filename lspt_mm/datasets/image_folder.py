"""Images in folders named after their classes."""

from pathlib import Path

from mmpretrain.datasets import CustomDataset

from lspt_mm.errors import InputError
from lspt_mm.registry import DATASETS
from lspt_mm.utils.images import folders_in, list_images


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """mmpretrain's ``CustomDataset``, with more tolerance for what is in a folder.

    Hidden and generated folders are skipped. Images are recognised by suffix or content.

    Args:
        **kwargs: As mmpretrain's ``CustomDataset``; ``extensions`` have no effect.

    Raises:
        InputError: When the data are read: if a class has no image, or ``metainfo`` has another
            number of classes than there are folders.
    """

    def _find_samples(self):
        root = Path(self.img_prefix)
        found = [path.relative_to(root) for path in list_images(root).images]
        if not self.with_label:
            return [path.as_posix() for path in found]
        classes = folders_in(root)
        self.folder_to_idx = {name: i for i, name in enumerate(classes)}
        given = self._metainfo.setdefault('classes', tuple(classes))
        if len(given) != len(classes):
            raise InputError(
                f'{root}: {len(classes)} folders, expected one for each of the {len(given)} classes'
            )
        samples = [(p.as_posix(), self.folder_to_idx[p.parts[0]]) for p in found if p.parts[1:]]
        empty = set(classes) - {classes[label] for _, label in samples}
        if empty or not samples:
            raise InputError(f'{root}: no image in {", ".join(sorted(empty)) or "it"}')
        return samples
