"""`actsearch export`: a candidate as code that stands alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from spaces import (
    CATALOGUE,
    Candidate,
    ExpressionError,
    OperatorSet,
    OperatorSetError,
    known_function,
    parse,
    read_source,
)
from spaces.operator_source import BUILT_IN
from spaces.suggest import did_you_mean

from ..errors import DONE, RequestError
from ..inspection.lookup import Lookup
from ..inspection.reading import reading
from ..inspection.selection import title_of
from ..run import read_run_config


def export(
    candidate: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    to: str,
    name: str | None = None,
    output: Path | None = None,
    from_run: Path | None = None,
    operators: str | None = None,
) -> int:
    """A candidate as clean code of its own: JAX, Flax, PyTorch, SymPy or LaTeX.

    Parameters
    ----------
    candidate
        An expression, `mul(x, sigmoid(scale(x)))`, or the name of a known function, `swish`; with
        `--from-run` also a rank of that run, `3`.
    to
        jax, flax, torch, sympy or latex.
    name
        Name of the function or class; without it, the known function's, or `activation`.
    output
        Write into this file instead of stdout.
    from_run
        The folder of a run that has the candidate.
    operators
        Operator set: paper (the default), FILE.py[:NAME] or module:NAME.
    """
    from spaces.export import TARGETS, ExportError, to_source

    if to not in TARGETS:
        near = did_you_mean(to, TARGETS)
        raise RequestError(f"`to` must be one of {', '.join(TARGETS)}, got {to!r}{near}")
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise RequestError(f"`output` must be a file in a folder that is there, got {output}")
    os.environ["JAX_PLATFORMS"] = "cpu"
    origin, beta_init = "", None
    if from_run is not None:
        found, over, origin, beta_init = _of_run(from_run, candidate, operators)
    else:
        found, over = _asked_for(candidate, _loaded(operators or BUILT_IN))
    try:
        text = to_source(found, over, to=to, name=name, origin=origin, beta_init=beta_init)
    except ExportError as error:
        raise RequestError(str(error)) from None
    if output is None:
        sys.stdout.write(text)
        return DONE
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"`output`: cannot write {output}: {error.strerror}") from None
    return DONE


def _loaded(spec: str) -> OperatorSet:
    try:
        return read_source(spec).load()
    except OperatorSetError as error:
        raise RequestError(str(error)) from None


def _asked_for(text: str, operators: OperatorSet) -> tuple[Candidate, OperatorSet]:
    """The candidate and the operators that it is made of."""
    title = title_of(text)
    for known in CATALOGUE:
        if known.title == title:
            return known_function(known.key).candidate, _loaded(BUILT_IN)
    try:
        return parse(text, operators), operators
    except ExpressionError as error:
        message = str(error)
    if text.strip().isdecimal():
        raise RequestError(f"`candidate`: the rank {text.strip()} needs `--from-run RUN`")
    names = [name for known in CATALOGUE for name in (known.key, known.title)]
    near = "" if "(" in text else did_you_mean(text, names)
    raise RequestError(f"`candidate`: no function is known as {text!r}{near}" if near else message)


def _of_run(
    run: Path, wanted: str, spec: str | None
) -> tuple[Candidate, OperatorSet, str, float | None]:
    """The candidate, its operators, what is said of it, and the initial value of its vectors."""
    science, _ = read_run_config(run)
    if spec is None and science.space.operators != BUILT_IN:
        raise RequestError(
            f"{run} was made with operators of its own: name them, "
            f"--operators {science.space.operators}"
        )
    try:
        source = read_source(spec or BUILT_IN)
    except OperatorSetError as error:
        raise RequestError(str(error)) from None
    with reading(run) as journal:
        there = journal.meta("operators_sha256") or ""
        if source.sha256 != there:
            raise RequestError(
                f"`operators`: {source.spec} is not what {run} was made with "
                f"(SHA-256 {source.sha256[:12]}…, there {there[:12]}…)"
            )
        operators = _loaded(source.spec)
        found = Lookup(journal, run, operators).find(wanted)
    told = []
    if found.rank is not None:
        told.append(f"rank {found.rank} of the run {run.resolve().name}")
    if found.candidate.reward is not None:
        accuracy = f"{100 * found.candidate.reward:.2f} %"
        told.append(f"{accuracy} validation accuracy on {science.train.dataset}")
    try:
        candidate = parse(found.spelling, operators)
    except ExpressionError as error:
        raise RequestError(f"`candidate`: {run} has what is none: {error}") from None
    return candidate, operators, ", ".join(told), science.train.beta_init
