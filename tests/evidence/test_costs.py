"""What arms cost and when they reached a test accuracy; what more images bring."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy.stats

from fashion_cnn.config import CNN, DENSE, RunConfig
from fashion_cnn.evidence.costs import costs, seconds_to
from fashion_cnn.evidence.sizes import compared_sizes, doublings
from fashion_cnn.study import Study

EPOCHS = pd.DataFrame(
    {
        "run_id": ["a"] * 3 + ["b"] * 2,
        "epoch": [3, 1, 2, 1, 2],
        "test_accuracy": [0.89, 0.85, 0.9, 0.8, 0.89],
        "epoch_cpu_seconds": [4.0, 1.0, 2.0, 1.0, 1.0],
    }
)


def run(run_id: str, arm: str, config: RunConfig, seed: int = 0, **changed: float) -> dict[str, object]:
    scores = {"test_accuracy": 0.9, "test_loss": 0.3, "fit_cpu_seconds": 7.0, "other_load": 0.0, **changed}
    return {"run_id": run_id, "arm": arm, "seed": str(seed), "config_sha256": config.sha256(), **scores}


def test_the_seconds_to_a_target_end_with_the_first_epoch_that_reached_it() -> None:
    assert seconds_to(EPOCHS, 0.9) == {"a": 3.0}
    assert seconds_to(EPOCHS, 0.8) == {"a": 1.0, "b": 1.0}
    assert seconds_to(EPOCHS, 0.95) == {}


def test_arms_of_one_config_are_one_and_a_run_that_never_reached_the_target_is_infinite() -> None:
    five = replace(CNN, epochs=5)
    first, second = Study("first", "?", {"cnn": five, "dense": DENSE}), Study("second", "?", {"5 epochs": five})
    chosen = {
        "first": pd.DataFrame([run("a", "cnn", five), run("b", "dense", DENSE)]),
        "second": pd.DataFrame([run("c", "5 epochs", five), run("d", "5 epochs", five, seed=1, other_load=1.0)]),
    }
    found = costs([first, second], chosen, EPOCHS)
    assert found["arm"].tolist() == ["cnn = 5 epochs", "dense", "cnn = 5 epochs"]
    assert found["seconds_to_target"].tolist()[:2] == [3.0, math.inf]
    assert found.loc[2].isna()[["fit_cpu_seconds", "seconds_to_target"]].all()  # d ran beside other work
    assert found["test_accuracy"].tolist() == [0.9] * 3


def test_a_seed_that_an_arm_lacks_costs_no_other_arm_anything() -> None:
    study, slow = Study("one", "?", {"cnn": CNN, "dense": DENSE}), {"fit_cpu_seconds": 14.0}
    cnn = run("a", "cnn", CNN), run("b", "cnn", CNN, 1, **slow)
    dense = run("c", "dense", DENSE), run("d", "dense", DENSE, 1, other_load=1.0, **slow)
    frame = pd.DataFrame([*cnn, *dense])
    found = costs([study], {"one": frame}, EPOCHS)
    assert found["fit_cpu_seconds"].dropna().tolist() == [7.0, 7.0] and len(found["test_accuracy"].dropna()) == 4
    apart = frame.assign(seed=[*"0123"], other_load=0.0)  # no seed is of both: each arm has its own
    assert len(costs([study], {"one": apart}, EPOCHS)) == 4


def test_arms_with_other_test_images_are_no_part_of_the_costs() -> None:
    drawn = replace(CNN, split="drawn")
    study = Study("split", "?", {"given": CNN, "drawn": drawn})
    frame = pd.DataFrame([run("a", "given", CNN), run("b", "drawn", drawn)])
    assert costs([study], {"split": frame}, EPOCHS)["arm"].tolist() == ["given"]


SIZES = {f"{size:,} images": replace(CNN, training_images=size) for size in (15_000, 30_000, 60_000)}
LONGER = {
    f"{size:,}, equal steps": replace(CNN, training_images=size, epochs=600_000 // size) for size in (15_000, 30_000)
}
MIRROR = {"mirrored": replace(CNN, augmentation="mirror", epochs=5)}
STUDY = Study("data_study", "?", {**SIZES, **LONGER, **MIRROR, "dense": DENSE})


def scores(noise: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        run("", arm, config, seed, test_accuracy=0.9 + 0.01 * math.log2(config.training_images) + noise * rng.normal())
        for arm, config in STUDY.arms.items()
        for seed in range(5)
    ]
    return pd.DataFrame(rows)


def test_sizes_are_compared_at_equal_epochs_and_at_equal_steps() -> None:
    found = compared_sizes(STUDY, scores(0.0))
    groups = {words: list(dict.fromkeys(part["arm"])) for words, part in found.groupby("comparison", sort=False)}
    assert groups == {
        "Equal epochs (10 each)": list(SIZES),
        "Equal steps (about 18,750 each)": ["60,000 images", *LONGER, *MIRROR],
    }
    mirrored = found[found["mirrored"]]
    assert set(mirrored["arm"]) == {"mirrored"} and set(mirrored["images"]) == {120_000}
    assert compared_sizes(Study("other", "?", {"cnn": CNN, "dense": DENSE}), scores(0.0)).empty


def test_the_gain_of_a_doubling_is_the_mean_slope_over_seeds_with_its_interval() -> None:
    frame = scores(0.002)
    table = frame.pivot_table(index="seed", columns="arm", values="test_accuracy")[list(SIZES)]
    slopes = [float(np.polyfit(np.log2([15_000, 30_000, 60_000]), row, 1)[0]) for row in table.to_numpy()]
    low, high = scipy.stats.t.interval(0.95, 4, np.mean(slopes), scipy.stats.sem(slopes))
    said = doublings(compared_sizes(STUDY, frame))
    each = f"Equal epochs (10 each): from 15,000 to 60,000 images, a doubling went with {np.mean(slopes):+.4f} "
    assert said.startswith(f"{each}({low:+.4f} to {high:+.4f}) test accuracy, the last, from 30,000, with ")
    assert said.endswith("More than 60,000 images were not measured: what twice as many would bring is not known.")
    assert said.count("(5 seeds)") == 2


def test_one_seed_or_one_size_says_nothing_of_doublings() -> None:
    compared = compared_sizes(STUDY, scores(0.0))
    assert doublings(compared[compared["seed"] == "0"]) == ""
    assert doublings(compared[compared["images"] == 60_000]) == ""
    assert doublings(compared.iloc[:0]) == ""
