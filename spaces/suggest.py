"""Near misses: what somebody who mistyped a name probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`": did you mean `sigmoid`?"`, or `""` if nothing known is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f": did you mean `{near[0]}`?" if near else ""
