"""Resizing: exact block means, and linear interpolation as JAX defines it."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from trainers.resize import resize


def random_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_block_mean_by_hand() -> None:
    image = np.array([[0, 1, 10, 20], [2, 3, 30, 41], [255, 255, 0, 0], [255, 254, 0, 1]], np.uint8)
    # Means 1.5, 25.25, 254.75 and 0.25; a half goes up.
    expected = np.array([[2, 25], [255, 0]], np.uint8)
    np.testing.assert_array_equal(resize(image[None, :, :, None], 2)[0, :, :, 0], expected)


def test_block_mean_keeps_channels_apart() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, :2, :2, 0] = 100
    images[1, 2:, 2:, 2] = 200
    small = resize(images, 2)
    assert small[0, 0, 0].tolist() == [100, 0, 0]
    assert small[1, 1, 1].tolist() == [0, 0, 200]
    assert int(small.sum()) == 300


@pytest.mark.parametrize(("old", "new"), [(32, 24), (28, 32), (8, 12), (28, 20), (8, 16), (7, 1)])
def test_other_sizes_agree_with_jax(old: int, new: int) -> None:
    images = random_images((3, old, old, 3 if old == 32 else 1))
    if old % new == 0:
        expected = np.mean(images, axis=(1, 2), keepdims=True)
    else:
        expected = np.asarray(
            jax.image.resize(
                images.astype(np.float32),
                (3, new, new, images.shape[3]),
                method="linear",
                antialias=True,
            )
        )
    resized = resize(images, new)
    assert resized.dtype == np.uint8
    assert resized.shape == expected.shape
    # Half a level of rounding, and a little for weights kept to 16 bits.
    assert np.abs(resized.astype(np.float64) - expected).max() <= 0.52


@pytest.mark.parametrize("new", [1, 5, 8, 16, 24, 37, 64])
def test_a_flat_image_stays_flat(new: int) -> None:
    for level in (0, 1, 127, 255):
        images = np.full((1, 32, 32, 3), level, np.uint8)
        assert set(resize(images, new).ravel().tolist()) == {level}


@pytest.mark.parametrize("new", [4, 6, 9])
def test_an_image_does_not_depend_on_its_neighbours(new: int) -> None:
    images = random_images((2_100, 8, 8, 1))  # three chunks
    resized = resize(images, new)
    for index in (0, 999, 1_000, 2_099):
        np.testing.assert_array_equal(resized[index], resize(images[index : index + 1], new)[0])


def test_oblong_images_become_square() -> None:
    images = random_images((2, 6, 8, 1))
    assert resize(images, 6).shape == (2, 6, 6, 1)
    flipped = resize(images.transpose(0, 2, 1, 3), 6).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(resize(images, 6), flipped)


def test_native_size_is_left_alone() -> None:
    images = random_images((2, 8, 8, 1))
    assert resize(images, 8) is images
