"""The lines of a function's body: assignments of intermediates, then the returned expression.

Nothing is wrapped: an operand of a line that would be too long gets a name and a line of its own,
and so does one that an operator's source form reads twice.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .body import Apply, Body, Term, Variable, parts
from .expression import written

WIDTH = 88
"""Longest line, that of formatters unless they are told otherwise."""

Render = Callable[[Term], ast.expr]
"""Makes a term's syntax tree."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What stands in a function."""

    assignments: tuple[str, ...]
    """`name = expression`, in the order in which they are computed."""
    result: str
    """The expression that is returned."""
    reads_x: bool
    """Whether the result has x's shape by itself; trainable vectors alone have their own."""


@dataclass(frozen=True, slots=True)
class Margin:
    """What stands in front of expressions."""

    indent: int
    """Columns in front of each line."""
    head: str = "return "
    """Before the result."""

    def columns(self, name: str, tree: ast.expr) -> int:
        """Columns of a line."""
        head = self.head if name == _RESULT else f"{name} = "
        return self.indent + len(head) + len(written(tree))


def lines(
    body: Body, render: Render, margin: Margin, *, twice: Callable[[Apply], Iterable[int]]
) -> Lines:
    """Writes a body.

    Args:
        body: What to write.
        render: How a term becomes a syntax tree.
        margin: What stands in front of its lines.
        twice: Places of the operands that an operator's form reads more than once.
    """
    rows = _split(_with_names(body, render, margin, twice), render, margin)
    shaped, needed = {"x"}, {_RESULT}
    for name, tree in reversed(rows):
        if name in needed:
            needed |= _names(tree)
    rows = _renumbered([(name, tree) for name, tree in rows if name in needed])
    for name, tree in rows:
        if _names(tree) & shaped:
            shaped.add(name)
    texts = [written(tree) for _, tree in rows]
    assignments = zip(rows[:-1], texts[:-1], strict=True)
    return Lines(
        tuple(f"{name} = {text}" for (name, _), text in assignments), texts[-1], _RESULT in shaped
    )


_RESULT = "return"
"""Stands for the name of what is returned."""

Row = tuple[str, ast.expr]
"""An intermediate, or the result, and its expression."""


def _names(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _with_names(
    body: Body, render: Render, margin: Margin, twice: Callable[[Apply], Iterable[int]]
) -> list[tuple[str, Term]]:
    """The terms, with one more for each operand that is to stand on a line of its own."""
    rows: list[tuple[str, Term]] = []
    pending: list[tuple[str, Term]] = [*body.intermediates, (_RESULT, body.result)]
    count = 0
    while pending:
        name, term = pending.pop(0)
        out = _read_twice(term, twice) or _too_long(name, term, render, margin)
        if out is None:
            rows.append((name, term))
            continue
        count += 1
        pending[:0] = [(f"h{count}", out), (name, _swapped(term, out, Variable(f"h{count}")))]
    return rows


def _split(terms: list[tuple[str, Term]], render: Render, margin: Margin) -> list[Row]:
    """Syntax trees; one operator that is too long by itself is taken apart."""
    rows: list[Row] = []
    pending = [(name, render(term)) for name, term in terms]
    count = len(pending)
    while pending:
        name, tree = pending.pop(0)
        inner = [node for node in ast.walk(tree) if isinstance(node, ast.Call | ast.BinOp)]
        inner = [node for node in inner if node is not tree]
        if margin.columns(name, tree) <= WIDTH or not inner:
            rows.append((name, tree))
            continue
        count += 1
        new = f"h{count}"

        def halves(part: ast.expr, name: str = name, tree: ast.expr = tree, new: str = new) -> int:
            rest = _exchanged(tree, {part: ast.Name(new)})
            return max(margin.columns(new, part), margin.columns(name, rest))

        part = min(inner, key=halves)
        pending[:0] = [(new, part), (name, _exchanged(tree, {part: ast.Name(new)}))]
    return rows


def _renumbered(rows: list[Row]) -> list[Row]:
    """`h` alone, or `h1`, `h2`, … in the order of the lines."""
    made = [name for name, _ in rows if name.startswith("h")]
    new = {name: f"h{n}" if len(made) > 1 else "h" for n, name in enumerate(made, start=1)}
    return [
        (
            new.get(name, name),
            _exchanged(
                tree,
                {
                    node: ast.Name(new[node.id])
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Name) and node.id in new
                },
            ),
        )
        for name, tree in rows
    ]


def _exchanged(tree: ast.expr, new: Mapping[ast.AST, ast.expr]) -> ast.expr:
    """A copy of the tree with some of its nodes exchanged."""

    def copied(node: Any) -> Any:
        if isinstance(node, list):
            return [copied(each) for each in node]
        if not isinstance(node, ast.AST):
            return node
        if node in new:
            return new[node]
        return type(node)(**{name: copied(value) for name, value in ast.iter_fields(node)})

    return copied(tree)


def _read_twice(term: Term, twice: Callable[[Apply], Iterable[int]]) -> Term | None:
    for part in parts(term):
        if isinstance(part, Apply):
            for place in twice(part):
                if isinstance(part.operands[place], Apply):
                    return part.operands[place]
    return None


def _too_long(name: str, term: Term, render: Render, margin: Margin) -> Term | None:
    """The part of a term that leaves two lines of about one length, if one line is too short."""
    if margin.columns(name, render(term)) <= WIDTH:
        return None

    def longer_line(part: Term) -> int:
        rest = render(_swapped(term, part, Variable("h1")))
        return max(margin.columns("h1", render(part)), margin.columns(name, rest))

    inner = [part for part in parts(term) if isinstance(part, Apply) and part != term]
    return min(inner, key=longer_line, default=None)


def _swapped(term: Term, old: Term, new: Term) -> Term:
    """The term with `new` wherever `old` stands."""
    if term == old:
        return new
    if isinstance(term, Apply):
        return replace(term, operands=tuple(_swapped(each, old, new) for each in term.operands))
    return term


def call(head: str, arguments: Iterable[str], tail: str, *, indent: int = 0) -> list[str]:
    """`head` + arguments + `tail`, on one line or with each argument on its own.

    Args:
        head: Ends with an opening bracket.
        arguments: Without commas.
        tail: Begins with the closing bracket.
        indent: Columns in front.
    """
    arguments = list(arguments)
    space = " " * indent
    line = f"{space}{head}{', '.join(arguments)}{tail}"
    if len(line) <= WIDTH:
        return [line]
    return [f"{space}{head}", *(f"{space}    {each}," for each in arguments), f"{space}{tail}"]


def docstring(paragraphs: Iterable[str], *, indent: int = 0) -> list[str]:
    """A docstring; paragraphs are filled, but one whose lines are set already is kept."""
    space = " " * indent
    shown: list[str] = []
    for paragraph in paragraphs:
        paragraph = paragraph.replace("\\", "\\\\").replace('"""', "'''")
        kept = paragraph.split("\n") if "\n" in paragraph else filled(paragraph, WIDTH - indent)
        shown += [*([""] if shown else []), *kept]
    if len(shown) == 1 and indent + len(shown[0]) + 6 <= WIDTH:
        return [f'{space}"""{shown[0]}"""']
    shown[0] = '"""' + shown[0]
    return [f"{space}{line}" if line else "" for line in [*shown, '"""']]


def filled(paragraph: str, width: int) -> list[str]:
    """The paragraph in lines of at most `width`; words, however long, stay whole."""
    return textwrap.wrap(paragraph, width - 3, break_long_words=False, break_on_hyphens=False)
