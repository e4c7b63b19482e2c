"""Downloads, from a server on this machine: once, whole, checked, and never half unpacked."""

from __future__ import annotations

import dataclasses
import gc
import gzip
import hashlib
import io
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trainers import download
from trainers.dataset import DATASETS, load_dataset
from trainers.dataset_spec import DataError, DatasetSpec, Download
from trainers.download import fetch, unpack

# pooch leaves the connection of a download that broke off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")


@pytest.fixture(autouse=True)
def broken_connections_are_collected_here() -> Iterator[None]:
    """Collects them while the filter above is in force, and not in some later test."""
    yield
    gc.collect()


TRAIN = [f"data_batch_{batch}.bin" for batch in range(1, 6)]
TOP = "cifar-10-batches-bin"


@dataclasses.dataclass
class Server:
    """Serves the files under `root` and keeps what was asked for."""

    root: Path
    address: str
    asked: list[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    root = tmp_path / "served"
    root.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(root))

        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/cut-short/"):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"only this")
            else:
                super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(root, f"http://127.0.0.1:{http.server_port}", asked)
        http.shutdown()
        thread.join()


def small_cifar() -> DatasetSpec:
    spec = DATASETS["cifar10"]
    files = tuple(dataclasses.replace(file, records=20) for file in spec.files)
    return dataclasses.replace(spec, files=files, examples=100, valid_size=10)


def contents() -> dict[str, bytes]:
    """Members of an archive like the official one, train and test files and a text."""
    rng = np.random.default_rng(0)
    members = {}
    for name in [*TRAIN, "test_batch.bin"]:
        records = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        members[f"{TOP}/{name}"] = records.tobytes()
    members[f"{TOP}/readme.html"] = b"<p>CIFAR"
    return members


