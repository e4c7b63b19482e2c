"""Operators and what the checks found of them, as tables and as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from spaces import OperatorSet, operator_formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spaces import Operator
    from spaces.operator_check import Examination


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
