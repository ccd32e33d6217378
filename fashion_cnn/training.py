"""The trajectory: one compiled call an epoch, keyed order, states in and out, and the stop at a training loss.

State e is a pure function of state e-1, the data and (seed, e): the order of epoch e is drawn from
`numpy.random.default_rng([seed, e])`, the initial weights from (seed, layer index), and no global generator is
asked for anything. Which images those are that it is given, `sample` says. TensorFlow promises the same bits for the
same hardware and software only, with its ops made deterministic and the same number of threads.
"""

from __future__ import annotations

import io
import math
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fashion_cnn.config import RunConfig
from fashion_cnn.evaluation import scores
from fashion_cnn.models import build
from fashion_cnn.state import State
from fashion_cnn.step import compiled_epoch

EVALUATION_BATCH = 500  # fixed, because another batch size may round otherwise


class TrainingError(RuntimeError):
    """Training cannot start or go on as asked: one line that says why."""


def set_up_process(threads: int, device: str = "cpu") -> None:
    """Fix what is process-wide and decides bits: threads, determinism, Keras' number format. Call it first.

    Args:
        threads: of TensorFlow's kernels.
        device: `cpu` hides every GPU; `gpu` asks for one.

    Raises:
        TrainingError: TensorFlow is already initialised otherwise, or no GPU was found where one was asked for.
    """
    # A user's keras.json may say otherwise.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        raise TrainingError(
            "TensorFlow was already initialised in this process with other threads or devices"
        ) from None
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise TrainingError("device is gpu, but TensorFlow finds none here; use --device cpu")
    tf.config.experimental.enable_op_determinism()


def epoch_order(seed: int, epoch: int, images: int, order: str) -> NDArray[np.int32]:
    """The order in which an epoch goes through the training images.

    Args:
        seed: of the run.
        epoch: counted from 1.
        images: how many it goes through.
        order: `fresh`, or `frozen` for epoch 1's in every epoch.

    Returns:
        A permutation of 0..images-1, int32, shape (images,).
    """
    generator = np.random.default_rng([seed, 1 if order == "frozen" else epoch])
    return generator.permutation(images).astype(np.int32)


