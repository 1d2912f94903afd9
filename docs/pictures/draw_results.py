"""Draw the tests of the small tables.

python docs/pictures/draw_results.py          writes docs/pictures/results.svg

A dot is a classification run in docs/small_results.csv, the line the mean of the seeds.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib import rcParams

from lspt_mm.recipes.methods import METHODS

HERE = Path(__file__).resolve().parent
TASKS = {'caltech101': 'Caltech-101', 'cifar': 'CIFAR-100', 'eurosat': 'EuroSAT',
         'flowers36': 'Flowers36'}
BLUE, GREY = '#1f4e79', '#888888'


def main() -> None:
    """Read, draw, write."""
    runs = defaultdict(lambda: defaultdict(list))
    with open(HERE.parent / 'small_results.csv', encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            if row['phase'] == 'final' and row['task'] in TASKS:
                runs[row['method']][row['task']].append(float(row['score']))
    probe = {task: scores[0] for task, scores in runs.pop('linear').items()}
    names = sorted(
        (name for name, of in runs.items() if all(len(of[task]) == 3 for task in TASKS)),
        key=lambda name: sum(sum(runs[name][task]) for task in TASKS),
    )
    rcParams.update({'svg.hashsalt': 'lspt', 'svg.fonttype': 'none', 'font.size': 9})
    size = (8.6, 0.3 * len(names) + 1.1)
    figure, axes = plt.subplots(1, len(TASKS), figsize=size, sharey=True)
    for axis, (task, title) in zip(axes, TASKS.items(), strict=True):
        axis.axvline(probe[task], color=GREY, linestyle=':', linewidth=1)
        for place, name in enumerate(names):
            scores = runs[name][task]
            mean = sum(scores) / len(scores)
            axis.plot(scores, [place] * len(scores), 'o', color=BLUE, markersize=4, alpha=0.6)
            axis.plot([mean, mean], [place - 0.3, place + 0.3], color=BLUE, linewidth=2)
        axis.set_title(title, fontsize=9)
        axis.set_yticks(range(len(names)), [
            'Head alone' if name == 'head' else METHODS[name].title for name in names
        ])
        axis.grid(axis='x', linewidth=0.4)
        axis.spines[['top', 'right']].set_visible(False)
    figure.supxlabel('top-1, per cent (dotted: linear probe)', fontsize=9)
    figure.tight_layout()
    figure.savefig(HERE / 'results.svg', metadata={'Date': None})


if __name__ == '__main__':
    main()
