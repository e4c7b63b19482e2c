"""Where workers may be: on this machine, or on the nodes of a cluster as they come and go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import PlacementConfig
from .errors import RequestError


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a Ray cluster."""

    host: str
    """Its address."""
    resources: Mapping[str, float]
    """What it has in all, by Ray's names."""


@dataclass
class Room:
    """How many workers there are to be, now.

    Args:
        placement: How many are wanted, and what each needs.
        local: Whether Ray was started here, by us.
    """

    placement: PlacementConfig
    local: bool
    nodes: dict[str, Node] = field(default_factory=dict)
    """Nodes that live, by Ray's id of them, as `look` found them last."""

    def look(self) -> list[str]:
        """Asks Ray which nodes there are.

        Returns:
            A line for each node that joined or left since the last look.

        Raises:
            RequestError: This machine has not the room that is wanted.
        """
        import ray

        before, nodes = self.nodes, ray.nodes()
        self.nodes = {
            node["NodeID"]: Node(node["NodeManagerAddress"], node["Resources"])
            for node in nodes
            if node["Alive"]
        }
        if self.local:
            workers_that_fit(self.placement, next(iter(self.nodes.values())).resources)
            return []
        joined = [
            f"node {node.host} joined: {_room(fit(self.placement, node.resources))}"
            for name, node in self.nodes.items()
            if name not in before
        ]
        left = [f"node {node.host} left" for name, node in before.items() if name not in self.nodes]
        return joined + left

    @property
    def workers(self) -> int:
        """Workers to have. On a cluster, with `auto` as many as fit; at least one, which waits for
        its node, so that a cluster that grows by demand sees some; else as many as are wanted.
        """
        if self.local:
            return workers_that_fit(self.placement, next(iter(self.nodes.values())).resources)
        if self.placement.workers != "auto":
            return int(self.placement.workers)
        return max(1, sum(fit(self.placement, node.resources) for node in self.nodes.values()))

    def lack(self) -> str:
        """What a worker needs and what the nodes have, for a complaint."""
        needs = _needs(self.placement)
        one = ", ".join(f"{need:g} {name}" for name, need in needs.items())
        each = "; ".join(
            f"{node.host}: {', '.join(f'{node.resources.get(name, 0):g} {name}' for name in needs)}"
            for node in self.nodes.values()
        )
        return f"each needs {one}, and the nodes have in all {each or 'nothing'}"


def fit(placement: PlacementConfig, resources: Mapping[str, float]) -> int:
    """How many workers one node holds."""
    needs = _needs(placement)
    return min(int(resources.get(name, 0.0) / need + 1e-9) for name, need in needs.items())


def workers_that_fit(placement: PlacementConfig, resources: Mapping[str, Any]) -> int:
    """How many workers to start on one machine.

    Args:
        placement: How many are wanted, and what each needs.
        resources: What Ray has there in all, by name.

    Raises:
        RequestError: Fewer fit than are wanted, or none.
    """
    most = fit(placement, resources)
    wanted = most if placement.workers == "auto" else int(placement.workers)
    if most < 1 or wanted > most:
        needs = _needs(placement)
        has = ", ".join(f"{resources.get(name, 0):g} {name}" for name in needs)
        one = ", ".join(f"{need:g} {name}" for name, need in needs.items())
        raise RequestError(
            f"`workers`: {max(wanted, 1)} of them do not fit, {most} do: "
            f"each needs {one}, Ray has {has}"
        )
    return wanted


def _needs(placement: PlacementConfig) -> dict[str, float]:
    needs = {"CPU": float(placement.cpus_per_worker)}
    if placement.gpus_per_worker:
        needs["GPU"] = placement.gpus_per_worker
    return needs | placement.custom_resources


def _room(workers: int) -> str:
    if not workers:
        return "no room for a worker"
    return f"room for {workers} worker{'s' if workers > 1 else ''}"
