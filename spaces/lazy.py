"""A module that is imported when it is first used.

Commands that only look at a run, or refuse a request, name operators but never evaluate them;
they must answer at once, so the table of operators may not import JAX or SymPy by itself.
"""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """Stands for the module `name`; the first attribute access imports it.

    Args:
        name: Dotted name of the module, for example `"jax.numpy"`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
