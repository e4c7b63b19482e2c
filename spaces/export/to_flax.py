"""Flax: a module of `flax.nnx`, channels on the last axis.

NNX and not Linen: it is the interface that Flax's own documentation teaches since 0.10 and the one
in which our child networks are written; Linen is kept for what was written before. A variable is
read as `self.beta[...]`, which Flax 0.12 has in place of `.value`.
"""

from __future__ import annotations

from .layout import docstring
from .python import body_lines, constant, module, per_channel
from .subject import Subject


def flax_source(subject: Subject) -> str:
    """A class; it is called with x alone and owns its trainable vectors."""
    vectors = subject.body.vectors
    doc = [subject.summary, subject.source]
    if vectors:
        doc.append(f"Args:\n    channels: Size of x's last axis. {per_channel(vectors)}")
    code = body_lines(subject, "jax", indent=8)
    result = code.result if code.reads_x else f"jnp.broadcast_to({code.result}, x.shape)"
    text = [f"class {subject.class_name}(nnx.Module):", *docstring(doc, indent=4), ""]
    if vectors:
        text.append("    def __init__(self, channels: int) -> None:")
        for v in vectors:
            value = constant(v.init, "jnp", "channels", "channels")
            text.append(f"        self.{v.name} = nnx.Param({value})")
        text.append("")
    text += [
        "    def __call__(self, x: jax.Array) -> jax.Array:",
        *(f"        {v.name} = self.{v.name}[...]" for v in vectors),
        *(f"        {line}" for line in code.assignments),
        f"        return {result}",
    ]
    return module([text])
