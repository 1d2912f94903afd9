"""Gather images of any size from folders and zip files into one pool for MAE pre-training.

Images whose shorter side is at least 1.5 times ``--side`` are cut into random crops scaled to
``--side`` pixels (``--crops`` of them, covering 10 to 100 % of the shorter side squared), so that
a loader does not decode a whole photograph for every crop of it; smaller images are kept as they
are. Labels are neither needed nor read.

    python tools/dataset_converters/unlabelled_pool.py data/camvid/images/training photos.zip \
        --to data/pool --side 192 --crops 40
"""

import argparse
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from lspt_mm.utils.images import IMAGE_SUFFIXES, is_hidden, list_images


def images_of(source: Path):
    """Yield ``(name, bytes)`` of the images in a folder (recursively) or a zip file, sorted."""
    if source.is_dir():
        for path in list_images(source).images:
            yield '_'.join(path.relative_to(source).with_suffix('').parts), path.read_bytes()
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in sorted(archive.namelist()):
                hidden = any(map(is_hidden, Path(name).parts))
                if name.lower().endswith(IMAGE_SUFFIXES) and not hidden:
                    yield '_'.join(Path(name).with_suffix('').parts), archive.read(name)
    else:
        raise SystemExit(f'error: {source} is neither a folder nor a zip file')


def random_crop(image: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """A random square crop of 10 to 100 % of the largest square, resized to ``side`` pixels."""
    largest = min(image.size)
    extent = max(int(largest * np.sqrt(rng.uniform(0.1, 1.0))), side // 2)
    left = rng.integers(0, image.width - extent + 1)
    top = rng.integers(0, image.height - extent + 1)
    box = (left, top, left + extent, top + extent)
    return image.resize((side, side), Image.BICUBIC, box=box)


def main() -> None:
    """Write the pool."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('sources', nargs='+', type=Path, help='folders and zip files of images')
    parser.add_argument('--to', type=Path, required=True, help='folder of the pool, made if absent')
    parser.add_argument('--side', type=int, default=192, help='side of the crops in pixels')
    parser.add_argument('--crops', type=int, default=40, help='crops from each large image')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    for source in args.sources:
        rng = np.random.default_rng(args.seed)
        # The source's number keeps two folders of the same name apart.
        folder = args.to / f'{args.sources.index(source)}_{source.stem}'
        folder.mkdir(parents=True, exist_ok=True)
        written = 0
        for name, data in images_of(source):
            image = Image.open(io.BytesIO(data)).convert('RGB')
            if min(image.size) >= 1.5 * args.side:
                parts = [random_crop(image, args.side, rng) for _ in range(args.crops)]
            else:
                parts = [image]
            for k, part in enumerate(parts):
                part.save(folder / f'{name}_{k:03d}.jpg', quality=92)
            written += len(parts)
        if not written:
            sys.exit(f'error: no images ({", ".join(IMAGE_SUFFIXES)}) in {source}')
        print(f'{folder}: {written} images')


if __name__ == '__main__':
    main()