def pack(path: Path, members: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        folder = tarfile.TarInfo(TOP)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member, content in more:
            tar.addfile(member, io.BytesIO(content))


def offered(spec: DatasetSpec, server: Server, *names: str) -> DatasetSpec:
    """`spec` with its downloads at the server, under their true checksums."""
    downloads = tuple(
        Download(
            url=f"{server.address}/{name}",
            sha256=hashlib.sha256((server.root / name).read_bytes()).hexdigest(),
        )
        for name in names
    )
    return dataclasses.replace(spec, downloads=downloads)


def left_over(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def test_an_archive_is_fetched_once_and_its_training_files_kept(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pack(server.root / "c.tar.gz", contents())
    spec = offered(small_cifar(), server, "c.tar.gz")
    cache = tmp_path / "cache"
    folder = fetch(spec, cache, progress=False)
    assert folder.parent == cache
    assert left_over(folder) == TRAIN
    assert left_over(cache) == [f"{folder.name}/{name}" for name in TRAIN]
    for name in TRAIN:
        assert (folder / name).read_bytes() == contents()[f"{TOP}/{name}"]
    assert fetch(spec, cache, progress=False) == folder
    assert server.asked == ["/c.tar.gz"]
    assert capfd.readouterr() == ("", "")


def test_progress_is_drawn_on_stderr(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pack(server.root / "c.tar.gz", contents())
    spec = offered(small_cifar(), server, "c.tar.gz")
    fetch(spec, tmp_path / "cache", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "c.tar.gz: 100%" in err


def test_load_dataset_downloads_into_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(server.root / "c.tar.gz", contents())
    spec = offered(small_cifar(), server, "c.tar.gz")
    monkeypatch.setitem(DATASETS, "cifar10", spec)
    monkeypatch.setattr("trainers.dataset.cache_folder", lambda: tmp_path / "cache")

    def load():
        return load_dataset(
            "cifar10", data_dir=None, image_size=None, valid_size=None, seed=0, progress=False
        )

    data = load()
    assert (len(data.train.labels), len(data.valid.labels)) == (90, 10)
    (path,) = (tmp_path / "cache").rglob("data_batch_4.bin")
    path.write_bytes(b"torn")
    with pytest.raises(DataError, match=f"{path} holds 4 bytes, .*; delete {path.parent} to"):
        load()


def test_single_files_are_fetched_once(server: Server, tmp_path: Path) -> None:
    names = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    for name in names:
        (server.root / name).write_bytes(name.encode())
    spec = offered(DATASETS["mnist"], server, *names)
    folder = fetch(spec, tmp_path / "cache", progress=False)
    assert left_over(folder) == sorted(names)
    (folder / names[1]).write_bytes(b"torn")
    assert fetch(spec, tmp_path / "cache", progress=False) == folder
    assert (folder / names[1]).read_bytes() == names[1].encode()
    assert server.asked == [f"/{names[0]}", f"/{names[1]}", f"/{names[1]}"]


def refusal(spec: DatasetSpec, cache: Path) -> str:
    with pytest.raises(DataError) as caught:
        fetch(spec, cache, progress=False)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_wrong_checksum_is_refused_and_nothing_kept(server: Server, tmp_path: Path) -> None:
    pack(server.root / "c.tar.gz", contents())
    spec = offered(small_cifar(), server, "c.tar.gz")
    (wrong,) = (dataclasses.replace(item, sha256="0" * 64) for item in spec.downloads)
    message = refusal(dataclasses.replace(spec, downloads=(wrong,)), tmp_path / "cache")
    assert message.startswith(f"{server.address}/c.tar.gz was refused")
    assert "0" * 64 in message
    assert left_over(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["absent.tar.gz", "cut-short/c.tar.gz"])
def test_what_does_not_arrive_is_one_line(name: str, server: Server, tmp_path: Path) -> None:
    spec = dataclasses.replace(
        small_cifar(), downloads=(Download(url=f"{server.address}/{name}", sha256="0" * 64),)
    )
    message = refusal(spec, tmp_path / "cache")
    assert message.startswith(f"{server.address}/{name} could not be downloaded")
    assert "`data_dir`" in message
    assert left_over(tmp_path / "cache") == []


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = "http://127.0.0.1:9/c.tar.gz"
    spec = dataclasses.replace(small_cifar(), downloads=(Download(url=url, sha256="0" * 64),))
    assert refusal(spec, tmp_path / "cache").startswith(f"{url} could not be downloaded")


def test_a_cache_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    pack(server.root / "c.tar.gz", contents())
    (tmp_path / "file").touch()
    message = refusal(offered(small_cifar(), server, "c.tar.gz"), tmp_path / "file" / "cache")
    assert str(tmp_path / "file") in message


def test_an_interrupted_unpacking_is_not_taken_for_whole(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(server.root / "c.tar.gz", contents())
    spec = offered(small_cifar(), server, "c.tar.gz")
    cache = tmp_path / "cache"
    copies = []

    def copy_two_and_stop(source: Any, target: Any) -> None:
        target.write(source.read(7))
        copies.append(target.name)
        if len(copies) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "shutil", SimpleNamespace(copyfileobj=copy_two_and_stop))
        with pytest.raises(KeyboardInterrupt):
            fetch(spec, cache, progress=False)
    assert left_over(cache) == ["c.tar.gz"]  # whole, and used again
    folder = fetch(spec, cache, progress=False)
    assert [(folder / name).stat().st_size for name in TRAIN] == [20 * 3073] * 5
    assert server.asked == ["/c.tar.gz"]


def test_two_processes_may_unpack_at_once(tmp_path: Path) -> None:
    archive = tmp_path / "c.tar.gz"
    pack(archive, contents())
    folder = tmp_path / "cifar10"
    unpack(archive, small_cifar(), folder)
    unpack(archive, small_cifar(), folder)  # comes second, and leaves what is there
    assert left_over(folder) == TRAIN


def special(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


def sized(name: str, size: int) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = size
    return member, bytes(size)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ((special("/tmp/absolute"), b""), "unsafe name '/tmp/absolute'"),
        ((special(f"{TOP}/../../up"), b""), "unsafe name"),
        ((special("..\\up"), b""), "unsafe name"),
        ((special(f"{TOP}/link", tarfile.SYMTYPE, "/etc/passwd"), b""), "neither a file"),
        ((special(f"{TOP}/hard", tarfile.LNKTYPE, f"{TOP}/readme.html"), b""), "neither a file"),
        ((special(f"{TOP}/pipe", tarfile.FIFOTYPE), b""), "neither a file"),
        ((special(f"{TOP}/device", tarfile.CHRTYPE), b""), "neither a file"),
        (sized(f"{TOP}/huge", 20 * 3073 + 1), "more than the allowed 61,460"),
        (sized(f"{TOP}/data_batch_1.bin", 20 * 3073), "expected it once"),
        (sized("elsewhere/data_batch_2.bin", 3), "expected it once with 61,460"),
    ],
)
def test_suspicious_archives_are_refused(
    member: tuple[tarfile.TarInfo, bytes], words: str, tmp_path: Path
) -> None:
    archive = tmp_path / "c.tar.gz"
    pack(archive, contents(), member)
    with pytest.raises(DataError, match=words) as caught:
        unpack(archive, small_cifar(), tmp_path / "cifar10")
    assert str(archive) in str(caught.value)
    assert left_over(tmp_path) == ["c.tar.gz"]


def test_an_archive_of_too_many_entries_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "c.tar.gz"
    pack(archive, {f"{TOP}/{number}": b"" for number in range(200)})
    with pytest.raises(DataError, match="more than 100 entries"):
        unpack(archive, small_cifar(), tmp_path / "cifar10")


@pytest.mark.parametrize("damage", ["short", "noise", "no tar", "lacks a file"])
def test_damaged_archives_are_refused(damage: str, tmp_path: Path) -> None:
    archive = tmp_path / "c.tar.gz"
    members = contents()
    if damage == "lacks a file":
        del members[f"{TOP}/data_batch_3.bin"]
    pack(archive, members)
    whole = bytearray(archive.read_bytes())
    if damage == "short":
        archive.write_bytes(whole[: len(whole) // 2])
    elif damage == "noise":
        whole[len(whole) // 2 :: 11] = bytes(len(whole[len(whole) // 2 :: 11]))
        archive.write_bytes(whole)
    elif damage == "no tar":
        archive.write_bytes(b"<html>404</html>")
    with pytest.raises(DataError) as caught:
        unpack(archive, small_cifar(), tmp_path / "cifar10")
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    if damage == "lacks a file":
        assert "lacks data_batch_3.bin" in str(caught.value)
    assert not (tmp_path / "cifar10").exists()


def bomb(path: Path, kind: bytes) -> None:
    """An archive of some kilobytes whose first header claims, and unpacks to, 256 MiB."""
    claimed = 1 << 28
    header = special("bomb", kind)
    header.size = claimed
    with gzip.open(path, "wb", compresslevel=9) as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(claimed >> 20):
            stream.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.REGTYPE]
)
def test_a_bomb_takes_no_memory(kind: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "c.tar.gz"
    bomb(archive, kind)
    assert archive.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"is refused: it (unpacks to more|holds 'bomb' with)"):
            unpack(archive, small_cifar(), tmp_path / "cifar10")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert left_over(tmp_path) == ["c.tar.gz"]
