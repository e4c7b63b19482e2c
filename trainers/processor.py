"""What Linux tells of the processor that this process runs on."""

from __future__ import annotations

import platform
from pathlib import Path

_FILE = Path("/proc/cpuinfo")


def processor_facts() -> dict[str, str]:
    """The lines of `/proc/cpuinfo` on the first core by name; what Python knows where there is none."""
    try:
        text = _FILE.read_text()
    except OSError:
        return {"machine": platform.machine(), "processor": platform.processor()}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def processor_name() -> str:
    """As people call it, for example `AMD EPYC`; `cpu` where nothing tells."""
    return processor_facts().get("model name") or "cpu"


def processor_kind() -> str:
    """Vendor, family and model as x86 numbers them, for example `GenuineIntel 6 85`; else empty."""
    facts = processor_facts()
    parts = [facts.get(name, "") for name in ("vendor_id", "cpu family", "model")]
    return " ".join(parts) if all(parts) else ""
