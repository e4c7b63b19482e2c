"""What is known of a data set before any of its files is opened.

A `DatasetSpec` carries every number its files are checked against, so a reader holds no size of
its own: the same reader serves the real data set, a smaller one in a test, and other files of
the same layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np


class DataError(ValueError):
    """A data set cannot be had: one line that names the file, what is wrong and what is expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Labelled images, as they are stored: unscaled and in no particular order."""

    images: np.ndarray
    """uint8 `[N, H, W, C]`."""
    labels: np.ndarray
    """int32 `[N]`, each in `0 … num_classes - 1`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a data set: a header and records of equal length."""

    name: str
    """Name of the unpacked file."""
    records: int
    """How many records it holds."""
    record_bytes: int
    """Length of one record."""
    header_bytes: int = 0
    """Length of what stands before the first record."""

    @property
    def size(self) -> int:
        """Length of the whole unpacked file in bytes."""
        return self.header_bytes + self.records * self.record_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file at its official address: one of the data set's own, or an archive that holds them."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(self.url).name

    @property
    def is_archive(self) -> bool:
        """Whether it has to be unpacked; single files are read as they come, `.gz` or not."""
        return self.file_name.endswith(".tar.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """A data set: its shape, its split, and where its training files come from."""

    name: str
    """Name in the registry, as in `--dataset`."""
    image_shape: tuple[int, int, int]
    """`(H, W, C)` of the stored images."""
    num_classes: int
    """Labels run from 0 to `num_classes - 1`."""
    examples: int
    """Training examples in all, before some are set aside for validation."""
    valid_size: int
    """How many of them the validation split takes unless told otherwise."""
    mirror: bool
    """True if a horizontal flip leaves the label plausible: photographs yes, digits no."""
    reference: str
    """Whom to cite, and the licence where there is one."""
    read: Callable[[DatasetSpec, Path], Split]
    """Reads `files` from a folder."""
    files: tuple[DataFile, ...]
    """The training files in reading order. Test files are not listed: nothing here may open them."""
    folders: tuple[str, ...] = (".",)
    """Where under `data_dir` the files may lie; the first folder that holds one of them is read."""
    downloads: tuple[Download, ...] = ()
    """Where the files come from without a `data_dir`; empty if they are part of this package."""

    @property
    def image_bytes(self) -> int:
        """Length of one stored image in bytes."""
        return math.prod(self.image_shape)
