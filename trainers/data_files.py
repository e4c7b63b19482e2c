"""Finding and reading the files of a data set, with every fault told in one line.

Whatever a file system or a damaged file can raise becomes a `DataError` here, at the only place
where bytes come in; readers above this module see whole files or nothing. No more than a file's
expected length is ever read, so neither a wrong file nor a gzip bomb fills the memory.
"""

from __future__ import annotations

import gzip
import stat
import zlib
from pathlib import Path

import numpy as np

from .dataset_spec import DataError, DataFile, DatasetSpec


def find_folder(spec: DatasetSpec, data_dir: Path) -> Path:
    """The folder in or under `data_dir` that holds the files of `spec`.

    Raises:
        DataError: `data_dir` is no readable folder, or holds none of the files.
    """
    mode = _mode(data_dir)
    if mode is None:
        raise DataError(f"`data_dir` must be an existing folder, got {data_dir}")
    if not stat.S_ISDIR(mode):
        raise DataError(f"`data_dir` must be a folder, got the file {data_dir}")
    for name in spec.folders:
        folder = data_dir / name
        if any(_variant(folder / file.name) is not None for file in spec.files):
            return folder
    places = ", ".join(name for name in spec.folders if name != ".")
    raise DataError(
        f"{data_dir} holds no {spec.name}: expected {spec.files[0].name} (official binary form), "
        f"there or under {places}"
    )


def read_file(folder: Path, file: DataFile, *, magic: bytes = b"") -> tuple[Path, np.ndarray]:
    """Reads a whole file, or the same under `.gz`, and checks its length.

    Args:
        folder: Where it lies.
        file: Its name and size.
        magic: What its first bytes have to be.

    Returns:
        The path that was read, for messages, and all its unpacked bytes, uint8 `[file.size]`.

    Raises:
        DataError: The file is missing, unreadable, damaged, or not of the expected length.
    """
    path = _variant(folder / file.name)
    if path is None:
        raise DataError(f"{folder / file.name} is missing: expected {_size(file)}")
    mode = _mode(path)
    if mode is None or not stat.S_ISREG(mode):
        # A named pipe would be waited for without end, so nothing but a file is opened.
        raise DataError(f"{path} is not a regular file: expected {_size(file)}")
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            content = stream.read(file.size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is not a whole gzip file ({error}): expected {_size(file)}"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content.startswith(magic):
        raise DataError(
            f"{path} starts with the bytes {content[: len(magic)].hex(' ') or '(none)'}, "
            f"expected {magic.hex(' ')}"
        )
    if len(content) != file.size:
        length = "more" if len(content) > file.size else f"{len(content):,} bytes"
        raise DataError(f"{path} holds {length}, expected {_size(file)}")
    return path, np.frombuffer(content, np.uint8)


def check_labels(path: Path, labels: np.ndarray, num_classes: int) -> None:
    """Refuses labels `[N]` outside of `0 … num_classes - 1`.

    Raises:
        DataError: Names the file and the first wrong record.
    """
    wrong = np.flatnonzero(labels >= num_classes)
    if wrong.size:
        raise DataError(
            f"{path} has the label {labels[wrong[0]]} at record {wrong[0]:,}, "
            f"expected 0 to {num_classes - 1}"
        )


def _variant(path: Path) -> Path | None:
    """`path`, or `path.gz` where that one exists instead, or None."""
    for candidate in (path, path.with_name(path.name + ".gz")):
        if _mode(candidate) is not None:
            return candidate
    return None


def _mode(path: Path) -> int | None:
    """The file mode of `path`, None if there is no such file."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}") from error


def _size(file: DataFile) -> str:
    header = f" after a header of {file.header_bytes}" if file.header_bytes else ""
    return f"{file.size:,} bytes ({file.records:,} records of {file.record_bytes:,}{header})"
