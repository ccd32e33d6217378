"""A bundle holds what was recorded, is the same bytes each time, and every change to it is found and named."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import STUDIES
from fashion_cnn.claims import Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.config import CNN, DENSE, hash_of
from fashion_cnn.data import FASHION_MNIST_SHA256
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import Record, missing
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import COLUMNS, EPOCH_COLUMNS, BundleError, from_csv, from_json, to_csv, to_json
from fashion_cnn.reports import page as report
from fashion_cnn.review import archive
from fashion_cnn.review.archive import ArchiveError
from fashion_cnn.review.bundle import study_of, study_values
from fashion_cnn.review.pack import manifest, pack
from fashion_cnn.review.verify import Outcome, verify
from fashion_cnn.study import Study
from tests.conftest import answer, python
from tests.support.command import REPOSITORY, Lab
from tests.support.recorded import COMMIT, CURVES, put, record

Files = dict[str, bytes]

STUDY = Study(
    "made_up_study",
    "Is it made up?",
    {
        "dense": replace(DENSE, epochs=3),
        "cnn": replace(CNN, epochs=3),
        "longer": replace(CNN, epochs=5),
        "stops": replace(CNN, callback_loss=0.19),
    },
    claims=(
        Higher("test_accuracy", "cnn", than="dense", says="It is better."),
        Lower("test_loss", "cnn", than="dense", says="It is better."),
        Equivalent("test_accuracy", "longer", to="cnn", within=0.1, says="More is the same."),
        Stops("stops", before=10, says="It stops."),
        NotTested("More data would help.", "there are no more"),
    ),
)
SMALL = Study("small_study", "Is it small?", {"cnn": replace(CNN, epochs=2)}, claims=STUDY.claims[-1:])
LOCK = b"numpy==2.4.6\n"
POST = b"""\
study,arm,epoch,epoch_seconds,loss,accuracy,test_loss,test_accuracy
made_up_study,cnn,1,14,0.61,0.81,,
made_up_study,cnn,2,14,0.31,0.82,,
made_up_study,cnn,3,14,0.21,0.83,0.26,0.85
"""
SEEDS = 6
TOKEN = "tok-3f9a1c77d2e84b65"


def records(study: Study = STUDY, seeds: int = SEEDS, **settings: Any) -> list[Record]:
    return [record(study, arm, seed, **settings) for arm in study.arms for seed in range(seeds)]


def packed(*selections: Selection) -> bytes:
    return pack(selections, lock=LOCK, post=POST)


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return packed(Selection(STUDY, records(), [("smoke run", 2)]))


@pytest.fixture(scope="module")
def small() -> bytes:
    return packed_small()


def packed_small() -> bytes:
    return packed(Selection(SMALL, records(SMALL, 1), []))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes the time of packing, where a test does not look at it."""
    monkeypatch.setattr(report, "render", lambda *_, **__: "")
    monkeypatch.setattr(report, "study_figures", lambda _: {})


def files_of(content: bytes) -> Files:
    return dict(archive.unpack(content).files)


def zipped(files: Files) -> bytes:
    return archive.pack(files, 0)


def sealed(files: Files) -> bytes:
    """As who tampers would pack them: the description's hashes and the manifest are made to fit."""
    crate = json.loads(files["ro-crate-metadata.json"])
    for one in crate["@graph"]:
        if one["@type"] == "File" and one["@id"] in files and "sha256" in one:
            content = files[one["@id"]]
            one |= {"sha256": hashlib.sha256(content).hexdigest(), "contentSize": str(len(content))}
    files["ro-crate-metadata.json"] = to_json(crate)
    files["manifest.json"] = manifest({name: content for name, content in files.items() if name != "manifest.json"})
    return zipped(files)


def table(files: Files, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[name].decode())))


