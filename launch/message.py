"""What a driver and a worker tell each other of a trial.

They do so in bytes, which Ray passes on as they are. With keywords one way and a dictionary the other it
takes a quarter more of the driver's processor for a call, and the driver is what all workers wait for. The
part of a result that is meant for the journal is written by the worker, as the journal keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.json_text import JsonObject, as_json
from search.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is asked to do."""

    expression: str
    """The candidate as text."""
    seed: int
    """Of its initial weights and batches."""
    steps: int
    """How long to train."""

    def pack(self) -> bytes:
        """As it is sent."""
        return f"{self.seed} {self.steps} {self.expression}".encode()

    @classmethod
    def unpack(cls, message: bytes) -> Task:
        """As it was before it was packed."""
        seed, steps, expression = message.decode().split(" ", 2)
        return cls(expression, int(seed), int(steps))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it, and what the worker did for it."""

    outcome: Outcome
    """For the journal."""
    training_s: float = 0.0
    """Seconds of start, training and evaluation."""
    compile_s: float = 0.0
    """Seconds of compiling."""
    compilations: int = 0
    """Programs that had to be compiled."""
    peak_memory_mb: float = 0.0
    """The process's, so far."""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Report:
        """What there is to report of a result as `Worker.score` gives it.

        Raises:
            ValueError: It is none.
        """
        ok = result["status"] == "ok"
        seconds = result.get("seconds", {})
        outcome = Outcome(
            result["status"],
            result["accuracy"] if ok else None,
            result["loss"] if ok else None,
            float(result.get("elapsed", 0.0)),
            {name: result[name] for name in _KEPT if result.get(name) is not None},
        )
        return cls(
            outcome,
            sum(seconds.get(part, 0.0) for part in ("start", "train", "evaluate")),
            seconds.get("compile", 0.0),
            result.get("compilations", 0),
            result.get("peak_memory_mb", 0.0),
        )

    def pack(self) -> bytes:
        """As it is sent: a line with all but the details, and theirs."""
        one = self.outcome
        measured = (one.status, one.reward, one.loss, one.seconds)
        own = (self.training_s, self.compile_s, self.compilations, self.peak_memory_mb)
        return f"{as_json((*measured, *own))}\n{as_json(one.details)}".encode()

    @classmethod
    def unpack(cls, message: bytes) -> Report:
        """As it was before it was packed; its details are a `JsonObject`."""
        line, details = message.decode().split("\n", 1)
        status, reward, loss, seconds, *own = json.loads(line)
        return cls(Outcome(status, reward, loss, seconds, JsonObject(details)), *own)


_KEPT = ("reason", "curve", "beta", "steps", "seconds")
"""What of a result the journal keeps beside status, reward and loss."""
