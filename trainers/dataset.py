"""Data sets by name, split into training and validation examples by a seed.

Only training files are opened here. The paper tunes on validation accuracy and touches test data
once, at the end (Ramachandran et al. 2017, §3); so does this project, in another place.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spaces.suggest import did_you_mean

from .cifar import CIFAR10, CIFAR100
from .data_files import find_folder
from .dataset_spec import DataError, DatasetSpec, Split
from .digits import DIGITS, EMBEDDED
from .download import cache_folder, fetch
from .mnist import FASHION_MNIST, MNIST
from .resize import check_image_size, resize

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec for spec in (DIGITS, CIFAR10, CIFAR100, MNIST, FASHION_MNIST)
}
"""Every data set by its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a child network is trained and judged on. All arrays are read-only."""

    name: str
    """Name in the registry."""
    train: Split
    """Examples to learn from."""
    valid: Split
    """Examples that give the reward."""
    num_classes: int
    """Labels run from 0 to `num_classes - 1`."""
    digest: str
    """SHA-256 over the name and the pixels and labels of both splits, as hexadecimal digits: equal
    for equal data, size, seed and split, on every machine."""
    mirror: bool
    """True if a horizontal flip leaves the label plausible."""

    def compute_digest(self) -> str:
        """The digest of what the arrays hold now: another one than `digest` if they were altered."""
        return _digest(self.name, self.train, self.valid)


def dataset_spec(name: str) -> DatasetSpec:
    """Looks a data set up.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in DATASETS:
        known = sorted(DATASETS)
        raise ValueError(
            f"`dataset` must be one of {', '.join(known)}, got {name!r}{did_you_mean(name, known)}"
        )
    return DATASETS[name]


def load_dataset(
    name: str,
    *,
    data_dir: Path | None,
    image_size: int | None,
    valid_size: int | None,
    seed: int,
    progress: bool = True,
) -> Dataset:
    """Reads a data set's training files and sets some of the examples aside for validation.

    `digits` is part of the package and needs no folder: 1,500 images, 300 of them for validation
    unless told otherwise; 297 further images are held out and never returned from here.

    Args:
        name: A key of `DATASETS`.
        data_dir: Folder with the official files; None downloads them once into the user's cache.
        image_size: Height and width in pixels to resize to; None keeps the stored size.
        valid_size: Examples to set aside; None takes the data set's default.
        seed: Decides which: a permutation of all examples, the first `valid_size` of which are
            set aside.
        progress: Whether a download draws a progress bar on stderr.

    Returns:
        Both splits and their digest.

    Raises:
        ValueError: An argument is out of range.
        DataError: A file is missing, damaged, unreadable or not what it should be.
    """
    spec = dataset_spec(name)
    if valid_size is None:
        valid_size = spec.valid_size
    if not 1 <= valid_size < spec.examples:
        raise ValueError(
            f"`valid_size` must be between 1 and {spec.examples - 1} for {name}, got {valid_size}"
        )
    if seed < 0:
        raise ValueError(f"`seed` must be ≥ 0, got {seed}")
    if image_size is not None:
        check_image_size(image_size)

    examples = _read(spec, data_dir, progress=progress)
    images = examples.images if image_size is None else resize(examples.images, image_size)
    order = np.random.default_rng(seed).permutation(spec.examples)
    valid = _take(images, examples.labels, order[:valid_size])
    train = _take(images, examples.labels, order[valid_size:])
    lost = np.setdiff1d(np.arange(spec.num_classes), train.labels)
    if lost.size:
        raise ValueError(
            f"`valid_size` must leave examples of every class to learn from, got {valid_size}, "
            f"which leaves none of class {lost[0]}"
        )
    return Dataset(
        name=name,
        train=train,
        valid=valid,
        num_classes=spec.num_classes,
        digest=_digest(name, train, valid),
        mirror=spec.mirror,
    )


def _read(spec: DatasetSpec, data_dir: Path | None, *, progress: bool) -> Split:
    """All training examples in file order."""
    if not spec.downloads:
        folder = EMBEDDED
        examples = spec.read(spec, folder)
    elif data_dir is not None:
        folder = find_folder(spec, Path(data_dir))
        examples = spec.read(spec, folder)
    else:
        folder = fetch(spec, cache_folder(), progress=progress)
        try:
            examples = spec.read(spec, folder)
        except DataError as error:
            raise DataError(f"{error}; delete {folder} to download it again") from error
    absent = np.setdiff1d(np.arange(spec.num_classes), examples.labels)
    if absent.size:  # what a file full of zeros, left by a failed copy, looks like
        raise DataError(f"{folder} holds no example of class {absent[0]} of {spec.name}")
    return examples


def _take(images: np.ndarray, labels: np.ndarray, index: np.ndarray) -> Split:
    split = Split(images[index], labels[index])
    split.images.setflags(write=False)
    split.labels.setflags(write=False)
    return split


def _digest(name: str, train: Split, valid: Split) -> str:
    digest = hashlib.sha256(name.encode())
    for split in (train, valid):
        digest.update(repr(split.images.shape).encode())
        digest.update(split.images.data)
        digest.update(split.labels.astype("<i4").data)
    return digest.hexdigest()
