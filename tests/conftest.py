"""Settings that every test shares."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainers.environment import tune_xla

os.environ.setdefault("JAX_PLATFORMS", "cpu")
tune_xla()  # as every worker has it, and compilation takes three quarters of the time
# Some hundred processes are started. Where bytecode is not kept, as in many containers, each of
# them compiles the sources of JAX, Flax and Ray anew: 3 s of processor instead of 1.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell has what it runs in the background ignore Ctrl-C, and all that is started there inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# For a Ray that a test starts by itself.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


@pytest.fixture(autouse=True, scope="session")
def clusters_of_our_own() -> Iterator[None]:
    """What `auto` means to Ray is written down in a folder, which all clusters of a machine share."""
    folder = tempfile.mkdtemp(prefix="as")  # short, as sockets' paths must be
    os.environ["RAY_TMPDIR"] = folder
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def strict_jax() -> None:
    """Silent broadcasting and silent dtype promotion are errors while testing."""
    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Two processes share the tests by file.

    Files that start a Ray go one after the other, beside all the rest; so do those that start clusters
    of several nodes. The crash campaign, which is the longest of them and minds nobody, belongs to the
    rest. Those of `spaces` stay in one process, which compiles what they share once.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.startswith("tests/launch/test_cluster"):
                return "clusters"
            if file.startswith("tests/spaces/"):
                return "spaces"
            alone = file.startswith("tests/crash/") or not _starts_ray(config.rootpath / file)
            return file if alone else "ray"

    return Scheduling(config, log)


@functools.cache
def _starts_ray(file: Path) -> bool:
    return "pytest.mark.ray" in file.read_text(encoding="utf-8")
