"""Where published results meet files and a store: read and write the folder, import it, bring it up to date."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fashion_cnn.data import Dataset
from fashion_cnn.evidence.images import answers_of
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import Selection, select
from fashion_cnn.evidence.tables import frames, from_json, run_frame, to_json
from fashion_cnn.evidence.verdicts import Verdicts, claims_values
from fashion_cnn.reports import power
from fashion_cnn.reports import published as results
from fashion_cnn.reports import readme as summary
from fashion_cnn.reports.dashboard import tags_of_counted
from fashion_cnn.reports.gather import (
    activations_of,
    data_set,
    first_runs,
    study_views,
    with_maps,
)
from fashion_cnn.reports.maps import Thumbnails
from fashion_cnn.reports.page import StudyView, cost_figure, study_figures
from fashion_cnn.reports.problems import check
from fashion_cnn.reports.published import CLAIMS, FIGURES, LARGEST, MANIFEST, MAPS, ORIGIN, Merged, ResultsError
from fashion_cnn.reports.stored import selections
from fashion_cnn.running.cut import layer_sheets
from fashion_cnn.store import grid
from fashion_cnn.store.files import write_bytes
from fashion_cnn.store.heading import figure_heading, headed
from fashion_cnn.store.tracking import Store
from fashion_cnn.store.views import PUBLISHED
from fashion_cnn.study import Study

FEATURE_MAPS = "figures/feature_maps.png"  # of a run
SHOWN = {MAPS: FEATURE_MAPS, results.ACTIVATIONS: "activations.npz"}  # where a run has what is published
WHOLE = "all_layers"  # what a picture of all layers is called among those of one each
SCREENSHOT = re.compile(r"screenshots/[a-z0-9_-]+\.(?:jpg|png)")
PILOT_VERDICTS = "experiments/pilot_verdicts.csv"  # in the repository
BENCHMARKS = ("benchmark", "scaling", "server")
PILOT = "experiments/pilot.csv"  # in the repository: the runs that the number of published seeds rests on


def read_files(folder: Path) -> dict[str, bytes]:
    """The published files by name, relative to their folder, which need not be there."""
    listed = [folder / name for name in (results.RUNS, results.EPOCHS, results.ENVIRONMENT, CLAIMS, MANIFEST)]
    listed += [path for part in results.FOLDERS for path in sorted((folder / part).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): _content(path) for path in listed if path.exists()}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{error.filename} cannot be read ({error.strerror})") from None


def read(folder: Path) -> list[Record]:
    """The published records; a ResultsError where there are none, or the files are no published records."""
    return _records(read_files(folder), folder)


def _records(files: Mapping[str, bytes], folder: Path) -> list[Record]:
    """As `read`, of files that were read already."""
    records = results.published_records(files)
    if not records:
        raise ResultsError(f"{folder} has no published results; fashion-cnn results --update makes them")
    return records


def problems(studies: Sequence[Study], folder: Path, post: Path, repository: Path) -> list[str]:
    """What does not hold of the published files (`folder`) and of the documents' generated parts, a line each.

    `post` is the file of the post's printed numbers; README.md and docs/ of the `repository` are looked at.
    """
    files = read_files(folder)
    found = [f"{name} does not belong to the published files: delete it" for name in _strangers(folder, files)]
    try:
        checked = check(files, studies, post.read_bytes())
    except ResultsError as error:
        return [*found, str(error)]
    if found := [*found, *checked.problems]:
        return found
    pages = [
        page.relative_to(repository).as_posix()
        for page in _rendered(studies, checked.records, checked.verdicts, folder, repository)
    ]
    return [f"{page} differs from what is published; fashion-cnn results --pages writes it" for page in pages]


def _strangers(folder: Path, files: Collection[str]) -> list[str]:
    """The files of the folder that are neither published records nor measurements of the machinery."""
    known = {*files, *(f"{name}.{kind}" for name in BENCHMARKS for kind in ("json", "md"))}
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return [name for name in there if name not in known and not SCREENSHOT.fullmatch(name)] + [
        name for name in files if name.startswith((FIGURES, MAPS)) and not name.endswith((".svg", ".png"))
    ]


def write_pages(studies: Sequence[Study], folder: Path, post: Path, repository: Path) -> list[str]:
    """Generate the parts of README.md and docs/ anew; see `problems` for the arguments. Returns the changed pages."""
    records = read(folder)
    verdicts = results.verdicts_over(studies, records, post.read_bytes())
    rendered = _rendered(studies, records, verdicts, folder, repository)
    for page, text in rendered.items():
        write_bytes(page, text.encode())
    return [page.relative_to(repository).as_posix() for page in rendered]


def _rendered(
    studies: Sequence[Study], records: Sequence[Record], decided: Verdicts, folder: Path, repository: Path
) -> dict[Path, str]:
    """The pages whose generated parts differ, as they should be."""
    measured = {name: path for name in BENCHMARKS if (path := folder / f"{name}.json").exists()}
    benchmarks = {name: from_json(path.read_bytes()) for name, path in measured.items()}
    verdicts, runs = repository / PILOT_VERDICTS, repository / PILOT
    known = verdicts.read_bytes() if verdicts.exists() else b""
    made = summary.parts(studies, records, decided, benchmarks, known)
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
    row, shown = record.row, _as_published(files, record)
    if FEATURE_MAPS in shown:
        words = figure_heading(row["study"], row["name"], int(row["epochs_trained"]), row["run_id"])
        shown[FEATURE_MAPS] = headed(shown[FEATURE_MAPS], words)
    return shown


def _as_published(files: Mapping[str, bytes], record: Record) -> dict[str, bytes]:
    """As `shown_files`, the picture without a heading, which takes as long to write as the picture to draw."""
    names = {artifact: results.file_of(folder, record.row) for folder, artifact in SHOWN.items()}
    return {artifact: files[name] for artifact, name in names.items() if name in files}


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
    questions = {study.name: study.question for study in studies}
    counted, runs = _counted(studies, folder), store.runs(list(questions))
    # Imports from before there was an origin came from here, too.
    from_here = runs["published"].notna() & (runs["imported"].isna() | runs["imported"].eq(ORIGIN))
    for run_id in runs[from_here & ~runs["published"].isin(counted)]["run_id"]:
        store.delete(run_id)
    whole = runs["status"] == "FINISHED"
    if whole[from_here].all() and counted <= {*runs["run_id"], *runs[whole]["published"]}:
        step(0)  # known from the table of runs alone: reading all the rest takes longer than a server's start
        return 0
    files = read_files(folder)
    with_shown = []
    for record in results.published_records(files):
        if record.row["run_id"] not in counted:
            continue
        shown = shown_files(files, record)
        with_shown.append(replace(record, artifacts={**record.artifacts, **shown, **_in_grid(record, shown)}))
    return import_records(store, with_shown, questions, ORIGIN, step, tags_of_counted(studies, PUBLISHED))


def _in_grid(record: Record, shown: Mapping[str, bytes]) -> dict[str, bytes]:
    """What MLflow's image grid shows of a run by what is published to look at, as artifacts."""
    pictures = _drawn(shown)
    if not pictures:
        return {}
    last = record.states()[-1]
    epoch, at = int(last["epoch"]), int(last["ended_at"])
    maps = [grid.Picture(f"{grid.MAPS}/{layer}", epoch, at, png) for layer, png in pictures.items()]
    return grid.files(str(record.row["run_id"]), maps)


