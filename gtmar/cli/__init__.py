"""The command line: one thin function a command, text and JSON output, one error boundary.

Everything heavy is imported inside the commands, so that ``gtmar --help`` answers at once.
"""

from gtmar.cli.app import main

__all__ = ["main"]
