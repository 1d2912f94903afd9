"""Tables of text as Markdown, LaTeX or CSV."""

import csv
import io
from typing import List, NamedTuple, Sequence

#: The columns before the data sets'. Parameters are the trainable ones without the head, in
#: millions, and the mean where data sets have different ones.
LEFT = ('method', 'pre-training', 'ViT', 'parameters (M)', 'seeds', 'source')


class Table(NamedTuple):
    """A header and rows of text."""

    header: List[str]
    rows: List[List[str]]


def as_markdown(table: Table) -> str:
    """A Markdown table."""
    lines = [table.header, ['---'] * len(table.header), *table.rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'


def as_latex(table: Table) -> str:
    """A LaTeX ``tabular`` with booktabs' rules."""

    def line(cells: Sequence[str]) -> str:
        escaped = (c.replace('%', r'\%').replace('_', r'\_').replace('±', r'$\pm$') for c in cells)
        return ' & '.join(escaped) + r' \\'

    first, rest = table.header, map(line, table.rows)
    columns = 'lllrrl' + 'r' * (len(first) - len(LEFT))
    top = [r'\begin{tabular}{' + columns + '}', r'\toprule', line(first), r'\midrule']
    return '\n'.join([*top, *rest, r'\bottomrule', r'\end{tabular}']) + '\n'


def as_csv(table: Table) -> str:
    """Comma-separated values; mean and deviation stay one text."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([table.header, *table.rows])
    return text.getvalue()


#: Values of ``--format``.
FORMATS = {'md': as_markdown, 'latex': as_latex, 'csv': as_csv}
