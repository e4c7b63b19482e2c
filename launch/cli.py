"""The command line: `actsearch search | resume | top | show | report | …`.

Each command is a module of `launch.commands`, imported when it is called. Every command ends with
one of four exit codes (see `launch.errors`) and prints at most one line on stderr when it fails.
Imports that cost more than a moment stand inside the commands that need them.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from .errors import DONE, FAILED, STOPPED, WRONG_REQUEST, RequestError, RunFailedError
from .printable import printable

LONGEST = 2_000
"""Most characters of a complaint."""

app = App(
    name="actsearch",
    help="Search for activation functions (Ramachandran, Zoph, Le, arXiv 1710.05941).",
    version=lambda: version("actsearch"),
    suppress_keyboard_interrupt=False,
)

for _name, _help in {
    "search": "Search for activation functions, or go on with a run that asked for the same.",
    "resume": "Go on with a run exactly where it stopped.",
    "top": "Ranked candidates of a run, best first.",
    "show": "One candidate: formula, trials, curve, graph.",
    "watch": "A run's table while the run goes on.",
    "report": "A run as one HTML file.",
    "compare": "Several runs of one budget, side by side.",
    "export": "A candidate as JAX, Flax, PyTorch, SymPy, LaTeX.",
    "space": "What a space holds: its size, and how many candidates are invalid or equal.",
    "operators": "List, check and draw an operator set.",
    "bench": "What this machine can do for a search, and how long the search would take.",
    "cluster": "Files to start a Ray cluster with, for search --address.",
}.items():
    app.command(f"launch.commands.{_name}:{_name}", help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code.

    SIGTERM ends it as Ctrl-C does, also where nothing listens for it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    try:
        code = app(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        return _complain(_one_line(_usage(error)), WRONG_REQUEST)
    except RequestError as error:
        return _complain(_one_line(str(error)), WRONG_REQUEST)
    except RunFailedError as error:
        return _complain(_one_line(str(error)), FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"
        return _complain(
            _one_line(message), WRONG_REQUEST if error.errno == errno.ENAMETOOLONG else FAILED
        )
    except KeyboardInterrupt:
        return _complain("interrupted", STOPPED)
    return code if isinstance(code, int) else DONE


def _complain(message: str, code: int) -> int:
    print(f"actsearch: {message}", file=sys.stderr)
    return code


def _usage(error: CycloptsError) -> str:
    """What is wrong with the words of a request, and where it says which there are."""
    message = str(error)
    if isinstance(error, UnusedCliTokensError):
        message = f"unexpected {', '.join(map(repr, error.unused_tokens or ()))}."
    elif not isinstance(error, MissingArgumentError | UnknownOptionError):
        return message
    if "Did you mean" in message:
        return message
    return f"{message} See {' '.join(('actsearch', *(error.command_chain or ())))} --help."


def _one_line(message: str) -> str:
    line = printable(" ".join(message.split()))
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"
