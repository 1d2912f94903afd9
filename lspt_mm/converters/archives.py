"""Sources of data sets; extract, link or copy their files into one folder."""

import gzip
import lzma
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import Dict, Optional, Tuple

from rich.console import Console
from rich.progress import open as open_with_progress

from lspt_mm.errors import InputError

#: Name of a data set to where its files are published.
SOURCES: Dict[str, str] = {
    'cub': 'https://www.vision.caltech.edu/datasets/cub_200_2011/',
    'nabirds': 'https://dl.allaboutbirds.org/nabirds',
    'flowers': 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/',
    'dogs': 'http://vision.stanford.edu/aditya86/ImageNetDogs/',
    'cars': 'the official page at Stanford is dead; copies circulate on Kaggle and Hugging Face',
    'vtab-1k': 'archives of the community, linked from the repositories of NOAH, FacT and SSF',
    'imagefolder': 'your own images, a folder for each class',
}
#: The same for the train and val lists that VPT published.
SPLITS_SOURCE = 'the original links of the published FGVC splits are dead; copies circulate'
SUFFIXES = ('.tgz', '.tar.gz', '.tar')
#: What a damaged archive raises, depending on where the damage is.
_DAMAGED = (tarfile.ReadError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def find_folder(source: Path, name: str) -> Optional[Path]:
    """Find the extracted folder ``name``: in ``source``, nested twice, or ``source`` itself."""
    for folder in (source / name / name, source / name, source.absolute()):
        if folder.name == name and folder.is_dir():
            return folder
    return None


def find_archive(source: Path, archive: str) -> Optional[Path]:
    """Find the archive in ``source``, by its name or with another one of :data:`SUFFIXES`."""
    names = (archive, *(_stem(archive) + suffix for suffix in SUFFIXES))
    paths = (source / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def _stem(archive: str) -> str:
    return next(archive[: -len(suffix)] for suffix in SUFFIXES if archive.endswith(suffix))


def read_file(source: Path, name: str, archive: Optional[str] = None) -> Optional[bytes]:
    """Read a small file in ``source``, from its archive or from where that was extracted.

    Args:
        source (Path): The folder.
        name (str): The file's name, without folders.
        archive (str, optional): Of the archive that has it, see :func:`find_archive`.

    Returns:
        bytes, or None if it is not found.

    Raises:
        InputError: If the archive is damaged.
    """
    folders = [source, source / 'devkit']
    if archive:
        folders += [source / _stem(archive), source / _stem(archive) / 'devkit']
    for folder in folders:
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    path = find_archive(source, archive) if archive else None
    if path is None:
        return None
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).name == name:
                    return tar.extractfile(member).read()
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return None


def place_folder(source: Path, name: str, archive: str, dest: Path, copy: bool) -> bool:
    """Make ``dest/name``: a link to the extracted folder, its copy, or the archive's content.

    A folder gets its name only when it is complete. An existing folder is kept.

    Returns:
        bool: Whether a folder other than that of ``source`` was kept.

    Raises:
        InputError: If ``source`` has neither the folder nor the archive, or ``dest/name`` is a link
            to another one. If the archive is damaged, has no such folder, or has a member outside
            the folder it is extracted to.
    """
    target = dest / name
    path = find_archive(source, archive)
    # The folder that holds the archive may have the name of the archive's content.
    inside = find_folder(source, name)
    if inside is not None and not (path and inside == source.absolute()):
        return link_or_copy(inside, target, copy)
    if _is_real(target):
        return True
    if path is None:
        raise InputError(f'{source} has neither the folder {name} nor {archive}')
    _extract(path, name, target)
    return False


def link_or_copy(folder: Path, target: Path, copy: bool) -> bool:
    """Make ``target`` a symbolic link to ``folder``, or its copy; an existing folder is kept.

    Returns:
        bool: Whether another folder was kept.

    Raises:
        InputError: If ``target`` is a link to another folder, which the lists beside it describe.
    """
    folder = folder.resolve()
    if _is_real(target):
        return target.resolve() != folder
    _unlink(target, folder)
    if not copy:
        try:
            target.symlink_to(folder, target_is_directory=True)
            return False
        except OSError as error:  # Windows without the privilege, some network drives
            print(f'note: {folder} is copied, as it cannot be linked here ({error})')
    part = _fresh(target)
    try:
        shutil.copytree(folder, part)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return False


def place(folder: Path, target: Path, copy: bool, overwrite: bool = False) -> None:
    """As :func:`link_or_copy`, for folders that may have changed since ``target`` was copied.

    ``overwrite`` replaces a link to another folder.

    Raises:
        InputError: If ``target`` is a folder with other files.
    """
    if overwrite and target.is_symlink():
        target.unlink()
    if link_or_copy(folder, target, copy) and _files(folder) != _files(target):
        raise InputError(
            f'{target} is a folder with other files than {folder}, such as an earlier copy: remove '
            'it, or name another folder'
        )


def _files(folder: Path) -> Dict[str, Tuple[int, int]]:
    """Size and time of each file, by its name; a copy has the same."""
    found = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob('*')
             if path.is_file()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def _is_real(target: Path) -> bool:
    return target.is_dir() and not target.is_symlink()


def _unlink(target: Path, source: Path) -> None:
    """Remove a link to ``source``, or a dangling link, at ``target``."""
    if target.exists() and target.resolve() != source:
        raise InputError(
            f'{target} leads to {target.resolve()}, not {source}: remove it, or choose another '
            'folder with --to'
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)


def _extract(archive: Path, name: str, target: Path) -> None:
    """Extract ``archive`` and keep its folder ``name`` as ``target``."""
    if not hasattr(tarfile, 'data_filter'):
        raise InputError(
            f'{archive}: this Python cannot extract safely; expected 3.10.12, 3.11.4 or later, '
            'or the extracted folder'
        )
    _unlink(target, archive)
    part = _fresh(target)
    part.mkdir()
    try:
        _extract_all(archive, part)
        if not (part / name).is_dir():
            raise InputError(f'{archive}: has no folder {name}, which the official archive has')
        (part / name).rename(target)
    except _DAMAGED as error:
        raise _damaged(archive, error) from error
    except tarfile.FilterError as error:
        raise InputError(
            f'{archive}: refused, as it would write outside its folder ({error}); the official '
            'archive does not'
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _extract_all(archive: Path, part: Path) -> None:
    shown = open_with_progress(
        archive, 'rb', description=f'extracting {archive.name}', console=Console(stderr=True)
    )
    with shown as file, tarfile.open(fileobj=file) as tar:
        for member in tar:
            tar.extract(member, part, filter='data')
        # tarfile accepts an archive cut between two members; the end mark is missing then.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError('no end mark')
        while tar.fileobj.read(2**20):  # reads up to the checksum of gzip
            pass


def _fresh(target: Path) -> Path:
    """Path beside ``target`` for unfinished content; that of an earlier run is removed."""
    part = target.parent / f'.{target.name}.part'
    shutil.rmtree(part, ignore_errors=True)
    return part


def _damaged(archive: Path, error: Exception) -> InputError:
    return InputError(
        f'{archive}: damaged or not fully downloaded ({error}); compare its size with the '
        "source's and fetch it again"
    )