def _drawn(shown: Mapping[str, bytes]) -> dict[str, bytes]:
    """The feature maps of a run, PNGs: a sheet of each layer from its activations, else the picture of all layers.

    `shown` is what is published to look at, by the run's path.
    """
    if (content := shown.get(SHOWN[results.ACTIVATIONS])) is not None:
        return layer_sheets({name: maps for name, maps in activations_of(content).items() if name != "images"})
    return {WHOLE: shown[FEATURE_MAPS]} if FEATURE_MAPS in shown else {}


def published_views(
    studies: Sequence[Study], folder: Path, post: Path, data: Dataset | None
) -> tuple[list[StudyView], Verdicts]:
    """What the report shows of the published runs of some studies, and what they say of the claims.

    `post` is the file of the post's printed numbers; `data` has the images that feature maps are of. A ResultsError
    says that nothing is published.
    """
    files = read_files(folder)
    records = _records(files, folder)
    runs, epochs = frames(records)
    answers, by_id = answers_of(records), {str(record.row["run_id"]): record for record in records}
    views = []
    for study in studies:
        view = StudyView.of(study, runs, epochs, answers)
        chosen, _ = select(view.runs, study)
        activations: dict[str, dict[str, Any]] = {}
        sheets: dict[str, Thumbnails] = {}
        for row in first_runs(chosen):
            shown = _as_published(files, by_id[str(row["run_id"])])
            if (content := shown.get(SHOWN[results.ACTIVATIONS])) is not None:
                activations[row["arm"]] = activations_of(content)
            if pictures := _drawn(shown):
                sheets[row["arm"]] = {int(row["epochs_trained"]): pictures}
        drawn = results.drawn(files, study.name)
        views.append(replace(with_maps(view, chosen, activations, data), sheets=sheets, drawn=drawn))
    return views, results.verdicts_over(studies, records, post.read_bytes())


def import_records(
    store: Store,
    records: Sequence[Record],
    questions: Mapping[str, str],
    origin: str,
    step: Callable[[int], Any] = lambda count: None,
    tags: Mapping[tuple[str, str], Mapping[str, str]] = MappingProxyType({}),
) -> int:
    """Bring records from elsewhere into a store, but for those that it has; see `import_runs`.

    `questions` are those of all their studies, `tags` those that runs get besides, by study and arm. Returns how many
    were imported.
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
        study, arm = str(record.row["study"]), str(record.row["arm"])
        store.import_elsewhere(record, questions[study], origin, tags.get((study, arm)))
        step(len(missing) - number)
    return len(missing)


def published_selections(studies: Sequence[Study], folder: Path) -> list[Selection]:
    """The published records of some studies that count, in their order, with what is published to look at."""
    files = read_files(folder)
    records = {str(record.row["run_id"]): record for record in _records(files, folder)}
    runs, _ = frames(list(records.values()))
    selections = []
    for study in studies:
        chosen, left_out = select(runs[runs["study"] == study.name], study)
        found = [records[run_id] for run_id in chosen["run_id"]]
        whole = [replace(record, artifacts={**record.artifacts, **shown_files(files, record)}) for record in found]
        selections.append(Selection(study, whole, left_out))
    return selections


def published_studies(folder: Path) -> set[str]:
    """The names of the studies that have published runs."""
    return {str(row["study"]) for row in _run_rows(folder)}


def _run_rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / results.RUNS
    return results.run_rows(_content(path)) if path.exists() else []


def _counted(studies: Sequence[Study], folder: Path) -> set[str]:
    """The ids of the published runs that claims and tables of these studies rest on."""
    runs = run_frame(_run_rows(folder))
    chosen = [select(runs[runs["study"] == study.name], study)[0]["run_id"] for study in studies]
    return {str(run_id) for run_ids in chosen for run_id in run_ids}
