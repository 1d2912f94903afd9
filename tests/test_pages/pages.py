"""Running a page of docs/ to the letter, as somebody who has the wheel and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import List, NamedTuple

from fake_hub import put_vit
from miniatures import ROOT

#: What is run: bash and python blocks; other blocks are read.
BLOCK = re.compile(r'^```(bash|python)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
#: Parts of this environment that a stranger would not have.
OURS = re.compile(
    r'(__editable__.*)?lspt[_-]mm|__editable__|.*\.(pth|egg-link)$|pip(-|$)', re.IGNORECASE
)
#: What some Pythons put into a new environment, older than the packages here ask for.
STALE = ('setuptools', 'pkg_resources', '_distutils_hack', 'distutils-precedence')


class Done(NamedTuple):
    folder: Path
    code: int
    out: str


def blocks_of(page: Path) -> List[tuple]:
    """Language and text of each block that is run, in order."""
    return BLOCK.findall(page.read_text(encoding='utf-8'))


def script_of(page: Path) -> str:
    """The whole page as one shell session; Python blocks are programs of their own."""
    parts = ['set -eo pipefail']
    for number, (language, text) in enumerate(blocks_of(page), 1):
        parts.append(f'echo "=== block {number} ($SECONDS s)"')
        parts.append(text if language == 'bash' else f"python - <<'PYTHON'\n{text}PYTHON")
    return '\n'.join([*parts, 'echo "=== end ($SECONDS s)"', ''])


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, built from a copy."""
    tree = folder / 'tree'
    for name in ('lspt_mm', 'configs', 'tools', 'projects'):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns('__pycache__'))
    for file in [
        *ROOT.glob('*.py'),
        *ROOT.glob('*.toml'),
        *ROOT.glob('requirements*.txt'),
        *ROOT.glob('*.yml'),
        ROOT / 'README.md',
        ROOT / 'MANIFEST.in',
        ROOT / 'LICENSE',
    ]:
        shutil.copy(file, tree)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-q', str(tree), '--no-deps',
         '--no-build-isolation', '--disable-pip-version-check', '-w', str(folder / 'dist')],
        check=True, cwd=folder,
    )
    (wheel,) = (folder / 'dist').glob('*.whl')
    return wheel


def make_environment(folder: Path) -> Path:
    """A fresh environment that sees this one's packages, but for ours; returns its bin folder."""
    venv.create(folder / 'env', with_pip=True)
    others = folder / 'packages'
    others.mkdir()
    for place in dict.fromkeys(sysconfig.get_paths()[key] for key in ('purelib', 'platlib')):
        for entry in Path(place).iterdir():
            if not OURS.match(entry.name):
                (others / entry.name).symlink_to(entry)
    (site,) = (folder / 'env').glob('lib/python*/site-packages')
    for entry in [entry for entry in site.iterdir() if entry.name.startswith(STALE)]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (site / 'packages.pth').write_text(f'{others}\n')
    return folder / 'env' / 'bin'


class Stranger(NamedTuple):
    """Somebody with the wheel: an empty folder, and the variables of a shell."""

    folder: Path
    variables: dict


def stranger(folder: Path) -> Stranger:
    """An empty folder with the wheel in it, an environment without it, and no network."""
    wheel = build_wheel(folder)
    binaries = make_environment(folder)
    empty = folder / 'empty'
    empty.mkdir()
    shutil.copy(wheel, empty)
    env = {k: v for k, v in os.environ.items() if not k.startswith(('PYTHON', 'VIRTUAL_ENV'))}
    env.update(put_vit(folder / 'hub'))
    env.update(
        PATH=f'{binaries}{os.pathsep}{env["PATH"]}', PIP_NO_INDEX='1',
        LSPT_MM_CACHE=str(folder / 'cache'), HOME=str(folder),
    )
    return Stranger(empty, env)


def run_script(who: Stranger, script: str, timeout: float) -> Done:
    """Run a shell script as they would; the package it used is the wheel's."""
    folder = who.folder.parent
    (folder / 'page.sh').write_text(script)
    log = folder / 'page.log'  # to be followed while it runs
    with log.open('w') as out:
        done = subprocess.run(
            ['bash', str(folder / 'page.sh')], cwd=who.folder, env=who.variables, timeout=timeout,
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )
    told = log.read_text(errors='replace')
    where = subprocess.run(
        ['python', '-c', 'import lspt_mm; print(lspt_mm.__file__)'],
        cwd=who.folder, env=who.variables, text=True, capture_output=True,
    )
    assert str(folder / 'env') in where.stdout, where.stdout + where.stderr + told[-3000:]
    return Done(who.folder, done.returncode, told)


def run_page(page: Path, folder: Path, timeout: float) -> Done:
    """Run all blocks of ``page`` in an empty folder with the wheel in it; nothing is downloaded."""
    return run_script(stranger(folder), script_of(page), timeout)
