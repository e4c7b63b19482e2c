"""LaTeX as MathML, many formulas in little space.

Formulas of one run share most of their parts, so MathML is kept as a table of nodes in which equal
ones stand once: `["mi", "x"]` is a leaf, `["mrow", 3, 5, 3]` an element with the nodes 3, 5 and 3
inside. The page builds elements from it and from nothing else: a closed list of tags, no attributes
but those it sets itself, and text as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TAGS = frozenset(
    {"mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup",
     "msubsup", "mover", "munder", "munderover"}
)  # fmt: skip
"""Elements that the page may build; a formula with any other is shown as plain text."""

_LEAVES = frozenset({"mi", "mn", "mo", "mtext", "mspace"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]+\Z")
_MAX_DEPTH = 60

Node = list[str | int]


class FormulaTable:
    """Turns LaTeX into numbers of nodes."""

    def __init__(self) -> None:
        from latex2mathml.converter import convert_to_element

        self._convert = convert_to_element
        self.nodes: list[Node] = [["mrow"]]
        """All nodes; 0 is nothing."""
        self._numbers: dict[tuple[str | int, ...], int] = {}

    def add(self, latex: str) -> int:
        """The number of a formula's root, or 0 if it cannot be set in MathML."""
        if not latex.strip():
            return 0
        try:
            root = self._convert(latex)
            return self._number("mrow", list(self._children(root, 0)))
        except (
            Exception
        ):  # whatever a converter says of text that it does not know: plain text then
            return 0

    def _element(self, element: Element, depth: int) -> int:
        tag = element.tag.rpartition("}")[2]
        if tag not in TAGS or depth > _MAX_DEPTH:
            raise ValueError(f"<{tag}> is not shown")
        if tag == "mspace":
            return self._leaf("mspace", "")
        if tag in _LEAVES:
            text = _unescaped(element.text or "")
            return self._leaf("mi" if _NAME.match(text) else tag, text)
        children = list(self._children(element, depth))
        return children[0] if tag == "mrow" and len(children) == 1 else self._number(tag, children)

    def _children(self, parent: Element, depth: int) -> Iterator[int]:
        """Children of a row, with the thin space before a name like exp that TeX would put there."""
        in_row = parent.tag.rpartition("}")[2] in ("mrow", "math", "msqrt")
        before: Element | None = None
        for child in parent:
            if in_row and before is not None and _is_name(child) and not _is_operator(before):
                yield self._leaf("mspace", "thin")
            yield self._element(child, depth + 1)
            before = child

    def _leaf(self, tag: str, text: str) -> int:
        return self._keep((tag, text))

    def _number(self, tag: str, children: list[int]) -> int:
        return self._keep((tag, *children))

    def _keep(self, node: tuple[str | int, ...]) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(list(node))
        return number


def _is_name(element: Element) -> bool:
    """Whether it is a name like exp, alone or with a power."""
    if element.tag in ("msup", "msub") and len(element):
        element = element[0]
    return element.tag in ("mi", "mo") and bool(_NAME.match(_unescaped(element.text or "")))


def _is_operator(element: Element) -> bool:
    return element.tag == "mo" and not _NAME.match(_unescaped(element.text or ""))


def _unescaped(text: str) -> str:
    """The converter writes some characters as references, which are text to an element tree."""
    return re.sub(r"&#x([0-9A-Fa-f]{1,6});", lambda match: chr(int(match[1], 16)), text)
