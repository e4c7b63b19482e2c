"""`actsearch space` and `actsearch operators`: what may be composed, and what comes of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from spaces import OperatorSet, OperatorSetError, SearchSpace, operator_formula, read_source

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENUMERATED = 100_000
"""Largest space of which every candidate is looked at."""

SAMPLED = 10_000
"""Candidates drawn from a larger one."""


def checked_operators(spec: str) -> OperatorSet:
    """Loads an operator set and checks it.

    Raises:
        RequestError: It cannot be loaded, or an operator is not sound.
    """
    from spaces import check_operators

    try:
        operators = read_source(spec).load()
    except OperatorSetError as error:
        raise RequestError(str(error)) from None
    faults = check_operators(operators)
    if faults:
        raise RequestError(f"operators {spec}: {'; '.join(faults)}")
    return operators


def census_of(spec: str, core_units: int, sample: int | None) -> dict[str, Any]:
    """Counts of a space; they add up to `counted`, which is `size` unless a sample was drawn."""
    from spaces import take_census

    try:
        space = SearchSpace(checked_operators(spec), core_units)
    except ValueError as error:
        raise RequestError(str(error)) from None
    if sample is None and space.size > ENUMERATED:
        sample = SAMPLED
    found = take_census(space, sample=sample)
    return {
        "operators": spec,
        "core_units": core_units,
        "decisions": len(space.decisions),
        **dataclasses.asdict(found),
        "complete": found.complete,
    }


def census_lines(found: dict[str, Any]) -> list[str]:
    """The counts for people."""
    lines = [
        f"{found['size']:,} candidates of {found['core_units']} core units, "
        f"{found['decisions']} decisions each"
    ]
    if not found["complete"]:
        lines.append(f"of {found['counted']:,} drawn uniformly:")
    for name, meaning in (
        ("invalid", "a value or gradient is not finite on [−5, 5]"),
        ("constant", "independent of x"),
        ("duplicate", "equal to one that was counted before"),
        ("distinct", "left to be trained"),
    ):
        share = 100 * found[name] / found["counted"]
        lines.append(f"{found[name]:>9,}  {share:5.1f} %  {name}: {meaning}")
    return lines


def operator_records(spec: str) -> list[dict[str, Any]]:
    """One mapping per operator of a set that passed its checks."""
    return [
        {
            "name": operator.name,
            "arity": operator.arity,
            "formula": operator_formula(operator),
            "params": {param.name: param.init for param in operator.params},
            "commutative": operator.commutative,
            "sympy": operator.sympy is not None,
            "torch": operator.torch is not None,
            "reference": operator.reference,
        }
        for operator in checked_operators(spec)
    ]


def operator_table(records: Sequence[dict[str, Any]]) -> Table:
    """The set as a table."""
    table = Table(
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for column in ("name", "arity", "formula", "trainable", "forms", "reference"):
        table.add_column(column)
    for record in records:
        params = ", ".join(f"{name} = {init:g}" for name, init in record["params"].items())
        forms = " ".join(["jax", *(name for name in ("sympy", "torch") if record[name])])
        cells = (record["name"], str(record["arity"]), record["formula"], params, forms)
        table.add_row(*(Text(cell) for cell in (*cells, record["reference"])))
    return table
