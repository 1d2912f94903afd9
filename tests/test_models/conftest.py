"""Imported before any test file of this folder."""

import pytest

# This imports lspt_mm, which makes timm and mmpretrain importable where torchvision is not whole.
from method_table import SECOND


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark tests on second rows of the table as slow, except the literal equations."""
    for item in items:
        values = getattr(getattr(item, 'callspec', None), 'params', {}).values()
        rows = {value for value in values if isinstance(value, str)}
        if rows & SECOND and item.path.name != 'test_literal_equations.py':
            item.add_marker(pytest.mark.slow)
