"""The report's figures, each as SVG for the page."""

import io
import math
import re
from typing import Dict, List, Optional, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure  # pyplot would need a display
from matplotlib.ticker import MaxNLocator

from lspt_mm.analysis.burstiness import EDGES, Burstiness
from lspt_mm.analysis.lstm_gates import GATES
from lspt_mm.report.results import RunResult

#: Okabe and Ito's colours, which are safe for the colour-blind; runs have them in order.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#B2A800')
DASHES = ('-', '--', ':', '-.')
WHO = {'cls': 'class token', 'prompts': 'prompts'}
_STYLE = {
    'svg.fonttype': 'none',
    'font.family': 'sans-serif',
    'font.size': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.25,
    'legend.frameon': False,
    'figure.constrained_layout.use': True,
}

Series = Dict[str, Sequence]


def style_of(position: int) -> dict:
    """Colour and dashes of the run at a position of the report."""
    return {
        'color': COLOURS[position % len(COLOURS)],
        'linestyle': DASHES[position // len(COLOURS) % len(DASHES)],
    }


def _svg(figure) -> str:
    """The figure's SVG, to be embedded in a page beside others.

    Its prolog, metadata and unused identifiers, which are the same in every figure, are removed.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg')
    text = buffer.getvalue()
    text = re.sub(r'<metadata>.*?</metadata>', '', text[text.index('<svg') :], flags=re.DOTALL)
    referred = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else '', text)


def _panels(count: int, width: float = 3.6, height: float = 2.7, columns: int = 3):
    """A figure of ``count`` axes, the rest blank."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[count:]:
        axis.axis('off')
    return figure, list(axes.flat[:count])


def _salted(title: str):
    # Identifiers inside a page's SVGs must differ from figure to figure, and be the same each time.
    return matplotlib.rc_context({**_STYLE, 'svg.hashsalt': title})


def lines(
    panels: Dict[str, Dict[str, Series]], names: List[str], x: str, columns: int = 3
) -> Optional[str]:
    """Line charts side by side; None if there is nothing to draw.

    Args:
        panels: Title to name of the run to pairs (x, y); values that are NaN are left out.
        names: Names of all runs of the report, which set the colours.
        x: Label of the horizontal axis.
        columns: Panels in a row.
    """
    panels = {title: _drawable(series) for title, series in panels.items()}
    panels = {title: series for title, series in panels.items() if series}
    if not panels:
        return None
    with _salted(f'lines {x} {list(panels)}'):
        figure, axes = _panels(len(panels), columns=columns)
        for axis, (title, series) in zip(axes, panels.items(), strict=True):
            for name, points in series.items():
                style = style_of(names.index(name)) if name in names else {'color': '#999999'}
                marker = 'o' if len(points) < 30 else None
                axis.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=name,
                          linewidth=1.4, **style)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel(x)
            if 'block' in x:
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        shown: Dict[str, object] = {}
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                shown.setdefault(label, handle)
        figure.legend(
            list(shown.values()), list(shown), loc='outside lower center', ncols=min(6, len(shown))
        )
        return _svg(figure)


def _drawable(series: Dict[str, Series]) -> Dict[str, list]:
    kept = {
        name: [(x, y) for x, y in points if y is not None and not math.isnan(y)]
        for name, points in series.items()
    }
    return {name: points for name, points in kept.items() if points}


