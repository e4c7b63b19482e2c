"""CIFAR-10 and CIFAR-100 in their official binary layout (Krizhevsky 2009).

A record is a label (CIFAR-100: the coarse label, then the fine one, which is used) and an image
as three planes, red, green, blue, each row by row. The other official form is pickled and is not
read. Checksums stand with the downloads only: a folder of one's own may hold the same images
encoded anew, so there sizes and labels are checked and the run keeps the data set's digest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .data_files import check_labels, read_file
from .dataset_spec import DataFile, DatasetSpec, Download, Split

_REFERENCE = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"


def read_records(spec: DatasetSpec, folder: Path) -> Split:
    """Reads files whose records are label bytes, of which the last counts, and planes `C H W`."""
    height, width, channels = spec.image_shape
    total = sum(file.records for file in spec.files)
    images = np.empty((total, height, width, channels), np.uint8)
    labels = np.empty(total, np.int32)
    start = 0
    for file in spec.files:
        path, content = read_file(folder, file)
        records = content.reshape(file.records, file.record_bytes)
        pixels_at = file.record_bytes - spec.image_bytes
        file_labels = records[:, pixels_at - 1]
        check_labels(path, file_labels, spec.num_classes)
        planes = records[:, pixels_at:].reshape(-1, channels, height, width)
        rows = slice(start, start + file.records)
        images[rows] = planes.transpose(0, 2, 3, 1)
        labels[rows] = file_labels
        start += file.records
    return Split(images, labels)


CIFAR10 = DatasetSpec(
    name="cifar10",
    image_shape=(32, 32, 3),
    num_classes=10,
    examples=50_000,
    valid_size=5_000,
    mirror=True,
    reference=_REFERENCE,
    read=read_records,
    files=tuple(
        DataFile(name=f"data_batch_{batch}.bin", records=10_000, record_bytes=1 + 32 * 32 * 3)
        for batch in range(1, 6)
    ),
    folders=("cifar-10-batches-bin", "."),
    downloads=(
        Download(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
)

CIFAR100 = DatasetSpec(
    name="cifar100",
    image_shape=(32, 32, 3),
    num_classes=100,
    examples=50_000,
    valid_size=5_000,
    mirror=True,
    reference=_REFERENCE,
    read=read_records,
    files=(DataFile(name="train.bin", records=50_000, record_bytes=2 + 32 * 32 * 3),),
    folders=("cifar-100-binary", "."),
    downloads=(
        Download(
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
)
