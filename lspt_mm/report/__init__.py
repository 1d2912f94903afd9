"""One page that compares runs: what was set, how it went, what the prompts do."""

from lspt_mm.report.collect import looked_at, measure
from lspt_mm.report.page import write_page
from lspt_mm.report.results import Measured, Picture, numbers_of

__all__ = ['Measured', 'Picture', 'looked_at', 'measure', 'numbers_of', 'write_page']
