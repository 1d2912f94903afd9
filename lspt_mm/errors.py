"""Errors that a user can act on: the tools print their message alone, without a traceback."""


class InputError(ValueError):
    """Something outside the program is wrong: an option, a file, a folder, a label value.

    The message names the bad value, what was expected and what to do.
    """
