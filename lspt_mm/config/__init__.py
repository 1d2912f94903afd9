"""Reads configs: names, arguments and command-line options."""
