"""Where a record contradicts itself: each part of it is compared with what the other parts say. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from fashion_cnn.architecture import parameter_count
from fashion_cnn.config import MAX_SEED, hash_of, trajectory_sha256
from fashion_cnn.evidence.plausibility import implausible
from fashion_cnn.evidence.predictions import (
    PREDICTIONS,
    Predictions,
    PredictionsError,
    from_bytes,
    labels_of,
    loss,
    per_class,
    table_differences,
)
from fashion_cnn.evidence.record import (
    BASIS,
    EPOCH_METRICS,
    HASHES,
    PER_CLASS,
    RUN_METRICS,
    Contradiction,
    Record,
    absent,
    too_new,
    whole_number,
)
from fashion_cnn.sources import files_sha256


def contradictions(record: Record) -> list[Contradiction]:
    """Where a record contradicts itself, or what training gives; what is missing or newer is a matter of `missing`."""
    if too_new(record.row):
        return []
    parts = (
        *(_of_config, _of_environment, _of_packages, _of_trajectory, _of_ending, _of_predictions, _of_hashes),
        implausible,
    )
    return [contradiction for part in parts for contradiction in part(record)]


def _differ(name: str, recorded: Any, other: Any, where: str, epoch: int | None = None) -> Iterator[Contradiction]:
    # A NaN on the other side speaks against a value: it is not "nothing", though it compares as false.
    if not absent(recorded) and other is not None and recorded != other:
        yield Contradiction(name, epoch, str(recorded), f"{where} says {other}")


def _same(
    names: Iterable[str], recorded: Mapping[str, Any], other: Mapping[str, Any], where: str, epoch: int | None = None
) -> Iterator[Contradiction]:
    """As `_differ`, of what two mappings hold under the same names."""
    for name in names:
        yield from _differ(name, recorded.get(name), other.get(name), where, epoch)


def _far(name: str, recorded: Any, other: float | None, where: str) -> Iterator[Contradiction]:
    """As `_differ`, but for values that were computed in another way: these may be rounded otherwise."""
    if other is None or not math.isclose(_number(recorded), other, rel_tol=1e-9):
        yield from _differ(name, recorded, other, where)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _of_config(record: Record) -> Iterator[Contradiction]:
    row, config = record.row, record.config()
    if config is None:
        yield Contradiction("params", None, "no allowed config", "a run has one")
        return
    yield from _differ("config_sha256", row.get("config_sha256"), config.sha256(), "the hash of the params")
    stored = record.json("config.json")
    if isinstance(stored, dict):
        yield from _differ("seed", row.get("seed"), _text(stored.pop("seed", None)), "config.json")
        values = config.canonical()
        for name in sorted({*values, *stored}):
            yield from _differ(name, values.get(name, "nothing"), stored.get(name, "nothing"), "config.json")
    yield from _differ("parameters", whole_number(row.get("parameters")), parameter_count(config), "the config")
    seed, identity = whole_number(row.get("seed")), {name: str(row.get(name)) for name in BASIS}
    if seed is not None and seed <= MAX_SEED:
        named = trajectory_sha256(config, seed, **identity)
        where = "the hash of config, seed, data, code and environment"
        yield from _differ("trajectory_sha256", row.get("trajectory_sha256"), named, where)


def _of_environment(record: Record) -> Iterator[Contradiction]:
    row, environment, where = record.row, record.json("environment.json"), "environment.json"
    if not isinstance(environment, dict):
        return
    with suppress(ValueError):  # what is not canonical JSON is the artifact's own matter
        fingerprint = environment.get("fingerprint")
        if isinstance(fingerprint, dict):
            computed = hash_of(fingerprint)
            yield from _differ("environment_sha256", row.get("environment_sha256"), computed, f"the hash of {where}")
            yield from _differ("arithmetic", row.get("arithmetic"), fingerprint.get("arithmetic"), where)
    checkout = environment.get("checkout")
    if isinstance(checkout, dict):
        dirty = checkout.get("dirty")
        stated = str(dirty).lower() if isinstance(dirty, bool) else None
        yield from _differ("git_commit", row.get("git_commit"), checkout.get("commit"), where)
        yield from _differ("git_dirty", row.get("git_dirty"), stated, where)
    if row.get("git_dirty") == "false" and record.artifacts.get("code.diff"):
        yield Contradiction("git_dirty", None, "false", "code.diff has changes")


def _of_packages(record: Record) -> Iterator[Contradiction]:
    """The versions that `requirements.txt` lists against those that the environment's hash is of."""
    environment, listed = record.json("environment.json"), record.artifacts.get("requirements.txt", b"")
    fingerprint = environment.get("fingerprint") if isinstance(environment, dict) else None
    if not isinstance(fingerprint, dict):
        return
    pinned = [line.strip().partition("==") for line in listed.decode(errors="replace").splitlines()]
    for name, _, version in pinned:
        if name in ("keras", "numpy", "tensorflow"):
            yield from _differ(f"requirements.txt, {name}", version, fingerprint.get(name), "environment.json")


