"""`actsearch space`: what a space holds."""

from __future__ import annotations

import json as json_module
import os
from typing import Annotated

from cyclopts import Parameter

from ..errors import DONE, RequestError
from .options import WHOLE

Flag = Annotated[bool, Parameter(negative="")]


def space(
    *,
    core_units: Annotated[int, WHOLE] = 1,
    operators: str = "paper",
    sample: Annotated[int | None, WHOLE] = None,
    json: Flag = False,
) -> int:
    """What a space holds: its size, and how many candidates are invalid, constant or equal.

    Parameters
    ----------
    core_units
        Core units of a candidate, 1 to 8.
    operators
        Operator set: paper, FILE.py[:NAME] or module:NAME.
    sample
        Look at so many candidates drawn uniformly; without it, at all of a space of up to 100,000
        and at 10,000 of a larger one.
    json
        Print one JSON document.
    """
    from ..inspection.census import census_lines, census_of
    from ..inspection.tables import stdout

    os.environ["JAX_PLATFORMS"] = "cpu"
    if sample is not None and sample < 1:
        raise RequestError(f"`sample` must be ≥ 1, got {sample}")
    found = census_of(operators, core_units, sample)
    if json:
        print(json_module.dumps(found))
    else:
        for line in census_lines(found):
            stdout().print(line, highlight=False, soft_wrap=True)
    return DONE
