"""Takes this project's code along to nodes that do not have it, for `--ship`.

What travels is a copy of the four packages and nothing beside them: no data, no runs, nothing of
the working directory. Ray makes it the working directory of every worker and puts it on their
path. JAX, Flax, Optax and NumPy must be on the nodes.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.scratch import scratch_path
from spaces.source_code import package_folder

from .installation import PACKAGES

EXCLUDED = ("__pycache__", "*.pyc")
"""What of the packages stays here."""


@contextlib.contextmanager
def shipped(wanted: bool) -> Iterator[dict[str, Any] | None]:
    """What Ray is to give its workers; for as long as it takes to join the cluster.

    Args:
        wanted: Whether code is to travel.

    Yields:
        A runtime environment, or None where the nodes have the code.
    """
    if not wanted:
        yield None
        return
    folder = scratch_path(Path(tempfile.gettempdir()), "actsearch-ship")
    folder.mkdir(mode=0o700)
    try:
        for name in PACKAGES:
            away = shutil.ignore_patterns(*EXCLUDED)
            shutil.copytree(package_folder(name), folder / name, ignore=away)
        yield {"working_dir": str(folder), "excludes": list(EXCLUDED)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
