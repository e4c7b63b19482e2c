"""The registry, the embedded digits, and the split: what holds without any folder of files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainers.dataset import DATASETS, Dataset, load_dataset
from trainers.digits import EMBEDDED


def digits(
    *, image_size: int | None = None, valid_size: int | None = None, seed: int = 0
) -> Dataset:
    return load_dataset(
        "digits", data_dir=None, image_size=image_size, valid_size=valid_size, seed=seed
    )


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Grey values 0 … 16 as 0 … 255."""
    return np.floor(pixels * 255 / 16 + 0.5).astype(int)


def joined(data: Dataset) -> np.ndarray:
    """All examples `[N, H * W * C + 1]` in sorted order, the label first."""
    rows = [
        np.column_stack([split.labels, split.images.reshape(len(split.labels), -1)])
        for split in (data.train, data.valid)
    ]
    return np.array(sorted(np.concatenate(rows).tolist()))


@pytest.mark.parametrize("name", DATASETS)
def test_spec_is_consistent(name: str) -> None:
    spec = DATASETS[name]
    assert spec.name == name
    assert 1 <= spec.valid_size < spec.examples
    assert spec.examples in {
        sum(file.records for file in spec.files),  # each record an example
        spec.files[0].records,  # images and labels in files of their own
    }
    assert spec.reference
    assert not any(word in file.name for file in spec.files for word in ("test", "t10k"))
    for download in spec.downloads:
        assert len(bytes.fromhex(download.sha256)) == 32


def test_sizes_of_files_are_the_official_ones() -> None:
    sizes = {(name, file.name): file.size for name, spec in DATASETS.items() for file in spec.files}
    assert sizes["cifar10", "data_batch_5.bin"] == 30_730_000
    assert sizes["cifar100", "train.bin"] == 153_700_000
    assert sizes["mnist", "train-images-idx3-ubyte"] == 47_040_016
    assert sizes["fashion_mnist", "train-labels-idx1-ubyte"] == 60_008


def test_embedded_digits_are_the_first_1500_of_scikit_learn() -> None:
    pixels, labels = load_digits(return_X_y=True)
    expected = np.column_stack([labels, scaled(np.asarray(pixels))])[:1500]
    data = digits()
    assert data.train.images.shape == (1200, 8, 8, 1)
    assert data.valid.images.shape == (300, 8, 8, 1)
    np.testing.assert_array_equal(joined(data), np.array(sorted(expected.tolist())))


def test_held_out_digits_are_the_last_297_of_scikit_learn() -> None:
    pixels, labels = load_digits(return_X_y=True)
    records = np.fromfile(EMBEDDED / "digits-test.bin", np.uint8).reshape(297, 65)
    np.testing.assert_array_equal(records[:, 0], labels[1500:])
    np.testing.assert_array_equal(records[:, 1:], scaled(np.asarray(pixels))[1500:])


def test_arrays_have_the_promised_types_and_cannot_be_written() -> None:
    data = digits()
    assert (data.name, data.num_classes, data.mirror) == ("digits", 10, False)
    for split in (data.train, data.valid):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert not split.images.flags.writeable
        assert not split.labels.flags.writeable
        assert set(split.labels.tolist()) == set(range(10))


def test_seed_alone_decides_the_split() -> None:
    first, again, other = digits(seed=3), digits(seed=3), digits(seed=4)
    assert first.digest == again.digest != other.digest
    np.testing.assert_array_equal(first.train.images, again.train.images)
    np.testing.assert_array_equal(first.valid.labels, again.valid.labels)
    np.testing.assert_array_equal(joined(first), joined(other))


def test_digest_tells_sizes_apart() -> None:
    digests = {
        digits().digest,
        digits(valid_size=301).digest,
        digits(image_size=4).digest,
        digits(image_size=16).digest,
    }
    assert len(digests) == 4


def test_digest_is_the_same_on_every_machine() -> None:
    # Written down once. Another value means that runs made elsewhere are no longer comparable.
    assert digits().digest == "4a6a0ae1af92b254be1f676585b7554b594d52fb7126cec1596a0877e98474b5"
    assert (
        digits(image_size=12).digest
        == "40309226c4f59cbb0439a8181693a18091afc8509775d94abf6858e62643581f"
    )


@pytest.mark.parametrize("valid_size", [-1, 0, 1500, 2000])
def test_valid_size_out_of_range(valid_size: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`valid_size` must be between 1 and 1499 .* {valid_size}$"
    ):
        digits(valid_size=valid_size)


def test_a_split_may_not_lose_a_class() -> None:
    with pytest.raises(ValueError, match=r"every class to learn from, got 1495, .* class"):
        digits(valid_size=1495)


@pytest.mark.parametrize("image_size", [-8, 0, 257])
def test_image_size_out_of_range(image_size: int) -> None:
    with pytest.raises(
        ValueError, match=rf"`image_size` must be between 1 and 256, got {image_size}"
    ):
        digits(image_size=image_size)


def test_seed_out_of_range() -> None:
    with pytest.raises(ValueError, match="`seed` must be ≥ 0, got -1"):
        digits(seed=-1)


def test_resized_digits_keep_their_labels() -> None:
    small = digits(image_size=4)
    native = digits()
    assert small.train.images.shape == (1200, 4, 4, 1)
    np.testing.assert_array_equal(small.train.labels, native.train.labels)
    block = native.train.images[7, 2:4, 4:6, 0].astype(int)
    assert small.train.images[7, 1, 2, 0] == (block.sum() + 2) // 4


def test_unknown_name_is_refused_without_importing_jax() -> None:
    code = (
        "import sys\n"
        "from trainers.dataset import load_dataset\n"
        "try:\n"
        "    load_dataset('cifar', data_dir=None, image_size=None, valid_size=None, seed=0)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "print([name for name in ('jax', 'flax', 'pooch', 'requests') if name in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout.splitlines() == [
        "`dataset` must be one of cifar10, cifar100, digits, fashion_mnist, mnist, "
        "got 'cifar': did you mean `cifar10`?",
        "[]",
    ]
