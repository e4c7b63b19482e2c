"""CIFAR images for PyTorch: in memory, or on the device, as bytes; batches by one gather each.

Images are padded once. A batch, its random crops and its flips are then a single lookup of pixels,
which took 0.1 ms for 64 images of 16 x 16 on one core, a third of what indexing by image, row and
column took.

Letters: N images, B batch, H W C image.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from peer import Setting

from trainers.augment import channel_statistics, padding
from trainers.dataset import load_dataset

torch: Any = importlib.import_module("torch")


class TorchData:
    """Both splits of the data set on the device.

    Args:
        setting: Which data set, of which size.
        device: A torch device.
    """

    def __init__(self, setting: Setting, device: Any) -> None:
        train = setting.train
        data = load_dataset(
            train.dataset,
            data_dir=setting.data_dir,
            image_size=train.image_size,
            valid_size=train.valid_size,
            seed=setting.seed,
        )
        mean, deviation = channel_statistics(data.train.images)
        self.num_classes = data.num_classes
        self.mean = torch.from_numpy(mean).to(device)
        """float32 [C]."""
        self.inverse = torch.from_numpy(1 / deviation).to(device)
        """float32 [C], one over the standard deviation."""
        self.valid = _tensor(data.valid.images, device)
        """uint8 [N, H, W, C]."""
        self.valid_labels = _tensor(data.valid.labels.astype(np.int64), device)
        self._batch = train.batch_size
        self._pad = padding(min(data.train.images.shape[1:3])) if train.augment else 0
        self._mirror = data.mirror and train.augment
        self._shape = data.train.images.shape[1:]
        self._pixels = _tensor(_padded(data.train.images, self._pad, mean), device)
        self._labels = _tensor(data.train.labels.astype(np.int64), device)
        self._rows, self._columns = (torch.arange(n, device=device) for n in self._shape[:2])
        self._device = device

    def batches(self, steps: int, *, seed: int) -> Iterator[tuple[Any, Any]]:
        """Augmented batches: a permutation for each epoch, its incomplete last batch dropped.

        Yields:
            uint8 [B, H, W, C] images, int64 [B] labels.
        """
        device, size, batch, pad = self._device, len(self._labels), self._batch, self._pad
        height, width, channels = self._shape
        generator = torch.Generator(device).manual_seed(seed)
        stride = width + 2 * pad
        done = 0
        while done < steps:
            order = torch.randperm(size, generator=generator, device=device)
            for chosen in order[: size - size % batch].view(-1, batch)[: steps - done]:
                rows = self._rows.expand(batch, height)
                columns = self._columns.expand(batch, width)
                if self._mirror:
                    draws = torch.rand((batch, 1), generator=generator, device=device)
                    columns = torch.where(draws < 0.5, columns, columns.flip(1))
                if pad:
                    corners = torch.randint(
                        0, 2 * pad + 1, (2, batch, 1), generator=generator, device=device
                    )
                    rows, columns = rows + corners[0], columns + corners[1]
                first = (chosen[:, None] * (height + 2 * pad) + rows) * stride
                places = first[:, :, None] + columns[:, None, :]
                images = self._pixels.index_select(0, places.view(-1))
                yield images.view(batch, height, width, channels), self._labels[chosen]
                done += 1


def _padded(images: np.ndarray, pad: int, mean: np.ndarray) -> np.ndarray:
    """uint8 [N (H + 2 pad) (W + 2 pad), C]: the images with a frame of the mean colour."""
    size, height, width, channels = images.shape
    framed = np.empty((size, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    framed[:] = np.round(mean).astype(np.uint8)
    framed[:, pad : pad + height, pad : pad + width] = images
    return framed.reshape(-1, channels)


def _tensor(values: np.ndarray, device: Any) -> Any:
    return torch.from_numpy(values if values.flags.writeable else values.copy()).to(device)
