"""`actsearch operators`: lists an operator set; `actsearch operators check` tries and draws it."""

from __future__ import annotations

import json as json_module
import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from spaces.suggest import did_you_mean

from ..errors import DONE, RequestError
from ..inspection.operator_plot import SUFFIXES, draw_operators
from ..inspection.operator_tables import (
    examination_record,
    examination_table,
    operator_record,
    operator_table,
)
from ..inspection.plots import check_plot
from ..inspection.tables import stdout
from ..operator_request import checked_operators, faulty, loaded_operators, own_operators

Flag = Annotated[bool, Parameter(negative="")]

operators = App(name="operators", help="List, check and draw an operator set.")


@operators.default
def listed(operators: str = "paper", *, json: Flag = False) -> int:
    """List an operator set, and check what is not built in.

    `check` tells what each operator passed, what it costs, and draws it.

    Parameters
    ----------
    operators
        paper, FILE.py[:NAME] or module:NAME.
    json
        Print one JSON document.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if near := did_you_mean(operators, ["check"]):
        raise RequestError(f"unknown command {operators!r}{near}")
    found = checked_operators(operators)
    if json:
        records = [operator_record(operator) for operator in found]
        print(json_module.dumps({"operators": records}, ensure_ascii=False))
        return DONE
    out = stdout()
    out.print(operator_table(found))
    own = ", ".join(operator.name for operator in own_operators(found))
    checked = f"{own}: all checks passed" if own else "all built in"
    out.print(f"{len(found)} operators; {checked}", highlight=False, soft_wrap=True)
    return DONE


@operators.command
def check(operators: str, *, plot: Path | None = None, json: Flag = False) -> int:
    """Try every operator of a set: what a search would refuse, and what each costs.

    Parameters
    ----------
    operators
        FILE.py[:NAME] or module:NAME; paper.
    plot
        Draw every operator with its derivative into this file, .png, .svg or .pdf.
    json
        Print one JSON document.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if plot is not None:
        check_plot(plot, SUFFIXES)
    spec, found = loaded_operators(operators)
    from spaces.operator_check import examine

    examined = [examine(operator) for operator in found]
    faults = [f"{each.operator.name}: {each.fault}" for each in examined if each.fault]
    if plot is not None and not faults:
        draw_operators(found, plot)
    if json:
        records = [examination_record(each) for each in examined]
        document = {"spec": spec, "sound": not faults, "operators": records}
        print(json_module.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        out = stdout()
        out.print(examination_table(examined))
        if not faults:
            out.print(
                f"{spec}: {len(found)} operators, all checks passed",
                highlight=False,
                soft_wrap=True,
            )
    if faults:
        raise faulty(spec, faults)
    return DONE
