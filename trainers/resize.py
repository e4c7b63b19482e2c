"""Square resizing of whole data sets, with the same bits on every machine.

A run is compared by the digest of its data, so a resize must not depend on a GPU, on the number
of threads or on the order of a sum. Shrinking by a whole factor is the mean of each block, in
integers. Any other size is linear interpolation, widened when shrinking so that nothing aliases
(`jax.image.resize(method="linear", antialias=True)`), with weights rounded to multiples of 2⁻¹⁶:
every product and sum is then exact in float64, whatever the order. Halves are rounded up.
"""

from __future__ import annotations

import numpy as np

_LARGEST = 256
_CHUNK = 1_000
_CHUNK_VALUES = 1 << 23


def check_image_size(image_size: int) -> None:
    """Raises ValueError for a size that no image can have here."""
    if not 1 <= image_size <= _LARGEST:
        raise ValueError(f"`image_size` must be between 1 and {_LARGEST}, got {image_size}")


def resize(images: np.ndarray, image_size: int) -> np.ndarray:
    """Resizes images to `image_size` × `image_size`.

    Args:
        images: uint8 `[N, H, W, C]`.
        image_size: Wanted height and width in pixels.

    Returns:
        uint8 `[N, image_size, image_size, C]`; `images` itself if it has that size already.
    """
    check_image_size(image_size)
    count, height, width, channels = images.shape
    if height == width == image_size:
        return images
    resized = np.empty((count, image_size, image_size, channels), np.uint8)
    whole_factors = height % image_size == 0 and width % image_size == 0
    shrink = _block_mean if whole_factors else _linear
    # Chunks bound the temporaries: the whole of CIFAR in float64 would take over a gigabyte.
    largest = max(height, image_size) * max(width, image_size) * channels
    step = max(1, min(_CHUNK, _CHUNK_VALUES // largest))
    for start in range(0, count, step):
        resized[start : start + step] = shrink(images[start : start + step], image_size)
    return resized


def _block_mean(images: np.ndarray, image_size: int) -> np.ndarray:
    rows, columns = images.shape[1] // image_size, images.shape[2] // image_size
    total = np.zeros((len(images), image_size, image_size, images.shape[3]), np.uint32)
    for row in range(rows):
        for column in range(columns):
            total += images[:, row::rows, column::columns]
    area = rows * columns
    return ((total + area // 2) // area).astype(np.uint8)


def _linear(images: np.ndarray, image_size: int) -> np.ndarray:
    count, height, width, channels = images.shape
    pixels = images.astype(np.float64)
    pixels = _weights(height, image_size) @ pixels.reshape(count, height, width * channels)
    pixels = pixels.reshape(count * image_size, width, channels)
    pixels = _weights(width, image_size) @ pixels
    return np.floor(pixels + 0.5).astype(np.uint8).reshape(count, image_size, image_size, channels)


def _weights(old: int, new: int) -> np.ndarray:
    """Linear interpolation along one axis as a matrix, float64 `[new, old]`, rows of sum 1."""
    scale = old / new
    centres = (np.arange(new)[:, None] + 0.5) * scale - 0.5
    distance = np.abs(np.arange(old)[None, :] - centres) / max(scale, 1.0)
    triangle = np.maximum(1.0 - distance, 0.0)
    weights = np.rint(triangle / triangle.sum(axis=1, keepdims=True) * 2**16)
    # What rounding took or gave goes to the heaviest weight: a flat image stays as it is.
    weights[np.arange(new), weights.argmax(axis=1)] += 2**16 - weights.sum(axis=1)
    return weights / 2**16
