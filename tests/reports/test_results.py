"""Published results: records in, small files out and back; what the check finds; import into a store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import POST_RESULTS, RESULTS, STUDIES
from fashion_cnn.claims import Higher
from fashion_cnn.config import CNN, DENSE
from fashion_cnn.evidence import tables
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import PUBLISHED_RULES, RECORD_FORMAT, absent, missing
from fashion_cnn.known_answers import known, settled
from fashion_cnn.reports import publish as publishing
from fashion_cnn.reports import published as results
from fashion_cnn.review.replay import records_of
from fashion_cnn.sources import code_sha256
from fashion_cnn.store.address import resolve
from fashion_cnn.store.tracking import Store
from tests.support import recorded
from tests.support.command import REPOSITORY, Lab
from tests.support.published import BASELINE, EPOCHS, SEEDS, STUDY, file_problems, parts, published, records
from tests.support.recorded import put, record
from tests.support.tampering import with_row

EPOCHS_OF_BASELINE = "epochs/baseline_study.csv"


def test_what_is_read_is_what_was_published(files: dict[str, bytes]) -> None:
    before, after = records(), results.published_records(files)
    assert len(after) == len(before) == 4 * SEEDS
    by_id = {str(one.row["run_id"]): one for one in before}
    for one in after:
        theirs = by_id[str(one.row["run_id"])]
        assert one.row == {name: theirs.row.get(name) for name in results.COLUMNS}
        assert [state["weights_sha256"] for state in one.states()] == [
            state["weights_sha256"] for state in theirs.states()
        ]
        assert one.epochs == theirs.epochs
        for name in ("config.json", "environment.json", "trajectory.json"):
            assert one.json(name) == theirs.json(name)


def test_a_published_record_has_all_that_is_asked_of_it_and_does_not_contradict_itself(files: dict[str, bytes]) -> None:
    for one in results.published_records(files):
        assert missing(one, PUBLISHED_RULES) == [] and contradictions(one) == []


def test_machines_are_published_once_each_with_the_load_of_each_run() -> None:
    (entry,) = json.loads(published(records())[results.ENVIRONMENT])["machines"]
    assert entry["machine"] == {name: value for name, value in recorded.MACHINE.items() if name != "load"}
    assert entry["load"] == {one.row["run_id"]: recorded.MACHINE["load"] for one in records()}


def test_runs_of_the_first_format_are_published_as_they_were() -> None:
    old = records(0, 1, format=1)
    files = published(old)
    assert file_problems(files, STUDY) == []
    assert "machines" not in json.loads(files[results.ENVIRONMENT])
    assert "record_format" not in files[results.RUNS].decode()
    assert results.record_tables(results.published_records(files)).items() <= files.items()


def test_runs_of_both_formats_are_published_side_by_side() -> None:
    files = published([*records(0, 1, format=1), *records(2, 3)])
    assert file_problems(files, STUDY) == []
    read = results.published_records(files)
    assert {(one.row["seed"] in "01", one.format, bool(one.machine())) for one in read} == {
        (True, 1, False),
        (False, 2, True),
    }
    assert results.record_tables(read).items() <= files.items()


def test_runs_of_a_newer_format_are_refused_in_one_line(files: dict[str, bytes]) -> None:
    one_newer = files[results.RUNS].replace(b",portable,%d," % RECORD_FORMAT, b",portable,%d," % (RECORD_FORMAT + 1), 1)
    (found,) = file_problems({**files, results.RUNS: one_newer}, STUDY)
    told = f"row.record_format: '{RECORD_FORMAT + 1}'; wanted: at most {RECORD_FORMAT}; newer code recorded it: update"
    assert found.startswith(f"runs.csv: {told} this")


def test_the_same_records_give_the_same_files_whatever_their_order(files: dict[str, bytes]) -> None:
    assert published(records()[::-1]) == files


def test_rows_stand_by_study_arm_and_seed_as_a_number() -> None:
    found = results.merge(STUDY, [], records(10, 2, 0)).records
    assert [(one.row["arm"], one.row["seed"]) for one in found[:6]] == [
        (arm, seed) for arm in ("dense", "cnn") for seed in ("0", "2", "10")
    ]


def test_nothing_is_published_where_there_are_no_files() -> None:
    assert results.published_records({}) == []


def test_parts_made_one_after_another_are_what_all_at_once_would_be(files: dict[str, bytes]) -> None:
    first = results.merge(STUDY, [], records(0, 1, 2))
    published = results.published_records(results.record_tables(first.records))
    second = results.merge(STUDY, published, records(2, 3, 4, 5, 6))
    assert (first.added, second.added) == (12, 16)
    written = results.record_tables(second.records)
    assert written.items() <= files.items()
    assert files.keys() - written.keys() == {results.CLAIMS, results.MANIFEST, "figures/baseline_study/scores.svg"}


def test_what_is_published_stays_when_it_is_recorded_again() -> None:
    again = [with_row(one, run_id="a" * 32, start_time=one.row["start_time"] + 1) for one in records(0)]
    merged = results.merge(STUDY, records(0), again)
    assert merged.added == 0 and {one.row["run_id"] for one in merged.records} == {
        one.row["run_id"] for one in records(0)
    }


def test_runs_of_another_environment_are_published_beside_the_others_and_not_counted() -> None:
    files = published([*records(), *records(0, 1, processor="another")])
    assert file_problems(files, STUDY) == []
    told = parts(STUDY, results.published_records(files))
    assert told["basis"]().startswith(f"{4 * SEEDS} runs, seeds 0 to {SEEDS - 1}, ")
    assert "8 more runs of another environment are published and not counted." in told["basis"]()
    alone = parts(STUDY, results.published_records(published(records())))
    assert told["arms"]() == alone["arms"]() and told["claims"]() == alone["claims"]()


def test_runs_of_an_older_code_are_dropped_and_named() -> None:
    new = [with_row(one, code_sha256="c" * 64, start_time=one.row["start_time"] + 10**9) for one in records(0)]
    merged = results.merge(STUDY, records(0), new)
    assert len(merged.records) == 4 and len(merged.dropped) == 4
    assert merged.dropped[0] == "baseline_study: dense · seed 0: another code"


def test_published_runs_that_would_be_dropped_are_counted_by_study_and_reason() -> None:
    new = [with_row(one, code_sha256="c" * 64, start_time=one.row["start_time"] + 10**9) for one in records(0)]
    merged = results.merge(STUDY, records(0, 1), new)
    assert merged.lost == {("baseline_study", "another code"): 4, ("epochs_study", "another code"): 4}
    told = re.escape("8 published runs would be dropped (baseline_study 4, epochs_study 4): another code (8); nothing")
    with pytest.raises(results.ResultsError, match=f"^{told} was written; .* results --update --replace drops them$"):
        results.check_nothing_lost(merged)
    changed = (replace(STUDY[0], arms={**STUDY[0].arms, "dense": replace(DENSE, epochs=3)}), EPOCHS)
    with pytest.raises(results.ResultsError, match=r"^1 published run would be .*: another config than the arm has"):
        results.check_nothing_lost(results.merge(changed, records(0), []))


def test_a_published_record_of_which_a_kill_left_a_part_gives_way_to_the_stores() -> None:
    whole = records(0)
    halved = [replace(one, epochs=(), artifacts={}) for one in whole[:1]]
    merged = results.merge(STUDY, [*halved, *whole[1:]], whole)
    assert merged.added == 1 and all(one.epochs for one in merged.records) and len(merged.records) == len(whole)
    assert not results.merge(STUDY, [*halved, *whole[1:]], []).records[0].epochs  # for `results --check` to tell


def test_what_only_the_store_holds_is_dropped_without_a_loss() -> None:
    old = [with_row(one, code_sha256="c" * 64, start_time=one.row["start_time"] - 10**9) for one in records(0)]
    merged = results.merge(STUDY, records(0), old)
    assert len(merged.dropped) == 4 and merged.lost == {}
    results.check_nothing_lost(merged)


def test_a_store_of_an_older_code_drops_nothing_that_is_published() -> None:
    old = [with_row(one, code_sha256="c" * 64, start_time=one.row["start_time"] - 10**9) for one in records(0)]
    assert [one.row["run_id"] for one in results.merge(STUDY, records(0), old).records] == [
        one.row["run_id"] for one in records(0)
    ]


def test_runs_of_an_arm_that_is_another_now_are_dropped_and_named() -> None:
    changed = (replace(STUDY[0], arms={**STUDY[0].arms, "dense": replace(DENSE, epochs=3)}), EPOCHS)
    merged = results.merge(changed, records(0), [])
    assert [one.row["arm"] for one in merged.records] == ["cnn", "5 epochs", "10 epochs"]
    assert merged.dropped == ["baseline_study: dense · seed 0: another config than the arm has now"]


def test_other_weights_in_one_trajectory_are_refused() -> None:
    trajectory = json.loads(records(0)[0].artifacts["trajectory.json"])
    trajectory["epochs"][1]["weights_sha256"] = "d" * 64
    other = replace(records(0)[0], artifacts={"trajectory.json": json.dumps(trajectory).encode()})
    with pytest.raises(results.ResultsError, match="other weights after epoch 2 than another run of its trajectory"):
        results.merge(STUDY, records(0), [with_row(other, run_id="b" * 32)])


def test_what_was_published_holds(files: dict[str, bytes]) -> None:
    assert file_problems(files, STUDY) == []


def edited(files: dict[str, bytes], name: str, old: str, new: str) -> dict[str, bytes]:
    """With the first occurrence of a text in a file changed, and the list of files made anew: a careful forger."""
    text = files[name].decode()
    assert old in text
    changed = {**files, name: text.replace(old, new, 1).encode()}
    del changed[results.MANIFEST]
    return {**changed, results.MANIFEST: results.manifest(changed)}


def first_cell(files: dict[str, bytes], column: str) -> str:
    header, row = files[results.RUNS].decode().splitlines()[:2]
    return row.split(",")[header.split(",").index(column)]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("test_accuracy", "test_accuracy: "),
        ("config_sha256", "config_sha256: "),
        ("weights_sha256", "weights_sha256: "),
        ("code_sha256", "code_sha256: "),
        ("fit_cpu_seconds", "fit_cpu_seconds: "),
    ],
)
def test_a_changed_number_or_hash_is_found(files: dict[str, bytes], column: str, told: str) -> None:
    cell = first_cell(files, column)
    other = repr(float(cell) + 0.0625) if "." in cell else "9" * len(cell)
    found = file_problems(edited(files, results.RUNS, cell, other), STUDY)
    assert any(told in line for line in found)


def test_a_verdict_that_the_tables_do_not_give_is_found(files: dict[str, bytes]) -> None:
    verdict = re.search(r'"verdict": "(\w+)"', files[results.CLAIMS].decode())
    assert verdict
    changed = edited(files, results.CLAIMS, f'"verdict": "{verdict[1]}"', '"verdict": "believed"')
    (found,) = file_problems(changed, STUDY)
    assert found.startswith("claims.json: ") and "believed" in found


def test_a_margin_changed_after_the_runs_is_found(files: dict[str, bytes]) -> None:
    claims = tuple(
        replace(one, margin=0.001) if isinstance(one, Higher) and one.margin else one for one in BASELINE.claims
    )
    found = file_problems(files, (replace(STUDY[0], claims=claims), EPOCHS))
    assert any("margin is 0.02, but computed again it is 0.001" in line for line in found)


def test_a_study_whose_arm_has_another_config_now_is_found(files: dict[str, bytes]) -> None:
    changed = (replace(STUDY[0], arms={**STUDY[0].arms, "cnn": replace(CNN, epochs=2, filters=16)}), EPOCHS)
    found = file_problems(files, changed)
    assert sum("does not count: another config than the arm has now" in line for line in found) == SEEDS


def test_a_run_of_no_study_is_found(files: dict[str, bytes]) -> None:
    assert any("there is no study epochs_study" in line for line in file_problems(files, STUDY[:1]))


@pytest.mark.parametrize("name", [results.RUNS, results.ENVIRONMENT, results.CLAIMS, results.MANIFEST])
def test_a_missing_file_is_found(files: dict[str, bytes], name: str) -> None:
    left = {one: content for one, content in files.items() if one != name}
    assert file_problems(left, STUDY) == [f"{name} is missing"]


def test_a_figure_that_was_changed_added_or_drawn_from_other_tables_is_found(files: dict[str, bytes]) -> None:
    figure = "figures/baseline_study/scores.svg"
    assert file_problems({**files, figure: b"<svg>nicer</svg>"}, STUDY) == [
        f"{figure} was changed after it was published"
    ]
    assert file_problems({**files, "figures/x.svg": b""}, STUDY) == ["figures/x.svg is not in manifest.json"]
    manifest = {**json.loads(files[results.MANIFEST]), "drawn_from": "0" * 64}
    (found,) = file_problems({**files, results.MANIFEST: tables.to_json(manifest)}, STUDY)
    assert found == "the figures were drawn from other tables than runs.csv and those of the epochs"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (results.RUNS, b"a,b\r\n1,2\r\n", "runs.csv: its columns are not"),
        (EPOCHS_OF_BASELINE, b"\xff", "epochs/baseline_study.csv: it holds no table"),
        (results.ENVIRONMENT, b"[]", "environment.json: "),
        (results.CLAIMS, b"{", "it holds no JSON value"),
        (results.MANIFEST, b"{}", "manifest.json lists no files"),
    ],
)
def test_files_of_something_else_are_told_in_a_line(
    files: dict[str, bytes], name: str, content: bytes, told: str
) -> None:
    found = file_problems({**files, name: content}, STUDY)
    assert any(told in line for line in found)


@pytest.fixture(scope="module")
def folder(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(files, tmp_path_factory.mktemp("published"))


def write(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(resolve(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", REPOSITORY))
    left: list[int] = []
    assert publishing.import_runs(store, STUDY, folder, left.append) == 4 * SEEDS
    assert left == list(range(4 * SEEDS, -1, -1))
    return store


def test_imported_runs_are_marked_and_have_their_numbers(store: Store, files: dict[str, bytes]) -> None:
    runs = store.runs().set_index("published")
    epochs = store.epochs(list(runs["run_id"])).groupby("run_id")
    for one in results.published_records(files):
        row = runs.loc[one.row["run_id"]]
        for name in ("status", "study", "arm", "seed", "weights_sha256", "test_accuracy", "fit_cpu_seconds", "name"):
            assert row[name] == one.row[name]
        assert epochs.get_group(row["run_id"])["loss"].tolist() == [epoch["loss"] for epoch in one.epochs]


def test_they_are_imported_once(store: Store, folder: Path) -> None:
    assert publishing.import_runs(store, STUDY, folder) == 0
    assert len(store.runs()) == 4 * SEEDS


def test_what_is_not_counted_is_not_imported_and_what_is_published_no_more_goes(tmp_path: Path) -> None:
    folder, store = tmp_path / "published", Store(resolve(f"sqlite:///{tmp_path}/mlflow.db", REPOSITORY))
    write(published([*records(0, 1), *records(0, processor="another")]), folder)
    assert publishing.import_runs(store, STUDY, folder) == 8
    write(published([*records(0, 1), *records(0, 1, 2, processor="another")]), folder)
    assert publishing.import_runs(store, STUDY, folder) == 12
    assert store.runs()["environment_sha256"].nunique() == 1 and len(store.runs()) == 12


def test_a_run_of_the_first_format_is_imported_as_that(tmp_path: Path) -> None:
    folder, store = tmp_path / "published", Store(resolve(f"sqlite:///{tmp_path}/mlflow.db", REPOSITORY))
    write(published(records(0, format=1, studies=STUDY[:1]), STUDY[:1]), folder)
    assert publishing.import_runs(store, STUDY[:1], folder) == 2
    for one in records_of(store, store.runs().to_dict("records")):
        assert one.format == 1 and absent(one.row["arithmetic"])
        assert missing(one, PUBLISHED_RULES) == [] and contradictions(one) == []


def test_an_imported_run_is_found_by_the_id_it_was_published_with(store: Store) -> None:
    row = store.runs().iloc[3]
    for start in (row["published"], row["published"][:8], row["run_id"], row["run_id"][:8]):
        assert store.find(start)["run_id"] == row["run_id"]


def test_an_import_that_was_cut_off_is_done_again(store: Store, folder: Path) -> None:
    run_id = store.runs()["run_id"].iloc[0]
    store.client.update_run(run_id, status="RUNNING")
    assert publishing.import_runs(store, STUDY, folder) == 1
    runs = store.runs()
    assert len(runs) == 4 * SEEDS and run_id not in set(runs["run_id"]) and set(runs["status"]) == {"FINISHED"}


def test_they_count_for_no_claim_and_no_table_of_the_store(store: Store) -> None:
    from fashion_cnn.evidence.verdicts import verdicts
    from fashion_cnn.reports import stored

    found = stored.recorded(store, STUDY)
    said = verdicts(STUDY, found.runs, found.epochs, pd.read_csv(POST_RESULTS), found.incomplete)
    assert [one.taken for one in said.studies] == [0, 0]
    assert said.studies[0].left_out == (("published, recorded elsewhere", 2 * SEEDS),)


def test_runs_that_the_store_recorded_itself_are_not_imported(tmp_path: Path, folder: Path, files: Any) -> None:
    there = {str(one.row["run_id"]) for one in results.published_records(files)}

    class Recording(Store):
        def runs(self, studies: Any = None, more: Any = ()) -> Any:
            return super().runs(studies, more).reindex(range(len(there))).assign(run_id=sorted(there))

    store = Recording(resolve(f"sqlite:///{tmp_path}/mlflow.db", REPOSITORY))
    assert publishing.import_runs(store, STUDY, folder) == 0


def test_update_publishes_what_the_store_holds_and_check_holds_then(tmp_path: Path, made_up: Path) -> None:
    lab = Lab(tmp_path, made_up)
    store = lab.store()
    for seed in (0, 1):
        for arm in BASELINE.arms:
            put(store, record(BASELINE, arm, seed), BASELINE.question)
    merged = publishing.update(store, STUDIES, lab.published, POST_RESULTS)
    assert merged.added == 4
    assert publishing.problems(STUDIES, lab.published, POST_RESULTS, _pages(tmp_path / "pages", lab)) == []
    assert publishing.update(store, STUDIES, lab.published, POST_RESULTS).added == 0
    printed = lab.call("results")
    assert "baseline_study" in printed
    assert f"Not published yet: {', '.join(study.name for study in STUDIES if study != BASELINE)}.\n" in printed
    (lab.published / "figures" / "baseline_study" / "scores.svg").write_text("<svg/>")
    assert "scores.svg was changed after it was published" in lab.call("results", "--check", status=1)


def test_an_update_that_would_drop_published_runs_writes_nothing_unless_it_is_told_to(
    tmp_path: Path, made_up: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, made_up)
    write(published(records(0, 1, studies=(BASELINE,)), (BASELINE,)), lab.published)
    before = publishing.read_files(lab.published)
    monkeypatch.setattr(recorded, "CODE", {**recorded.CODE, "models.py": "0" * 64})
    put(lab.store(), record(BASELINE, "cnn", 0, minutes=10_000), BASELINE.question)
    printed = lab.call("results", "--update", status=2)
    assert "error: 4 published runs would be dropped (baseline_study 4): another code (4); nothing was" in printed
    assert "--update --replace drops them" in printed and printed.count("\n") == 1
    assert publishing.read_files(lab.published) == before
    merged = publishing.update(lab.store(), STUDIES, lab.published, POST_RESULTS, replace=True)
    assert (merged.added, len(merged.records), len(merged.dropped)) == (1, 1, 4)
    assert len(publishing.read(lab.published)) == 1


def test_replace_without_an_update_is_refused(tmp_path: Path, made_up: Path) -> None:
    assert "give --update, too" in Lab(tmp_path, made_up).call("results", "--replace", status=2)


def _pages(repository: Path, lab: Lab) -> Path:
    """Documents with generated parts, brought up to date, and one without."""
    (repository / "docs").mkdir(parents=True)
    for name, part in (("README.md", "basis"), ("docs/results.md", "arms"), ("docs/none.md", None)):
        mark = "" if part is None else f'<!-- [[[cog cog.outl(part("{part}")) ]]] -->\n<!-- [[[end]]] -->\n'
        (repository / name).write_text(f"# A page\n{mark}", encoding="utf-8")
    found = publishing.problems(STUDIES, lab.published, POST_RESULTS, repository)
    assert found == [
        f"{name} differs from what is published; fashion-cnn results --pages writes it"
        for name in ("README.md", "docs/results.md")
    ]
    publishing.write_pages(STUDIES, lab.published, POST_RESULTS, repository)
    return repository


def test_without_published_results_the_command_says_what_makes_them(tmp_path: Path, made_up: Path) -> None:
    said = Lab(tmp_path, made_up).call("results", status=2)
    assert "has no published results; fashion-cnn results --update makes them" in said


def test_what_this_repository_publishes_holds() -> None:
    """As `fashion-cnn results --check`: verdicts, tables and pages, computed again from the committed files alone."""
    assert publishing.problems(STUDIES, RESULTS, POST_RESULTS, REPOSITORY) == []


def test_the_published_runs_name_one_code_and_this_one_has_its_known_answers() -> None:
    """They need not be one: a published run is replayed by the code that it names."""
    assert len({str(one.row["code_sha256"]) for one in publishing.read(RESULTS)}) == 1
    assert known()["code_sha256"] == code_sha256(), (
        "a module that decides numbers no longer does as it did when the known answers were taken. If that is not "
        "meant, undo it. If it is, say so in LOG.md and run python -m fashion_cnn.known_answers --write"
    )


def test_the_tables_that_this_repository_publishes_are_written_again_byte_for_byte() -> None:
    files = publishing.read_files(RESULTS)
    written = results.record_tables(results.published_records(files))
    assert results.RUNS in written and results.epoch_tables(written) == results.epoch_tables(files)
    assert written.items() <= files.items()


def test_no_published_file_is_over_a_mebibyte_or_holds_a_path() -> None:
    for path in RESULTS.rglob("*"):
        if path.is_file():
            assert path.stat().st_size <= 2**20, path.name
            if path.suffix in (".csv", ".json"):
                assert not re.search(r'["\s,](/(home|root|tmp|work|usr|var)\b)', path.read_text(encoding="utf-8")), path


@pytest.mark.slow
@pytest.mark.real_data
def test_the_first_epochs_of_published_runs_are_exact_wherever_the_known_answers_hold() -> None:
    """The promise of portable arithmetic: whatever processor made the published runs, this one gives their bits."""
    ended = subprocess.run(
        [sys.executable, "-m", "experiments", "replay", "--published", BASELINE.name, "--epochs", "1", "--json"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(ended.stdout)
    print(f"published runs replayed here: {found['answers']}")
    portable = settled(None).arithmetic == "portable"
    expected = ("EXACT", 0) if portable else ("NOT COMPARABLE", 3)
    assert (found["answers"], ended.returncode) == ({expected[0]: len(BASELINE.arms)}, expected[1])
