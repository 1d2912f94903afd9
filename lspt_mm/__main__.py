"""``python -m lspt_mm TOOL ARGUMENTS``: runs a tool, from a checkout or an installed wheel.

python -m lspt_mm                          lists the tools
python -m lspt_mm train CONFIG ...         same as `python tools/train.py CONFIG ...`
"""

import ast
import difflib
import os
import runpy
import sys
from pathlib import Path
from typing import Dict, List, Optional

from lspt_mm.config.paths import projects_dir, tools_dir
from lspt_mm.errors import InputError

#: Exit code for an unknown tool (argparse's own for a bad option).
EXIT_USAGE = 2
_MAIN = "if __name__ == '__main__':"


def find_tools() -> Dict[str, Path]:
    """Map the name of every tool, including those of the projects, to its file.

    In a project's folder the runnable files are tools; the others are modules.
    """
    root = tools_dir()
    files = sorted([*root.rglob('*.py'), *root.rglob('*.sh')])
    files += [f for f in sorted(projects_dir().rglob('*.py')) if _MAIN in f.read_text('utf-8')]
    return {path.stem: path for path in files if not path.name.startswith('_')}


def tool_named(name: str) -> Path:
    """Find the file of a tool.

    Args:
        name: Its stem (``train``), or its path below the tools with or without suffix
            (``dataset_converters/prepare``, ``tools/train.py``).

    Raises:
        InputError: If there is no such tool; the message lists the most similar names.
    """
    tools = find_tools()
    wanted = name.replace('\\', '/').removeprefix('./').removeprefix('tools/')
    wanted = wanted.removesuffix('.py').removesuffix('.sh')
    if wanted in tools:
        return tools[wanted]
    for path in tools.values():
        if path.relative_to(_root()).with_suffix('').as_posix() in (wanted, f'tools/{wanted}'):
            return path
    stem = wanted.rsplit('/', 1)[-1].replace('-', '_')
    if stem in tools and '/' not in wanted:
        return tools[stem]  # a name written with hyphens
    close = difflib.get_close_matches(stem, tools, n=3, cutoff=0.5)
    close += [tool for tool in tools if stem and stem in tool and tool not in close]
    hint = f'did you mean {" or ".join(close[:4])}?' if close else ''
    raise InputError(f'no tool {name!r}; {hint}'.rstrip('; ') + ' (python -m lspt_mm lists them)')


def _root() -> Path:
    """The parent folder of tools and projects."""
    return tools_dir().parent


def summary_of(path: Path) -> str:
    """First line of a tool's docstring or comments, without running the file."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        lines = (ast.get_docstring(ast.parse(text)) or '').splitlines()
        return lines[0] if lines else ''
    comments = (line[2:] for line in text.splitlines() if line.startswith('# '))
    return next(comments, '')


def listing() -> str:
    """List all tools by folder, one per line."""
    folders: Dict[str, List[str]] = {}
    tools = find_tools()
    width = max(map(len, tools))
    for name, path in tools.items():
        folder = path.parent.relative_to(_root()).as_posix().removeprefix('tools/')
        folders.setdefault(folder, []).append(f'  {name:{width}}  {summary_of(path)}')
    lines = ['usage: python -m lspt_mm TOOL ARGUMENTS      (TOOL --help has its options)', '']
    for folder in sorted(folders, key=lambda f: (f != 'tools', f)):
        if folder != 'tools':
            lines += ['', f'{folder}:']
        lines += folders[folder]
    return '\n'.join(lines)


def run_tool(path: Path, arguments: List[str]) -> int:
    """Run a tool as a script and return its exit code."""
    # Projects, and the processes that they start, import each other's modules from here.
    sys.path.insert(0, str(_root()))
    known = [str(_root()), *filter(None, [os.environ.get('PYTHONPATH')])]
    os.environ['PYTHONPATH'] = os.pathsep.join(known)
    if path.suffix == '.sh':
        # This environment's Python, not the `python` on the path.
        env = {'PYTHON': sys.executable, **os.environ}
        try:
            os.execvpe('bash', ['bash', str(path), *arguments], env)
        except FileNotFoundError:
            print(f'error: {path.name} needs bash, which is not on the path', file=sys.stderr)
            return EXIT_USAGE
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name='__main__')
    return 0


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the tool that the first argument names, or list them all."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments or arguments[0] in ('-h', '--help', 'help', 'list'):
            print(listing())
            return 0
        if arguments[0] == '--version':
            from lspt_mm import __version__

            print(__version__)
            return 0
        path = tool_named(arguments[0])
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_USAGE
    return run_tool(path, arguments[1:])


if __name__ == '__main__':
    sys.exit(main())
