"""An ordered, immutable set of operators: what a search may compose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from .candidate import FIRST, IDENTITY
from .operator import Operator
from .suggest import did_you_mean


@dataclass(frozen=True, slots=True)
class OperatorSet:
    """The unary and binary operators of a search space, in the order in which they are numbered.

    Args:
        name: What people call the set.
        unary: Operators of arity 1.
        binary: Operators of arity 2.

    Raises:
        ValueError: An operator stands under the wrong arity, a name occurs twice, or a side is
            empty.
    """

    name: str
    unary: tuple[Operator, ...]
    binary: tuple[Operator, ...]
    by_name: Mapping[str, Operator] = field(init=False, repr=False, compare=False)
    """Its operators, in their order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "unary", tuple(self.unary))
        object.__setattr__(self, "binary", tuple(self.binary))
        for side, arity in (("unary", 1), ("binary", 2)):
            operators = getattr(self, side)
            if not operators:
                raise ValueError(
                    f"operator set {self.name!r} must have at least one {side} operator"
                )
            for operator in operators:
                if not isinstance(operator, Operator):
                    raise ValueError(
                        f"`{side}` of operator set {self.name!r} must hold Operator objects, "
                        f"got {operator!r}"
                    )
                if operator.arity != arity:
                    raise ValueError(
                        f"operator {operator.name!r} has arity {operator.arity} and stands among the "
                        f"{side} operators of {self.name!r}"
                    )
        for operator in self:
            plain = operator.arity == 1 and not operator.params
            if operator.name == FIRST or (operator.name == IDENTITY and not plain):
                raise ValueError(
                    f"operator set {self.name!r} must not define {operator.name!r} otherwise: "
                    f"this name has a fixed meaning"
                )
        names = [operator.name for operator in self]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"operator set {self.name!r} has two operators called {name!r}")
        object.__setattr__(self, "by_name", {operator.name: operator for operator in self})

    def __iter__(self) -> Iterator[Operator]:
        return iter((*self.unary, *self.binary))

    def __len__(self) -> int:
        return len(self.unary) + len(self.binary)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> Operator:
        """The operator called `name`.

        Raises:
            KeyError: There is none; the message names a near miss.
        """
        if name in self.by_name:
            return self.by_name[name]
        raise KeyError(f"unknown operator `{name}`{did_you_mean(name, list(self.by_name))}")

    def with_(self, *operators: Operator) -> OperatorSet:
        """The set and `operators` behind those of their arity."""
        unary = [o for o in operators if not isinstance(o, Operator) or o.arity == 1]
        binary = [o for o in operators if isinstance(o, Operator) and o.arity == 2]
        return replace(self, unary=(*self.unary, *unary), binary=(*self.binary, *binary))

    def with_unary(self, *operators: Operator) -> OperatorSet:
        """The set and `operators` behind its unary ones."""
        return replace(self, unary=(*self.unary, *operators))

    def with_binary(self, *operators: Operator) -> OperatorSet:
        """The set and `operators` behind its binary ones."""
        return replace(self, binary=(*self.binary, *operators))

    def without(self, *names: str) -> OperatorSet:
        """The set less the operators called `names`; an unknown name is a ValueError."""
        self._known(names)
        return replace(
            self,
            unary=tuple(o for o in self.unary if o.name not in names),
            binary=tuple(o for o in self.binary if o.name not in names),
        )

    def only(self, *names: str) -> OperatorSet:
        """The operators called `names`, in the order of this set."""
        self._known(names)
        return self.without(*(o.name for o in self if o.name not in names))

    def named(self, name: str) -> OperatorSet:
        """The same operators under another name for the set."""
        return replace(self, name=name)

    @property
    def digest(self) -> str:
        """SHA-256 over names, arities and trainable vectors, in order."""
        text = json.dumps([operator.signature for operator in self])
        return hashlib.sha256(text.encode()).hexdigest()

    def _known(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self[name]
            except KeyError as error:
                raise ValueError(error.args[0]) from None
