"""The post's interface: its arguments, what it prints, and that it trains what a recorded run trains."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fashion_cnn import builder, figures
from fashion_cnn.builder import ModelBuilder
from fashion_cnn.callbacks import StopAtLoss
from fashion_cnn.config import CNN, ConfigError, RunConfig
from fashion_cnn.data import CLASS_NAMES, Dataset
from fashion_cnn.events import EpochDone, Job
from fashion_cnn.training import TrainingError, as_pixels
from tests.conftest import answer, python, weights_sha256
from tests.support.made_up import ANKLE_BOOT

pytestmark = pytest.mark.usefixtures("engine")

IMAGES, LABELS = np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.uint8)


def small(data: Dataset, **settings: Any) -> ModelBuilder:
    """A builder that takes little time."""
    sets = data.train_images, data.train_labels, data.test_images, data.test_labels
    return ModelBuilder(*sets, **{"filters": 2, "epochs": 2, **settings})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, made_up_data: Dataset) -> Iterator[list[str]]:
    """One entry for each time that Fashion-MNIST was loaded; a made-up set stands in for it."""
    calls: list[str] = []

    def load_dataset() -> Dataset:
        calls.append("loaded")
        return made_up_data

    monkeypatch.setattr(builder, "load_dataset", load_dataset)
    builder._fashion_mnist.cache_clear()
    yield calls
    builder._fashion_mnist.cache_clear()


# --- the arguments ---------------------------------------------------------------------------------------------------


def test_the_arguments_are_the_post_s_then_the_seed_and_whether_to_record() -> None:
    parameters = inspect.signature(ModelBuilder).parameters.values()
    assert [(parameter.name, parameter.default) for parameter in parameters] == [
        ("training_images", None),
        ("training_labels", None),
        ("testing_images", None),
        ("testing_labels", None),
        ("additional_convolutions", 1),
        ("epochs", 10),
        ("filters", 32),
        ("use_callback", False),
        ("callback_loss", 0),
        ("seed", 0),
        ("track", False),
    ]
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == ["seed", "track"]


def test_the_defaults_are_the_default_config() -> None:
    assert ModelBuilder().config == CNN


def test_the_arguments_are_settings_of_a_run() -> None:
    made = ModelBuilder(additional_convolutions=2, epochs=100, filters=16, use_callback=True, callback_loss=0.19)
    assert made.config == RunConfig(additional_convolutions=2, epochs=100, filters=16, callback_loss=0.19)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, "filters is 0; allowed: a whole number from 1 to 1,024"),
        ({"epochs": -1}, "epochs is -1; allowed: a whole number from 1 to 10,000"),
        ({"epochs": "5"}, "epochs is '5'; allowed: a whole number from 1 to 10,000"),
        ({"callback_loss": -1}, "callback_loss is -1.0; allowed: a number of at least 0"),
        ({"use_callback": "yes"}, "use_callback is 'yes'; allowed: True or False"),
        ({"track": 1}, "track is 1; allowed: True or False"),
        ({"seed": -1}, "seed is -1; allowed: a whole number from 0 to 4,294,967,295"),
        (
            {"additional_convolutions": 3},
            "additional_convolutions is 3; with padding='valid' at most 2 fit into 28x28 pixels "
            "(28-26-13-11-5-3-1); padding='same' fits more",
        ),
    ],
)
def test_a_setting_that_is_not_allowed_gets_one_clear_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelBuilder(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["training", "testing"])
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        pytest.param(
            IMAGES, None,
            "{0}_images and {0}_labels belong together: give both, or neither for Fashion-MNIST",
            id="no-labels",
        ),
        pytest.param(
            None, LABELS,
            "{0}_images and {0}_labels belong together: give both, or neither for Fashion-MNIST",
            id="no-images",
        ),
        pytest.param(
            IMAGES.reshape(5, 784), LABELS,
            "{0}_images cannot be used: images have shape (5, 784); allowed: (n, 28, 28) or (n, 28, 28, 1)",
            id="shape",
        ),
        pytest.param(
            IMAGES + 255.0, LABELS,
            "{0}_images cannot be used: floating-point images must lie in 0..1; divide them by 255",
            id="range",
        ),
        pytest.param(
            IMAGES, LABELS[:4], "{0}_labels have shape (4,); allowed: (5,), one an image", id="too-few-labels"
        ),
        pytest.param(
            IMAGES, LABELS[:, None], "{0}_labels have shape (5, 1); allowed: (5,), one an image", id="labels-shape"
        ),
        pytest.param(
            IMAGES, LABELS + 10, "{0}_labels hold uint8 from 10 to 10; allowed: whole numbers from 0 to 9",
            id="label-too-high",
        ),
        pytest.param(
            IMAGES, np.full(5, -1), "{0}_labels hold int64 from -1 to -1; allowed: whole numbers from 0 to 9",
            id="label-too-low",
        ),
        pytest.param(
            IMAGES, LABELS + 0.5, "{0}_labels hold float64 from 0.5 to 0.5; allowed: whole numbers from 0 to 9",
            id="broken-labels",
        ),
    ],
)  # fmt: skip
def test_images_and_labels_that_do_not_fit_get_one_clear_line(
    name: str, images: Any, labels: Any, message: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        ModelBuilder(**{f"{name}_images": images, f"{name}_labels": labels})
    assert str(caught.value) == message.format(name)


@pytest.mark.parametrize("images", [[[1], [1, 2]], "images", [[["a"] * 28] * 28]], ids=["ragged", "text", "texts"])
def test_images_that_are_no_numbers_get_one_clear_line(images: Any) -> None:
    with pytest.raises(TrainingError, match=r"^training_images cannot be used: [^\n]*$"):
        ModelBuilder(images, LABELS)


def test_plain_lists_are_as_good_as_arrays(made_up_data: Dataset) -> None:
    few = made_up_data.first(20, 20)
    from_lists = ModelBuilder(
        *(few.train_images.tolist(), few.train_labels.tolist()),
        *(few.test_images.tolist(), few.test_labels.tolist()),
        filters=2,
    )
    assert from_lists.test() == small(few).test()


def test_a_tracked_run_takes_no_images_of_ones_own() -> None:
    with pytest.raises(TrainingError, match=r"^track=True records runs of Fashion-MNIST, [^\n]*: leave the images out"):
        ModelBuilder(IMAGES, LABELS, track=True)


def test_a_tracked_run_takes_no_callbacks_of_ones_own() -> None:
    with pytest.raises(TrainingError, match=r"^track=True takes no callbacks: [^\n]* leave them out"):
        ModelBuilder(track=True).fit(callbacks=[StopAtLoss(1)])


# --- the data --------------------------------------------------------------------------------------------------------


def test_making_a_builder_and_its_model_loads_no_data(loads: list[str]) -> None:
    ModelBuilder(filters=2).print_summary()
    assert loads == []


def test_the_default_data_are_loaded_once_a_process(loads: list[str], made_up_data: Dataset) -> None:
    default, given = ModelBuilder(filters=2, epochs=1), small(made_up_data, epochs=1)
    assert default.fit().history == given.fit().history
    assert default.test() == given.test()
    ModelBuilder(filters=2).test()
    assert loads == ["loaded"]


def test_given_data_are_used_in_place_of_fashion_mnist(loads: list[str], made_up_data: Dataset) -> None:
    small(made_up_data)()
    assert loads == []


# --- the model and the callback --------------------------------------------------------------------------------------


def test_the_model_is_the_post_s_and_is_built_once() -> None:
    made = ModelBuilder()
    assert made.model.count_params() == 113_386
    assert made.model is made.model


def test_the_summary_shows_the_post_s_layers_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    ModelBuilder().print_summary()
    summary = capsys.readouterr().out
    assert re.findall(r"\(None, [\d, ]+\)", summary) == [
        *("(None, 26, 26, 32)", "(None, 13, 13, 32)", "(None, 11, 11, 32)", "(None, 5, 5, 32)"),
        *("(None, 800)", "(None, 128)", "(None, 10)"),
    ]
    assert "Total params: 113,386" in summary


def test_the_callback_stops_at_the_loss_and_is_made_once() -> None:
    made = ModelBuilder(callback_loss=0.19)
    assert isinstance(made.callback, StopAtLoss)
    assert made.callback.loss == 0.19
    assert made.callback is made.callback


# --- fit -------------------------------------------------------------------------------------------------------------


def test_fitting_prints_a_line_an_epoch(made_up_data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    small(made_up_data).fit()
    line = r"Epoch {}/2 - \d+\.\ds - loss: \d\.\d{{4}} - accuracy: [01]\.\d{{4}}\n"
    assert re.fullmatch(line.format(1) + line.format(2), capsys.readouterr().out)


def test_fitting_returns_keras_history(made_up_data: Dataset) -> None:
    made = small(made_up_data)
    history = made.fit()
    assert isinstance(history, keras.callbacks.History)
    assert history.epoch == [0, 1]
    assert {name: len(values) for name, values in history.history.items()} == {"loss": 2, "accuracy": 2}
    assert made.model.history is history


def test_fitting_twice_goes_on_where_the_first_ended(made_up_data: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    twice, once = small(made_up_data, epochs=2), small(made_up_data, epochs=4)
    first, second, whole = twice.fit(), twice.fit(), once.fit()
    assert weights_sha256(twice.model) == weights_sha256(once.model)
    assert first.history["loss"] + second.history["loss"] == whole.history["loss"]
    assert second.epoch == [2, 3]
    assert "Epoch 3/4 " in capsys.readouterr().out


def test_other_keras_callbacks_are_called(made_up_data: Dataset) -> None:
    seen: list[int] = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    small(made_up_data).fit(callbacks=[callback])
    assert seen == [0, 1]


def test_a_callback_with_batch_hooks_is_refused_by_name(made_up_data: Dataset) -> None:
    with pytest.raises(TrainingError, match=r"^TerminateOnNaN\.on_batch_end cannot be called"):
        small(made_up_data).fit(callbacks=[keras.callbacks.TerminateOnNaN()])


def test_with_the_callback_it_stops_below_the_loss_and_says_so(
    made_up_data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    made = small(made_up_data, use_callback=True, callback_loss=1e9)
    assert made.fit().epoch == [0]
    assert made.callback.stopped_epoch == 1
    assert "Stopped after 1 epoch" in capsys.readouterr().out


def test_without_use_callback_the_loss_stops_nothing(made_up_data: Dataset) -> None:
    assert small(made_up_data, use_callback=False, callback_loss=1e9).fit().epoch == [0, 1]


def test_a_callback_loss_of_0_never_stops(made_up_data: Dataset) -> None:
    assert small(made_up_data, use_callback=True).fit().epoch == [0, 1]


# --- test, and all at once -------------------------------------------------------------------------------------------


def test_testing_gives_the_loss_and_accuracy_that_keras_gives(made_up_data: Dataset) -> None:
    made = small(made_up_data)
    made.fit()
    tested = made.test()
    assert [type(number) for number in tested] == [float, float]
    keras_own = made.model.evaluate(as_pixels(made_up_data.test_images), made_up_data.test_labels, verbose=0)
    np.testing.assert_allclose(tested, keras_own, rtol=1e-5)


def test_calling_it_trains_tests_and_prints_as_the_post_does(
    made_up_data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    made = small(made_up_data)
    made()
    *epochs, last = capsys.readouterr().out.splitlines()
    loss, accuracy = made.test()
    assert [line.split(" - ")[0] for line in epochs] == ["Epoch 1/2", "Epoch 2/2"]
    assert last == f"Testing Loss: {loss:.2f}  Testing Accuracy: {accuracy:.2f}"


# --- feature maps ----------------------------------------------------------------------------------------------------


def test_the_feature_maps_are_of_the_first_three_testing_images_of_the_first_one_s_class(
    made_up_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        figures, "feature_maps", lambda images, maps, **how: drawn.update(images=images, maps=maps, **how)
    )
    small(made_up_data).feature_maps(channels=[0])
    boots = [place for place, label in enumerate(made_up_data.test_labels) if label == ANKLE_BOOT][:3]
    assert (drawn["indices"], drawn["class_name"], drawn["channels"]) == (boots, CLASS_NAMES[ANKLE_BOOT], [0])
    assert np.array_equal(drawn["images"], made_up_data.test_images[boots])
    assert [(name, maps.shape) for name, maps in drawn["maps"].items()][:2] == [
        ("convolution_1", (3, 26, 26, 2)),
        ("pooling_1", (3, 13, 13, 2)),
    ]


def test_images_between_0_and_1_have_the_same_feature_maps(made_up_data: Dataset) -> None:
    sets = [(images / 255)[..., None] for images in (made_up_data.train_images, made_up_data.test_images)]
    prepared = ModelBuilder(sets[0], made_up_data.train_labels, sets[1], made_up_data.test_labels, filters=2)
    assert figures.png(prepared.feature_maps()) == figures.png(small(made_up_data).feature_maps())


# --- the same numbers everywhere -------------------------------------------------------------------------------------


def test_a_fresh_process_with_another_global_seed_trains_the_same_weights(
    fresh: dict[str, Any], made_up_data: Dataset
) -> None:
    made = small(made_up_data, filters=4, seed=7)
    made.fit()
    here = {"trained": weights_sha256(made.model), "tested": list(made.test())}
    assert {name: fresh[name] for name in here} == here


def test_it_trains_what_a_worker_records(fresh: dict[str, Any], made_up: Path) -> None:
    from fashion_cnn.running.worker import work

    settings = RunConfig(epochs=2, filters=4).canonical()
    job = Job(settings=settings, rules=(settings,), seed=7, data_dir=str(made_up), images=None)
    second = next(islice((event for event in work(job) if isinstance(event, EpochDone)), 1, None))
    assert second.weights_sha256 == fresh["trained"]
    assert [second.metrics["test_loss"], second.metrics["test_accuracy"]] == fresh["tested"]


def test_another_seed_trains_other_weights(made_up_data: Dataset) -> None:
    one, other = small(made_up_data, epochs=1), small(made_up_data, epochs=1, seed=1)
    assert one.fit().history != other.fit().history
    assert weights_sha256(one.model) != weights_sha256(other.model)


def test_images_prepared_as_in_the_post_train_the_same_weights(made_up_data: Dataset) -> None:
    train, test = ((images / 255)[..., None] for images in (made_up_data.train_images, made_up_data.test_images))
    prepared = ModelBuilder(train, made_up_data.train_labels, test, made_up_data.test_labels, epochs=2, filters=2)
    plain = small(made_up_data)
    assert prepared.fit().history == plain.fit().history
    assert weights_sha256(prepared.model) == weights_sha256(plain.model)
    assert prepared.test() == plain.test()


# --- a notebook ------------------------------------------------------------------------------------------------------

NOTEBOOK = """
import json, sys, warnings
import tensorflow as tf

