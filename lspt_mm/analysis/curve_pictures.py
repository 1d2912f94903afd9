"""Curves of several runs as one picture."""

from pathlib import Path
from typing import Dict, Sequence

from matplotlib.figure import Figure  # not pyplot, which would want a screen


def draw_curves(panels: Dict[str, Dict[str, Sequence]], x: str, path: Path) -> None:
    """Write a picture with one panel below the other.

    Args:
        panels: Label of the vertical axis to name of a run to pairs (x, y).
        x: Label of the horizontal axis.
        path: File to write; its suffix says the format.
    """
    figure = Figure(figsize=(7, max(4.5, 3 * len(panels))), layout='constrained')
    for axis, (label, curves) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for name, curve in curves.items():
            marker = 'o' if len(curve) < 30 else None
            axis.plot(*zip(*curve, strict=True), label=name, linewidth=1.2, marker=marker, ms=3)
        axis.set(xlabel=x, ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize='small')
    figure.savefig(path, dpi=120)
