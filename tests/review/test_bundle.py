"""A bundle holds what was recorded, is the same bytes each time, and is described for other programs."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import STUDIES
from fashion_cnn.data import FASHION_MNIST_SHA256
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import RECORD_FORMAT, missing
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.evidence.tables import TableError, from_csv, from_json, to_csv, to_json
from fashion_cnn.review.bundle import BundleError, describe, study_of, study_values
from fashion_cnn.review.verify import verify
from fashion_cnn.study import Study
from tests.conftest import answer, python
from tests.support.bundles import (
    LOCK,
    SEEDS,
    SMALL,
    STUDY,
    files_of,
    first_run,
    packed,
    records,
    said,
    sealed,
    table,
)
from tests.support.recorded import COMMIT, CURVES, record
from tests.support.tampering import with_row

DESCRIPTION = "fa4fdb0a0667e3476ce038f914d8024bfb80451cf53f0e481f77229df100340c"
"""SHA-256 of a description as the package rocrate 0.16 wrote it."""


def test_the_made_up_records_are_complete_and_at_one_with_themselves() -> None:
    for one in records(diff="+ a line\n"):
        assert [str(found) for found in (*missing(one), *contradictions(one))] == []


def test_a_bundle_holds(bundle: bytes) -> None:
    outcome = verify(bundle)
    assert said(outcome) == ""
    assert outcome.holds
    assert (outcome.runs, outcome.studies) == (len(STUDY.arms) * SEEDS, ("made_up_study",))
    assert outcome.sha256 == hashlib.sha256(bundle).hexdigest()
    assert dict(outcome.verdicts) == {"supported": 2, "undecided": 1, "not tested": 1}


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
        "import hashlib, json; from tests.support.bundles import packed_small; "
        "print(json.dumps(hashlib.sha256(packed_small()).hexdigest()))"
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
def test_records_of_the_first_format_and_of_both_are_packed_and_hold() -> None:
    newer = replace(SMALL, name="newer_study")
    old = Selection(SMALL, records(SMALL, 1, format=1), [])
    new = Selection(newer, records(newer, 1), [])
    for selections, formats in (([old], [None]), ([old, new], ["", str(RECORD_FORMAT)])):
        content = packed(*selections)
        assert said(verify(content)) == ""
        assert [row.get("record_format") for row in table(files_of(content), "runs.csv")] == formats


def test_records_of_a_newer_format_are_refused_and_not_judged(small: bytes) -> None:
    files = files_of(small)
    rows = table(files, "runs.csv")
    files["runs.csv"] = files["runs.csv"].replace(
        b",portable,%d," % RECORD_FORMAT, b",portable,%d," % (RECORD_FORMAT + 1)
    )
    assert rows != table(files, "runs.csv")
    (newer, unchecked) = verify(sealed(files)).findings
    told = f"row.record_format: '{RECORD_FORMAT + 1}'; wanted: at most {RECORD_FORMAT}; newer code recorded it: update"
    assert str(newer).startswith(f"runs.csv: {told}")
    assert "no run can be checked" in str(unchecked)


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
    with pytest.raises(TableError, match=r"row 2: real is .* no number in full precision"):
        from_csv(f'real\n"{cell}"\n'.encode(), {"real": "real"})


def graph(content: bytes) -> dict[str, dict[str, Any]]:
    return {one["@id"]: one for one in from_json(files_of(content)["ro-crate-metadata.json"])["@graph"]}


def test_another_programs_reader_takes_the_description(bundle: bytes) -> None:
    entities = graph(bundle)

    def follow(reference: dict[str, str]) -> dict[str, Any]:
        return entities[reference["@id"]]

    descriptor = follow({"@id": "ro-crate-metadata.json"})
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    actions = [follow(action) for action in follow(descriptor["about"])["mentions"]]
    assert len(actions) == len(STUDY.arms) * SEEDS
    assert {follow(action["instrument"])["softwareVersion"] for action in actions} == {COMMIT}
    assert {follow(action["object"][0])["sha256"] for action in actions} == {FASHION_MNIST_SHA256}
    assert all(any(one["@id"].endswith("/trajectory.json") for one in action["result"]) for action in actions)
    used = [one for action in actions for key in ("object", "result") for one in action[key]]
    assert all(follow(one)["@type"] in ("File", "Dataset") for one in used)


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


def test_the_description_is_the_one_that_was_always_written() -> None:
    """`verify` describes a bundle again: another word here, and the bundles that are out there hold no more."""
    changed = record(SMALL, "cnn", remote="https://example.org/fashion-cnn", diff="+ a line\n")
    fixed = {"start_time": 1_795_000_000_000, "end_time": 1_795_000_018_433, "code_sha256": "c" * 64}
    runs = [with_row(changed, run_id="0" * 32, **fixed), with_row(record(SMALL, "cnn", 1), run_id="1" * 32, **fixed)]
    names = ["README.txt", "runs.csv", "report.html", "figures/small_study/scores.svg", "requirements.lock"]
    names += (f"records/{run.row['run_id']}/{name}" for run in runs for name in ("config.json", "trajectory.json"))
    written = to_json(describe(dict.fromkeys(names, b"content\n"), [SMALL], runs))
    assert hashlib.sha256(written).hexdigest() == DESCRIPTION