tf.reduce_sum(tf.random.normal((4, 4)))  # initialises TensorFlow, with its own threads

from fashion_cnn.builder import ModelBuilder
from fashion_cnn.data import load
from fashion_cnn.models import build
from fashion_cnn.callbacks import StopAtLoss
from fashion_cnn.training import as_pixels

data = load(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    epochs = []
    for seed in (0, 1):
        builder = ModelBuilder(
            data.train_images, data.train_labels, data.test_images, data.test_labels, epochs=1, filters=2, seed=seed
        )
        epochs.append(builder.fit().epoch)
        builder.test()
stop = StopAtLoss(1e9)
images, labels = as_pixels(data.train_images), data.train_labels
plain = build(builder.config, 0).fit(images, labels, epochs=3, verbose=0, callbacks=[stop])
print(json.dumps({
    "epochs": epochs,
    "warnings": [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)],
    "plain": plain.epoch,
    "stopped": stop.stopped_epoch,
}))
"""


@pytest.fixture(scope="module")
def notebook(made_up: Path) -> dict[str, Any]:
    """A process that used TensorFlow in its own way before two builders and a plain `fit`."""
    result: dict[str, Any] = answer(python(NOTEBOOK, made_up))
    return result


def test_where_tensorflow_is_initialised_otherwise_it_trains_all_the_same(notebook: dict[str, Any]) -> None:
    assert notebook["epochs"] == [[0], [0]]


def test_there_it_warns_once_that_this_is_no_evidence_and_how_to_get_some(notebook: dict[str, Any]) -> None:
    (warning,) = notebook["warnings"]
    assert "no evidence" in warning
    assert "not reproducible bit for bit" in warning
    assert "`fashion-cnn train`" in warning
    assert "\n" not in warning


def test_there_the_stop_at_a_loss_works_in_plain_keras(notebook: dict[str, Any]) -> None:
    assert notebook["plain"] == [0]
    assert notebook["stopped"] == 1
