"""Starts Ray on this machine or joins a running cluster, and leaves nothing behind.

A local Ray binds to loopback, wants a token that only its own processes have, has no dashboard and
sends no usage statistics; its session lives in a private folder of ours, removed at exit and, after
a SIGKILL, at the next start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spaces.scratch import scratch_path

from .address import FAILED_THERE, TRIES, refusal
from .config import PlacementConfig
from .errors import RunFailedError
from .room import Room
from .ship import shipped

_MEBIBYTE = 1024 * 1024

_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}

_IDLE = ("start_monitor", "start_log_monitor")
"""Methods of Ray's that start what one machine has no use for: the autoscaler, and what carries workers'
output to a driver that shows none. Without them Ray starts in 3.7 s instead of 6.2 and ends in 0.2 s
instead of 1.4, on two cores: it waits for the autoscaler for a second."""

_PAUSES = (1.0, 5.0)
"""Seconds until the next try: on a machine that is short of memory for a moment, Ray may not start."""


@contextlib.contextmanager
def cluster(placement: PlacementConfig, *, data_bytes: int) -> Iterator[Room]:
    """A Ray to work with, for as long as the context lasts.

    Args:
        placement: What workers need and where they are.
        data_bytes: Size of what will be put into the object store.

    Raises:
        RequestError: The cluster does not let us in.
        RunFailedError: Ray does not start on this machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not placement.address:
        # Ray would start idle processes that no worker of ours, with its own environment, may use.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        # Ray's name for "this is one machine": its servers then bind to loopback. It is read when
        # ray is imported; asking for 127.0.0.1 as the node's address alone is overruled.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if "ray" not in sys.modules:
            # Other users of this machine reach loopback as well. Ray would keep a token at home.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        # Ray tells of workers that died on standard output, which is for results alone.
        yield from _joined(placement, data_bytes)


def _joined(placement: PlacementConfig, data_bytes: int) -> Iterator[Room]:
    """The same, once Ray is imported and its words go nowhere."""
    import ray

    folder = None
    if placement.address:
        _join(placement.address, ship=placement.ship)
    else:
        folder = _start(placement, data_bytes)
    try:
        yield Room(placement, local=not placement.address)
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _join(address: str, *, ship: bool) -> None:
    """Becomes a driver of the cluster at the address, or a client of it."""
    import ray

    with shipped(ship) as code:
        for left in reversed(range(TRIES)):
            try:
                with _away(), _no_uv_project():
                    ray.init(address=address, runtime_env=code, **_QUIET)
                return
            except Exception as error:  # of many kinds, and its class says less than its words
                if type(error).__name__ != FAILED_THERE or not left:
                    raise refusal(address, str(error) or type(error).__name__) from None


def _start(placement: PlacementConfig, data_bytes: int) -> Path:
    """Starts Ray's processes here; returns the folder of their session."""
    for pause in _PAUSES:
        with contextlib.suppress(RunFailedError):
            return _start_once(placement, data_bytes)
        time.sleep(pause)
    return _start_once(placement, data_bytes)


def _start_once(placement: PlacementConfig, data_bytes: int) -> Path:
    import ray

    cores = len(os.sched_getaffinity(0))
    wanted = cores if placement.workers == "auto" else int(placement.workers)
    folder = scratch_path(Path(tempfile.gettempdir()), "actsearch-ray")
    folder.mkdir(mode=0o700)
    try:
        with _away(), _no_uv_project(), _without(*_IDLE):
            ray.init(
                num_cpus=max(cores, wanted * placement.cpus_per_worker),
                object_store_memory=max(100 * _MEBIBYTE, data_bytes + 64 * _MEBIBYTE),
                resources=placement.custom_resources or None,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder / "r"),  # which Ray opens to everybody
                **_QUIET,
            )
    except Exception as error:  # Ray raises this very class where its processes do not come up
        ray.shutdown()  # of those that did
        shutil.rmtree(folder, ignore_errors=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunFailedError(
            f"Ray did not start on this machine: {reason.rstrip('.')}. "
            "Nothing is lost: repeat the command"
        ) from None
    return folder


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """Leaves the working directory: Ray puts it in front of its workers' path.

    A `jax.py` that lies in a stranger's folder would otherwise be what workers import, if somebody
    stands there. Where Python itself looks into it, as under `python -m`, it stays.
    """
    here = Path.cwd()
    if any(Path(entry).resolve() == here for entry in sys.path):
        yield
        return
    with contextlib.chdir("/"):
        yield


@contextlib.contextmanager
def _without(*starts: str) -> Iterator[None]:
    """Ray does not start these processes, where its version starts them by methods of such names."""
    try:
        from ray._private.node import Node
    except ImportError:
        yield
        return
    before = {name: vars(Node)[name] for name in starts if name in vars(Node)}
    for name in before:
        setattr(Node, name, lambda _: None)
    try:
        yield
    finally:
        for name, start in before.items():
            setattr(Node, name, start)


@contextlib.contextmanager
def _no_uv_project() -> Iterator[None]:
    """Under `uv run`, Ray sends the working directory to workers, who then make an environment of it.

    `RAY_ENABLE_UV_RUN_RUNTIME_ENV` is read when ray is imported, which a notebook may have done before.
    """
    from ray._private import ray_constants

    name = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
    before = getattr(ray_constants, name, False)
    setattr(ray_constants, name, False)
    try:
        yield
    finally:
        setattr(ray_constants, name, before)
