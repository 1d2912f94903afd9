"""Draw which package of lspt_mm imports which.

python docs/pictures/draw_imports.py          writes docs/pictures/imports.svg

Rows are the layers of pyproject.toml's contract, which `make lint` checks. An arrow is as wide as
the imports are many. Rooms that nearly all others import have no arrows (``GROUND``).
"""

import math
from collections import Counter
from pathlib import Path
from typing import Dict, List, Tuple

import grimp
from importlinter.api import read_configuration

HERE = Path(__file__).resolve().parent
GROUND = ('registry', 'utils', 'errors', 'version')
BOX, ROW, WIDTH = (108, 30), 88, 760
BLUE = '#1f4e79'


def layers() -> List[List[str]]:
    """Rooms by row, the top first."""
    settings = read_configuration(str(HERE.parents[1] / 'pyproject.toml'))
    rows = settings['contracts_options'][0]['layers']
    return [[room.strip() for room in row.split('|')] for row in rows if '__' not in row]


def arrows() -> Dict[Tuple[str, str], int]:
    """How many imports lead from room to room, imports inside functions included."""
    graph, found = grimp.build_graph('lspt_mm', cache_dir=None), Counter()
    for module in graph.modules:
        for target in graph.find_modules_directly_imported_by(module):
            pair = tuple(name.partition('.')[2].partition('.')[0] for name in (module, target))
            found[pair] += len(graph.get_import_details(importer=module, imported=target))
    rooms = {room for row in layers() for room in row} - set(GROUND)
    return {p: n for p, n in sorted(found.items()) if p[0] != p[1] and rooms.issuperset(p)}


def draw() -> str:
    """The picture, as SVG."""
    rows, boxes, lines = layers(), [], []
    place = {
        room: (WIDTH * (column + 0.5 + (y % 2) * 0.12 - 0.06) / len(row), 20 + ROW * y)
        for y, row in enumerate(rows)
        for column, room in enumerate(row)
    }
    for (room, target), count in arrows().items():
        (x, y), (to_x, to_y) = place[room], place[target]
        y, bend = y + BOX[1], 0.5 * (to_y - y)
        path = f'M{x:.0f} {y} C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} '
        path += f'{to_x:.0f} {to_y}'
        width = 1 + math.log2(count)
        title = f'<title>{room} imports {target}: {count}</title>'
        lines.append(f'<path d="{path}" stroke-width="{width:.1f}">{title}</path>')
    for room, (x, y) in place.items():
        box = f'x="{x - BOX[0] / 2:.0f}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="5"'
        text = f'<text x="{x:.0f}" y="{y + 20}" fill="black">{room}</text>'
        boxes.append(f'<rect {box} stroke="{BLUE}"/>{text}')
    size = f'viewBox="0 0 {WIDTH} {ROW * len(rows)}" font-family="sans-serif" font-size="14"'
    return '\n'.join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f'<g fill="none" stroke="{BLUE}" stroke-opacity="0.45">', *lines, '</g>',
        '<g fill="white" text-anchor="middle">', *boxes, '</g>',
        '</svg>\n',
    ])


if __name__ == '__main__':
    (HERE / 'imports.svg').write_text(draw(), encoding='utf-8')
