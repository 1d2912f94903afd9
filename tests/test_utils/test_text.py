"""Lists in messages."""

import pytest

from lspt_mm.utils.text import did_you_mean, format_list, shorten


@pytest.mark.parametrize(
    ('items', 'text'),
    [
        ('', ''),
        ('abc', 'a, b, c'),
        ('abcd', 'a, b, c, ... (4 in all)'),
        ({1: 'x'}, '1'),
    ],
)
def test_shorten(items, text):
    assert shorten(items) == text
    assert shorten(iter(items)) == text


def test_format_list():
    assert format_list('ab', shown=2) == '  a\n  b'
    assert format_list('abcd', shown=2) == '  a\n  b\n  ... and 2 more'


def test_did_you_mean():
    assert did_you_mean('LSPT', ['vpt', 'lspt', 'x']) == 'did you mean lspt or vpt?'
    assert did_you_mean('adamw', ['SGD', 'AdamW']) == 'did you mean AdamW?'
    assert did_you_mean('?', ['a', 'b']) == 'known: a, b'
