"""Text as a terminal may be given it.

A run's folder may come from a stranger, and what a terminal takes for a command is text to a
journal: an escape sequence in a formula could recolour, rename or overwrite what stands on the
screen. So whatever is printed passes here; data are kept as they are.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, delete, C1
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # direction, separators, nothing to see
    "\ud800-\udfff]"  # halves of a character, which cannot be written at all
)


def printable(text: str) -> str:
    r"""The text with everything that acts on a terminal written as its escape, as `\x1b`."""
    return _ACTING.sub(lambda found: ascii(found[0])[1:-1], text)


def json_line(document: Any) -> str:
    """One strict JSON document on one line, equal to the data and printable as it is.

    Numbers that are not finite, which JSON has not, are null.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), ensure_ascii=False, allow_nan=False)
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
