"""Handwritten digits, 8×8 and grey, embedded in the package: the data set that is always there.

These are the 1,797 images that scikit-learn's `load_digits` hands out, the test half of the UCI
data set, by 13 writers. The first 1,500 are the training file; the last 297 stand in a file of
their own, `digits-test.bin`, which a search never opens, for verification afterwards. Both files
hold records like CIFAR's, a label and one plane, with the grey values 0 … 16 scaled to 0 … 255.
"""

from __future__ import annotations

from pathlib import Path

from .cifar import read_records
from .dataset_spec import DataFile, DatasetSpec

EMBEDDED = Path(__file__).parent / "data"
"""The folder of the data files that are part of the package."""

DIGITS = DatasetSpec(
    name="digits",
    image_shape=(8, 8, 1),
    num_classes=10,
    examples=1_500,
    valid_size=300,
    mirror=False,
    reference=(
        "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
        "UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0"
    ),
    read=read_records,
    files=(DataFile(name="digits-train.bin", records=1_500, record_bytes=1 + 8 * 8),),
)
