"""Images on the device: normalisation, random crops and flips.

Follows He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385, section 4.2:
4 pixels are padded on each side of a 32-pixel image and a crop of the original size is taken from
the padded image or its horizontal flip.

Letters: B batch, H W C image, N images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_IMAGES_AT_A_TIME = 512


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over a whole training set.

    Exact sums of integers, a few images at a time: the set is never copied, because all workers
    of a machine share one, and the order of summation cannot change a bit of the result.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        Two float32 arrays [C] in units of one grey level. A constant channel gets deviation 1.
    """
    channels = images.shape[-1]
    first = np.zeros(channels, np.int64)
    second = np.zeros(channels, np.int64)
    for start in range(0, len(images), _IMAGES_AT_A_TIME):
        part = images[start : start + _IMAGES_AT_A_TIME].reshape(-1, channels).astype(np.int32)
        first += part.sum(axis=0, dtype=np.int64)
        second += (part * part).sum(axis=0, dtype=np.int64)
    count = images.size // channels
    mean = first / count
    deviation = np.sqrt(np.maximum(second / count - mean**2, 0.0))
    deviation = np.where(deviation > 0, deviation, 1.0)
    return mean.astype(np.float32), deviation.astype(np.float32)


def normalise(images: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    """uint8 [B, H, W, C] to float32 of mean 0 and deviation 1 per channel (`mean`: [C])."""
    shape = (1, 1, 1, -1)
    return (images.astype(jnp.float32) - mean.reshape(shape)) / deviation.reshape(shape)


def padding(image_size: int) -> int:
    """Pixels of padding per side: 4 for 32 pixels as in He et al., in proportion for others."""
    return image_size // 8


def crop_and_flip(images: jax.Array, *, key: jax.Array, pad: int, mirror: bool) -> jax.Array:
    """A random window of each zero-padded image, each flipped left to right or not.

    Args:
        images: [B, H, W, C], already normalised, so that zero is the mean colour.
        key: PRNG key; equal keys give equal windows.
        pad: Pixels added on each side before the crop; 0 leaves every image in place.
        mirror: Whether half of the images, at random, are flipped.

    Returns:
        [B, H, W, C] of the same dtype.
    """
    batch, height, width, channels = images.shape
    # One draw for all that is random: each further one would cost compile time.
    draws = jax.random.bits(key, (batch, 3), jnp.uint32)
    if pad:
        corners = (draws[:, :2] % jnp.uint32(2 * pad + 1)).astype(jnp.int32)
        padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

        def window(image: jax.Array, corner: jax.Array) -> jax.Array:
            start = (corner[0], corner[1], jnp.zeros_like(corner[0]))
            return jax.lax.dynamic_slice(image, start, (height, width, channels))

        images = jax.vmap(window)(padded, corners)
    if mirror:
        flipped = draws[:, 2] >= jnp.uint32(2**31)
        images = jnp.where(flipped.reshape(-1, 1, 1, 1), images[:, :, ::-1, :], images)
    return images
