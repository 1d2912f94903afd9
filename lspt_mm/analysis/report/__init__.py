"""One page that compares runs: what was set, how it went, what the prompts do."""

from lspt_mm.analysis.report.measure import looked_at, measure
from lspt_mm.analysis.report.measured import Measured, Picture
from lspt_mm.analysis.report.numbers import numbers_of
from lspt_mm.analysis.report.page import write_page

__all__ = ['Measured', 'Picture', 'looked_at', 'measure', 'numbers_of', 'write_page']
