"""`@operator`: an operator from a plain function, read off its signature.

    @operator
    def bump(x):
        return x * jnp.exp(-x * x)

    @operator
    def bend(x, *, alpha=0.25):
        return jnp.maximum(x, alpha * x)

Positional arguments are the inputs, arguments behind `*` are trainable vectors and their defaults
the initial values. A body of one `return` is the operator's JAX form for exports as well.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, overload

from .lazy import LazyModule
from .operator import Notation, Operator, Param


@overload
def operator(fn: Callable[..., Any], /) -> Operator: ...
@overload
def operator(
    *,
    name: str | None = None,
    notation: Notation | None = None,
    sympy: Callable[..., Any] | None = None,
    torch: str | None = None,
    jax: str | None = None,
    commutative: bool = False,
    reference: str | None = None,
) -> Callable[[Callable[..., Any]], Operator]: ...
def operator(fn: Callable[..., Any] | None = None, /, **fields: Any) -> Any:
    """Makes an `Operator` of a function; as `@operator` or `@operator(torch="…", …)`.

    Args:
        fn: The function in JAX: `fn(x)` or `fn(a, b)`, trainable vectors behind `*` with their
            initial values as defaults.
        fields: Fields of `Operator`. Without `name` it is the function's name, without `reference`
            the first line of its docstring, without `jax` its body if that is one `return` over its
            arguments, numbers, `jax` and `jnp`.

    Raises:
        ValueError: The signature is not of that form, or a field is out of its range.
    """
    if fn is None:
        return lambda function: _made(function, **fields)
    return _made(fn, **fields)


def _made(fn: Callable[..., Any], **fields: Any) -> Operator:
    if not callable(fn):
        raise ValueError(f"`@operator` makes an operator of a function, got {fn!r}")
    name = fields.pop("name", None) or getattr(fn, "__name__", "")
    arity, params = _signature(fn, name)
    if fields.get("reference") is None:
        fields["reference"] = (inspect.getdoc(fn) or "").partition("\n")[0]
    if fields.get("jax") is None:
        fields["jax"] = _source_form(fn)
    return Operator(name, arity, _with_vectors(fn) if params else fn, params, **fields)


def _with_vectors(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: fn(*arguments[:-1], **arguments[-1])


def _signature(fn: Callable[..., Any], name: str) -> tuple[int, tuple[Param, ...]]:
    """Number of inputs, and trainable vectors."""
    inputs, params = 0, []
    for argument in inspect.signature(fn).parameters.values():
        bare = argument.default is argument.empty
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            raise ValueError(f"operator {name!r} must name its arguments, got `{argument}`")
        if argument.kind is argument.KEYWORD_ONLY:
            if bare:
                raise ValueError(
                    f"operator {name!r}: trainable vector `{argument.name}` needs its initial value, "
                    f"`*, {argument.name}=1.0`"
                )
            params.append(Param(argument.name, argument.default))
        elif bare:
            inputs += 1
        else:
            raise ValueError(
                f"operator {name!r}: `{argument.name}` has a default but is no trainable vector; "
                f"write `*, {argument.name}={argument.default!r}` if it shall be trained, "
                f"else put the constant into the body"
            )
    if inputs not in (1, 2):
        raise ValueError(f"operator {name!r} must have 1 or 2 inputs, its function has {inputs}")
    return inputs, tuple(params)


def _source_form(fn: Callable[..., Any]) -> str | None:
    """The body as a template if it is one `return` over its arguments, numbers, `jax` and `jnp`."""
    if not isinstance(fn, FunctionType) or fn.__closure__:
        return None
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(fn))).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return None
    if not isinstance(definition, ast.FunctionDef):
        return None
    body = definition.body[1:] if ast.get_docstring(definition) else definition.body
    if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        return None
    arguments = definition.args
    inputs = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    written = dict(zip(inputs, ("{a}", "{b}"), strict=False))
    written |= {argument.arg: f"<{argument.arg}>" for argument in arguments.kwonlyargs}
    expression = body[0].value
    for node in ast.walk(expression):
        if isinstance(node, ast.Lambda | ast.comprehension | ast.NamedExpr):
            return None
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | bool):
            return None
        if isinstance(node, ast.Name) and node.id not in written:
            if _is_number(fn, node.id):
                written[node.id] = repr(fn.__globals__[node.id])
            elif not _is_module(fn, node.id):
                return None
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            node.id = written.get(node.id, node.id)
    return ast.unparse(expression)


def _is_number(fn: FunctionType, name: str) -> bool:
    """Whether a name is a constant of the file that can be written out; a sign would need brackets."""
    found = fn.__globals__.get(name)
    if type(found) is int or type(found) is float:  # a subclass may be written otherwise
        return 0 <= found < float("inf")
    return False


def _is_module(fn: FunctionType, name: str) -> bool:
    """Whether a name means in `fn` what it means in an export."""
    meant = {"jax": "jax", "jnp": "jax.numpy"}.get(name)
    found = fn.__globals__.get(name)
    if isinstance(found, LazyModule):
        return False
    return meant is not None and getattr(found, "__name__", None) == meant
