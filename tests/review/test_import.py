"""A bundle travels: its runs in another store, marked, compared and never counted; a bad one leaves nothing there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiments import RESULTS, STUDIES
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.inert import PAGE_HEAD
from fashion_cnn.evidence.predictions import Predictions
from fashion_cnn.evidence.record import missing, rules_of
from fashion_cnn.evidence.selection import Selection
from fashion_cnn.reports import page
from fashion_cnn.reports import published as results
from fashion_cnn.reports.publish import import_runs, published_selections
from fashion_cnn.reports.stored import recorded, selections
from fashion_cnn.review.pack import make_bundle
from fashion_cnn.review.replay import records_of
from fashion_cnn.review.stated import Here
from fashion_cnn.review.verify import verify
from fashion_cnn.store.imported import MARKS, mark, marks
from fashion_cnn.store.tracking import PROCESSOR
from tests.support.bundles import LOCK, files_of, in_runs, next_number, sealed, zipped
from tests.support.command import Lab
from tests.support.published import BASELINE, POST, published, records
from tests.support.recorded import MACHINE, put, record
from tests.support.scripted import open_store

IMPORTED = "4 runs imported, marked as recorded elsewhere: they never count as recorded here\n"


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Leave out what takes the time of packing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "render_report", lambda *_, **__: PAGE_HEAD)
        patched.setattr(page, "study_figures", lambda *_: {})
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of four runs."""
    content = make_bundle([Selection(BASELINE, records(0, 1, studies=(BASELINE,)), [])], lock=LOCK, post=POST)
    path = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def lab(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An empty folder into which the bundle was imported."""
    folder = tmp_path_factory.mktemp("lab")
    made = Lab(folder, folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert made.call("import", path, "--expect", digest.upper()).startswith(IMPORTED)
    yield made


def test_the_runs_are_there_with_their_numbers_and_say_where_they_come_from(lab: Lab, path: Path) -> None:
    runs = lab.runs().set_index("published")
    by_id = {one.row["run_id"]: one for one in records(0, 1, studies=(BASELINE,))}
    assert set(runs.index) == set(by_id)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for run_id, row in runs.iterrows():
        assert row["imported"] == f"a bundle of SHA-256 {digest}"
        for name in ("status", "study", "arm", "seed", "weights_sha256", "test_accuracy", "fit_cpu_seconds", "name"):
            assert row[name] == by_id[run_id].row[name]
    assert set(lab.store().runs(more=(PROCESSOR,))[PROCESSOR]) == {MACHINE["processor"]}
    assert {original for original, _ in marks(lab.folder / "trajectories").values()} == set(by_id)


def test_each_is_found_by_the_id_it_was_recorded_with_and_its_record_holds(lab: Lab) -> None:
    store = lab.store()
    for one in records(0, 1, studies=(BASELINE,)):
        row = store.find(one.row["run_id"][:8])
        (found,) = records_of(store, [row])
        assert missing(found, rules_of(found.row)) == [] and contradictions(found) == []
        lab.call("check", row["run_id"])


def test_importing_twice_is_the_same_as_once(lab: Lab, path: Path) -> None:
    answer = json.loads(lab.call("import", path, "--json"))
    assert (answer["imported"], answer["there"]) == (0, 4)
    assert len(lab.runs()) == 4 and len(marks(lab.folder / "trajectories")) == 4


def test_one_that_was_cut_off_is_done_again(lab: Lab, path: Path) -> None:
    store = lab.store()
    store.client.update_run(lab.runs()["run_id"].iloc[0], status="RUNNING")
    assert json.loads(lab.call("import", path, "--json"))["imported"] == 1
    assert len(lab.runs()) == 4 and set(lab.runs()["status"]) == {"FINISHED"}


def test_they_count_for_no_claim_and_no_bundle_whatever_becomes_of_their_tags(lab: Lab) -> None:
    store = lab.store()
    for run_id in lab.runs()["run_id"]:
        store.client.delete_tag(run_id, "published")
        store.client.delete_tag(run_id, "imported")
    assert lab.runs()["published"].notna().all()
    assert [one.taken for one in recorded(store, [BASELINE]).verdicts([BASELINE], _post(lab)).studies] == [0]
    (selection,) = selections(store, [BASELINE])
    assert selection.records == [] and selection.left_out == [("published, recorded elsewhere", 4)]


def _post(lab: Lab) -> Path:
    path = lab.folder / "post.csv"
    path.write_bytes(POST)
    return path


def test_a_word_of_a_person_makes_no_run_an_imported_one(tmp_path: Path) -> None:
    lab, store = Lab(tmp_path, tmp_path), open_store(tmp_path)
    ours = put(store, record(BASELINE, "cnn", 0), BASELINE.question, published="in my paper")
    store.client.set_tag(ours, "record", "f" * 32)  # which only runs recorded here have
    theirs = put(store, record(BASELINE, "cnn", 1), BASELINE.question, published="a" * 32)  # by another machine
    runs = lab.runs().set_index("run_id")
    assert runs["published"].isna().to_dict() == {ours: True, theirs: False}
    (selection,) = selections(store, [BASELINE])
    assert [one.row["run_id"] for one in selection.records] == [ours]


def test_published_runs_do_not_drive_out_those_of_a_bundle(path: Path, tmp_path: Path) -> None:
    lab, _ = Lab(tmp_path, tmp_path), open_store(tmp_path)
    lab.call("import", path)
    for name, content in published(records(1, 2, studies=(BASELINE,)), (BASELINE,)).items():
        (lab.published / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.published / name).write_bytes(content)
    assert import_runs(lab.store(), [BASELINE], lab.published) == 2  # seed 1 is there
    assert len(lab.runs()) == 6 and import_runs(lab.store(), [BASELINE], lab.published) == 0


@pytest.mark.parametrize("resealed", [False, True])
def test_a_bundle_that_does_not_hold_ends_with_1_in_one_line_and_nothing_is_written(
    path: Path, tmp_path: Path, resealed: bool
) -> None:
    files = files_of(path.read_bytes())
    in_runs("test_loss", next_number)(files)
    (tmp_path / "bad.zip").write_bytes(sealed(files) if resealed else zipped(files))
    lab = Lab(tmp_path / "store", tmp_path)
    said = lab.call("import", tmp_path / "bad.zip", status=1)
    assert said.startswith(f"error: {tmp_path / 'bad.zip'}: it does not hold: ") and said.count("\n") == 1
    assert "nothing was imported; fashion-cnn verify tells all" in said and not lab.folder.exists()


def test_wrong_use_is_told_in_one_line_and_nothing_is_written(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    lab = Lab(tmp_path / "store", tmp_path)
    for words, told in (
        ((tmp_path / "none.zip",), "none.zip: there is no such file"),
        ((tmp_path / "text.zip",), "text.zip: no zip that can be read"),
        ((path, "--expect", "12"), "'12' is no SHA-256; allowed: 64 digits"),
    ):
        assert told in lab.complaint("import", *words)
    assert "it does not hold" in lab.call("import", path, "--expect", "0" * 64, status=1)
    assert not lab.folder.exists()


def test_a_run_that_no_store_takes_is_refused_before_the_first_is_written(path: Path, tmp_path: Path) -> None:
    files = files_of(path.read_bytes())
    in_runs("node", lambda _: "n" * 6_000)(files)
    (tmp_path / "long.zip").write_bytes(sealed(files))
    lab = Lab(tmp_path / "store", tmp_path)
    assert "has a node that no store takes; nothing was imported" in lab.complaint("import", tmp_path / "long.zip")
    assert not lab.folder.exists()


def test_a_mark_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    mark(tmp_path, "a", "1", "here")
    with (tmp_path / MARKS).open("ab") as file:
        file.write(b'\n{"run_id": "b", "o')
    mark(tmp_path, "c", "3", "there")
    assert marks(tmp_path) == {"a": ("1", "here"), "c": ("3", "there")}


@pytest.fixture(scope="module")
def results_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"), RESULTS)
    files = published(records(0, 1, studies=(BASELINE,)), (BASELINE,))
    cnn = next(one for one in records(0, studies=(BASELINE,)) if one.row["arm"] == "cnn")
    files[results.file_of(results.ACTIVATIONS, cnn.row)] = Predictions(np.zeros(3, np.uint8)).to_bytes()
    files[results.MANIFEST] = results.manifest({name: files[name] for name in files if name != results.MANIFEST})
    for name, content in files.items():
        (lab.published / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.published / name).write_bytes(content)
    lab.call("bundle", "baseline_study", "--published", "--output", lab.folder / "published.zip")
    return lab


class TestABundleOfPublishedResults:
    def test_is_the_same_again_and_holds(self, results_lab: Lab) -> None:
        first = (results_lab.folder / "published.zip").read_bytes()
        results_lab.call("bundle", "baseline_study", "--published", "--output", results_lab.folder / "again.zip")
        assert (results_lab.folder / "again.zip").read_bytes() == first
        said = results_lab.call("verify", results_lab.folder / "published.zip")
        assert "it holds" in said and "note: it is of published results" in said
        assert not (results_lab.folder / "mlflow.db").exists()  # no store is asked

    def test_needs_all_that_is_asked_of_other_bundles_without_its_word_for_it(self, results_lab: Lab) -> None:
        files = files_of((results_lab.folder / "published.zip").read_bytes())
        # Its manifest does not say that it is of published results.
        (results_lab.folder / "claimed.zip").write_bytes(sealed(files))
        assert "artifacts.hashes.json: missing" in results_lab.call(
            "verify", results_lab.folder / "claimed.zip", status=1
        )

    def test_is_imported_with_the_activations_that_are_published(self, results_lab: Lab) -> None:
        assert results_lab.call("import", results_lab.folder / "published.zip").startswith(IMPORTED)
        runs = results_lab.runs()
        kept = [results_lab.store().artifact(run_id, "activations.npz") is not None for run_id in runs["run_id"]]
        assert sorted(zip(runs["arm"], runs["seed"], kept, strict=True)) == [
            *(("cnn", "0", True), ("cnn", "1", False), ("dense", "0", False), ("dense", "1", False))
        ]

    @pytest.mark.slow
    def test_the_repositorys_own_results_travel(self, tmp_path: Path) -> None:
        chosen = published_selections(STUDIES, RESULTS)
        content = make_bundle(chosen, lock=LOCK, post=POST, published=True)
        found = verify(content, here=Here(STUDIES))
        assert found.findings == () and found.runs == sum(len(one.records) for one in chosen) > 100
