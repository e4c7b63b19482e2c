"""JAX: a pure function of x and its trainable vectors, and their initial values."""

from __future__ import annotations

from .layout import call, docstring
from .python import body_lines, constant, module
from .subject import Subject


def jax_source(subject: Subject) -> str:
    """A function, and behind it `init_…` if there are trainable vectors."""
    name, vectors = subject.function_name, subject.body.vectors
    arguments = ["x: jax.Array", *(f"{vector.name}: jax.Array" for vector in vectors)]
    doc = [subject.summary, subject.source]
    if vectors:
        named = "".join(f"\n    {v.name}: Trainable, one value per channel." for v in vectors)
        doc.append(f"Args:\n    x: Preactivations, channels on the last axis.{named}")
    code = body_lines(subject, "jax", indent=4)
    result = code.result if code.reads_x else f"jnp.broadcast_to({code.result}, x.shape)"
    function = [
        *call(f"def {name}(", arguments, ") -> jax.Array:"),
        *docstring(doc, indent=4),
        *(f"    {line}" for line in code.assignments),
        f"    return {result}",
    ]
    if not vectors:
        return module([function])
    values = [f'"{v.name}": {constant(v.init, "jnp", "channels", "channels")}' for v in vectors]
    initial = [
        f"def init_{name}(channels: int) -> dict[str, jax.Array]:",
        *docstring([f"Initial values, for `{name}(x, **init_{name}(channels))`."], indent=4),
        *call("return {", values, "}", indent=4),
    ]
    return module([function, initial])
