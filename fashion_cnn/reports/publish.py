"""Where published results meet files and a store: read and write the folder, import it, bring it up to date."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import Selection, select
from fashion_cnn.evidence.tables import frames, from_json, to_json
from fashion_cnn.evidence.verdicts import Verdicts, claims_values
from fashion_cnn.reports import power
from fashion_cnn.reports import published as results
from fashion_cnn.reports import readme as summary
from fashion_cnn.reports.gather import data_set, selections, study_views
from fashion_cnn.reports.page import StudyView, cost_figure, study_figures
from fashion_cnn.reports.published import CLAIMS, FIGURES, LARGEST, MANIFEST, MAPS, Merged, ResultsError
from fashion_cnn.store.files import write_bytes
from fashion_cnn.store.heading import figure_heading, headed
from fashion_cnn.store.tracking import Store
from fashion_cnn.study import Study

FEATURE_MAPS = "figures/feature_maps.png"  # of a run
SHOWN = {MAPS: FEATURE_MAPS, results.ACTIVATIONS: "activations.npz"}  # where a run has what is published
ORIGIN = "experiments/results"
SCREENSHOT = re.compile(r"screenshots/[a-z0-9_-]+\.(?:jpg|png)")
PILOT_VERDICTS = "experiments/pilot_verdicts.csv"  # in the repository
BENCHMARKS = ("benchmark", "scaling", "server")
PILOT = "experiments/pilot.csv"  # in the repository: the runs that the number of published seeds rests on


def read_files(folder: Path) -> dict[str, bytes]:
    """The published files by name, relative to their folder, which need not be there."""
    listed = [folder / name for name in (results.RUNS, results.EPOCHS, results.ENVIRONMENT, CLAIMS, MANIFEST)]
    listed += [path for part in results.FOLDERS for path in sorted((folder / part).rglob("*")) if path.is_file()]
    try:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in listed if path.exists()}
    except OSError as error:
        raise ResultsError(f"{error.filename} cannot be read ({error.strerror})") from None


def read(folder: Path) -> list[Record]:
    """The published records; a ResultsError where there are none, or the files are no published records."""
    records = results.published_records(read_files(folder))
    if not records:
        raise ResultsError(f"{folder} has no published results; fashion-cnn results --update makes them")
    return records


def problems(studies: Sequence[Study], folder: Path, post: Path, repository: Path) -> list[str]:
    """What does not hold of the published files (`folder`) and of the documents' generated parts, a line each.

    `post` is the file of the post's printed numbers; README.md and docs/ of the `repository` are looked at.
    """
    files = read_files(folder)
    found = [f"{name} does not belong to the published files: delete it" for name in _strangers(folder, files)]
    if found := [*found, *results.file_problems(files, studies, post.read_bytes())]:
        return found
    pages = [page.relative_to(repository).as_posix() for page in _rendered(studies, folder, post, repository)]
    return [f"{page} differs from what is published; fashion-cnn results --update writes it" for page in pages]


def _strangers(folder: Path, files: Collection[str]) -> list[str]:
    """The files of the folder that are neither published records nor measurements of the machinery."""
    known = {*files, *(f"{name}.{kind}" for name in BENCHMARKS for kind in ("json", "md"))}
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return [name for name in there if name not in known and not SCREENSHOT.fullmatch(name)] + [
        name for name in files if name.startswith((FIGURES, MAPS)) and not name.endswith((".svg", ".png"))
    ]


def write_readme(studies: Sequence[Study], folder: Path, post: Path, repository: Path) -> None:
    """Generate the parts of README.md and docs/ anew; see `problems` for the arguments."""
    for page, text in _rendered(studies, folder, post, repository).items():
        write_bytes(page, text.encode())


def _rendered(studies: Sequence[Study], folder: Path, post: Path, repository: Path) -> dict[Path, str]:
    """The pages whose generated parts differ, as they should be."""
    measured = {name: path for name in BENCHMARKS if (path := folder / f"{name}.json").exists()}
    benchmarks = {name: from_json(path.read_bytes()) for name, path in measured.items()}
    verdicts, runs = repository / PILOT_VERDICTS, repository / PILOT
    known = verdicts.read_bytes() if verdicts.exists() else b""
    made = summary.parts(studies, read(folder), post.read_bytes(), benchmarks, known)
    if runs.exists():
        made |= power.parts(studies, runs.read_bytes())
    pages: dict[Path, str] = {}
    for page in (repository / "README.md", *sorted((repository / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if (rendered := summary.render(text, made, page.relative_to(repository).as_posix())) != text:
            pages[page] = rendered
    return pages


def update(store: Store, studies: Sequence[Study], folder: Path, post: Path, *, replace: bool = False) -> Merged:
    """Merge a store's complete records into the published files; a file that is no longer published is deleted.

    Published records are dropped for newer ones of other code, data or config only with `replace`.

    Raises:
        ResultsError: the records contradict each other or what is published, published ones would be dropped, or a
            file would be too large; nothing was written.
        StoreError: the store does not answer.
    """
    before = read_files(folder)
    recorded = [record for selection in selections(store, studies) for record in selection.records]
    merged = results.merge(studies, results.published_records(before), recorded)
    if not replace:
        results.check_nothing_lost(merged)
    if not merged.records:
        raise ResultsError("the store has no complete record of these studies, and nothing is published yet")
    files = results.record_tables(merged.records)
    verdicts = results.verdicts_over(studies, merged.records, post.read_bytes())
    files[CLAIMS] = to_json(claims_values(verdicts))
    files |= _figures(store, studies, merged.records, verdicts, before)
    files |= _shown(store, merged.records, {str(record.row["run_id"]) for record in recorded}, before)
    files[MANIFEST] = results.manifest(files)
    for name, content in files.items():
        if len(content) > LARGEST:
            raise ResultsError(f"{name} would have {len(content):,} bytes; allowed: {LARGEST:,}")
    for name, content in files.items():
        if before.get(name) != content:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
    for name in before.keys() - files.keys():
        (folder / name).unlink()
    return merged


def _figures(
    store: Store, studies: Sequence[Study], records: Sequence[Record], verdicts: Verdicts, before: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Each study's figures; those of activations that the store does not have stay as they were."""
    runs, epochs = frames(records)
    views = [StudyView.of(study, runs, epochs) for study in studies]
    files = {FIGURES + name: content for name, content in cost_figure(views).items()}
    for view, published in zip(study_views(store, studies, data_set(None)), views, strict=True):
        view = replace(view, runs=published.runs, epochs=published.epochs, incomplete={})
        drawn = study_figures(view, verdicts)
        prefix = f"{FIGURES}{view.study.name}/"
        if not any(name.endswith(".png") for name in drawn):
            files |= {name: content for name, content in before.items() if name.startswith(prefix) and "maps" in name}
        files |= {prefix + name: content for name, content in drawn.items()}
    return files


