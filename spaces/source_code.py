"""Which source code a package of this project has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path


def package_folder(name: str) -> Path:
    """Where a package of this project lies.

    Raises:
        ModuleNotFoundError: There is none of this name.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {name!r}")
    return Path(spec.origin).parent


def source_digest(packages: Iterable[str]) -> str:
    """SHA-256 over the Python files of packages, as they are on disk now."""
    digest = hashlib.sha256()
    for name in packages:
        folder = package_folder(name)
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