def save_table(files: Files, name: str, rows: list[dict[str, str]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files[name] = buffer.getvalue().encode()


def first_run(files: Files) -> str:
    return table(files, "runs.csv")[0]["run_id"]


def next_number(number: str) -> str:
    """The least change that a number can have."""
    return repr(math.nextafter(float(number), math.inf))


def said(outcome: Outcome) -> str:
    return "\n".join(map(str, outcome.findings))


# -- what a bundle is ------------------------------------------------------------------------------------------------


def test_the_made_up_records_are_complete_and_at_one_with_themselves() -> None:
    for one in records(diff="+ a line\n"):
        assert [str(found) for found in (*missing(one), *contradictions(one))] == []


def test_a_bundle_holds(bundle: bytes) -> None:
    outcome = verify(bundle)
    assert said(outcome) == ""
    assert outcome.holds
    assert (outcome.runs, outcome.studies) == (len(STUDY.arms) * SEEDS, ("made_up_study",))
    assert outcome.sha256 == hashlib.sha256(bundle).hexdigest()
    assert dict(outcome.verdicts) == {"supported": 3, "not tested": 1}


def test_it_has_every_part_that_a_reviewer_needs(bundle: bytes) -> None:
    files = files_of(bundle)
    run_id = first_run(files)
    artifacts = ("config", "environment", "trajectory", "hashes", "per_class")
    assert {
        *("README.txt", "manifest.json", "ro-crate-metadata.json", "studies.json", "runs.csv", "epochs.csv"),
        *("claims.json", "left_out.json", "report.html", "requirements.lock", "post_results.csv"),
        *(f"figures/made_up_study/{name}.svg" for name in ("scores", "curves", "seconds")),
        *(f"records/{run_id}/{name}.json" for name in artifacts),
        *(f"records/{run_id}/{name}.txt" for name in ("requirements", "model_summary")),
    } <= set(files)
    assert files["requirements.lock"] == LOCK
    assert from_json(files["left_out.json"]) == {"made_up_study": {"smoke run": 2}}
    assert COMMIT in files["README.txt"].decode()
    assert "smoke run (2)" in files["README.txt"].decode()


def test_large_artifacts_are_left_out_and_their_hashes_are_in(bundle: bytes) -> None:
    files = files_of(bundle)
    assert not [name for name in files if name.endswith(CURVES)]
    assert CURVES in from_json(files[f"records/{first_run(files)}/hashes.json"])


def test_the_manifest_lists_every_file_but_itself(bundle: bytes) -> None:
    files = files_of(bundle)
    listed = from_json(files["manifest.json"])["files"]
    assert set(listed) == set(files) - {"manifest.json"}
    assert all(one["sha256"] == hashlib.sha256(files[name]).hexdigest() for name, one in listed.items())


def test_another_process_packs_the_same_records_into_the_same_bytes(small: bytes) -> None:
    code = (
        "import hashlib, json, tests.test_bundle as t; print(json.dumps(hashlib.sha256(t.packed_small()).hexdigest()))"
    )
    assert answer(python(code)) == hashlib.sha256(small).hexdigest()


def test_every_date_comes_from_the_records(bundle: bytes) -> None:
    newest = max(int(row["end_time"]) for row in table(files_of(bundle), "runs.csv"))
    assert 1_795_000_000_000 < newest < 1_795_001_000_000  # 2026-11-18, from 11:06 UTC on
    entries = zipfile.ZipFile(io.BytesIO(bundle)).infolist()
    assert {entry.date_time[:4] for entry in entries} == {(2026, 11, 18, 11)}
    files = files_of(bundle)
    crate = from_json(files["ro-crate-metadata.json"])["@graph"]
    dates = [value for one in crate for key, value in one.items() if key in ("datePublished", "startTime", "endTime")]
    assert len(dates) == 1 + 2 * len(STUDY.arms) * SEEDS
    assert all(date.startswith("2026-11-18T11:") for date in dates)
    assert "the newest of 2026-11-18 11:1" in files["report.html"].decode()


def test_without_a_complete_record_there_is_no_bundle_and_the_reasons_are_told() -> None:
    with pytest.raises(BundleError, match=r"no complete record to bundle \(made_up_study: smoke run \(3\)\)") as error:
        packed(Selection(STUDY, [], [("smoke run", 3)]))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_records_is_told_and_the_others_are_packed() -> None:
    content = packed(Selection(STUDY, [], [("not finished", 1)]), Selection(SMALL, records(SMALL, 1), []))
    outcome = verify(content)
    assert outcome.holds and outcome.studies == ("small_study",)
    assert from_json(files_of(content)["left_out.json"])["made_up_study"] == {"not finished": 1}


@pytest.mark.parametrize("study", [STUDY, *STUDIES], ids=lambda study: study.name)
def test_a_study_comes_back_from_its_values(study: Study) -> None:
    assert study_of(study.name, from_json(to_json(study_values(study)))) == study


@given(value=st.floats(allow_nan=False, allow_infinity=False), text=st.text(st.characters(codec="utf-8")))
def test_tables_keep_every_digit_and_every_letter(value: float, text: str) -> None:
    columns = {"text": "text", "real": "real", "whole": "whole"}
    rows = [{"text": text or None, "real": value, "whole": 7}, {"text": None, "real": None, "whole": None}]
    assert from_csv(to_csv(rows, columns), columns) == rows  # type: ignore[arg-type]  # of literals


@pytest.mark.parametrize("cell", ["0.10", "1e-1", "0.1_0", " 0.1", "x", "1,5"])
def test_a_number_is_read_only_as_it_is_written(cell: str) -> None:
    with pytest.raises(BundleError, match=r"row 2: real is .* no number in full precision"):
        from_csv(f'real\n"{cell}"\n'.encode(), {"real": "real"})


# -- described for other programs --------------------------------------------------------------------------------------


def graph(content: bytes) -> dict[str, dict[str, Any]]:
    return {one["@id"]: one for one in from_json(files_of(content)["ro-crate-metadata.json"])["@graph"]}


def test_another_programs_reader_takes_the_description(bundle: bytes) -> None:
    from rocrate.rocrate import ROCrate

    crate = ROCrate(json.loads(files_of(bundle)["ro-crate-metadata.json"]))
    actions = crate.root_dataset["mentions"]
    assert len(actions) == len(STUDY.arms) * SEEDS
    assert {action["instrument"]["softwareVersion"] for action in actions} == {COMMIT}
    assert {action["object"][0]["sha256"] for action in actions} == {FASHION_MNIST_SHA256}
    assert all(any(one.id.endswith("/trajectory.json") for one in action["result"]) for action in actions)


def test_it_names_its_profile_a_licence_and_no_people(bundle: bytes) -> None:
    entities = graph(bundle)
    assert entities["./"]["conformsTo"] == {"@id": "https://w3id.org/ro/wfrun/process/0.5"}
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    assert {"Person", "Organization"}.isdisjoint(one["@type"] for one in entities.values())
    assert not any("agent" in one or "author" in one for one in entities.values())


def test_a_run_is_described_with_the_command_that_makes_it_again(bundle: bytes) -> None:
    action = graph(bundle)[f"#{record(STUDY, 'stops', 3).row['run_id']}"]
    assert action["description"] == "fashion-cnn run made_up_study --arms stops --first-seed 3"
    assert action["name"] == "made_up_study: stops, seed 3"


@pytest.mark.usefixtures("undrawn")
def test_where_the_repository_is_and_what_was_changed_are_told_where_known() -> None:
    changed = [record(SMALL, "cnn", remote="https://example.org/fashion-cnn", diff="+ a line\n")]
    content = packed(Selection(SMALL, changed, []))
    software = next(one for one in graph(content).values() if one["@type"] == "SoftwareApplication")
    assert software["url"] == "https://example.org/fashion-cnn"
    assert "changed" in software["description"]
    files = files_of(content)
    assert files[f"records/{first_run(files)}/code.diff"] == b"+ a line\n"
    assert f"{COMMIT} (changed)" in files["README.txt"].decode()
    assert verify(content).holds


# -- what does not hold is named ---------------------------------------------------------------------------------------


def test_a_changed_an_added_and_a_removed_file_are_named(bundle: bytes) -> None:
    files = files_of(bundle)
    files["README.txt"] += b"Trust me.\n"
    files["notes.txt"] = b""
    del files["report.html"]
    outcome = verify(zipped(files))
    lines = said(outcome)
    assert "README.txt: changed: its SHA-256 is" in lines
    assert "notes.txt: added: manifest.json does not list it" in lines
    assert "report.html: removed: manifest.json lists it" in lines
    assert not outcome.holds


def test_a_bit_that_flipped_on_the_way_is_named(bundle: bytes) -> None:
    content = bytearray(bundle)
    content[content.index(b"a bundle of recorded runs")] ^= 1
    assert "README.txt: changed: it is damaged (Bad CRC-32" in said(verify(bytes(content)))


def test_another_hash_or_size_in_the_manifest_is_named(bundle: bytes) -> None:
    for key, value, told in (("sha256", "0" * 64, "manifest.json says 000"), ("bytes", 5, "manifest.json says 5")):
        files = files_of(bundle)
        values = from_json(files["manifest.json"])
        values["files"]["runs.csv"][key] = value
        files["manifest.json"] = to_json(values)
        assert f"runs.csv: changed: its SHA-256 is {hashlib.sha256(files['runs.csv']).hexdigest()}" in said(
            verify(zipped(files))
        ) or told in said(verify(zipped(files)))
        assert told in said(verify(zipped(files)))


def test_a_file_that_every_bundle_has_is_missed_even_if_the_manifest_does_not_list_it(bundle: bytes) -> None:
    files = files_of(bundle)
    del files["claims.json"]
    assert "claims.json: missing: every bundle has it" in said(verify(sealed(files)))


Tampering = Callable[[Files], None]


def in_runs(column: str, change: Callable[[str], str]) -> Tampering:
    def tamper(files: Files) -> None:
        rows = table(files, "runs.csv")
        before = rows[0][column]
        rows[0][column] = change(before)
        assert rows[0][column] != before
        save_table(files, "runs.csv", rows)

    return tamper


def in_epochs(column: str, change: Callable[[str], str]) -> Tampering:
    def tamper(files: Files) -> None:
        rows = table(files, "epochs.csv")
        rows[1][column] = change(rows[1][column])
        save_table(files, "epochs.csv", rows)

    return tamper


def in_artifact(name: str, change: Callable[[Any], None], *, hidden: int = 0) -> Tampering:
    """Change a JSON artifact of the first run; hide it from the run's hashes (1), and these from their tag (2)."""

    def tamper(files: Files) -> None:
        folder = f"records/{first_run(files)}"
        value = from_json(files[f"{folder}/{name}"])
        change(value)
        files[f"{folder}/{name}"] = (json.dumps(value, indent=1) + "\n").encode()
        if hidden:
            hashes = from_json(files[f"{folder}/hashes.json"])
            hashes[name] = hashlib.sha256(files[f"{folder}/{name}"]).hexdigest()
            files[f"{folder}/hashes.json"] = (json.dumps(hashes, indent=1) + "\n").encode()
        if hidden == 2:
            digest = hashlib.sha256(files[f"{folder}/hashes.json"]).hexdigest()
            in_runs("artifacts_sha256", lambda _: digest)(files)

    return tamper


def in_json(name: str, change: Callable[[Any], None]) -> Tampering:
    def tamper(files: Files) -> None:
        value = from_json(files[name])
        change(value)
        files[name] = json.dumps(value).encode()

    return tamper


def without_rows(files: Files) -> None:
    save_table(files, "runs.csv", table(files, "runs.csv")[1:])


def without_a_trace(files: Files) -> None:
    """Remove a run from everywhere."""
    run_id = first_run(files)
    for name in [name for name in files if run_id in name]:
        del files[name]
    for name in ("runs.csv", "epochs.csv"):
        save_table(files, name, [row for row in table(files, name) if row["run_id"] != run_id])
    crate = from_json(files["ro-crate-metadata.json"])
    crate["@graph"] = [one for one in crate["@graph"] if run_id not in one["@id"]]
    root = next(one for one in crate["@graph"] if one["@id"] == "./")
    for key in ("hasPart", "mentions"):
        root[key] = [one for one in root[key] if run_id not in one["@id"]]
    files["ro-crate-metadata.json"] = to_json(crate)


def without_folder(files: Files) -> None:
    for name in [name for name in files if name.startswith(f"records/{RUN}")]:
        del files[name]


def twice(files: Files) -> None:
    rows = table(files, "runs.csv")
    save_table(files, "runs.csv", [*rows, rows[0]])


def with_artifact(name: str, content: bytes) -> Tampering:
    def tamper(files: Files) -> None:
        files[f"records/{first_run(files)}/{name}"] = content

    return tamper


def without_artifact(name: str) -> Tampering:
    def tamper(files: Files) -> None:
        del files[f"records/{first_run(files)}/{name}"]

    return tamper


def claim(values: Any, place: int) -> Any:
    return values["made_up_study"]["claims"][place]


def sentence(values: Any, place: int) -> Any:
    return values["studies"][0]["sentences"][place]


def described(values: Any, identifier: str) -> Any:
    return next(one for one in values["@graph"] if one["@id"] == identifier or one["@type"] == identifier)


def another_loss(values: Any) -> None:
    values["epochs"][1]["loss"] = float(next_number(repr(values["epochs"][1]["loss"])))


RUN = record(STUDY, "dense", 0).row["run_id"]


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        pytest.param(
            in_runs("test_accuracy", next_number), f"records/{RUN}: test_accuracy: ", id="a metric in runs.csv"
        ),
        pytest.param(in_runs("fit_cpu_seconds", next_number), f"records/{RUN}: fit_cpu_seconds: ", id="a sum"),
        pytest.param(in_runs("peak_memory_mib", next_number), f"records/{RUN}: peak_memory_mib: ", id="the memory"),
        pytest.param(in_runs("epochs_trained", lambda _: "4.0"), f"records/{RUN}: epochs_trained: ", id="the epochs"),
        pytest.param(
            in_epochs("loss", next_number), f"records/{RUN}: loss, epoch 2: ", id="a metric in epochs.csv"
        ),
        pytest.param(
            in_artifact("trajectory.json", another_loss), f"records/{RUN}: loss, epoch 2: ", id="in trajectory.json"
        ),
        pytest.param(
            in_artifact("trajectory.json", another_loss, hidden=2),
            f"records/{RUN}: loss, epoch 2: ",
            id="in trajectory.json and all hashes",
        ),
        pytest.param(
            in_artifact("per_class.json", lambda value: value["data"][0].__setitem__(2, 7)),
            f"records/{RUN}: per_class.json: ",
            id="an answer, without the run's hashes",
        ),
        pytest.param(
            in_artifact("per_class.json", lambda value: value["data"][0].__setitem__(2, 7), hidden=1),
            f"records/{RUN}: artifacts_sha256: ",
            id="an answer, without the hash of the hashes",
        ),
        pytest.param(
            in_artifact("per_class.json", lambda value: value["data"][0].__setitem__(2, 7), hidden=2),
            f"records/{RUN}: test_accuracy: ",
            id="an answer and all hashes",
        ),
        pytest.param(
            in_artifact("config.json", lambda value: value.update(batch_size=64), hidden=2),
            f"records/{RUN}: batch_size: ",
            id="the config",
        ),
        pytest.param(in_runs("batch_size", lambda _: "64"), f"records/{RUN}: config_sha256: ", id="a param"),
        pytest.param(
            in_artifact("environment.json", lambda value: value["fingerprint"].update(threads=2), hidden=2),
            f"records/{RUN}: environment_sha256: ",
            id="the environment",
        ),
        pytest.param(
            in_runs("environment_sha256", lambda _: hash_of({"threads": 2})),
            f"records/{RUN}: environment_sha256: ",
            id="the environment's hash",
        ),
        pytest.param(in_runs("weights_sha256", lambda _: "0" * 64), f"{RUN}: weights_sha256: ", id="the weights"),
        pytest.param(
            in_artifact("trajectory.json", lambda value: value["epochs"][-1].update(weights_sha256="0" * 64), hidden=2),
            f"records/{RUN}: weights_sha256: ",
            id="the weights in trajectory.json",
        ),
        pytest.param(in_runs("data_sha256", lambda _: "0" * 64), f"records/{RUN}: row.data_sha256: ", id="the data"),
        pytest.param(in_runs("code_sha256", lambda _: "0" * 64), f"records/{RUN}: code_sha256: ", id="the code"),
        pytest.param(in_runs("git_commit", lambda _: "1" * 40), f"records/{RUN}: git_commit: ", id="the commit"),
        pytest.param(in_runs("seed", lambda _: "77"), f"records/{RUN}: seed: ", id="the seed"),
        pytest.param(in_runs("arm", lambda _: "cnn"), f"runs.csv: run {RUN} of made_up_study", id="the arm"),
        pytest.param(in_runs("smoke", lambda _: "true"), f"records/{RUN}: row.smoke: ", id="a smoke run"),
        pytest.param(in_runs("status", lambda _: "FAILED"), f"records/{RUN}: row.status: ", id="the status"),
        pytest.param(in_runs("stop_reason", lambda _: "callback"), f"records/{RUN}: the stop: ", id="the stop"),
        pytest.param(in_runs("end_time", lambda time: str(int(time) + 1)), f"#{RUN}: endTime is ", id="the time"),
        pytest.param(in_runs("study", lambda _: "other"), "studies.json has no study 'other'", id="the study"),
        pytest.param(without_rows, f"records/{RUN}: runs.csv has no such run", id="a run less in runs.csv"),
        pytest.param(
            without_a_trace,
            "claims.json: studies[0].recorded is 24, but computed again it is 23",
            id="a run less everywhere",
        ),
        pytest.param(without_folder, f"runs.csv: run {RUN} has no artifacts", id="no artifacts"),
        pytest.param(twice, f"runs.csv: run_id '{RUN}' is there twice", id="a run twice"),
        pytest.param(
            lambda files: save_table(files, "epochs.csv", table(files, "epochs.csv")[1:]),
            f"records/{RUN}: epochs.loss: 2 of it",
            id="an epoch less",
        ),
        pytest.param(with_artifact("code.diff", b"+ x\n"), "code.diff: hashes.json does not list it", id="a diff more"),
        pytest.param(with_artifact("model.pkl", b""), "model.pkl: no artifact that a bundle holds", id="a file more"),
        pytest.param(
            without_artifact("model_summary.txt"), "model_summary.txt: hashes.json lists it", id="a summary less"
        ),
        pytest.param(
            without_artifact("trajectory.json"), f"{RUN}: artifacts.trajectory.json: missing", id="no trajectory"
        ),
        pytest.param(
            in_json("claims.json", lambda value: sentence(value, 0).update(verdict="contradicted")),
            "claims.json: studies[0].sentences[0].verdict is 'contradicted', but computed again it is 'supported'",
            id="a verdict",
        ),
        pytest.param(
            in_json("claims.json", lambda value: sentence(value, 0)["parts"][0].update(p_for=0.5)),
            "claims.json: studies[0].sentences[0].parts[0].p_for is 0.5",
            id="a p value",
        ),
        pytest.param(
            in_json("studies.json", lambda value: claim(value, 2).update(within=0.2)),
            "claims.json: studies[0].sentences[1].parts[0].within is 0.1, but computed again it is 0.2",
            id="a margin",
        ),
        pytest.param(
            in_json("studies.json", lambda value: value["made_up_study"]["claims"].pop(0)),
            "claims.json: studies[0].sentences[0].parts",
            id="a claim less",
        ),
        pytest.param(
            in_json("studies.json", lambda value: value["made_up_study"]["arms"]["cnn"].update(filters=16)),
            "of made_up_study is none that counts: another config than the arm has now",
            id="an arm's config",
        ),
        pytest.param(
            lambda files: files.update({"post_results.csv": POST.replace(b"0.85", b"0.95")}),
            "claims.json: post.test_results.values[0].printed is 0.85, but computed again it is 0.95",
            id="the post's number",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value["@graph"].remove(described(value, "runs.csv"))),
            "ro-crate-metadata.json: runs.csv is not described",
            id="a file not described",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: value["@graph"].remove(described(value, f"#{RUN}"))),
            f"ro-crate-metadata.json: the run {RUN} is not described",
            id="a run not described",
        ),
        pytest.param(
            in_json(
                "ro-crate-metadata.json",
                lambda value: described(value, "SoftwareApplication").update(softwareVersion="1" * 40),
            ),
            f"#{RUN}: instrument's softwareVersion is '1111",
            id="the commit described",
        ),
        pytest.param(
            in_json("ro-crate-metadata.json", lambda value: described(value, "Dataset").pop("license")),
            "ro-crate-metadata.json: ./ lacks license",
            id="no licence",
        ),
    ],
)  # fmt: skip
def test_what_was_changed_is_named_though_the_manifest_was_made_to_fit(
    bundle: bytes, tamper: Tampering, found: str
) -> None:
    files = files_of(bundle)
    tamper(files)
    outcome = verify(sealed(files))
    assert found in said(outcome)
    assert "changed: " not in said(outcome)  # the manifest fits
    assert str(outcome).startswith("it does not hold")


