"""Reading folders of files: known pixels, every layout, and one clear line for every fault."""

from __future__ import annotations

import dataclasses
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainers.dataset import DATASETS, Dataset, load_dataset
from trainers.dataset_spec import DataError, DatasetSpec
from trainers.mnist import read_idx

ROUNDS = 4
"""How often each class occurs in a file of the small data sets here."""


def shrunk(spec: DatasetSpec) -> DatasetSpec:
    """`spec` with files of `ROUNDS` records a class."""
    records = ROUNDS * spec.num_classes
    files = tuple(dataclasses.replace(file, records=records) for file in spec.files)
    examples = records if spec.read is read_idx else records * len(files)
    return dataclasses.replace(spec, files=files, examples=examples, valid_size=6)


def examples(spec: DatasetSpec) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise whose first two values are their own number, and labels in turn."""
    numbers = np.arange(spec.examples)
    images = np.random.default_rng(0).integers(
        0, 256, (spec.examples, *spec.image_shape), dtype=np.uint8
    )
    images[:, 0, 0, 0] = numbers // 256
    images[:, 0, 1, 0] = numbers % 256
    return images, (numbers % spec.num_classes).astype(np.uint8)


def write(spec: DatasetSpec, folder: Path) -> None:
    """Writes `examples(spec)` in the official layout, a byte at a time where order matters."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = examples(spec)
    if spec.read is read_idx:
        count, height, width, _ = images.shape
        header = b"".join(size.to_bytes(4, "big") for size in (count, height, width))
        (folder / spec.files[0].name).write_bytes(bytes([0, 0, 8, 3]) + header + images.tobytes())
        (folder / spec.files[1].name).write_bytes(
            bytes([0, 0, 8, 1]) + header[:4] + labels.tobytes()
        )
        return
    start = 0
    for file in spec.files:
        content = b""
        for number in range(start, start + file.records):
            coarse = bytes(file.record_bytes - 1 - spec.image_bytes)
            planes = [images[number, :, :, c].tobytes() for c in range(spec.image_shape[2])]
            content += coarse + bytes([labels[number]]) + b"".join(planes)
        (folder / file.name).write_bytes(content)
        start += file.records