def as_pixels(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images as the networks take them: (n, 28, 28, 1), float32 in 0..1.

    Args:
        images: (n, 28, 28) or (n, 28, 28, 1); whole numbers are divided by 255, floats are taken as they are.

    Raises:
        TrainingError: another shape, whole numbers outside 0..255, or floats outside 0..1.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[1:] != (28, 28, 1) or not len(images):
        raise TrainingError(f"images have shape {images.shape}; allowed: (n, 28, 28) or (n, 28, 28, 1)")
    if np.issubdtype(images.dtype, np.integer):
        if images.min() < 0 or images.max() > 255:
            raise TrainingError("images of whole numbers must lie in 0..255")
        return images.astype(np.float32) / np.float32(255)
    pixels = images.astype(np.float32)
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise TrainingError("floating-point images must lie in 0..1; divide them by 255")
    return pixels


@dataclass(frozen=True)
class Epoch:
    """One trained epoch."""

    epoch: int
    """Counted from 1."""
    loss: float
    """Training loss, averaged over the epoch's images while the weights changed, as Keras reports it."""
    accuracy: float
    """Training accuracy, averaged likewise."""
    seconds: float
    """Wall time of training alone."""
    cpu_seconds: float
    """Processor time of training alone."""


@dataclass(frozen=True)
class Evaluation:
    """A state's answers to labelled images."""

    loss: float
    """Mean sparse categorical cross-entropy."""
    accuracy: float
    probabilities: NDArray[np.float32]
    """(n, 10)."""
    seconds: float
    """Wall time."""


class Trainer:
    """A network of one config and seed with its training images, at some state of its trajectory."""

    def __init__(
        self, config: RunConfig, seed: int, images: NDArray[Any], labels: NDArray[Any], model: Any = None
    ) -> None:
        """Build the network at state 0 and compile the epoch, so that no epoch's time holds that.

        Args:
            config: its stopping rule plays no part, nor does what it says of which images: see `images`.
            seed: of the run.
            images: all that are trained on; (n, 28, 28) or (n, 28, 28, 1), integers in 0..255 or floats in 0..1.
            labels: (n,), whole numbers in 0..9.
            model: a compiled sequential model to train in place of a new one, with a softmax at its end.

        Raises:
            TrainingError: images of another shape or range, not as many labels, or a network that a state cannot
                hold.
        """
        pixels, labels = as_pixels(images), np.asarray(labels)
        if labels.shape != (len(pixels),):
            raise TrainingError(f"labels have shape {labels.shape}; allowed: ({len(pixels)},), one an image")
        self.config, self.seed, self.epoch = config, seed, 0
        self.model = build(config, seed) if model is None else model
        self.model.optimizer.build(self.model.trainable_variables)
        mirrored = config.augmentation == "mirror"
        self.epoch_images = 2 * len(pixels) if mirrored else len(pixels)
        """How many images an epoch goes through, mirror images included."""
        start = time.perf_counter()
        self._train = compiled_epoch(
            self.model, tf.constant(pixels), tf.constant(labels, tf.int32), config.batch_size, mirrored=mirrored
        )
        self._predict = tf.function(
            lambda batch: self.model(batch, training=False),
            input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.float32)],
            autograph=False,
        )
        self._predict(tf.constant(pixels[:1]))
        self.trace_seconds = time.perf_counter() - start
        self._check_saved()

    def train_epoch(self) -> Epoch:
        """Train the next epoch, in its keyed order.

        Raises:
            TrainingError: the training loss is not a finite number any more.
        """
        order = tf.constant(epoch_order(self.seed, self.epoch + 1, self.epoch_images, self.config.order))
        start, cpu_start = time.perf_counter(), time.process_time()
        loss, correct = (float(total) for total in self._train(order))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        self.epoch += 1
        loss, accuracy = loss / self.epoch_images, correct / self.epoch_images
        if not math.isfinite(loss):
            raise TrainingError(f"the training loss became {loss} in epoch {self.epoch}")
        return Epoch(self.epoch, loss, accuracy, seconds, cpu_seconds)

    def evaluate(self, images: NDArray[Any], labels: NDArray[Any]) -> Evaluation:
        """The present state's loss and accuracy on other images, shaped as those it was made with."""
        pixels = as_pixels(images)
        start = time.perf_counter()
        batches = [pixels[first : first + EVALUATION_BATCH] for first in range(0, len(pixels), EVALUATION_BATCH)]
        probabilities = np.concatenate([self._predict(tf.constant(batch)).numpy() for batch in batches])
        found = scores(probabilities, labels)
        return Evaluation(found.loss, found.accuracy, probabilities, time.perf_counter() - start)

    def state(self) -> State:
        """A copy of the present state."""
        return State(
            self.epoch,
            {name: np.array(variable) for name, variable in self._weights().items()},
            {variable.path: np.array(variable) for variable in self.model.optimizer.variables},
        )

    def restore(self, state: State) -> None:
        """Continue from a state; one with an empty optimizer can be evaluated only.

        Raises:
            TrainingError: the state is of another network.
        """
        weights = self._weights()
        shapes = {name: tuple(variable.shape) for name, variable in weights.items()}
        if shapes != {name: array.shape for name, array in state.weights.items()}:
            raise TrainingError("the state is of another network: its weights have other names or shapes")
        for name, variable in weights.items():
            variable.assign(state.weights[name])
        for variable in self.model.optimizer.variables if state.optimizer else ():
            variable.assign(state.optimizer[variable.path])
        self.epoch = state.epoch

    def _weights(self) -> dict[str, Any]:
        """Every variable of the network, one that no gradient reaches, such as a dropout's generator, too."""
        return {
            f"{layer.name}/{variable.name}": variable for layer in self.model.layers for variable in layer.variables
        }

    def _check_saved(self) -> None:
        """Raises a TrainingError where training depends on a variable that a state would not hold."""
        saved = [variable.value for variable in (*self._weights().values(), *self.model.optimizer.variables)]
        used = self._train.get_concrete_function().graph.variables
        if lost := sorted({variable.name for variable in used if all(variable is not one for one in saved)}):
            raise TrainingError(
                f"the network cannot be trained: a state would not hold {', '.join(lost)}, so that a training that was "
                "interrupted would end otherwise; use layers that keep their variables as Keras' own do"
            )

    def native_model(self) -> bytes:
        """The network as a native `.keras` file: these weights, compiled with an optimizer at its start.

        The optimizer's moments, two thirds of the state, are zero in it and pressed to nothing.
        """
        copy = build(self.config, self.seed)
        copy.set_weights(self.model.get_weights())
        copy.optimizer.build(copy.trainable_variables)
        packed = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras")
            copy.save(path)
            with (
                zipfile.ZipFile(path) as plain,
                zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as pressed,
            ):
                for name in plain.namelist():
                    pressed.writestr(name, plain.read(name))
        return packed.getvalue()

    def activations(self, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """What each convolution and pooling layer makes of some images.

        Returns:
            By layer name, in order: (n, height, width, channels), float32. Empty for the dense network.
        """
        layers = [layer for layer in self.model.layers if layer.name.startswith(("convolution", "pooling"))]
        if not layers:
            return {}
        view = keras.Model(self.model.inputs, [layer.output for layer in layers])
        outputs = view(tf.constant(as_pixels(images)), training=False)
        return {layer.name: output.numpy() for layer, output in zip(layers, outputs, strict=True)}
