"""ModelBuilder: the post's interface over this project's engine. It records nothing; `fashion-cnn` does."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion_cnn.environment import KERNELS, EnvironmentFault, choose

# TensorFlow reads its choice of kernels when it is imported: workers get theirs from the runner, a notebook here.
CHOSEN = KERNELS[choose(None).arithmetic]
OTHER_KERNELS = "tensorflow" in sys.modules and any(os.environ.get(name) != CHOSEN[name] for name in CHOSEN)
if not OTHER_KERNELS:
    os.environ.update(CHOSEN)
if "keras" not in sys.modules:  # a user's variable or keras.json may name another back end
    os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402

if keras.config.backend() != "tensorflow":
    raise EnvironmentFault(
        f"Keras was imported with the back end {keras.config.backend()}; start again and import fashion_cnn before it"
    )

from fashion_cnn import models, training  # noqa: E402
from fashion_cnn.callbacks import StopAtLoss, train  # noqa: E402
from fashion_cnn.config import ConfigError, RunConfig, check_seed  # noqa: E402
from fashion_cnn.data import Dataset  # noqa: E402
from fashion_cnn.download import load_dataset  # noqa: E402

Labelled = tuple[NDArray[Any], NDArray[Any]]


class ModelBuilder:
    """Builds, trains and tests the post's convolutional network, on one thread and bit for bit.

    The same arguments give the same weights as a recorded run of the same config and seed. Threads and determinism
    concern the whole process and are set at the first use. Where TensorFlow has been initialised otherwise by then, as
    in a notebook that has used it, the builder trains all the same and warns, once per process, that the result is no
    evidence. In a deterministic process Keras' own `fit` shuffles only after `keras.utils.set_random_seed`.

    Attributes:
        config: the settings, as a run has them.
        seed: of the initial weights and the orders.
    """

    def __init__(
        self,
        training_images: ArrayLike | None = None,
        training_labels: ArrayLike | None = None,
        testing_images: ArrayLike | None = None,
        testing_labels: ArrayLike | None = None,
        additional_convolutions: int = 1,
        epochs: int = 10,
        filters: int = 32,
        use_callback: bool = False,
        callback_loss: float = 0,
        *,
        seed: int = 0,
    ) -> None:
        """Check the settings; nothing is built or loaded yet.

        Args:
            training_images: (n, 28, 28) or (n, 28, 28, 1), integers in 0..255 or floats in 0..1; None, with the
                labels, for Fashion-MNIST.
            training_labels: (n,), whole numbers in 0..9.
            testing_images: likewise.
            testing_labels: likewise.
            additional_convolutions: pairs of convolution and pooling besides the first.
            epochs: how many times `fit` goes through the training images.
            filters: of each convolution.
            use_callback: whether `fit` stops below a training loss.
            callback_loss: that loss; 0 never stops.
            seed: of the initial weights and the orders.

        Raises:
            ConfigError: a setting that is not allowed.
            TrainingError: images or labels that are not as above.
        """
        settings = RunConfig(
            additional_convolutions=additional_convolutions,
            epochs=epochs,
            filters=filters,
            callback_loss=callback_loss,
        )
        if not isinstance(use_callback, bool):
            raise ConfigError(f"use_callback is {use_callback!r}; allowed: True or False")
        self.config = settings if use_callback else replace(settings, callback_loss=None)
        self.seed = check_seed(seed)
        self._callback_loss = settings.callback_loss or 0.0
        self._training = _checked("training", training_images, training_labels)
        self._testing = _checked("testing", testing_images, testing_labels)
        self._model: keras.Sequential | None = None
        self._callback: StopAtLoss | None = None

    @property
    def model(self) -> keras.Sequential:
        """The Keras model, built at the first use and trained by `fit`."""
        if self._model is None:
            _set_up_process()
            self._model = models.build(self.config, self.seed)
        return self._model

    @property
    def callback(self) -> StopAtLoss:
        """What stops the training below `callback_loss`, made at the first use; `fit` has it if `use_callback`."""
        if self._callback is None:
            self._callback = StopAtLoss(self._callback_loss)
        return self._callback

    def print_summary(self) -> None:
        """Print the model's layers, their output shapes and parameters."""
        self.model.summary()

    def fit(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> keras.callbacks.History:
        """Train for `epochs` epochs, printing a line for each. As in Keras, a second fit resumes where the first ended.

        Fitting for 5 epochs twice gives the weights of fitting for 10.

        Args:
            callbacks: Keras callbacks besides `callback`; their train and epoch hooks are called.

        Returns:
            `history` holds `loss` and `accuracy` of each epoch of this fit, `epoch` their numbers from 0.

        Raises:
            DataError: Fashion-MNIST is not available.
            TrainingError: a callback has batch hooks, or the loss is no longer finite.
        """
        trainer = self._trainer
        history = keras.callbacks.History()
        stop = [self.callback] if self.config.callback_loss is not None else []
        last = trainer.epoch + self.config.epochs
        for epoch in train(trainer, last, [history, *stop, *callbacks]):
            print(
                f"Epoch {epoch.epoch}/{last} - {epoch.seconds:.1f}s"
                f" - loss: {epoch.loss:.4f} - accuracy: {epoch.accuracy:.4f}"
            )
        return history

    def test(self) -> tuple[float, float]:
        """The present model's loss and accuracy on the testing set.

        Raises:
            DataError: Fashion-MNIST is not available.
        """
        trainer = self._trainer
        images, labels = self._testing or (_fashion_mnist().test_images, _fashion_mnist().test_labels)
        evaluation = trainer.evaluate(images, labels)
        return evaluation.loss, evaluation.accuracy

    def __call__(self) -> None:
        """Build, train and test the model, and print its test loss and accuracy."""
        self.fit()
        loss, accuracy = self.test()
        print(f"Testing Loss: {loss:.2f}  Testing Accuracy: {accuracy:.2f}")

    @cached_property
    def _trainer(self) -> training.Trainer:
        images, labels = self._training or (_fashion_mnist().train_images, _fashion_mnist().train_labels)
        return training.Trainer(self.config, self.seed, images, labels, model=self.model)


@cache
def _fashion_mnist() -> Dataset:
    return load_dataset()


@cache
def _set_up_process() -> None:
    try:
        training.set_up_process(threads=1)
        if OTHER_KERNELS:
            raise training.TrainingError("TensorFlow was imported before with its own choice of kernels")
    except training.TrainingError as error:
        warnings.warn(
            f"{error}: ModelBuilder trains all the same, but what it trains is no evidence, for it is not reproducible "
            "bit for bit. For evidence record a run with `fashion-cnn train`",
            UserWarning,
            stacklevel=3,
        )


def _checked(name: str, images: ArrayLike | None, labels: ArrayLike | None) -> Labelled | None:
    """The given images and labels as arrays, or None where neither is given."""
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise training.TrainingError(
            f"{name}_images and {name}_labels belong together: give both, or neither for Fashion-MNIST"
        )
    try:
        images, labels = np.asarray(images), np.asarray(labels)
        training.as_pixels(images)
    except (training.TrainingError, TypeError, ValueError) as error:
        raise training.TrainingError(f"{name}_images cannot be used: {error}") from None
    if labels.shape != (len(images),):
        raise training.TrainingError(
            f"{name}_labels have shape {labels.shape}; allowed: ({len(images)},), one an image"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= models.CLASSES:
        raise training.TrainingError(
            f"{name}_labels hold {labels.dtype} from {labels.min()} to {labels.max()}; "
            f"allowed: whole numbers from 0 to {models.CLASSES - 1}"
        )
    return images, labels