@pytest.mark.usefixtures("undrawn")
def test_only_the_expected_digest_catches_who_rewrites_everything() -> None:
    honest = records(SMALL, 1)
    better = [record(replace(SMALL, arms={"worse": SMALL.arms["cnn"], **SMALL.arms}), "cnn", 0)]
    assert better[0].row["test_accuracy"] > honest[0].row["test_accuracy"]
    published = hashlib.sha256(packed(Selection(SMALL, honest, []))).hexdigest()
    rewritten = packed(Selection(SMALL, better, []))
    assert verify(rewritten).holds
    outcome = verify(rewritten, expected=published)
    digest = hashlib.sha256(rewritten).hexdigest()
    assert said(outcome) == f"the bundle: its SHA-256 is {digest}, but {published} is expected"
    assert verify(rewritten, expected=digest).holds


def test_what_no_bundle_proves_of_itself_is_noted(bundle: bytes) -> None:
    notes = "\n".join(verify(bundle, here=[STUDY], code_sha256="0" * 64).notes)
    assert "no expected SHA-256 was given" in notes
    assert f"not the ones of this checkout; the runs were made at {COMMIT}" in notes
    assert "stated" not in notes
    other = replace(STUDY, claims=STUDY.claims[:1])
    notes = "\n".join(verify(bundle, here=[other], expected="0" * 64).notes)
    assert "made_up_study is not stated as in this checkout" in notes
    assert "no expected SHA-256" not in notes