@pytest.fixture(params=list(DATASETS))
def spec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Every data set of the registry, shrunk, its files in `tmp_path`."""
    small = shrunk(DATASETS[request.param])
    monkeypatch.setitem(DATASETS, small.name, small)
    monkeypatch.setattr("trainers.dataset.EMBEDDED", tmp_path)
    write(small, tmp_path)
    return small


def load(name: str, data_dir: Path, *, image_size: int | None = None) -> Dataset:
    return load_dataset(name, data_dir=data_dir, image_size=image_size, valid_size=None, seed=0)


def check(data: Dataset, spec: DatasetSpec) -> None:
    """Every example is there once, whole, with its label, and order was shuffled."""
    images, labels = examples(spec)
    got_images = np.concatenate([data.train.images, data.valid.images])
    got_labels = np.concatenate([data.train.labels, data.valid.labels])
    numbers = got_images[:, 0, 0, 0].astype(int) * 256 + got_images[:, 0, 1, 0]
    assert sorted(numbers.tolist()) == list(range(spec.examples)) != numbers.tolist()
    np.testing.assert_array_equal(got_images, images[numbers])
    np.testing.assert_array_equal(got_labels, labels[numbers])
    assert len(data.valid.labels) == spec.valid_size


def refusal(spec: DatasetSpec, data_dir: Path) -> str:
    """The line of the DataError that loading ends in."""
    with pytest.raises(DataError) as caught:
        load(spec.name, data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_example_arrives(spec: DatasetSpec, tmp_path: Path) -> None:
    check(load(spec.name, tmp_path), spec)


def test_every_folder_is_found(spec: DatasetSpec, tmp_path: Path) -> None:
    for name in spec.folders if spec.downloads else ():
        data_dir = tmp_path / f"in-{name.replace('/', '-')}"
        write(spec, data_dir / name)
        check(load(spec.name, data_dir), spec)


def test_own_folder_wins_over_equal_names_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = shrunk(DATASETS["fashion_mnist"])
    monkeypatch.setitem(DATASETS, small.name, small)
    for file in small.files:
        (tmp_path / file.name).write_bytes(b"MNIST, say")
    write(small, tmp_path / "FashionMNIST" / "raw")
    check(load(small.name, tmp_path), small)


def test_gzipped_files_are_read(spec: DatasetSpec, tmp_path: Path) -> None:
    for file in spec.files:
        path = tmp_path / file.name
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    check(load(spec.name, tmp_path), spec)


def test_cifar_planes_become_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = shrunk(DATASETS["cifar10"])
    monkeypatch.setitem(DATASETS, small.name, small)
    write(small, tmp_path)
    # Record 3 of the second file: label 3, red rises along a row, green down a column.
    record = bytearray(1 + 3 * 1024)
    record[0] = 3
    for row in range(32):
        for column in range(32):
            record[1 + 32 * row + column] = column
            record[1 + 1024 + 32 * row + column] = 100 + row
            record[1 + 2048 + 32 * row + column] = 222
    path = tmp_path / "data_batch_2.bin"
    content = bytearray(path.read_bytes())
    content[3 * 3073 : 4 * 3073] = record
    path.write_bytes(content)
    data = load("cifar10", tmp_path)
    images = np.concatenate([data.train.images, data.valid.images])
    labels = np.concatenate([data.train.labels, data.valid.labels])
    (place,) = np.flatnonzero((images[..., 2] == 222).all(axis=(1, 2)))
    assert labels[place] == 3
    assert images[place, 0, 0].tolist() == [0, 100, 222]
    assert images[place, 5, 20].tolist() == [20, 105, 222]
    assert images[place, 31, 30].tolist() == [30, 131, 222]


def test_cifar100_takes_the_fine_label(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = shrunk(DATASETS["cifar100"])
    monkeypatch.setitem(DATASETS, small.name, small)
    write(small, tmp_path)
    path = tmp_path / "train.bin"
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3074).copy()
    records[:, 0] = 19  # the coarse label of all
    path.write_bytes(records.tobytes())
    check(load("cifar100", tmp_path), small)


def test_resized_on_the_way(spec: DatasetSpec, tmp_path: Path) -> None:
    data = load(spec.name, tmp_path, image_size=4)
    assert data.train.images.shape[1:] == (4, 4, spec.image_shape[2])


def no_file(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def too_long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def not_gzip(path: Path) -> None:
    path.rename(path.with_name(path.name + ".gz"))


def truncated_gzip(path: Path) -> None:
    packed = gzip.compress(path.read_bytes(), 1)
    path.with_name(path.name + ".gz").write_bytes(packed[:-20])
    path.unlink()


def damaged_gzip(path: Path) -> None:
    packed = bytearray(gzip.compress(path.read_bytes(), 1))
    packed[len(packed) // 2 :: 7] = bytes(len(packed[len(packed) // 2 :: 7]))
    path.with_name(path.name + ".gz").write_bytes(packed)
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_file, ("is missing", "records")),
        (truncated, ("bytes, expected", "records")),
        (empty, ("", "expected")),
        (too_long, ("holds more, expected", "records")),
        (a_folder, ("is not a regular file", "records")),
        (a_pipe, ("is not a regular file", "records")),
        (a_loop, ("cannot be read", "symbolic links")),
        (not_gzip, ("is not a whole gzip file", "records")),
        (truncated_gzip, ("is not a whole gzip file", "records")),
        (damaged_gzip, ("gzip", "expected")),
    ],
)
def test_each_fault_is_one_line_that_names_the_file(
    spec: DatasetSpec, tmp_path: Path, damage: Callable[[Path], None], words: tuple[str, str]
) -> None:
    # The last file: where there are several, the folder is still found by the others.
    path = tmp_path / spec.files[-1].name
    damage(path)
    if damage is no_file and spec.downloads and len(spec.files) == 1:
        words = ("holds no", "official binary form")
    message = refusal(spec, tmp_path)
    assert path.name in message
    assert str(tmp_path) in message
    for word in words:
        assert word in message


def test_a_label_out_of_range(spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / spec.files[-1].name
    content = bytearray(path.read_bytes())
    file = spec.files[-1]
    # Record 2; the label is all of an idx record, else what stands before the image.
    label_in_record = 0 if spec.read is read_idx else file.record_bytes - spec.image_bytes - 1
    content[file.header_bytes + 2 * file.record_bytes + label_in_record] = spec.num_classes
    path.write_bytes(content)
    assert refusal(spec, tmp_path) == (
        f"{path} has the label {spec.num_classes} at record 2, expected 0 to {spec.num_classes - 1}"
    )


def test_files_full_of_zeros(spec: DatasetSpec, tmp_path: Path) -> None:
    for file in spec.files:
        path = tmp_path / file.name
        content = path.read_bytes()[: file.header_bytes]
        path.write_bytes(content + bytes(file.size - len(content)))
    assert "no example of class 1" in refusal(spec, tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_headers(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = shrunk(DATASETS[name])
    monkeypatch.setitem(DATASETS, name, small)
    write(small, tmp_path)
    images, labels = (tmp_path / file.name for file in small.files)
    whole = images.read_bytes()

    images.write_bytes(labels.read_bytes())
    assert refusal(small, tmp_path) == (
        f"{images} starts with the bytes 00 00 08 01, expected 00 00 08 03"
    )
    images.write_bytes(whole[:7] + b"\x09" + whole[8:])
    assert refusal(small, tmp_path) == (
        f"{images} says that its shape is (9, 28, 28), expected (40, 28, 28)"
    )


def test_a_gzip_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = shrunk(DATASETS["mnist"])
    monkeypatch.setitem(DATASETS, "mnist", small)
    write(small, tmp_path)
    path = tmp_path / small.files[0].name
    with gzip.open(f"{path}.gz", "wb") as stream:
        stream.write(path.read_bytes()[:16])
        for _ in range(64):
            stream.write(bytes(1 << 20))
    path.unlink()
    assert f"{path}.gz holds more, expected 31,376 bytes" in refusal(small, tmp_path)


def with_downloads() -> list[str]:
    return [name for name, spec in DATASETS.items() if spec.downloads]


@pytest.mark.parametrize("name", with_downloads())
def test_data_dir_that_is_none(name: str, tmp_path: Path) -> None:
    spec = DATASETS[name]
    absent = tmp_path / "absent"
    assert refusal(spec, absent) == f"`data_dir` must be an existing folder, got {absent}"
    file = tmp_path / "file"
    file.touch()
    assert refusal(spec, file) == f"`data_dir` must be a folder, got the file {file}"
    assert refusal(spec, file / "below") == (
        f"`data_dir` must be an existing folder, got {file / 'below'}"
    )
    bare = tmp_path / "bare"
    bare.mkdir()
    message = refusal(spec, bare)
    assert message.startswith(f"{bare} holds no {name}: expected {spec.files[0].name}")
    assert "null byte" in refusal(spec, tmp_path / "a\0b")


def test_refused_permission_is_one_line(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("trainers.data_files.open", refuse, raising=False)
    path = tmp_path / spec.files[0].name
    assert refusal(spec, tmp_path) == f"{path} cannot be read: Permission denied"


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_permission_on_disk(locked: str, spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / spec.files[0].name if locked == "file" else tmp_path
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.chmod(0o700)
        pytest.skip("this user may read everything, as root does")
    try:
        message = refusal(spec, tmp_path)
    finally:
        path.chmod(0o700)
    assert message.startswith(str(tmp_path))
    assert message.endswith("cannot be read: Permission denied")


def test_digits_need_no_folder(tmp_path: Path) -> None:
    data = load("digits", tmp_path / "absent")
    assert len(data.train.labels) == 1200


@pytest.mark.skipif(
    "ACTSEARCH_CIFAR10_DIR" not in os.environ,
    reason="set ACTSEARCH_CIFAR10_DIR to a folder that holds CIFAR-10 in its binary layout",
)
def test_the_whole_of_cifar10() -> None:
    data = load("cifar10", Path(os.environ["ACTSEARCH_CIFAR10_DIR"]), image_size=16)
    assert data.train.images.shape == (45_000, 16, 16, 3)
    assert data.valid.images.shape == (5_000, 16, 16, 3)
    counts = np.bincount(np.concatenate([data.train.labels, data.valid.labels]))
    assert counts.tolist() == [5_000] * 10
    # The mean colour of the training images, known from many a normalisation constant.
    pixels = np.concatenate([data.train.images, data.valid.images])
    mean = pixels.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=2e-3)
