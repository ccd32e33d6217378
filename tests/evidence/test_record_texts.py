"""The texts of a record, in the one place that writes them."""

from __future__ import annotations

import hashlib
import json

from fashion_cnn.config import DENSE
from fashion_cnn.evidence.record import BASIS, HASHES, MODEL, TABLE_TAGS, TAGS, TEXTS, hashes_text, network_texts, texts

STATE = {"epoch": 1, "loss": 0.5, "weights_sha256": "w" * 64, "ended_at": 7}


def written() -> dict[str, bytes]:
    return texts(
        config=DENSE.canonical(),
        settings=DENSE.training_settings(),
        seed=3,
        hashes={name: name[0] * 64 for name in ("trajectory_sha256", *BASIS)},
        fingerprint={"threads": 1},
        machine={"processor": "p"},
        checkout={"commit": "c", "dirty": False, "remote": None, "diff": "left alone"},
        images=(64, 32),
        files={"data_files": {"a": "b"}, "code_files": {"c": "d"}},
        measured={"fit_seconds": 2.0},
        epochs=[STATE],
        packages=("numpy==2.4.6", "scipy==1.17"),
    )


def test_they_say_how_a_run_was_made() -> None:
    artifacts = written()
    assert json.loads(artifacts["config.json"]) == {**DENSE.canonical(), "seed": 3}
    environment = json.loads(artifacts["environment.json"])
    assert environment["checkout"] == {"commit": "c", "dirty": False, "remote": None}
    assert (environment["sha256"], environment["fingerprint"]) == ("e" * 64, {"threads": 1})
    assert environment["machine"] == {"processor": "p"}
    assert artifacts["requirements.txt"] == b"numpy==2.4.6\nscipy==1.17\n"


def test_the_trajectory_holds_every_epoch_and_all_hashes_in_order() -> None:
    trajectory = json.loads(written()["trajectory.json"])
    names = ["trajectory_sha256", "settings", "seed", *BASIS, "images", "data_files", "code_files", "run", "epochs"]
    assert list(trajectory) == names
    assert trajectory["epochs"] == [STATE] and trajectory["images"] == [64, 32]


def test_the_table_per_class_is_as_mlflow_shows_tables() -> None:
    artifacts = network_texts({"class": ["boot", "shirt"], "images": [2, 3]}, "layers\n")
    table = json.loads(artifacts["per_class.json"])
    assert table == {"columns": ["class", "images"], "data": [["boot", 2], ["shirt", 3]]}
    assert artifacts["model_summary.txt"] == b"layers\n"


def test_a_diff_and_a_traceback_are_there_only_where_there_is_one() -> None:
    assert set(network_texts({}, "")) == {"per_class.json", "model_summary.txt"}
    more = network_texts({}, "", code_diff="diff", traceback="Traceback")
    assert (more["code.diff"], more["traceback.txt"]) == (b"diff", b"Traceback")


def test_the_hashes_list_every_artifact_in_order_and_the_model_last() -> None:
    listed = json.loads(hashes_text({MODEL: b"m", "trajectory.json": b"t", "config.json": b"c"}))
    assert list(listed) == ["config.json", "trajectory.json", MODEL]
    assert listed[MODEL] == hashlib.sha256(b"m").hexdigest()


def test_all_texts_that_evidence_needs_are_written_here() -> None:
    assert set(TEXTS) <= {*written(), *network_texts({}, ""), HASHES}


def test_a_table_shows_no_tag_that_a_record_does_not_have() -> None:
    assert set(TABLE_TAGS) < set(TAGS)
