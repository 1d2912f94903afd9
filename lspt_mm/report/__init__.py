"""Report page that compares runs: settings, curves, scores, and what the prompts do."""

from lspt_mm.report.collect import collect_pictures, collect_results
from lspt_mm.report.page import write_page
from lspt_mm.report.results import Picture, RunResult, by_image, numbers_of

__all__ = [
    'Picture', 'RunResult', 'by_image', 'collect_pictures', 'collect_results', 'numbers_of',
    'write_page',
]
