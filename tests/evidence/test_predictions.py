"""What networks answered to the test images: as a file, against a record's other numbers, over seeds and images."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fashion_cnn.claims import Between, Equivalent, Higher, Lower
from fashion_cnn.config import CNN
from fashion_cnn.data import FASHION_MNIST
from fashion_cnn.evaluation import scores
from fashion_cnn.evidence import predictions as answers
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.images import Answers, Flips, answers_of, crossed_interval, flips, is_limited, over_images
from fashion_cnn.evidence.predictions import PREDICTIONS, Predictions, PredictionsError, from_bytes, per_class
from fashion_cnn.evidence.record import PUBLISHED_RULES, Record, missing
from fashion_cnn.evidence.statistics import decide
from fashion_cnn.evidence.together import compared, implausible_together
from fashion_cnn.intervals import half_width
from fashion_cnn.study import Study
from tests.support.recorded import record
from tests.support.tampering import rehashed, with_artifact, with_row

STUDY = Study("baseline_study", "Which network?", {"cnn": replace(CNN, epochs=2)})
WHOLE = record(STUDY, "cnn")
LABELS = answers.true_labels()[1]
ANSWERED = from_bytes(WHOLE.artifacts[PREDICTIONS])


def test_the_same_arrays_give_the_same_bytes_and_come_back() -> None:
    content = ANSWERED.to_bytes()
    assert content == Predictions(ANSWERED.classes.copy(), ANSWERED.true_class_probability).to_bytes()
    read = from_bytes(content)
    assert np.array_equal(read.classes, ANSWERED.classes) and read.classes.dtype == np.uint8
    assert np.array_equal(read.true_class_probability, ANSWERED.true_class_probability)  # type: ignore[arg-type]
    with np.load(io.BytesIO(content), allow_pickle=False) as file:  # for anybody with NumPy
        assert file.files == ["classes", "true_class_probability"]


def test_classes_alone_take_little_space_however_they_are_spread() -> None:
    worst = np.random.default_rng(0).integers(10, size=10_000).astype(np.uint8)
    content = Predictions(worst).to_bytes()
    assert len(content) < 6_000 and from_bytes(content).true_class_probability is None


def zipped(**arrays: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array: NDArray[np.generic], shape: str | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=True)
    content = buffer.getvalue()
    return content if shape is None else content.replace(b"(3,)", shape.encode()[:4].ljust(4))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK", "no arrays"),
        (zipped(other=b""), "other arrays"),
        (zipped(classes=npy(np.zeros(3, np.uint8)), more=b""), "other arrays"),
        (zipped(classes=npy(np.zeros(3, np.int64))), "another array"),
        (zipped(classes=npy(np.zeros((3, 1), np.uint8))), "another array"),
        (zipped(classes=npy(np.zeros(3, np.uint8), "(9,)")), "another array"),
        (zipped(classes=npy(np.array([None, None]))), "another array"),
        (zipped(classes=npy(np.zeros(0, np.uint8))), "not of 0 to 9"),
        (zipped(classes=npy(np.full(3, 10, np.uint8))), "not of 0 to 9"),
        (zipped(classes=npy(np.zeros(10**7, np.uint8))), "more than 70,000 images"),
        (Predictions(np.zeros(3, np.uint8), np.zeros(2, np.float32)).to_bytes(), "differ in length"),
        (Predictions(np.zeros(1, np.uint8), np.array([np.nan], np.float32)).to_bytes(), "not of 0 to 1"),
        (Predictions(np.zeros(1, np.uint8), np.array([1.5], np.float32)).to_bytes(), "not of 0 to 1"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(PredictionsError, match=told):
        from_bytes(content)


def test_the_true_classes_are_those_of_the_data_set() -> None:
    for name, labels, images in zip(answers.LABELS, answers.true_labels(), (6000, 1000), strict=True):
        content = gzip.decompress((resources.files("fashion_cnn.evidence") / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == FASHION_MNIST.file_sha256[name]
        assert np.bincount(labels).tolist() == [images] * 10


def test_loss_and_accuracy_are_those_of_the_evaluation() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(10, 0.3), 500).astype(np.float32)
    labels = random.integers(10, size=500).astype(np.uint8)
    scored = scores(probabilities, labels)
    assert answers.loss(probabilities[np.arange(500), labels]) == scored.loss
    table = per_class(probabilities.argmax(axis=1).astype(np.uint8), labels)
    right = sum(table[f"answered {name}"][place] for place, name in enumerate(table["class"]))
    assert right / 500 == scored.accuracy and sum(table["images"]) == 500


class TestARecord:
    def test_of_the_second_format_needs_them(self) -> None:
        (lack,) = missing(with_artifact(WHOLE, PREDICTIONS, None))
        assert lack.field == f"artifacts.{PREDICTIONS}"
        assert missing(record(STUDY, "cnn", format=1)) == []

    def test_needs_the_probabilities_unless_it_is_a_published_one(self) -> None:
        classes = with_artifact(WHOLE, PREDICTIONS, Predictions(ANSWERED.classes).to_bytes())
        assert [lack.field for lack in missing(classes)] == [f"artifacts.{PREDICTIONS}"]
        assert missing(classes, PUBLISHED_RULES) == []

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            (lambda: answered(ANSWERED.classes[::-1]), "test_accuracy"),
            (lambda: answered(swapped()), "per_class.json: T-shirt/top, answered T-shirt/top"),
            (lambda: answered(ANSWERED.classes[:-1]), PREDICTIONS),
            (lambda: answered(ANSWERED.classes, 0.5), "test_loss"),
        ],
    )
    def test_that_says_something_else_is_found_though_all_hashes_fit(
        self, change: Callable[[], Record], field: str
    ) -> None:
        assert field in {one.field for one in contradictions(change())}

    def test_of_a_table_with_more_images_is_found(self) -> None:
        table = json.loads(WHOLE.artifacts["per_class.json"])
        table["data"] = [[row[0], *(10**9 * count for count in row[1:])] for row in table["data"]]
        found = contradictions(rehashed(WHOLE, per_class=table))
        assert [one.field for one in found] == ["per_class.json: T-shirt/top, images", "per_class.json"]

    def test_of_other_images_is_judged_by_its_loss_alone(self) -> None:
        files = {**FASHION_MNIST.file_sha256, answers.LABELS[1]: "0" * 64}
        other = rehashed(answered(ANSWERED.classes[::-1]), trajectory={"data_files": files})
        assert not {"test_accuracy", "test_loss"} & {one.field for one in contradictions(other)}

    def test_of_drawn_images_are_judged_by_the_labels_that_the_seed_draws(self) -> None:
        study = Study("split_study", "Which images?", {"cnn": replace(CNN, epochs=1, split="drawn")})
        drawn = record(study, "cnn", seed=3)
        trajectory, both = drawn.json("trajectory.json"), np.concatenate(answers.true_labels())
        labels = answers.labels_of(trajectory)
        assert labels is not None and not np.array_equal(labels, LABELS) and not contradictions(drawn)
        assert np.array_equal(labels, both[np.sort(np.random.default_rng([3, 0, 1]).permutation(70_000)[60_000:])])
        assert not np.array_equal(labels, answers.tested_labels(study.arms["cnn"], 4))
        assert np.array_equal(LABELS, answers.tested_labels(CNN, 3))

    def test_that_did_not_finish_has_none_to_compare(self) -> None:
        running = with_row(answered(ANSWERED.classes[::-1]), status="RUNNING")
        assert "test_accuracy" not in {one.field for one in contradictions(running)}


def answered(classes: NDArray[np.uint8], factor: float = 1.0) -> Record:
    probability = ANSWERED.true_class_probability
    assert probability is not None
    content = Predictions(classes, probability[: len(classes)] * np.float32(factor)).to_bytes()
    return rehashed(with_artifact(WHOLE, PREDICTIONS, content))


def swapped() -> NDArray[np.uint8]:
    """As many right answers, but of other classes."""
    classes = ANSWERED.classes.copy()
    right = np.flatnonzero((classes == LABELS) & (LABELS == 0))
    wrong = np.flatnonzero((classes != LABELS) & (LABELS > 0))
    classes[right[0]], classes[wrong[0]] = 1, LABELS[wrong[0]]
    return classes


ARMS = ("one", "other")
IMAGES = 2_000


def runs_of(accuracies: tuple[float, float], seeds: int, shared: float) -> tuple[pd.DataFrame, dict[str, Answers]]:
    """Runs that answer at random; a share of the images is answered alike by all seeds of an arm."""
    random, labels = np.random.default_rng(3), np.zeros(IMAGES, np.uint8)
    rows, found = [], {}
    for arm, accuracy in zip(ARMS, accuracies, strict=True):
        same = random.random(IMAGES)
        for seed in range(seeds):
            drawn = np.where(np.arange(IMAGES) < shared * IMAGES, same, random.random(IMAGES))
            classes = (drawn >= accuracy).astype(np.uint8)
            run_id = f"{arm} {seed}"
            found[run_id] = Answers(classes, labels)
            row = {"run_id": run_id, "arm": arm, "seed": str(seed), "epochs_trained": 2.0}
            rows.append({**row, "test_accuracy": float((classes == labels).mean())})
    return pd.DataFrame(rows), found


def test_the_same_weights_with_other_answers_are_found_in_one_environment() -> None:
    other = with_row(answered(swapped()), run_id="0" * 32)
    assert implausible_together([WHOLE, with_row(WHOLE, run_id="0" * 32)]) == {}
    found = implausible_together(map(compared, [WHOLE, other]))
    assert {run_id: [one.field for one in each] for run_id, each in found.items()} == {
        str(WHOLE.row["run_id"]): [PREDICTIONS],
        "0" * 32: [PREDICTIONS],
    }
    assert implausible_together([WHOLE, with_row(other, environment_sha256="1" * 64, trajectory_sha256="2" * 64)]) == {}


class TestOverImages:
    def test_no_spread_gives_an_interval_of_one_point(self) -> None:
        assert crossed_interval(np.zeros((3, 50), np.int8), 0.95) == (0.0, 0.0)
        assert crossed_interval(np.ones((3, 50), np.int8), 0.95) == (1.0, 1.0)

    def test_it_is_as_wide_as_draws_of_seeds_and_images_say(self) -> None:
        random = np.random.default_rng(0)
        n, m, draws = 5, 40, 20_000
        table = (random.random((n, m)) < random.random((n, 1)) * random.random(m)).astype(np.int8)
        seeds = random.multinomial(n, np.full(n, 1 / n), size=draws)
        images = random.multinomial(m, np.full(m, 1 / m), size=draws)
        means = np.einsum("di,ij,dj->d", seeds, table, images) / (n * m)
        low, high = crossed_interval(table, 0.95)
        assert (low + high) / 2 == pytest.approx(table.mean())
        half = half_width(float(means.std()) * n / math.sqrt(n - 1), n)
        assert (high - low) / 2 == pytest.approx(half, rel=0.03)

    def test_images_that_all_seeds_answer_alike_leave_the_error_of_the_images(self) -> None:
        row = np.random.default_rng(0).integers(-1, 2, 400)
        low, high = crossed_interval(np.tile(row, (8, 1)).astype(np.int8), 0.95)
        half = 2.36462425 * row.std() / np.sqrt(400) * np.sqrt(8 / 7)  # t of seven degrees of freedom
        assert (low, high) == pytest.approx((row.mean() - half, row.mean() + half))

    @pytest.mark.parametrize("seeds", [2, 6, 8, 20])
    def test_it_is_no_narrower_than_the_seeds_own(self, seeds: int) -> None:
        random = np.random.default_rng(seeds)
        shift = random.normal(0, 0.05, (seeds, 1))
        table = (random.random((seeds, 2_000)) < 0.5 + shift).astype(np.int8)
        low, high = crossed_interval(table, 0.95)
        means = table.mean(axis=1)
        assert (high - low) / 2 > half_width(float(means.std(ddof=1)), seeds)

    def test_a_difference_that_rests_on_these_images_is_told_as_that(self) -> None:
        claims = (
            Higher("test_accuracy", "one", than="other", says="It is higher."),
            Lower("test_accuracy", "one", than="other", says="It is lower."),
        )
        near, found = runs_of((0.90, 0.895), 10, shared=1.0)
        assert near.groupby("arm")["test_accuracy"].nunique().tolist() == [1, 1]  # over seeds nothing is left open
        higher, lower = over_images(decide(claims, near, 0.05), near, found)
        assert {higher.part.verdict, lower.part.verdict} == {"supported", "contradicted"}
        assert higher.only_these and lower.only_these and higher.low < 0 < higher.high

    def test_a_sentence_says_so_where_its_verdict_rests_on_these_images(self) -> None:
        claims = (
            Higher("test_accuracy", "one", than="other", says="It is higher."),
            Lower("test_accuracy", "one", than="other", says="It is lower."),
            Lower("test_accuracy", "one", than="other", says="It is lower, and far from the same."),
            Equivalent("test_accuracy", "one", to="other", within=1e-9, says="It is lower, and far from the same."),
        )
        near, found = runs_of((0.90, 0.895), 10, shared=1.0)
        sentences = decide(claims, near, 0.05)
        compared = over_images(sentences, near, found)
        assert [sentence.verdict for sentence in sentences if is_limited(sentence, compared)] == [
            sentence.verdict for sentence in sentences
        ]
        # One part that other images would contradict, too, is enough.
        assert not is_limited(sentences[2], [each for each in compared if each.part != sentences[2].parts[0]])

    def test_a_difference_that_other_images_would_show_is_borne_out(self) -> None:
        claims = (
            Higher("test_accuracy", "one", than="other", says="It is higher."),
            Equivalent("test_accuracy", "one", to="other", within=0.01, says="It is the same."),
            Equivalent("test_accuracy", "one", to="other", within=0.5, says="It is not far."),
        )
        far, found = runs_of((0.9, 0.7), 8, shared=0.5)
        parts = over_images(decide(claims, far, 0.05), far, found)
        assert [each.part.verdict for each in parts] == ["supported", "contradicted", "supported"]
        assert not any(each.only_these for each in parts)
        assert (parts[0].n, parts[0].images) == (8, IMAGES)
        assert parts[0].low <= parts[0].part.estimate <= parts[0].high  # type: ignore[operator]

    def test_a_level_that_other_images_might_not_reach_is_told_as_that_too(self) -> None:
        near, found = runs_of((0.90, 0.895), 10, shared=1.0)
        at = float(near["test_accuracy"].max())
        claims = (
            Between("test_accuracy", "one", least=at - 0.001, most=at + 0.001, says="It is about that."),
            Between("test_accuracy", "one", least=at + 0.001, most=1.0, says="It is more."),
            Between("test_accuracy", "one", least=0.5, most=1.0, says="It is at least half."),
        )
        sentences = decide(claims, near, 0.05)
        compared = over_images(sentences, near, found)
        assert [each.verdict for each in sentences] == ["supported", "contradicted", "supported"]
        assert [is_limited(each, compared) for each in sentences] == [True, True, False]

    def test_nothing_is_said_without_answers_or_of_other_measures(self) -> None:
        runs, found = runs_of((0.9, 0.7), 6, shared=0.5)
        claim = Higher("test_accuracy", "one", than="other", says="It is higher.")
        assert over_images(decide([claim], runs, 0.05), runs, {}) == []
        one = {run_id: each for run_id, each in found.items() if run_id.endswith("0")}
        assert over_images(decide([claim], runs, 0.05), runs, one) == []
        epochs = Equivalent("epochs_trained", "one", to="other", within=0.5, says="As long.")
        assert over_images(decide([epochs], runs, 0.05), runs, found) == []

    def test_flips_are_counted_over_all_pairs_of_seeds(self) -> None:
        labels = np.zeros(4, np.uint8)
        table = {"a": [0, 0, 0, 1], "b": [0, 0, 1, 1], "c": [0, 1, 1, 1], "d": [1, 1, 1, 1]}
        found = {run_id: Answers(np.array(classes, np.uint8), labels) for run_id, classes in table.items()}
        runs = pd.DataFrame({"run_id": [*"abcd"], "arm": ["one", "one", "one", "other"], "seed": [*"0120"]})
        assert flips(["one", "other", "none"], runs, found) == [
            Flips("one", n=3, images=4, flipped=float(np.mean([1, 2, 1])), unlike=2, never_right=1),
            Flips("other", n=1, images=4, flipped=None, unlike=0, never_right=4),
        ]

    def test_a_record_without_answers_has_none(self) -> None:
        old = record(STUDY, "cnn", format=1)
        assert answers_of([old]) == {} and [*answers_of([WHOLE])] == [WHOLE.row["run_id"]]
