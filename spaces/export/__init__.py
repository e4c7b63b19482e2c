"""A candidate as code that stands alone: JAX, Flax, PyTorch, SymPy, LaTeX.

`to_source` is all that others need. A candidate becomes a `Body` of terms (`body.py`), is brought
into the form in which one would write it by hand (`known.py`, `simplify.py`), and is written by the
module of its target (`to_jax.py`, …) with one writer of expressions (`template.py`,
`expression.py`, `naming.py`, `layout.py`).
"""

from __future__ import annotations

from .errors import ExportError as ExportError
from .source import TARGETS as TARGETS
from .source import to_source as to_source
