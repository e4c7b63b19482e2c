"""`actsearch space` and `actsearch operators`: what may be composed, and what comes of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from spaces import (
    PAPER,
    OperatorSet,
    OperatorSetError,
    SearchSpace,
    operator_formula,
    read_source,
)
from spaces.catalogue import known_operators

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spaces import Operator
    from spaces.operator_check import Examination

ENUMERATED = 100_000
"""Largest space of which every candidate is looked at."""

SAMPLED = 10_000
"""Candidates drawn from a larger one."""


def checked_operators(spec: str) -> OperatorSet:
    """Loads an operator set and checks what is not built in.

    Raises:
        RequestError: It cannot be loaded, or an operator is not sound.
    """
    from spaces import check_operators

    _, operators = loaded_operators(spec)
    faults = check_operators(own_operators(operators))
    if faults:
        raise faulty(spec, faults)
    return operators


def own_operators(operators: OperatorSet) -> list[Operator]:
    """The operators of a set that are not built in."""
    built_in = known_operators(PAPER)
    return [operator for operator in operators if built_in.get(operator.name) is not operator]


def loaded_operators(spec: str) -> tuple[str, OperatorSet]:
    """An operator set, unchecked, and where it is with its name.

    Raises:
        RequestError: It cannot be loaded.
    """
    try:
        source = read_source(spec)
        return source.spec, source.load()
    except OperatorSetError as error:
        raise RequestError(str(error)) from None


def faulty(spec: str, faults: Sequence[str]) -> RequestError:
    """What is said of a set of which some operators are not sound, in one line."""
    return RequestError(" ".join(f"operators {spec}: {'; '.join(faults)}".split()))


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


def operator_record(operator: Operator) -> dict[str, Any]:
    """One operator as plain data."""
    return {
        "name": operator.name,
        "arity": operator.arity,
        "formula": operator_formula(operator),
        "params": {param.name: param.init for param in operator.params},
        "commutative": operator.commutative,
        "jax": operator.jax is not None,
        "sympy": operator.sympy is not None,
        "torch": operator.torch is not None,
        "reference": operator.reference,
    }


def operator_table(operators: OperatorSet) -> Table:
    """The set as a table; `forms` are those that an export can write."""
    table = _table("name", "arity", "formula", "trainable", "forms", "reference")
    for operator in operators:
        record = operator_record(operator)
        forms = " ".join(name for name in ("jax", "torch", "sympy") if record[name])
        table.add_row(*_cells(record), Text(forms), Text(operator.reference))
    return table


def examination_record(found: Examination) -> dict[str, Any]:
    """What the checks found of one operator as plain data."""
    return {
        **operator_record(found.operator),
        "passed": list(found.passed),
        "fault": found.fault or None,
        "cost": None if found.cost is None else round(found.cost, 2),
    }


def examination_table(examined: Sequence[Examination]) -> Table:
    """A row for each operator: ✓ passed, ✗ failed, – not reached; and its cost."""
    from spaces.operator_check import CHECKS

    table = _table("name")
    for name in CHECKS:
        table.add_column(name, justify="center", no_wrap=True)
    table.add_column("× tanh", justify="right", no_wrap=True)
    for found in examined:
        marks = ["✓"] * len(found.passed) + ["✗"] * bool(found.fault)
        marks += ["–"] * (len(CHECKS) - len(marks))
        table.add_row(
            Text(found.operator.name),
            *(Text(mark, style="red" if mark == "✗" else "") for mark in marks),
            "–" if found.cost is None else f"{found.cost:,.1f}",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _cells(record: dict[str, Any]) -> list[Text]:
    params = ", ".join(f"{name} = {init:g}" for name, init in record["params"].items())
    return [
        Text(cell) for cell in (record["name"], str(record["arity"]), record["formula"], params)
    ]
