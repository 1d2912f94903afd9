"""What checks of arguments accept (lspt_mm.utils.checks)."""

import math

import numpy as np
import pytest

from lspt_mm.errors import InputError
from lspt_mm.utils.checks import check_all, check_int, check_number, check_share, check_size


@pytest.mark.parametrize('value', [3, np.int64(3), np.uint8(3)])
def test_integers(value):
    for check in (check_int, check_number):
        check('n', value, 1)
    check_size('n', (value, value))
    with pytest.raises(ValueError, match='n=.*: expected an integer of at least 4'):
        check_int('n', value, 4)


@pytest.mark.parametrize('value', [True, np.True_, 3.0, np.float64(3), '3', None])
def test_no_integers(value):
    with pytest.raises(ValueError, match='n=.*: expected an integer'):
        check_int('n', value, 1)
    with pytest.raises(ValueError, match='n=.*: expected an integer'):
        check_size('n', value)


@pytest.mark.parametrize('value', [0, 0.5, np.float32(0.5), np.int8(0)])
def test_shares(value):
    check_share('n', value)
    check_number('n', value)


@pytest.mark.parametrize('value', [False, np.False_, math.nan, np.float32('inf'), '0', 1j])
def test_no_shares(value):
    for check in (check_share, check_number):
        with pytest.raises(ValueError, match='n=.*: expected a'):
            check('n', value)


def test_all_messages_are_one_error():
    with pytest.raises(InputError, match="^a='x': expected .*\nb=2: expected .*below 1$"):
        check_all([(check_int, 'a', 'x', 0), (check_int, 'c', 1, 0), (check_share, 'b', 2)])
