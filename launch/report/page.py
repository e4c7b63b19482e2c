"""Writes the page: data, style and scripts in one HTML file that needs nothing else.

The file may be passed on and opened by anyone, so its Content-Security-Policy allows no address at
all, scripts by their hash only, and style sheets likewise. What Plotly needs beyond that: style
attributes in its drawings (`style-src-attr`), heat maps as images inside the page (`img-src data:`)
and one empty style sheet, which has a hash. Data are JSON in an element that is not executed, without
any `<`, and reach the page as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    "elements.js",
    "table.js",
    "plots.js",
    "functions.js",
    "course.js",
    "operators.js",
    "page.js",
)
"""Parts of the page's own script, in this order."""

_FIELD = re.compile(r"\{\{(\w+)\}\}")
_STYLE_GUARD = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


def render(data: Mapping[str, Any]) -> bytes:
    """The page of what `gather` found, in UTF-8."""
    plotly = _plotly()
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    fields = {
        "title": html.escape(str(data["title"])),
        "policy": policy(scripts=(plotly, script), styles=(style, "")),
        "style": style,
        "guards": "".join(
            f'<style id="{name}"></style>' for name in dict.fromkeys(_STYLE_GUARD.findall(plotly))
        ),
        "data": as_json(data),
        "plotly": plotly,
        "script": script,
    }
    frame = (ASSETS / "page.html").read_text(encoding="utf-8")
    return _FIELD.sub(lambda match: fields[match[1]], frame).encode("utf-8", "replace")


def policy(*, scripts: tuple[str, ...], styles: tuple[str, ...]) -> str:
    """The Content-Security-Policy that allows exactly these scripts and style sheets."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "style-src-attr 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def as_json(data: Mapping[str, Any]) -> str:
    """Strict JSON in which no element can begin or end."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _plotly() -> str:
    """Plotly's script, from its Python package, which is not imported for it.

    Style sheets of its maps come with it; an element of their name, empty, keeps them out.
    """
    spec = find_spec("plotly")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    return (folder / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
