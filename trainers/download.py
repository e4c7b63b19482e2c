"""Official archives, fetched once, checked by SHA-256 and unpacked without trusting them.

A file gets its final name only when it is whole: pooch renames a download after its hash
matched, and an archive is unpacked into a folder of another name that is renamed at the end. So
whatever interrupts a download, the next one starts from what is whole.
"""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import ModuleType

from .dataset_spec import DataError, DatasetSpec, Download

_MEMBERS = 100
"""More entries than any of the archives has."""
_HEADER = 1 << 20
"""More bytes than any header of an entry has."""
_TIMEOUT_S = 60
"""How long a server may stay silent."""


def cache_folder() -> Path:
    """Where downloads are kept: the user's cache folder for `actsearch`.

    Raises:
        DataError: pooch is not installed.
    """
    return Path(_pooch().os_cache("actsearch"))


def fetch(spec: DatasetSpec, cache: Path, *, progress: bool) -> Path:
    """Downloads the training files of `spec` unless they are there already.

    Args:
        spec: A data set with `downloads`.
        cache: The folder under which it is kept.
        progress: Whether to draw a progress bar on stderr.

    Returns:
        The folder that holds `spec.files`.

    Raises:
        DataError: The server, the checksum, the archive or the disk refused.
    """
    folder = cache / f"{spec.name}-{spec.downloads[0].sha256[:12]}"
    try:
        for download in spec.downloads:
            if not download.is_archive:
                _retrieve(download, folder, progress=progress)
            elif not folder.is_dir():
                archive = _retrieve(download, cache, progress=progress)
                unpack(archive, spec, folder)
                archive.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{cache} cannot keep {spec.name}: {error.strerror or error}") from error
    return folder


def unpack(archive: Path, spec: DatasetSpec, folder: Path) -> None:
    """Unpacks the files of `spec`, and nothing else, from a `.tar.gz` into the new `folder`.

    Every entry is looked at, and one that a data set has no use for condemns the archive. Bytes
    are copied into files named by `spec`: no name, mode or link of the archive reaches the disk.

    Raises:
        DataError: The archive is damaged, suspicious, or lacks a file.
    """
    wanted = {file.name: file for file in spec.files}
    largest = max(file.size for file in spec.files)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder.parent) as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        try:
            with (
                _Unzipped(archive, spec) as unzipped,
                tarfile.open(fileobj=unzipped, mode="r:") as tar,
            ):
                for number, member in enumerate(tar):
                    _check_member(archive, number, member, largest)
                    name = PurePosixPath(member.name).name
                    source = tar.extractfile(member) if name in wanted else None
                    if source is None:
                        continue
                    if member.size != wanted[name].size or (whole / name).exists():
                        raise DataError(
                            f"{archive} holds {member.name} with {member.size:,} bytes, "
                            f"expected it once with {wanted[name].size:,}"
                        )
                    with source, (whole / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise DataError(f"{archive} cannot be unpacked: {_line(error)}") from error
        missing = sorted(name for name in wanted if not (whole / name).exists())
        if missing:
            raise DataError(f"{archive} lacks {missing[0]}, expected all files of {spec.name}")
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same bytes
                raise


class _Unzipped(gzip.GzipFile):
    """What an archive unpacks to, as far as an honest one goes: a few bytes may unpack to gigabytes.

    A header is read at once whatever length it claims, so each single read is bounded, and so is
    the whole.
    """

    def __init__(self, archive: Path, spec: DatasetSpec) -> None:
        super().__init__(archive, "rb")
        self._archive = archive
        self._whole = 3 * sum(file.size for file in spec.files) + _MEMBERS * _HEADER

    def read(self, size: int | None = -1) -> bytes:
        """As a file's; refuses what no archive of a data set needs."""
        if size is None or not 0 <= size <= _HEADER or self.tell() > self._whole:
            raise DataError(f"{self._archive} is refused: it unpacks to more than its files hold")
        return super().read(size)


def _check_member(archive: Path, number: int, member: tarfile.TarInfo, largest: int) -> None:
    path = PurePosixPath(member.name)
    if number >= _MEMBERS:
        fault = f"more than {_MEMBERS} entries"
    elif path.is_absolute() or ".." in path.parts or "\\" in member.name:
        fault = f"the unsafe name {member.name!r}"
    elif not (member.isreg() or member.isdir()):
        fault = f"{member.name!r}, which is neither a file nor a folder"
    elif member.size > largest:
        fault = f"{member.name!r} with {member.size:,} bytes, more than the allowed {largest:,}"
    else:
        return
    raise DataError(f"{archive} is refused: it holds {fault}")


def _retrieve(download: Download, folder: Path, *, progress: bool) -> Path:
    pooch = _pooch()
    logger = pooch.get_logger()
    level = logger.level
    path = folder / download.file_name
    with ExitStack() as stack:
        bar = False
        if progress and not path.exists():
            from tqdm import tqdm

            # pooch sets the true total; it asks for the bar's truth before, which a total gives.
            bar = stack.enter_context(
                tqdm(total=1, desc=download.file_name, unit="B", unit_scale=True)
            )
        logger.setLevel(logging.WARNING)
        stack.callback(logger.setLevel, level)
        try:
            pooch.retrieve(
                download.url,
                known_hash=f"sha256:{download.sha256}",
                fname=download.file_name,
                path=folder,
                downloader=pooch.HTTPDownloader(
                    progressbar=bar, chunk_size=1 << 16, timeout=_TIMEOUT_S
                ),
            )
        except ValueError as error:  # a wrong hash: pooch has deleted what arrived
            raise DataError(f"{download.url} was refused: {_line(error)}") from error
        except OSError as error:  # requests' errors about a connection are OSErrors
            raise DataError(
                f"{download.url} could not be downloaded to {folder}: {_line(error)}; "
                "set `data_dir` to a folder that holds the data set"
            ) from error
    return path


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            "downloading needs the packages pooch and tqdm: install them, or set `data_dir`"
        ) from error
    return pooch


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
