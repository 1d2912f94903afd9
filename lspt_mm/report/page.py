"""The report's page: one HTML file with everything in it."""

import datetime
import math
from importlib.resources import files
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import jinja2

from lspt_mm.analysis.localization import Localization
from lspt_mm.analysis.runs import config_key, differences
from lspt_mm.report import figures
from lspt_mm.report.results import RunResult
from lspt_mm.report.viewer import viewer_data
from lspt_mm.utils.atomic_io import write_text
from lspt_mm.version import __version__

#: Settings that may differ between runs compared by the block at which prompts enter.
_ENTRY = ('model.backbone.prompter.start_block', 'randomness.seed')

#: Fields of :class:`Alignment` and names of the maps.
_MAPS = {
    'identity': 'as they are', 'orthogonal': 'orthogonal map', 'linear': 'linear map',
    'realnvp': 'RealNVP',
}


def write_page(results: List[RunResult], path: Path, split: str, command: str = '') -> None:
    """Write the comparison of runs as one HTML file that needs no other.

    Args:
        results: Runs in the order in which they are shown.
        path: File to write.
        split: The data that numbers and pictures were taken on.
        command: The command that made it, for the page's footer.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters['number'] = number
    here = files(__package__)
    template = environment.from_string((here / 'page.html').read_text(encoding='utf-8'))
    text = template.render(
        style=(here / 'page.css').read_text(encoding='utf-8'),
        script=(here / 'viewer.js').read_text(encoding='utf-8'),
        version=__version__,
        made=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        command=command,
        split=split,
        results=results,
        colours=[figures.style_of(i)['color'] for i in range(len(results))],
        summary=summary(results),
        differing=differences([m.run for m in results]),
        classes=class_table(results),
        viewer=viewer_data(results),
        figures=all_figures(results),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(path), text)


def number(value: Any) -> str:
    """A value of a table."""
    if value is None:
        return '–'
    if isinstance(value, float):
        return '–' if math.isnan(value) else f'{value:.4g}'
    return f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else str(value)


def all_figures(results: List[RunResult]) -> Dict[str, Optional[str]]:
    """Name to SVG, None where no run has anything to show."""
    names = [m.run.name for m in results]
    by_vit = {}
    for one in results:  # of the same frozen ViT and images these are the same
        key = tuple(round(block.kurtosis, 6) for block in one.burstiness)
        by_vit.setdefault(key, []).append(one)
    return {
        'curves': figures.lines(_curves(results), names, 'iteration'),
        'attention': figures.lines(_attention(results), names, 'block', columns=4),
        'persistence_cls': _persistence(results, 'cls'),
        'persistence_prompts': _persistence(results, 'prompts'),
        'cosine': _similarity(results, 'cosine', 'cosine', -0.2),
        'cka': _similarity(results, 'cka', 'CKA', 0.0),
        'forgetting': figures.lines(_forgetting(results), names, 'block', columns=4),
        'alignment': figures.lines(_alignment(results), list(_MAPS.values()), 'block'),
        'learned': figures.lines(_per_block_stats(results), names, 'block'),
        'memory': figures.memory_gates(results, names),
        'entry': figures.lines(entry_blocks(results), [], 'first block with prompts'),
        'burstiness': [
            (', '.join(m.run.name for m in group), figures.burstiness_figure(
                group[0].burstiness, str(i)))
            for i, group in enumerate(by_vit.values()) if group[0].burstiness
        ],
        'features': figures.embeddings(results),
        'confusion': figures.confusions(results),
    }


def summary(results: List[RunResult]) -> List[Dict[str, Any]]:
    """A row for each run."""
    rows = []
    for one in results:
        counts = one.parameters.values()
        rows.append({
            'run': one.run.name,
            'checkpoint': one.run.checkpoint.name,
            'method': one.method or 'none',
            'trained': sum(c[0] for c in counts),
            'prompts': sum(c[0] for name, c in one.parameters.items() if name.endswith('prompter')),
            'all': sum(c[1] for c in counts),
            'iterations': one.run.iterations,
            'validation': main_metric(
                one, {key: curve[-1][1] for key, curve in one.run.curves.items()}
            ),
            'baseline': (one.run.baseline or {}).get('value'),
            'tests': {where: main_metric(one, found) for where, found in one.run.tests.items()},
            'here': one.score,
        })
    return rows


def main_metric(result: RunResult, metrics: Dict[str, Any]) -> Optional[str]:
    """The metric by which such runs are compared, with its name."""
    name = result.run.task.metric_key
    value = metrics.get(name)
    return f'{name} {value:.2f}' if isinstance(value, (int, float)) else None


def class_table(results: List[RunResult]) -> List[List[Any]]:
    """Rows of class, pixels or images of it, and each run's score of that class."""
    if any(m.classes != results[0].classes for m in results):
        return []
    columns = [m.class_scores for m in results]
    if not all(columns):
        return []
    seen, _ = results[0].run.task.occurrences(results[0].confusion)
    return [
        [name, int(seen[i]), *(column[i] for column in columns)]
        for i, name in enumerate(results[0].classes)
        if seen[i] or any(not math.isnan(column[i]) for column in columns)
    ]