def _of_trajectory(record: Record) -> Iterator[Contradiction]:
    row, trajectory, where = record.row, record.json("trajectory.json"), "trajectory.json"
    if not isinstance(trajectory, dict):
        return
    yield from _same(("trajectory_sha256", *BASIS), row, trajectory, where)
    yield from _differ("seed", row.get("seed"), _text(trajectory.get("seed")), where)
    config, settings = record.config(), trajectory.get("settings")
    if config is not None and isinstance(settings, dict):
        for name, value in config.training_settings().items():
            yield from _differ(name, value, settings.get(name, "nothing"), where)
    yield from _of_parts(trajectory)
    measured = trajectory.get("run")
    if isinstance(measured, dict):
        yield from _same(RUN_METRICS, row, measured, where)
    states = record.states()
    yield from _differ("epochs_trained", row.get("epochs_trained"), float(len(states)), f"{where}, by its epochs,")
    if len(record.epochs) > len(states):
        yield Contradiction("epochs", None, str(len(record.epochs)), f"{where} has {len(states)}")
    for number, (epoch, state) in enumerate(zip(record.epochs, states, strict=False), start=1):
        yield from _same(("epoch", *EPOCH_METRICS), epoch, state, where, number)
    if states:
        yield from _same(["weights_sha256"], row, states[-1], where)


def _of_parts(trajectory: Mapping[str, Any]) -> Iterator[Contradiction]:
    """The hashes of data and code against those of their files."""
    for name, files in (("data_sha256", "data_files"), ("code_sha256", "code_files")):
        parts, images = trajectory.get(files), trajectory.get("images")
        if not isinstance(parts, dict) or not parts:
            continue
        whole = files_sha256(parts)
        if name == "data_sha256" and isinstance(images, list) and len(images) == 2:
            whole = first_images_sha256(whole, *images)
        yield from _differ(name, trajectory.get(name), whole, f"the hash of its {files}")


def first_images_sha256(data_sha256: str, train: Any, test: Any) -> str:
    """The hash of a data set's first images, as `data.Dataset.first` takes it."""
    return hashlib.sha256(f"{data_sha256} first {train} {test}\n".encode()).hexdigest()


def _of_ending(record: Record) -> Iterator[Contradiction]:
    row, epochs, config = record.row, record.epochs, record.config()
    if not epochs or row.get("status") != "FINISHED":
        return
    yield from _same(EPOCH_METRICS, row, epochs[-1], "the last epoch")
    for name, part in (("fit_seconds", "epoch_seconds"), ("fit_cpu_seconds", "epoch_cpu_seconds")):
        total = sum(_number(epoch.get(part)) for epoch in epochs)
        yield from _far(name, row.get(name), total, "the sum over the epochs")
    losses = [_number(epoch.get("loss")) for epoch in epochs]
    if config is not None:
        cut = config.cut(losses)
        computed = "none of these epochs" if cut is None else f"epoch {cut.epoch} by {cut.reason}"
        recorded = f"epoch {len(epochs)} by {row.get('stop_reason')}"
        yield from _differ("the stop", recorded, computed, "the stopping rule")
    table = record.json(PER_CLASS)
    if isinstance(table, dict):
        yield from _far("test_accuracy", row.get("test_accuracy"), _right(table), PER_CLASS)


def _right(table: Mapping[str, Any]) -> float | None:
    """The share of images that the confusion matrix in a `per_class.json` has on its diagonal."""
    try:
        columns = {name: place for place, name in enumerate(table["columns"])}
        rows = table["data"]
        right = sum(row[columns[f"answered {row[columns['class']]}"]] for row in rows)
        return float(right / sum(row[columns["images"]] for row in rows))
    except (KeyError, TypeError, IndexError, ArithmeticError):
        return None


def _of_predictions(record: Record) -> Iterator[Contradiction]:
    """What was answered to the test images against the scores and the table that were taken from it."""
    predicted = _predicted(record)
    if predicted is None or record.row.get("status") != "FINISHED":
        return
    labels, probability = labels_of(record.json("trajectory.json")), predicted.true_class_probability
    if probability is not None:
        yield from _far("test_loss", record.row.get("test_loss"), loss(probability), PREDICTIONS)
    if labels is None:
        return
    if len(labels) != len(predicted.classes):
        told = f"{len(labels)} images were tested"
        yield Contradiction(PREDICTIONS, None, f"{len(predicted.classes)} images", told)
        return
    share = float((predicted.classes == labels).mean())
    yield from _far("test_accuracy", record.row.get("test_accuracy"), share, PREDICTIONS)
    table = record.json(PER_CLASS)
    if isinstance(table, dict):
        for cell, stated, counted in table_differences(table, per_class(predicted.classes, labels))[:1]:
            yield Contradiction(f"{PER_CLASS}: {cell}", None, f"{stated!r:.80}", f"by {PREDICTIONS} it is {counted!r}")


def _predicted(record: Record) -> Predictions | None:
    try:
        return from_bytes(record.artifacts[PREDICTIONS])
    except (KeyError, PredictionsError):  # a matter of `missing`
        return None


def _of_hashes(record: Record) -> Iterator[Contradiction]:
    if HASHES not in record.artifacts:
        return
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in record.artifacts.items()}
    yield from _differ("artifacts_sha256", record.row.get("artifacts_sha256"), digests.pop(HASHES), HASHES)
    listed = record.json(HASHES)
    if not isinstance(listed, dict):
        return
    for name, digest in listed.items():
        if name in digests:
            yield from _differ(name, digest, digests[name], "the artifact's own SHA-256")
        elif record.whole:
            yield Contradiction(name, None, str(digest), "the artifact is not there")
    for name in sorted({*digests} - {*listed}) if record.whole else ():
        yield Contradiction(name, None, "not in hashes.json", "the artifact is there")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