def matrices(
    tables: Dict[str, List[List[float]]], blocks: Dict[str, List[int]], title: str, low: float = 0.0
) -> Optional[str]:
    """Heat maps of block by block, ``low`` to 1, one for each run."""
    if not tables:
        return None
    with _salted(f'matrices {title} {list(tables)}'):
        figure, axes = _panels(len(tables), width=3.0, height=2.8, columns=4)
        picture = None
        for axis, (name, table) in zip(axes, tables.items(), strict=True):
            values, numbers = np.array(table, float), blocks[name]
            picture = axis.imshow(values, cmap='viridis', vmin=low, vmax=1)
            axis.set_title(name, fontsize=9)
            axis.grid(False)
            step = max(1, len(numbers) // 8)
            axis.set_xticks(range(0, len(numbers), step), numbers[::step])
            axis.set_yticks(range(0, len(numbers), step), numbers[::step])
            axis.set_xlabel('block')
            if len(numbers) <= 12:
                for (i, j), value in np.ndenumerate(values):
                    if not math.isnan(value):
                        light = value > low + 0.6 * (1 - low)
                        axis.text(j, i, f'{value:.2f}'.replace('0.', '.'), ha='center', va='center',
                                  fontsize=5.5, color='black' if light else 'white')
        figure.colorbar(picture, ax=axes, shrink=0.8, label=title)
        return _svg(figure)


def memory_gates(results: List[RunResult], names: List[str]) -> Optional[str]:
    """An LSTM's gates over depth, with the share of values that are saturated."""
    panels: Dict[str, Dict[str, list]] = {}
    for gate in GATES:
        title = f'{gate} gate' if gate != 'candidate' else 'candidate, absolute'
        panels[f'{title}: mean'] = {
            m.run.name: [(s.number, s.mean[gate]) for s in m.memory_gates] for m in results
        }
    for gate in GATES:
        panels[f'{gate}: share saturated'] = {
            m.run.name: [(s.number, s.saturated[gate]) for s in m.memory_gates] for m in results
        }
    panels['cell state: root mean square'] = {
        m.run.name: [(s.number, s.cell) for s in m.memory_gates] for m in results
    }
    return lines(panels, names, 'after block', columns=4)


def burstiness_figure(found: List[Burstiness], title: str) -> Optional[str]:
    """Histograms of all blocks before and after whitening, and their kurtosis."""
    if not found:
        return None
    centres = ((EDGES[1:] + EDGES[:-1]) / 2).numpy()
    gauss = np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi)
    with _salted(f'burstiness {title}'):
        figure, axes = _panels(3)
        shades = matplotlib.colormaps['viridis'](np.linspace(0, 0.9, len(found)))
        for axis, key in zip(axes, ('density', 'whitened_density'), strict=False):
            for block, shade in zip(found, shades, strict=True):
                axis.plot(centres, np.maximum(getattr(block, key), 1e-6), color=shade, linewidth=1)
            axis.plot(centres, gauss, 'k--', linewidth=1, label='Gaussian')
            axis.set_yscale('log')
            axis.set(ylim=(1e-5, 2), xlabel='standard deviations', ylabel='density')
            axis.legend(fontsize=7)
        axes[0].set_title('before whitening (dark: first block)', fontsize=9)
        axes[1].set_title('after', fontsize=9)
        numbers = [block.number for block in found]
        for key, label, style in (
            ('kurtosis', 'before', style_of(1)), ('whitened_kurtosis', 'after', style_of(0)),
        ):
            values = [getattr(block, key) for block in found]
            axes[2].plot(numbers, values, marker='o', markersize=3, label=label, **style)
        axes[2].set_yscale('symlog')
        axes[2].set(title='excess kurtosis (Gaussian: 0)', xlabel='block')
        axes[2].title.set_fontsize(9)
        axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[2].legend(fontsize=7)
        return _svg(figure)


def embeddings(results: List[RunResult], seed: int = 0) -> Optional[str]:
    """t-SNE (scikit-learn's) of each run's features, coloured by class."""
    from sklearn.manifold import TSNE

    with_features = [m for m in results if len(m.features) >= 10]
    if not with_features:
        return None
    with _salted(f'tsne {[m.run.name for m in with_features]}'):
        figure, axes = _panels(len(with_features), width=3.3, height=3.2, columns=4)
        for axis, one in zip(axes, with_features, strict=True):
            perplexity = min(30, (len(one.features) - 1) / 3)
            tsne = TSNE(perplexity=perplexity, random_state=seed, init='pca')
            places = tsne.fit_transform(one.features.astype(np.float64))
            colours = np.array(one.palette)[one.feature_classes] / 255
            axis.scatter(*places.T, s=9, c=colours, linewidths=0.2, edgecolors='#333333')
            axis.set_title(one.run.name, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        return _svg(figure)


def confusions(results: List[RunResult]) -> Optional[str]:
    """Confusion matrices as shares of the true class."""
    shown = [m for m in results if m.class_scores and m.run.task.exclusive]
    if not shown:
        return None
    with _salted(f'confusion {[m.run.name for m in shown]}'):
        figure, axes = _panels(len(shown), width=3.8, height=3.6, columns=3)
        picture = None
        for axis, one in zip(axes, shown, strict=True):
            total = one.confusion.sum(1, keepdims=True)
            shares = np.divide(one.confusion, total, where=total > 0,
                               out=np.full(one.confusion.shape, np.nan))
            picture = axis.imshow(shares, cmap='magma', vmin=0, vmax=1)
            axis.set_title(one.run.name, fontsize=9)
            axis.grid(False)
            axis.set(xlabel='predicted', ylabel='true')
            if len(one.classes) <= 24:
                axis.set_xticks(range(len(one.classes)), one.classes, rotation=90, fontsize=6)
                axis.set_yticks(range(len(one.classes)), one.classes, fontsize=6)
        figure.colorbar(picture, ax=axes, shrink=0.7, label='share of the true class')
        return _svg(figure)
