"""The commands for comparing runs: list, ui, report, export, diff."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_cnn.cli.actions import DONE, Commands, Project, answer, count, open_store, write_output
from fashion_cnn.study import select_studies
from fashion_cnn.terminal import complain, printable

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.store.tracking import Store


def add_commands(commands: Commands) -> None:
    """Add list, ui, report, export and diff."""
    commands.add("list", "list the recorded runs", _list, "study", "--json", "--tracking-uri")
    ui = commands.add("ui", "serve the store on this machine and print the address to open", _ui, "--tracking-uri")
    ui.add_argument("study", nargs="?", metavar="STUDY", help="print the addresses of this study alone")
    ui.add_argument("--port", type=count, default=5000, help="(default: 5000)")
    allow_help = "also answer a browser that reaches it as HOST[:PORT], through a proxy; may be given again"
    ui.add_argument("--allow", action="append", type=_host, default=[], metavar="HOST", help=allow_help)
    ui.add_argument("--published", action="store_true", help="import the published runs into the store first, once")
    ui.add_argument("--open", action="store_true", help="open a browser there")
    report_help = "write one offline HTML page of all studies, of the recorded runs or of the published ones"
    report = commands.add("report", report_help, _report, "study", "--data-dir", "--tracking-uri")
    report.add_argument("--output", metavar="FILE", default="report.html", help="(default: report.html)")
    report.add_argument("--figures", metavar="DIR", help="write the studies' figures into this folder, too")
    whose = report.add_mutually_exclusive_group()
    whose.add_argument("--published", action="store_true", help="of the published runs; needs no store")
    else_help = "of the published runs where the store has no finished one of your own"
    whose.add_argument("--or-published", action="store_true", help=else_help)
    export = commands.add("export", "write runs.csv and epochs.csv", _export, "study", "--tracking-uri")
    export.add_argument("--output", metavar="DIR", default=".", help="folder to write into (default: this one)")
    diff_help = "tell how two runs differ: settings, seed, data, code, environment, and the first epoch that does"
    diff = commands.add("diff", diff_help, _diff, "--json", "--tracking-uri")
    for name, which in (("first", "a run's id, or its first digits, at least 6"), ("second", "another's")):
        diff.add_argument(name, metavar="RUN_ID", help=which)


def _host(text: str) -> str:
    """A host as browsers send it, as an argument's type; a pattern would let in more than it says."""
    if re.fullmatch(r"[A-Za-z0-9._-]+(:[0-9]+)?", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a name or name:port, as in the browser's address")


def _list(project: Project, options: argparse.Namespace) -> int:
    import pandas as pd

    from fashion_cnn.cli import tables
    from fashion_cnn.store.tracking import is_lost

    store = open_store(options)
    _tell_renamed(store)
    runs, now = _recorded_runs(project, options.study, store), store.clock.now()
    lost = pd.Series([is_lost(row, now) for row in runs.to_dict("records")], runs.index, dtype=bool)
    tables.show_runs(runs.assign(status=runs["status"].mask(lost, "lost")), as_json=options.json)
    return DONE


def _tell_renamed(store: Store) -> None:
    for study, name in store.renamed().items():
        complain(f"the experiment of {study} is called {printable(name)} in the store")


def _recorded_runs(project: Project, names: Sequence[str], store: Store) -> pd.DataFrame:
    """The runs of the named studies; where none is named, all runs of the store."""
    return store.runs(project.recorded_studies(names) if names else None)


def _ui(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli.ui import serve

    chosen = select_studies(project.studies, [options.study] if options.study else [])
    store = open_store(options, create=options.published)
    _tell_renamed(store)
    names = [study.name for study in chosen]
    prepare = partial(_prepare, project, store, published=options.published)
    return serve(store, names, options.port, options.allow, prepare=prepare, browse=options.open)


def _prepare(project: Project, store: Store, *, published: bool) -> None:
    """Have the store hold the published runs, where that is asked for, and views of all studies."""
    from fashion_cnn.reports.publish import import_runs
    from fashion_cnn.store import views
    from fashion_cnn.terminal import counting_down

    binned = store.binned([study.name for study in project.studies]) if published else []
    for lost in binned:
        complain(f"{lost}; its published runs are not imported")
    studies = [study for study in project.studies if study.name not in {lost.study for lost in binned}]
    imported = 0
    if published:
        with counting_down("importing published runs") as step:
            imported = import_runs(store, studies, project.published, step)
    if imported:
        complain(f"{imported} published runs imported, tagged `published`; they never count as recorded")
    there = views.there(store)
    stale = [study for study in studies if imported or (study.name in there and not there[study.name][1])]
    if stale:
        from fashion_cnn.reports.dashboard import refresh

        for line in refresh(store, stale, project.post):
            complain(line)


def _report(project: Project, options: argparse.Namespace) -> int:
    import time

    from fashion_cnn.data import CLASS_NAMES
    from fashion_cnn.reports.gather import data_set, recorded, study_views
    from fashion_cnn.reports.page import Exploratory, cost_figure, render_report, study_figures
    from fashion_cnn.reports.publish import published_views

    chosen, data = select_studies(project.studies, options.study), data_set(options.data_dir)
    store = _reported_store(project, options)
    if store is None:
        views, verdicts = published_views(chosen, project.published, project.post, data)
    else:
        stored = recorded(store, project.studies)
        views, verdicts = study_views(store, chosen, data, stored), stored.verdicts(project.studies, project.post)
    look = None if data is None else Exploratory(data.train_images, data.train_labels, data.test_labels, CLASS_NAMES)
    page = render_report(
        views,
        verdicts=verdicts,
        made_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        exploratory=look,
        published=store is None,
    )
    write_output(Path(options.output), page.encode())
    if options.figures:
        drawn = cost_figure(views)
        for view in views:
            drawn |= {f"{view.study.name}/{name}": figure for name, figure in study_figures(view, verdicts).items()}
        for name, figure in drawn.items():
            path = Path(options.figures, name)
            write_output(path, figure, option="--figures")
            print(f"{path}: {len(figure) / 2**10:.0f} KiB")
    print(f"{options.output}: {len(page) / 2**20:.1f} MiB, opens in any browser without a network")
    return DONE


def _reported_store(project: Project, options: argparse.Namespace) -> Store | None:
    """The store whose runs a report is of; None where it is of the published ones."""
    from fashion_cnn.checkout import REPOSITORY
    from fashion_cnn.store.address import resolve

    if options.published:
        return None
    address = resolve(options.tracking_uri, REPOSITORY)
    if not options.or_published or address.file is None or address.file.exists():
        store = open_store(options)
        runs = store.runs([study.name for study in project.studies]) if options.or_published else None
        if runs is None or _own(runs).any():
            return store
    complain("no finished run of your own is recorded yet: this report is of the published runs")
    return None


def _own(runs: pd.DataFrame) -> pd.Series[bool]:
    """Which runs of a store were recorded in it, finished, and are no trials."""
    return (runs["status"] == "FINISHED") & (runs["smoke"] == "false") & runs["published"].isna()


def _export(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.evidence.inert import inert_cell
    from fashion_cnn.evidence.tables import columns_of

    store = open_store(options)
    runs = _recorded_runs(project, options.study, store)
    runs = runs[list(columns_of(runs.to_dict("records"), dict.fromkeys(runs, "text")))]
    epochs = store.epochs(list(runs["run_id"]))
    for name, frame in (("runs.csv", runs), ("epochs.csv", epochs)):
        path = Path(options.output, name)
        inert = frame.map(lambda value: inert_cell(value) if isinstance(value, str) else value)
        write_output(path, inert.to_csv(index=False).encode())
        print(f"{path}: {len(frame)} rows")
    return DONE


def _diff(_: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.review.difference import difference
    from fashion_cnn.review.replay import records_of

    store = open_store(options)
    rows = [store.find(options.first), store.find(options.second)]
    # Each by itself: the epochs of a run that is named twice would be read once.
    first, second = (next(records_of(store, [row], whole=False)) for row in rows)
    found = difference(first, second)
    answer(options, found.as_dict(), "\n".join(found.lines()))
    return DONE
