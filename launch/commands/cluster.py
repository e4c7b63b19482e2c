"""`actsearch cluster template`: files to start a Ray cluster with, ready to edit."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

from cyclopts import App

from spaces.scratch import scratch_path
from spaces.suggest import did_you_mean

from ..errors import DONE, RequestError

TEMPLATES = {
    "bare": "bare.yaml",
    "slurm": "slurm.sh",
    "kuberay": "kuberay.yaml",
    "gcp-tpu": "gcp-tpu.yaml",
}
"""Templates by name, and their files in `launch/templates`."""

cluster = App(name="cluster", help="Files to start a Ray cluster with, for search --address.")


@cluster.command
def template(name: str, *, output: Path | None = None) -> int:
    """A commented file to edit: what to change is marked EDIT, how to start stands on top.

    Parameters
    ----------
    name
        bare (own machines, over ssh), slurm, kuberay (Kubernetes) or gcp-tpu.
    output
        Write into this file, which must not exist, instead of stdout.
    """
    if name not in TEMPLATES:
        near = did_you_mean(name, TEMPLATES)
        raise RequestError(f"`name` must be one of {', '.join(TEMPLATES)}, got {name!r}{near}")
    content = files("launch").joinpath("templates", TEMPLATES[name]).read_bytes()
    if output is None:
        sys.stdout.write(content.decode("ascii"))
        return DONE
    if not output.name or not output.parent.is_dir():
        raise RequestError(f"`output` must be a file in a folder that is there, got {output}")
    try:
        output.lstat()
    except FileNotFoundError:
        _write_new(output, content)
        return DONE
    raise _taken(output)


def _write_new(path: Path, content: bytes) -> None:
    """Makes a whole file or none, and never in place of another.

    Raises:
        RequestError: Something has that name, or it cannot be written.
    """
    scratch = scratch_path(path.parent, ".actsearch-template")
    try:
        with scratch.open("xb") as stream:
            stream.write(content)
        os.link(scratch, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise RequestError(f"`output`: cannot write {path}: {error.strerror}") from None
    finally:
        scratch.unlink(missing_ok=True)


def _taken(path: Path) -> RequestError:
    return RequestError(f"`output`: {path} is there already: name another file")
