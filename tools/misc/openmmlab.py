"""Run a tool of mmseg's or mmpretrain's own on our configs and checkpoints.

python tools/misc/openmmlab.py mmpretrain confusion_matrix CONFIG CHECKPOINT --show-path matrix.png
python tools/misc/openmmlab.py mmpretrain vis_scheduler CONFIG -s rates.png --not-show -d 800
python tools/misc/openmmlab.py mmseg print_config CONFIG
python tools/misc/openmmlab.py mmseg                                     (lists the tools)

Imports this library first, which their tools do not, and writes a config that takes arguments
(FILE:name=value,... or the name of an experiment) into a file for them. Which of them work:
docs/tools.md.
"""

import runpy
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, List

from lspt_mm.config.arguments import split_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages
from lspt_mm.utils.installed import require

PACKAGES = ('mmseg', 'mmpretrain')
#: Folders that are searched first where two tools have the same name.
PREFERRED = ('analysis_tools', 'visualization')


def tools_of(package: str) -> Dict[str, Path]:
    """Names of the tools of an installed package, to their files."""
    if package not in PACKAGES:
        raise InputError(f'{package}: expected one of {", ".join(PACKAGES)}')
    require(package)
    root = Path(find_spec(package).origin).parent / '.mim' / 'tools'
    files = sorted(root.rglob('*.py'), key=lambda path: path.parent.name not in PREFERRED)
    found: Dict[str, Path] = {}
    for path in files:
        found.setdefault(path.stem, path)
    if not found:
        raise InputError(f'{package} is installed without its tools: there are none in {root}')
    return found


def resolved(argument: str, folder: Path) -> str:
    """``argument``, or if it is a config with arguments, the file that it was written to."""
    # Options and their values (lr=0.1) are left as they are; a name has a slash or a .py.
    if argument.startswith('-') or ('/' not in argument and '.py:' not in argument):
        return argument
    try:
        path, values = split_arguments(argument)
    except InputError:
        return argument
    if not values or not path.endswith('.py'):
        return argument
    from lspt_mm.config.load import read_config

    name = '_'.join(str(v).replace('/', '_') for v in values.values())
    out = folder / f'{name}.py'
    read_config(argument).dump(out)
    return str(out)


def main() -> None:
    """Run the tool with the arguments after its name."""
    arguments: List[str] = sys.argv[1:]
    if not arguments or arguments[0] in ('-h', '--help'):
        print(__doc__)
        return
    with input_errors_as_messages():
        tools = tools_of(arguments[0])
        if len(arguments) == 1:
            print('\n'.join(sorted(tools)))
            return
        name, *rest = arguments[1:]
        if name not in tools:
            raise InputError(
                f'{arguments[0]} has no tool {name!r}; there are: {", ".join(sorted(tools))}'
            )
        with tempfile.TemporaryDirectory() as folder:
            sys.argv = [str(tools[name]), *(resolved(one, Path(folder)) for one in rest)]
            # As if it were run as a file: some import their neighbours.
            sys.path.insert(0, str(tools[name].parent))
            runpy.run_path(str(tools[name]), run_name='__main__')


if __name__ == '__main__':
    main()