# -- hostile bundles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": b""}, "it is no bundle: it has no manifest.json"),
        ({"manifest.json": b"{}"}, "it is no bundle: its manifest.json is not one"),
        ({"manifest.json": b"[" * 100_000}, "it is no bundle: its manifest.json is not one"),
        ({"manifest.json": b'{"format": "fashion-cnn bundle 2", "files": {}}'}, "this version reads"),
    ],
)
def test_what_is_no_bundle_is_told_in_one_line(files: Files, said: str) -> None:
    with pytest.raises(BundleError, match=said) as error:
        verify(zipped(files))
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_whatever_a_file_holds_the_answer_is_an_outcome(small: bytes, data: st.DataObject) -> None:
    files = files_of(small)
    name = data.draw(st.sampled_from(sorted(set(files) - {"manifest.json", "ro-crate-metadata.json"})))
    files[name] = data.draw(
        st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 50_000)
    )
    outcome = verify(sealed(files))
    json.dumps(outcome.as_dict())
    assert str(outcome).encode()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_whatever_a_value_is_made_the_answer_is_an_outcome(small: bytes, data: st.DataObject) -> None:
    files = files_of(small)
    name = data.draw(st.sampled_from([name for name in sorted(files) if name.endswith(".json")]))
    value = from_json(files[name])
    inner, key = value, None
    for _ in range(data.draw(st.integers(1, 6))):
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            break
        outer, key = inner, data.draw(st.sampled_from(keys))
        inner = outer[key]
        if not isinstance(inner, dict | list):
            break
    outer[key] = data.draw(JSON)
    files[name] = json.dumps(value).encode()
    try:
        outcome = verify(zipped(files) if name == "manifest.json" else sealed(files))
    except BundleError:
        assert name == "manifest.json"
    except (KeyError, TypeError, AttributeError, ValueError):
        assert name == "ro-crate-metadata.json"  # it could not be made to fit
    else:
        json.dumps(outcome.as_dict())
        assert str(outcome).encode()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.fault("any-input", note="bundles")