def _shown(
    store: Store, records: Sequence[Record], recorded: Collection[str], before: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The feature maps of the first seed's runs and their activations, of the runs recorded here or as they were."""
    first = min((int(record.row["seed"]) for record in records), default=0)
    files: dict[str, bytes] = {}
    for record in records:
        if int(record.row["seed"]) != first or record.row["model"] != "cnn":
            continue
        run_id = str(record.row["run_id"])
        for folder, artifact in SHOWN.items():
            name = results.file_of(folder, record.row)
            if name in before:
                files[name] = before[name]
            elif name not in files and run_id in recorded and (path := store.artifact(run_id, artifact)) is not None:
                files[name] = path.read_bytes()
    return files


def shown_files(files: Mapping[str, bytes], record: Record) -> dict[str, bytes]:
    """Which of a run's feature maps and activations are published, by the run's path.

    Runs that end alike share a picture: each has it under its own heading.
    """
    row = record.row
    names = {artifact: results.file_of(folder, row) for folder, artifact in SHOWN.items()}
    shown = {artifact: files[name] for artifact, name in names.items() if name in files}
    if FEATURE_MAPS in shown:
        words = figure_heading(row["study"], row["name"], int(row["epochs_trained"]), row["run_id"])
        shown[FEATURE_MAPS] = headed(shown[FEATURE_MAPS], words)
    return shown


def import_runs(
    store: Store, studies: Sequence[Study], folder: Path, step: Callable[[int], Any] = lambda count: None
) -> int:
    """Bring the published runs that count into a store; an import that was cut off is done again.

    Those of another environment, which no table counts, stay in the files; those that this store recorded itself are
    there already. What was imported before and is no longer published goes into the store's bin. `step` is told before
    the first and after each how many are still to come.

    Returns:
        How many were imported.

    Raises:
        ResultsError: the files are no published records.
        StoreError: the store does not take them.
    """
    files = read_files(folder)
    questions = {study.name: study.question for study in studies}
    published = _counted(studies, results.published_records(files))
    runs = store.runs(list(questions))
    run_ids = [record.row["run_id"] for record in published]
    # Imports from before there was an origin came from here, too.
    from_here = runs["published"].notna() & (runs["imported"].isna() | runs["imported"].eq(ORIGIN))
    for run_id in runs[from_here & ~runs["published"].isin(run_ids)]["run_id"]:
        store.delete(run_id)
    with_shown = [replace(record, artifacts={**record.artifacts, **shown_files(files, record)}) for record in published]
    return import_records(store, with_shown, questions, ORIGIN, step)


def import_records(
    store: Store,
    records: Sequence[Record],
    questions: Mapping[str, str],
    origin: str,
    step: Callable[[int], Any] = lambda count: None,
) -> int:
    """Bring records from elsewhere into a store, but for those that it has; see `import_runs`.

    `questions` are those of all their studies. Returns how many were imported.
    """
    runs = store.runs(list(questions))
    imported = runs[runs["published"].isin([record.row["run_id"] for record in records])]
    whole = imported["status"] == "FINISHED"
    for run_id in imported[~whole]["run_id"]:
        store.delete(run_id)
    there = {*runs["run_id"], *imported[whole]["published"]}
    missing = [record for record in records if record.row["run_id"] not in there]
    step(len(missing))
    for number, record in enumerate(missing, start=1):
        store.import_elsewhere(record, questions[str(record.row["study"])], origin)
        step(len(missing) - number)
    return len(missing)


def published_selections(studies: Sequence[Study], folder: Path) -> list[Selection]:
    """The published records of some studies that count, in their order, with what is published to look at."""
    files, records = read_files(folder), {str(record.row["run_id"]): record for record in read(folder)}
    runs, _ = frames(list(records.values()))
    selections = []
    for study in studies:
        chosen, left_out = select(runs[runs["study"] == study.name], study)
        found = [records[run_id] for run_id in chosen["run_id"]]
        whole = [replace(record, artifacts={**record.artifacts, **shown_files(files, record)}) for record in found]
        selections.append(Selection(study, whole, left_out))
    return selections


def _counted(studies: Sequence[Study], published: Sequence[Record]) -> list[Record]:
    """The published records that claims and tables of these studies rest on."""
    runs, _ = frames(published)
    chosen = [select(runs[runs["study"] == study.name], study)[0]["run_id"] for study in studies]
    counted = {run_id for run_ids in chosen for run_id in run_ids}
    return [record for record in published if record.row["run_id"] in counted]