def _per_run(results: List[RunResult], points: Callable[[RunResult], list]) -> Dict[str, list]:
    return {m.run.name: points(m) for m in results}


def _curves(results: List[RunResult]) -> Dict[str, Dict[str, list]]:
    panels = {
        'training loss': _per_run(results, lambda m: m.run.curves.get('loss', [])),
        'learning rate': _per_run(results, lambda m: m.run.curves.get('lr', [])),
    }
    metric = results[0].run.task.metric_key
    panels[f'validation, {metric}'] = _per_run(results, lambda m: m.run.curves.get(metric, []))
    return panels


def _attention(results: List[RunResult]) -> Dict[str, Dict[str, list]]:
    panels: Dict[str, Dict[str, list]] = {}
    what = {
        'entropy': 'entropy (1: even)',
        'overlap': 'overlap with a class',
        'elsewhere': "above another image's",
        'on_patches': 'share on patches',
    }
    for who, name in figures.WHO.items():
        for key, title in what.items():
            panel = _per_run(
                results,
                lambda m, who=who, key=key: [
                    (block, _judged(one, key)) for block, one in m.localization.get(who, {}).items()
                ],
            )
            panels[f'{name}: {title}'] = panel
    return panels


def _judged(one: Localization, key: str) -> float:
    return one.overlap - one.elsewhere if key == 'elsewhere' else getattr(one, key)


def _persistence(results: List[RunResult], who: str) -> Optional[str]:
    found = {m.run.name: m.persistence[who] for m in results if who in m.persistence}
    return figures.matrices(
        {name: one.correlation for name, one in found.items()},
        {name: one.blocks for name, one in found.items()},
        f'correlation, {figures.WHO[who]}',
        low=-0.2,
    )


def _similarity(results: List[RunResult], key: str, title: str, low: float) -> Optional[str]:
    found = {m.run.name: m.forgetting for m in results if m.forgetting is not None}
    return figures.matrices(
        {name: getattr(one, key) for name, one in found.items()},
        {name: one.blocks for name, one in found.items()},
        title,
        low=low,
    )


def _forgetting(results: List[RunResult]) -> Dict[str, Dict[str, list]]:
    found = [m for m in results if m.forgetting is not None]

    def panel(values: Callable) -> Dict[str, list]:
        return {
            m.run.name: list(zip(m.forgetting.blocks, values(m.forgetting), strict=False))
            for m in found
        }

    return {
        'cosine with the first prompts': panel(lambda f: f.cosine[0]),
        'CKA with the first prompts': panel(lambda f: f.cka[0]),
        'CKA with the prompts a block before': panel(
            lambda f: [math.nan, *(f.cka[i - 1][i] for i in range(1, len(f.blocks)))]
        ),
        'kept by the block (cosine in, out)': panel(lambda f: f.kept),
        'passed on to the next block (cosine)': panel(lambda f: f.passed_on),
        "spread of an image's prompts": panel(lambda f: f.spread),
        'cosine between prompts of an image': panel(lambda f: f.alike),
        'norm of the prompts after the block': panel(lambda f: f.made_norm),
        'norm of its mean patch token': panel(lambda f: f.patch_norm),
    }


def _alignment(results: List[RunResult]) -> Dict[str, Dict[str, list]]:
    return {
        m.run.name: {
            name: [(block, getattr(one, key)) for block, one in m.alignment.items()]
            for key, name in _MAPS.items()
        }
        for m in results
    }


def _per_block_stats(results: List[RunResult]) -> Dict[str, Dict[str, list]]:
    titles = dict.fromkeys(title for m in results for title in m.per_block_stats)
    return {
        title: _per_run(results, lambda m, t=title: list(m.per_block_stats.get(t, {}).items()))
        for title in titles
    }


def entry_blocks(results: List[RunResult]) -> Dict[str, Dict[str, list]]:
    """Metric over ``start_block``, for runs that differ only in it and in their seed."""
    groups: Dict[str, List[RunResult]] = {}
    for one in results:
        if one.start_block is not None and one.score is not None:
            groups.setdefault(config_key(one.run, _ENTRY), []).append(one)
    series = {}
    for group in groups.values():
        found: Dict[int, List[float]] = {}
        for one in group:
            found.setdefault(one.start_block, []).append(one.score)
        if len(found) > 1:
            label = f'{group[0].method}: {group[0].run.name} ...'
            series[label] = [(block, sum(v) / len(v)) for block, v in sorted(found.items())]
    return {f'{results[0].run.task.metric} on these images': series}
