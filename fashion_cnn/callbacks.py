"""Keras callbacks around an epoch that is one compiled call: the loop that calls them, and the post's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from fashion_cnn.training import Epoch, Trainer, TrainingError

BATCH_HOOKS = (
    *("on_batch_begin", "on_batch_end"),
    *("on_train_batch_begin", "on_train_batch_end"),
    *("on_test_batch_begin", "on_test_batch_end"),
    *("on_predict_batch_begin", "on_predict_batch_end"),
)


def train(trainer: Trainer, epochs: int, callbacks: Sequence[Any] = ()) -> Iterator[Epoch]:
    """Train epoch by epoch, from the trainer's state up to an epoch, calling Keras callbacks in between.

    Args:
        trainer: its state moves on.
        epochs: the last epoch, counted from 1.
        callbacks: Keras callbacks. Their train and epoch hooks are called, with `loss` and `accuracy`; setting
            `model.stop_training` ends the training.

    Yields:
        Each epoch, after the callbacks have seen it.

    Raises:
        TrainingError: a callback has batch hooks, which a compiled epoch cannot call.
    """
    for callback in callbacks:
        for hook in BATCH_HOOKS:
            method = getattr(callback, hook, None)  # its class' or, as LambdaCallback has it, its own
            if getattr(method, "__func__", method) is not getattr(keras.callbacks.Callback, hook):
                raise TrainingError(
                    f"{type(callback).__name__}.{hook} cannot be called: an epoch is one compiled call. "
                    "Use epoch hooks, or Keras' own model.fit"
                )
    hooks = keras.callbacks.CallbackList(list(callbacks), model=trainer.model, epochs=epochs)
    trainer.model.stop_training = False
    hooks.on_train_begin()
    logs: dict[str, float] = {}
    while trainer.epoch < epochs and not trainer.model.stop_training:
        hooks.on_epoch_begin(trainer.epoch)
        epoch = trainer.train_epoch()
        logs = {"loss": epoch.loss, "accuracy": epoch.accuracy}
        hooks.on_epoch_end(epoch.epoch - 1, logs)
        yield epoch
    hooks.on_train_end(logs)


class StopAtLoss(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Stops after the first epoch whose training loss is below a value, and says so; works in `model.fit`, too.

    Attributes:
        loss: the value to fall below.
        stopped_epoch: the last epoch trained, counted from 1, where it stopped; else None.
    """

    def __init__(self, loss: float) -> None:
        """Stop below this training loss."""
        super().__init__()
        self.loss = loss
        self.stopped_epoch: int | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Forget an earlier training's stop."""
        self.stopped_epoch = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop if the loss is below the value. Keras counts this epoch from 0."""
        loss = (logs or {}).get("loss", math.inf)
        if loss < self.loss:
            self.stopped_epoch = epoch + 1
            self.model.stop_training = True
            epochs = "1 epoch" if epoch == 0 else f"{epoch + 1} epochs"
            print(f"Stopped after {epochs}: training loss {loss:.4f} is below {self.loss:g}")
