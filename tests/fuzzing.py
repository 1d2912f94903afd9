"""How many examples a fuzz test tries."""

import os

from hypothesis import HealthCheck, settings

#: For a longer search: LSPT_MM_FUZZ=50 pytest ...
TIMES = int(os.environ.get('LSPT_MM_FUZZ', 1))


def many(examples):
    """Settings of a test with so many examples, or ``TIMES`` as many."""
    return settings(
        max_examples=TIMES * examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )
