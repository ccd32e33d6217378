"""docs/python.md does what it says: its code runs from top to bottom in a fresh process, and what came of it holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import REPOSITORY, Lab

pytestmark = pytest.mark.slow

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
AFTERWARDS = """
import json
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled
from fashion_cnn import models, training

pixels = training.as_pixels(data.test_images)
answers = [each.predict(pixels, verbose=0) for each in (tracked.model, network, model)]
builder.fit()
continued, again = ModelBuilder(epochs=1, filters=8, seed=1, track=True), ModelBuilder(epochs=2, filters=8, seed=1)
continued.fit()
continued.fit()
again.fit()
print(json.dumps({
    "same": all(np.array_equal(answers[0], other) for other in answers[1:]),
    "continued": all(map(np.array_equal, continued.model.get_weights(), again.model.get_weights())),
    "tested": [list(tracked.test()), [loss, accuracy]],
    "history": history.history,
    "run": tracked.run_id,
    "deterministic": is_op_determinism_enabled(),
    "figures": [type(figure).__name__ for figure in (scores, curves, maps)],
    "arms": sorted(set(runs["arm"])),
}))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, made_up: Path) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("python"), made_up)
    lab.store()
    return lab


@pytest.fixture(scope="module")
def told(lab: Lab) -> dict[str, Any]:
    """What a process says that ran the page's code, and some more."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*blocks, AFTERWARDS])],
        cwd=lab.folder, env=lab.variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no evidence" not in done.stderr  # what ModelBuilder warns of
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_published_frames_and_the_figures_are_there(told: dict[str, Any], lab: Lab) -> None:
    assert told["arms"] == ["16 filters", "32 filters", "64 filters"]
    assert told["figures"] == ["Figure"] * 3 and (lab.folder / "scores.png").exists()


def test_a_tracked_run_is_recorded_as_a_script_records_it(told: dict[str, Any], lab: Lab) -> None:
    run = lab.runs("ad_hoc").set_index("run_id").loc[told["run"]]
    assert (run["arm"], run["seed"], run["status"]) == ("callback_loss=0.19, epochs=2, filters=8", "1", "FINISHED")
    assert told["tested"] == [[run["test_loss"], run["test_accuracy"]]] * 2
    epochs = lab.store().epochs([told["run"]])
    assert told["history"] == {name: epochs[name].tolist() for name in ("loss", "accuracy")}


def test_the_builder_load_network_and_mlflow_have_the_same_network(told: dict[str, Any]) -> None:
    assert told["same"]


def test_two_tracked_fits_are_the_training_of_one_that_is_as_long(told: dict[str, Any], lab: Lab) -> None:
    assert told["continued"]
    arms = lab.runs("ad_hoc")["arm"].tolist()
    assert {"epochs=1, filters=8", "epochs=2, filters=8"} <= set(arms)


def test_afterwards_the_process_is_as_plain_keras_needs_it(told: dict[str, Any]) -> None:
    assert told["deterministic"] is False


def test_a_plain_fit_is_in_the_store_and_no_run(told: dict[str, Any], lab: Lab) -> None:
    client = lab.store().client
    (experiment,) = [each.experiment_id for each in client.search_experiments() if each.name == "ad_hoc"]
    (plain,) = client.search_runs([experiment], "tags.evidence = 'none'")
    assert (plain.info.run_name, plain.info.status) == ("one layer", "FINISHED")
    assert {"loss", "test_loss", "test_accuracy", "epoch_seconds", "fit_seconds"} <= set(plain.data.metrics)
    assert "one layer" not in lab.runs()["arm"].tolist()
