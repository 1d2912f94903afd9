"""Lists in messages, shortened."""

from typing import Iterable


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
