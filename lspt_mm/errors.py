"""Errors that a user can fix: the tools print only the message, without a traceback."""


class InputError(ValueError):
    """Something outside the program is wrong: an option, a file, a folder, a label value.

    The message names the bad value, what was expected and what to do.
    """
