"""The line above a run's pictures that says which run it is."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_cnn.store.heading import figure_heading, headed

WORDS = figure_heading("epochs_study", "10 epochs · seed 3", 10, "0123456789abcdef" * 2)


def picture(width: int = 600, height: int = 40) -> bytes:
    pixels, buffer = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", dpi=(120, 120))
    return buffer.getvalue()


def pixels(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_heading_names_study_arm_seed_epoch_and_run() -> None:
    assert WORDS == "epochs_study · 10 epochs · seed 3 · after epoch 10 · run 01234567"
    assert " · smoke · " in figure_heading("epochs_study", "10 epochs · seed 3", 1, "0" * 32, smoke=True)


def test_a_heading_stands_above_the_picture_and_changes_no_pixel_of_it() -> None:
    with_heading = headed(picture(), WORDS)
    above = pixels(with_heading)[:-40]
    assert np.array_equal(pixels(with_heading)[-40:], pixels(picture()))
    assert above.min() < 100 and above.max() == 255 and above[:, -1].min() == 255
    assert with_heading == headed(picture(), WORDS)


def test_another_heading_takes_the_place_of_the_first() -> None:
    assert headed(headed(picture(), "another run"), WORDS) == headed(picture(), WORDS)


def test_a_picture_that_is_narrower_than_its_heading_is_widened() -> None:
    whole = pixels(headed(picture(1, 1), WORDS))
    assert whole.shape[1] > 300 and whole[-1, 1:].min() == 255


def test_what_is_no_picture_stays_as_it_is() -> None:
    assert headed(b"no picture", WORDS) == b"no picture"
    assert headed(picture()[:99], WORDS) == picture()[:99]
