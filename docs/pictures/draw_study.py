"""Draw the runs of the study of LSPT.

python docs/pictures/draw_study.py          writes docs/pictures/lspt_study.svg

A dot is a run from logits in docs/lspt_study.csv at its variant's rate with the most runs, the line
their mean.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib import rcParams

HERE = Path(__file__).resolve().parent
TASKS = {'eurosat': 'EuroSAT, 1,200 images', 'flowers36': 'Flowers36, 160 images'}
BLUE, GREY = '#1f4e79', '#888888'


def main() -> None:
    """Read, draw, write."""
    with open(HERE.parent / 'lspt_study.csv', encoding='utf-8', newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['start'] == 'logits']
    runs = defaultdict(lambda: defaultdict(list))
    for row in rows:
        runs[row['variant'], row['task']][row['lr']].append(float(row['score']))
    names = sorted(
        {row['variant'] for row in rows if all((row['variant'], task) in runs for task in TASKS)},
        key=lambda name: sum(_scores(runs[name, 'eurosat'])) / len(_scores(runs[name, 'eurosat'])),
    )
    rcParams.update({'svg.hashsalt': 'lspt', 'svg.fonttype': 'none', 'font.size': 9})
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 0.3 * len(names) + 1.1), sharey=True)
    for axis, (task, title) in zip(axes, TASKS.items(), strict=True):
        baseline = next(float(row['baseline']) for row in rows if row['task'] == task)
        axis.axvline(baseline, color=GREY, linestyle=':', linewidth=1)
        axis.text(baseline, len(names) - 0.4, ' linear probe', color=GREY, va='bottom', fontsize=8)
        for place, name in enumerate(names):
            scores = _scores(runs[name, task])
            mean = sum(scores) / len(scores)
            axis.plot(scores, [place] * len(scores), 'o', color=BLUE, markersize=4, alpha=0.6)
            axis.plot([mean, mean], [place - 0.3, place + 0.3], color=BLUE, linewidth=2)
        axis.set_title(title, fontsize=9, pad=14)
        axis.set_xlabel('top-1, per cent')
        axis.set_yticks(range(len(names)), names)
        axis.grid(axis='x', linewidth=0.4)
        axis.spines[['top', 'right']].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE / 'lspt_study.svg', metadata={'Date': None})


def _scores(by_rate: dict) -> list:
    """Runs of the rate with the most of them, then of the best."""
    return max(by_rate.values(), key=lambda scores: (len(scores), sum(scores) / len(scores)))


if __name__ == '__main__':
    main()