def test_a_bundle_with_changed_bytes_never_holds(small: bytes, data: st.DataObject) -> None:
    content = bytearray(small)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    expected = hashlib.sha256(small).hexdigest()
    try:
        outcome = verify(bytes(content), expected=expected)
    except (ArchiveError, BundleError):
        return
    assert outcome.holds == (bytes(content) == small)


def test_what_it_prints_holds_nothing_that_steers_a_terminal(small: bytes) -> None:
    files = files_of(small)
    for column in ("node", "git_commit", "code_sha256"):
        in_runs(column, lambda _: "\x1b[2J")(files)
    in_json("claims.json", lambda values: values.update({"\u2028\ud800\x1b": 1}))(files)
    outcome = verify(sealed(files), code_sha256="0" * 64)
    assert "\x1b" in "".join(outcome.notes) and "\x1b" in said(outcome)
    assert str(outcome).encode()
    assert all(line.isprintable() for line in str(outcome).split("\n"))


# -- what it needs -----------------------------------------------------------------------------------------------------

ALONE = """
import importlib.abc, json, socket, sys, sysconfig, time

LIGHT = {"numpy", "pandas", "scipy", "dateutil", "six", "pytz", "tzdata", "fashion_cnn", "experiments"}
asked = set()

class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in LIGHT and top not in sys.stdlib_module_names and not top.startswith("_"):
            asked.add(top)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def refuse(*_, **__):
    raise OSError("no network here")

before = set(sys.modules)
sys.meta_path.insert(0, Guard())
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from experiments.__main__ import run

sys.argv = ["fashion-cnn", "verify", *sys.argv[1:]]
status = None
try:
    run()
except SystemExit as ended:
    status = ended.code
roots = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in before}
third = {file[len(root) + 1 :].partition("/")[0] for file in files.values() for root in roots if file.startswith(root)}
print(json.dumps({"status": status, "third": sorted(third), "asked": sorted(asked), "cpu": time.process_time()}))
"""


