"""Normalisation and augmentation: crops are exact windows, flips exact mirror images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainers.augment import channel_statistics, crop_and_flip, normalise, padding


def numbered(batch: int, height: int, width: int, channels: int) -> np.ndarray:
    """Images whose pixels all differ, and none is zero."""
    shape = (batch, height, width, channels)
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


def test_statistics_by_hand():
    images = np.zeros((2, 1, 2, 2), np.uint8)
    images[..., 0] = [[[0, 10]], [[20, 30]]]
    images[..., 1] = 7
    mean, deviation = channel_statistics(images)
    np.testing.assert_allclose(mean, [15.0, 7.0])
    # ((-15)² + (-5)² + 5² + 15²) / 4 = 125; a constant channel is not divided by zero
    np.testing.assert_allclose(deviation, [np.sqrt(125), 1.0], rtol=1e-6)
    assert mean.dtype == deviation.dtype == np.float32


def test_statistics_of_a_shared_read_only_set_larger_than_one_part():
    images = np.random.default_rng(0).integers(0, 256, (1201, 5, 3, 2), dtype=np.uint8)
    images.setflags(write=False)
    mean, deviation = channel_statistics(images)
    np.testing.assert_allclose(mean, images.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation, images.astype(np.float64).std((0, 1, 2)), rtol=1e-6)


def test_normalise_by_hand():
    images = jnp.array([[[[0, 100], [50, 200]]]], jnp.uint8)
    found = normalise(images, jnp.array([25.0, 100.0]), jnp.array([5.0, 50.0]))
    np.testing.assert_allclose(found, [[[[-5.0, 0.0], [5.0, 2.0]]]])
    assert found.dtype == jnp.float32


@pytest.mark.parametrize(("size", "pad"), [(32, 4), (16, 2), (28, 3), (8, 1), (7, 0)])
def test_padding_is_in_proportion_to_four_pixels_of_thirty_two(size: int, pad: int):
    assert padding(size) == pad


@pytest.mark.parametrize(("pad", "mirror"), [(2, True), (1, False), (0, True)])
def test_every_crop_is_one_window_and_every_window_occurs(pad: int, mirror: bool):
    images = numbered(600, 5, 4, 2)
    found = np.asarray(
        crop_and_flip(jnp.asarray(images), key=jax.random.key(3), pad=pad, mirror=mirror)
    )
    assert found.shape == images.shape
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = [
        (top, left, side)
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
        for side in ((1, -1) if mirror else (1,))
    ]
    seen = dict.fromkeys(windows, 0)
    for image, around in zip(found, padded, strict=True):
        matches = [
            (top, left, side)
            for top, left, side in windows
            if np.array_equal(image, around[top : top + 5, left : left + 4][:, ::side])
        ]
        assert len(matches) == 1
        seen[matches[0]] += 1
    expected = len(images) / len(windows)
    # Binomial counts: five standard deviations, at a fixed key.
    assert all(abs(count - expected) < 5 * np.sqrt(expected) + 1 for count in seen.values())


def test_without_padding_and_mirror_nothing_changes():
    images = numbered(4, 3, 3, 1)
    found = crop_and_flip(jnp.asarray(images), key=jax.random.key(0), pad=0, mirror=False)
    np.testing.assert_array_equal(found, images)


def test_equal_keys_give_equal_windows_and_others_do_not():
    images = numbered(16, 8, 8, 1)
    first, again, other = (
        np.asarray(crop_and_flip(jnp.asarray(images), key=jax.random.key(seed), pad=2, mirror=True))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
