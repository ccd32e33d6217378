"""A trajectory by the modules that decide numbers alone: what another commit's replay of this one calls.

`python -m fashion_cnn.entry` takes a job as JSON on standard input and prints a JSON object for each epoch. Nothing of
the project is imported but what decides numbers, so a replay can run it with the code of the commit that was recorded.
What it takes and prints must stay as it is, for later commits rely on it. It uses only what the modules had when the
first runs were published, so that it drives the code of those commits as well.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any


def train(job: dict[str, Any]) -> None:
    """Print the epochs of a trajectory, in the order in which they are trained.

    Args:
        job: `settings` (a canonical config), `seed`, `data_dir`, `images` (training and test images, counted from the
            first, or None for all), `epochs`, `device`.
    """
    from fashion_cnn import training
    from fashion_cnn.config import RunConfig
    from fashion_cnn.data import load

    config = RunConfig(**job["settings"])
    data = load(job["data_dir"])
    if job["images"] is not None:
        data = data.first(*job["images"])
    with suppress(ImportError):  # older commits have no configs that say which images
        from fashion_cnn.sample import sampled

        data = sampled(data, config, job["seed"])
    training.set_up_process(config.threads, job["device"])
    trainer = training.Trainer(config, job["seed"], data.train_images, data.train_labels)
    for _ in range(job["epochs"]):
        epoch = trainer.train_epoch()
        evaluation = trainer.evaluate(data.test_images, data.test_labels)
        values = {"epoch": epoch.epoch, "loss": epoch.loss, "accuracy": epoch.accuracy}
        values |= {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}
        print(json.dumps({**values, "weights_sha256": trainer.state().weights_sha256()}), flush=True)


if __name__ == "__main__":
    train(json.load(sys.stdin))
