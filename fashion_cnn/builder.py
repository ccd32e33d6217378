"""ModelBuilder: the post's interface over this project's engine. Asked to, it records as `fashion-cnn train` does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion_cnn.environment import own_kernels

OWN_KERNELS = own_kernels()  # before Keras is imported

import keras  # noqa: E402

# `enable_op_determinism` is public, its opposite is not.
from tensorflow.python.framework import config as tensorflow_config  # noqa: E402

from fashion_cnn import models, training  # noqa: E402
from fashion_cnn.callbacks import StopAtLoss, train  # noqa: E402
from fashion_cnn.config import ConfigError, RunConfig, check_seed  # noqa: E402
from fashion_cnn.data import CLASS_NAMES, Dataset  # noqa: E402
from fashion_cnn.download import load_dataset  # noqa: E402
from fashion_cnn.state import State  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Labelled = tuple[NDArray[Any], NDArray[Any]]
SHOWN = 3  # images whose feature maps are drawn
OWN_IMAGES = (
    "track=True records runs of Fashion-MNIST, whose files have a known hash: leave the images out, or leave track out "
    "and fit with fashion_cnn.Record, which logs what is no evidence"
)


class ModelBuilder:
    """Builds, trains and tests the post's convolutional network, on one thread and bit for bit.

    The same arguments give the same weights as a recorded run of the same config and seed. Threads concern the whole
    process and are set at the first use; operations are deterministic while the builder computes. Where TensorFlow has
    been initialised otherwise by then, as in a notebook that has used it, the builder trains all the same and warns,
    once per process, that the result is no evidence.

    Attributes:
        config: the settings, as a run has them.
        seed: of the initial weights and the orders.
        run_id: of the recorded run that `fit` ended with, with `track`; else None.
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
        track: bool = False,
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
            track: whether `fit` has a worker train the run and records it, as a script does, on Fashion-MNIST.

        Raises:
            ConfigError: a setting that is not allowed.
            TrainingError: images or labels that are not as above.
        """
        settings = RunConfig(
            additional_convolutions=additional_convolutions, epochs=epochs, filters=filters, callback_loss=callback_loss
        )
        for name, value in (("use_callback", use_callback), ("track", track)):
            if not isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r}; allowed: True or False")
        self.config = settings if use_callback else replace(settings, callback_loss=None)
        self.seed = check_seed(seed)
        self.run_id: str | None = None
        self._track = track
        self._callback_loss = settings.callback_loss or 0.0
        self._training = _checked("training", training_images, training_labels)
        self._testing = _checked("testing", testing_images, testing_labels)
        if track and (self._training or self._testing):
            raise training.TrainingError(OWN_IMAGES)

    @cached_property
    def model(self) -> keras.Sequential:
        """The Keras model, built at the first use and trained by `fit`."""
        with _deterministic():
            return models.build(self.config, self.seed)

    @cached_property
    def callback(self) -> StopAtLoss:
        """What stops the training below `callback_loss`, made at the first use; `fit` has it if `use_callback`."""
        return StopAtLoss(self._callback_loss)

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
            TrainingError: a callback has batch hooks, or is one at all with `track`; the loss is no longer finite.
            StoreError, RunFailed: with `track`, see `tracked.track`.
        """
        if self._track:
            return self._fit_tracked(callbacks)
        history = keras.callbacks.History()
        with _deterministic():
            trainer = self._trainer
            last = trainer.epoch + self.config.epochs
            for epoch in train(trainer, last, [history, *self._stops(), *callbacks]):
                print(_line(epoch.epoch, last, epoch.seconds, epoch.loss, epoch.accuracy))
        return history

    def test(self) -> tuple[float, float]:
        """The present model's loss and accuracy on the testing set.

        Raises:
            DataError: Fashion-MNIST is not available.
        """
        with _deterministic():
            evaluation = self._trainer.evaluate(*self._tested())
        return evaluation.loss, evaluation.accuracy

    def feature_maps(self, channels: Sequence[Any] = (1, "strongest")) -> Figure:
        """What each layer of the present model makes of three testing images: the first ones of the first one's class.

        These are the post's ankle boots where no images were given.

        Args:
            channels: a block of the figure each: a channel's number, or "strongest" for each layer's own.

        Returns:
            A figure for `figures.png`, `figures.svg` or its own `savefig`; not registered with pyplot.

        Raises:
            DataError: Fashion-MNIST is not available.
            FigureError: there is no such channel.
        """
        from fashion_cnn import figures

        images, labels = self._tested()
        places = np.flatnonzero(labels == labels[0])[:SHOWN]
        with _deterministic():
            activations = self._trainer.activations(images[places])
        pixels = np.rint(255 * training.as_pixels(images[places])[..., 0]).astype(np.uint8)
        name, shown = CLASS_NAMES[int(labels[0])], places.tolist()
        return figures.feature_maps(pixels, activations, class_name=name, indices=shown, channels=channels)

    def __call__(self) -> None:
        """Build, train and test the model, and print its test loss and accuracy."""
        self.fit()
        loss, accuracy = self.test()
        print(f"Testing Loss: {loss:.2f}  Testing Accuracy: {accuracy:.2f}")

    def _fit_tracked(self, callbacks: Sequence[keras.callbacks.Callback]) -> keras.callbacks.History:
        """Have the run recorded, or found; then have the model as it was at the run's end, and tell its epochs."""
        from fashion_cnn.review.network import load_network
        from fashion_cnn.tracked import track

        if callbacks:
            raise training.TrainingError(
                "track=True takes no callbacks: a recorded run follows from its config and seed alone; leave them out, "
                "or leave track out"
            )
        with _deterministic():
            trainer = self._trainer
            last = trainer.epoch + self.config.epochs
            run = track(replace(self.config, epochs=last), self.seed)
            network = load_network(run.store, run.run_id)
            history, ended = keras.callbacks.History(), len(run.epochs)
            hooks = keras.callbacks.CallbackList([history, *self._stops()], model=self.model, epochs=last)
            hooks.on_train_begin()
            for epoch in run.epochs[trainer.epoch :]:
                number, scores = int(epoch["epoch"]), {name: epoch[name] for name in ("loss", "accuracy")}
                hooks.on_epoch_end(number - 1, scores)
                print(_line(number, last, epoch["epoch_seconds"], scores["loss"], scores["accuracy"]))
            weights = [array for layer in network.layers for array in layer.get_weights()]
            trainer.restore(State(ended, dict(zip(trainer.state().weights, weights, strict=True)), {}))
        self.run_id = run.run_id
        print(f"Recorded as run {run.run_id[:8]}: fashion-cnn replay {run.run_id[:8]} trains it again")
        return history

    def _stops(self) -> list[StopAtLoss]:
        return [self.callback] if self.config.callback_loss is not None else []

    def _tested(self) -> Labelled:
        return self._testing or (_fashion_mnist().test_images, _fashion_mnist().test_labels)

    @cached_property
    def _trainer(self) -> training.Trainer:
        images, labels = self._training or (_fashion_mnist().train_images, _fashion_mnist().train_labels)
        return training.Trainer(self.config, self.seed, images, labels, model=self.model)


@cache
def _fashion_mnist() -> Dataset:
    return load_dataset()


@contextmanager
def _deterministic() -> Iterator[None]:
    """Within it operations are deterministic; afterwards as before, for a plain `fit` without a seed would fail."""
    before = tensorflow_config.is_op_determinism_enabled()
    _set_up_process()
    tensorflow_config.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            tensorflow_config.disable_op_determinism()


@cache
def _set_up_process() -> None:
    try:
        training.set_up_process(threads=1)
        if not OWN_KERNELS:
            raise training.TrainingError("TensorFlow was imported before with its own choice of kernels")
    except training.TrainingError as error:
        warnings.warn(
            f"{error}: ModelBuilder trains all the same, but what it trains is no evidence, for it is not reproducible "
            "bit for bit. For evidence record a run with `fashion-cnn train`",
            UserWarning,
            stacklevel=3,
        )


def _line(epoch: int, last: int, seconds: float, loss: float, accuracy: float) -> str:
    """What is printed of an epoch."""
    return f"Epoch {epoch}/{last} - {seconds:.1f}s - loss: {loss:.4f} - accuracy: {accuracy:.4f}"


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
