"""Processes in which peers live, each on cores of its own.

A lane is a set of cores with one process for each peer. Only one of its processes works at a time;
the processes of all lanes work on the same form at the same time, so that they share the machine's
memory bandwidth as the workers of a search do.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from peer import Score, Setting

from launch.worker import ENVIRONMENT
from trainers.environment import tune_xla

PEERS: Mapping[str, tuple[str, str]] = {
    "actsearch": ("actsearch_peer", "ActsearchPeer"),
    "torch": ("torch_peer", "TorchPeer"),
    "naive": ("naive_jax", "NaivePeer"),
}
"""Module and class of each peer."""


def peer_of(form: str) -> str:
    """Which peer knows a form."""
    first = form.split("-")[0]
    return first if first in ("torch", "naive") else "actsearch"


class PeerError(Exception):
    """A peer's process failed; the message is its traceback."""


class Process:
    """A peer in a process of its own.

    Args:
        peer: A key of `PEERS`.
        setting: What it is told.
        cores: The cores it may use.
        caches: Folder for what PyTorch compiles, fresh for each benchmark: nothing may be there
            already when a new candidate is timed.
    """

    def __init__(self, peer: str, setting: Setting, cores: tuple[int, ...], caches: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(peer, setting, cores, other), daemon=False
        )
        start = time.perf_counter()
        with _Environment(setting, tempfile.mkdtemp(prefix=f"{peer}-", dir=caches)):
            self._process.start()
        other.close()
        self.receive()
        self.start_s: float = time.perf_counter() - start
        """Seconds from nothing to a peer that has imported all it needs and has its images."""

    def send(self, method: str, *arguments: Any) -> None:
        """Asks for a method of the peer; its answer is to be received before the next is sent."""
        self._pipe.send((method, arguments))

    def receive(self) -> Any:
        """The answer.

        Raises:
            PeerError: The method raised, or the process has died.
        """
        try:
            status, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise PeerError(f"the process ended with {self._process.exitcode}") from None
        if status != "ok":
            raise PeerError(value)
        return value

    def stop(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Lanes:
    """The same peers on several sets of cores.

    Args:
        peers: Keys of `PEERS`.
        setting: What they are told.
        cores: The cores of each lane.
        caches: See `Process`.
    """

    def __init__(
        self, peers: list[str], setting: Setting, cores: list[tuple[int, ...]], caches: str
    ) -> None:
        self._lanes: list[dict[str, Process]] = [{} for _ in cores]
        try:
            for peer in peers:
                for lane, own in zip(self._lanes, cores, strict=True):
                    lane[peer] = Process(peer, setting, own, caches)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __len__(self) -> int:
        return len(self._lanes)

    def start_s(self, peer: str) -> float:
        """The longest start of a peer in any lane, in seconds."""
        return max(lane[peer].start_s for lane in self._lanes)

    def ask(self, form: str, method: str, arguments: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        """Calls a method of the form's peer in all lanes at once; `arguments` by number of lane."""
        processes = [lane[peer_of(form)] for lane in self._lanes]
        for number, process in enumerate(processes):
            process.send(method, form, *arguments(number))
        return [process.receive() for process in processes]

    def close(self, form: str) -> None:
        """Lets the form's peer forget every open child."""
        for lane in self._lanes:
            process = lane[peer_of(form)]
            process.send("close")
            process.receive()

    def stop(self) -> None:
        """Ends every process."""
        for lane in self._lanes:
            for process in lane.values():
                process.stop()


def split_cores(available: list[int], processes: int, threads: int) -> list[tuple[int, ...]]:
    """Cores of each lane.

    Raises:
        ValueError: There are too few.
    """
    if processes * threads > len(available):
        raise ValueError(
            f"`--processes` times `--threads` must be ≤ {len(available)}, the cores that this "
            f"process may use, got {processes} x {threads}"
        )
    return [tuple(available[n * threads : (n + 1) * threads]) for n in range(processes)]


class _Environment:
    """What a peer's process finds in its environment: the allocator reads it when it starts."""

    def __init__(self, setting: Setting, cache: str) -> None:
        threads = str(setting.threads)
        self._wanted = {
            **ENVIRONMENT,
            "JAX_PLATFORMS": setting.device,
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # peers share a GPU's memory
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TORCHINDUCTOR_CACHE_DIR": cache,
        }
        self._unwanted = ("JAX_COMPILATION_CACHE_DIR",)

    def __enter__(self) -> None:
        self._before = dict(os.environ)
        os.environ.update(self._wanted)
        for name in self._unwanted:
            os.environ.pop(name, None)

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self._before)


def _serve(peer: str, setting: Setting, cores: tuple[int, ...], pipe: Any) -> None:
    """Answers calls until the other end of the pipe is closed."""
    os.sched_setaffinity(0, cores)
    if peer == "actsearch":
        tune_xla()
    try:
        module, name = PEERS[peer]
        served = getattr(importlib.import_module(module), name)(setting)
        pipe.send(("ok", None))
    except BaseException:
        pipe.send(("error", traceback.format_exc()))
        return
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            before = _cpu_s()
            answer = getattr(served, method)(*arguments)
            if isinstance(answer, Score):
                answer = dataclasses.replace(answer, cpu_s=_cpu_s() - before)
            pipe.send(("ok", answer))
        except Exception:
            pipe.send(("error", traceback.format_exc()))


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
