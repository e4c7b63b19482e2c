"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017) in the idx layout.

An idx file is big-endian: a magic number (two zero bytes, the element type, the number of
dimensions), one 32-bit length a dimension, and the elements. Files may stand as they are or
gzipped. Both data sets use the same four names, so a folder named after the data set is preferred
to a bare one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .data_files import check_labels, read_file
from .dataset_spec import DataError, DataFile, DatasetSpec, Download, Split

_UINT8 = 0x08
_FILES = (
    DataFile(
        name="train-images-idx3-ubyte",
        records=60_000,
        record_bytes=28 * 28,
        header_bytes=16,
    ),
    DataFile(name="train-labels-idx1-ubyte", records=60_000, record_bytes=1, header_bytes=8),
)


def read_idx(spec: DatasetSpec, folder: Path) -> Split:
    """Reads a file of images `[N, H, W]` and one of labels `[N]`."""
    images_file, labels_file = spec.files
    height, width, _ = spec.image_shape
    _, pixels = _read_array(folder, images_file, (images_file.records, height, width))
    path, labels = _read_array(folder, labels_file, (labels_file.records,))
    check_labels(path, labels, spec.num_classes)
    return Split(pixels.reshape(-1, *spec.image_shape), labels.astype(np.int32))


def _read_array(folder: Path, file: DataFile, shape: tuple[int, ...]) -> tuple[Path, np.ndarray]:
    path, content = read_file(folder, file, magic=bytes([0, 0, _UINT8, len(shape)]))
    lengths = tuple(content[4 : file.header_bytes].view(">u4").tolist())
    if lengths != shape:
        raise DataError(f"{path} says that its shape is {lengths}, expected {shape}")
    return path, content[file.header_bytes :].reshape(shape)


MNIST = DatasetSpec(
    name="mnist",
    image_shape=(28, 28, 1),
    num_classes=10,
    examples=60_000,
    valid_size=5_000,
    mirror=False,
    reference=(
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "
        "Gradient-Based Learning Applied to Document Recognition, 1998"
    ),
    read=read_idx,
    files=_FILES,
    folders=("mnist", "MNIST/raw", "."),
    downloads=(
        Download(
            url="https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        Download(
            url="https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
)

_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"

FASHION_MNIST = DatasetSpec(
    name="fashion_mnist",
    image_shape=(28, 28, 1),
    num_classes=10,
    examples=60_000,
    valid_size=5_000,
    mirror=True,
    reference=(
        "H. Xiao, K. Rasul, R. Vollgraf, "
        "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms, "
        "2017, arXiv:1708.07747, MIT licence"
    ),
    read=read_idx,
    files=_FILES,
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "."),
    downloads=(
        Download(
            url=f"{_FASHION}/train-images-idx3-ubyte.gz",
            sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        Download(
            url=f"{_FASHION}/train-labels-idx1-ubyte.gz",
            sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
    ),
)
