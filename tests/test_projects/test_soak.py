"""What the soak takes for an ending, and what for a fault of the run."""

import json
import random
import signal

import pytest

from lspt_mm.engine.hooks.jsonl_logger_hook import LOG
from projects.soak.rounds import soak


class Attempt:
    """A run that ends with ``code`` when it gets a signal, and by itself with 0."""

    pid = 0

    def __init__(self, code):
        self.code, self.ended = code, None

    def poll(self):
        return self.ended if self.code is not None else 0

    def send_signal(self, number):
        self.ended = -number if number == signal.SIGKILL else self.code


def soaked(folder, code, done=()):
    """A soak of one ending; the attempt has logged iterations ``done`` before its signal."""
    attempts = []

    def start():
        for number in done if not attempts else ():
            with (folder / LOG).open('a') as file:
                file.write(json.dumps({'mode': 'train', 'iter': number}) + '\n')
        attempts.append(Attempt(code if not attempts else None))
        return attempts[-1]

    class InterruptsAtOnce(random.Random):
        def choice(self, options):
            return signal.SIGINT

        def randint(self, low, high):
            return low

    return soak(start, folder, max(done, default=1), 1, InterruptsAtOnce(0))


@pytest.mark.parametrize('code', [75, -signal.SIGINT, 130])
def test_a_run_that_was_stopped(code, tmp_path):
    assert soaked(tmp_path, code, done=[1, 2])['stops'] == 1


def test_an_import_that_was_interrupted_ends_with_1(tmp_path):
    # NumPy's C interface, for one, makes an ImportError of a KeyboardInterrupt.
    counts = soaked(tmp_path, 1)
    assert counts['stops'] == 1 and counts['attempts'] == 2


def test_a_run_that_fails_when_it_is_told_to_stop(tmp_path):
    with pytest.raises(RuntimeError, match='attempt 1 ended with code 1'):
        soaked(tmp_path, 1, done=[1, 2])
