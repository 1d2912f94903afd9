"""Curves of validation accuracy over epochs, one for each method, from folders of searches.

python tools/analysis_tools/curves.py work_dirs/vtab1k/*_search --out curves

Takes the selection run of the point that was chosen (final runs are trained on the validation
data). Writes ``OUT.csv`` and ``OUT.png``.
"""

import argparse
import csv
from pathlib import Path
from typing import Dict, List

from lspt_mm.errors import InputError
from lspt_mm.search.grid import name_of
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.cli import input_errors_as_messages

Curves = Dict[str, List[List[float]]]


def curves_of(folders: List[Path]) -> Curves:
    """Name of the experiment, or of the folder, to pairs of epoch and top-1."""
    from lspt_mm.recipes import experiment_in
    from lspt_mm.search.protocol import STATE
    from lspt_mm.search.worker import RESULT

    curves = {}
    for folder in folders:
        if not (folder / STATE).is_file():
            raise InputError(f'{folder}: no finished search (there is no {STATE})')
        chosen = read_json(folder / STATE)['chosen']
        path = folder / 'selection' / name_of(chosen) / RESULT
        if not path.is_file():
            raise InputError(f'{path} does not exist; a search without a grid has no curve')
        result = read_json(path)
        name = (experiment_in(result) or {}).get('name', folder.name)
        if name in curves:
            raise InputError(f'{folder}: a second search of {name}')
        curves[name] = result['curve']
    return curves


def write_csv(curves: Curves, path: Path) -> None:
    """One row per epoch, one column per curve."""
    epochs = sorted({epoch for curve in curves.values() for epoch, _ in curve})
    values = {name: dict(map(tuple, curve)) for name, curve in curves.items()}
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['epoch', *curves])
        for epoch in epochs:
            writer.writerow([epoch, *(values[name].get(epoch, '') for name in curves)])


def main() -> None:
    """Write the curves of all searches."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folders', nargs='+', type=Path, help='work dirs of tools/search.py')
    parser.add_argument('--out', default='curves', help='path of the files without suffix')
    args = parser.parse_args()
    with input_errors_as_messages():
        from lspt_mm.analysis.visualization import draw_curves

        curves = curves_of(args.folders)
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_csv(curves, Path(f'{args.out}.csv'))
        panels = {'top-1 on validation data (%)': curves}
        draw_curves(panels, 'epoch', Path(f'{args.out}.png'))
    print(f'{args.out}.csv, {args.out}.png')


if __name__ == '__main__':
    main()
