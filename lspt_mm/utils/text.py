"""Lists in messages, shortened; similar names; tables."""

import difflib
from typing import Iterable, Sequence


def shorten(items: Iterable, shown: int = 3) -> str:
    """The first ``shown`` items in a line, and how many there are: ``a, b, c, ... (9 in all)``."""
    items = [str(item) for item in items]
    more = f', ... ({len(items)} in all)' if len(items) > shown else ''
    return ', '.join(items[:shown]) + more


def format_list(items: Iterable, shown: int = 20) -> str:
    """The first ``shown`` items on lines of their own, and how many more there are."""
    items = [str(item) for item in items]
    more = [f'... and {len(items) - shown} more'] if len(items) > shown else []
    return '\n'.join(f'  {line}' for line in [*items[:shown], *more])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: similar names, or else all known ones."""
    known = {one.lower(): one for one in known}
    close = [known[one] for one in difflib.get_close_matches(name.lower(), known, cutoff=0.5)]
    return f'did you mean {" or ".join(close)}?' if close else f'known: {", ".join(known.values())}'


def format_table(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Lines of cells in columns.

    Args:
        rows: Cells of each row, as many in each.
        sides: ``<`` or ``>`` for each column: cells at its left or right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(f'{c:{s}{w}}' for c, s, w in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    )