def test_verifying_needs_numpy_pandas_and_scipy_no_network_no_store_and_writes_nothing(
    bundle: bytes, tmp_path: Path
) -> None:
    (tmp_path / "bundle.zip").write_bytes(bundle)
    (tmp_path / "bundle.zip").chmod(stat.S_IRUSR)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(
        [sys.executable, "-B", "-c", ALONE, "bundle.zip", "--expect", hashlib.sha256(bundle).hexdigest()],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    *printed, last = process.stdout.splitlines()
    answer = json.loads(last)
    assert answer["status"] == 0
    assert printed[0] == "bundle.zip: it holds"
    assert ", as expected" in printed[1]
    assert set(answer["third"]) <= {"numpy", "pandas", "scipy", "dateutil", "six", "pytz", "tzdata"}
    assert {"tensorflow", "keras", "mlflow", "matplotlib", "rocrate"}.isdisjoint(answer["asked"])
    assert answer["cpu"] < 10  # seconds
    assert os.listdir(tmp_path) == ["bundle.zip"]


# -- on the command line -----------------------------------------------------------------------------------------------

CALLBACK = next(study for study in STUDIES if study.name == "callback_study")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A store with two arms of two seeds, a smoke run, and a run whose table was lost; a token all around them."""
    folder = tmp_path_factory.mktemp("lab") / TOKEN  # part of the store's address, and so of the arguments
    folder.mkdir()
    made = Lab(folder, folder)
    store = made.store()
    planted = {"mlflow.source.name": f"run --token {TOKEN}", "mlflow.user": TOKEN, "error": TOKEN, "note": TOKEN}
    for arm in CALLBACK.arms:
        for seed in range(2):
            one = record(CALLBACK, arm, seed)
            secret = {**one.artifacts, "secret.txt": TOKEN.encode()}
            listed = json.loads(secret["hashes.json"]) | {"secret.txt": hashlib.sha256(TOKEN.encode()).hexdigest()}
            secret["hashes.json"] = json.dumps(listed).encode()
            row = {**one.row, "artifacts_sha256": hashlib.sha256(secret["hashes.json"]).hexdigest()}
            put(store, replace(one, row=row, artifacts=secret), CALLBACK.question, **planted)
    put(store, record(CALLBACK, "10 epochs", 2), CALLBACK.question, smoke="true")
    damaged = record(CALLBACK, "10 epochs", 3)
    lost = {name: content for name, content in damaged.artifacts.items() if name != "per_class.json"}
    put(store, replace(damaged, artifacts=lost), CALLBACK.question)
    drawn = record(CALLBACK, "10 epochs", 4)
    put(store, replace(drawn, artifacts={**drawn.artifacts, CURVES: b"another picture"}), CALLBACK.question)
    os.environ["SERVICE_TOKEN"] = TOKEN
    yield made
    del os.environ["SERVICE_TOKEN"]


@pytest.fixture(scope="module")
def made(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle that the command wrote, and what it printed."""
    path = tmp_path_factory.mktemp("made") / "new" / "callback.zip"
    return path, lab.call("bundle", "callback_study", "--output", path)


def test_the_command_packs_complete_records_and_tells_what_is_left_out_and_the_digest(made: tuple[Path, str]) -> None:
    path, printed = made
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "callback_study: 4 runs; left out: smoke run (1), an incomplete record (2)" in printed
    assert ": artifacts.per_class.json: missing; wanted: a JSON object" in printed
    assert f": {CURVES}: {hashlib.sha256(b'a picture').hexdigest()}, but the artifact's own SHA-256 says" in printed
    assert f"MiB, SHA-256 {digest}" in printed
    assert f"fashion-cnn verify {path} --expect {digest}" in printed
    assert os.listdir(path.parent) == ["callback.zip"]


def test_a_bundle_from_a_store_holds_and_is_the_same_again(lab: Lab, made: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = made
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    answer = json.loads(lab.call("bundle", "callback_study", "--output", tmp_path / "again.zip", "--json"))
    assert answer["sha256"] == digest
    told = answer["studies"]["callback_study"]
    assert told["runs"] == 4
    assert told["left_out"] == {"smoke run": 1, "an incomplete record": 2}
    assert sorted(reason.partition(":")[0] for reason in told["incomplete"].values()) == [
        *("artifacts.per_class.json", "figures/learning_curves.png")
    ]
    answer = json.loads(lab.call("verify", path, "--expect", digest.upper(), "--json"))
    assert answer["holds"] is True and answer["findings"] == []
    assert answer["runs"] == 4


def test_no_secret_reaches_a_bundle(lab: Lab, made: tuple[Path, str]) -> None:
    content = made[0].read_bytes()  # stored, not deflated: what is in a file is in these bytes
    assert TOKEN in lab.runs("callback_study").to_csv()
    assert COMMIT.encode() in content
    assert TOKEN.encode() not in content
    assert str(lab.folder.parent).encode() not in content
    assert b"mlflow.user" not in content


def test_another_digest_than_expected_ends_with_1(lab: Lab, made: tuple[Path, str]) -> None:
    printed = lab.call("verify", made[0], "--expect", "0" * 64, status=1)
    assert f"{made[0]}: it does not hold: 1 finding\n" in printed
    assert f"but {'0' * 64} is expected" in printed


def test_what_was_changed_ends_with_1_and_is_named(lab: Lab, made: tuple[Path, str], tmp_path: Path) -> None:
    files = files_of(made[0].read_bytes())
    in_runs("loss", next_number)(files)
    (tmp_path / "changed.zip").write_bytes(zipped(files))
    printed = lab.call("verify", tmp_path / "changed.zip", status=1)
    assert "runs.csv: changed: its SHA-256 is" in printed
    assert f"records/{first_run(files)}: loss: " in printed


@pytest.mark.usefixtures("undrawn")
def test_wrong_use_is_told_in_one_line_and_ends_with_2(lab: Lab, made: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    for words, told in (
        (("verify", tmp_path / "none.zip"), "none.zip: there is no such file"),
        (("verify", tmp_path), "it is no file"),
        (("verify", tmp_path / "text.zip"), "text.zip: no zip that can be read"),
        (("verify", made[0], "--expect", "12"), "'12' is no SHA-256; allowed: 64 digits"),
        (("bundle", "filter_study", "--output", tmp_path / "x.zip"), "no complete record to bundle"),
        (("bundle", "callback_study", "--output", tmp_path), "cannot be written"),
        (("bundle", "fliter_study"), "did you mean 'filter_study'?"),
    ):
        printed = lab.call(*words, status=2)
        assert told in printed
        assert printed.count("\n") == 1
    assert os.listdir(tmp_path) == ["text.zip"]


def test_the_columns_are_an_allow_list_of_what_is_no_secret() -> None:
    assert {"artifact_uri", "experiment_id", "error", "drawing_error"}.isdisjoint({*COLUMNS, *EPOCH_COLUMNS})
