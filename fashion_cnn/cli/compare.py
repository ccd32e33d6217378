"""The commands for comparing runs: list, ui, report, export, diff."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_cnn.cli.actions import (
    DONE,
    RUN_ID,
    Commands,
    Project,
    answer,
    completed,
    count,
    open_store,
    write_output,
)
from fashion_cnn.config import nearest
from fashion_cnn.study import StudyError, select_studies
from fashion_cnn.terminal import complain, counted, printable

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.reports.stored import StoreFrames
    from fashion_cnn.store.tracking import Store

PORTS = 65_535  # the highest one there is
STATUSES = ("finished", "running", "failed", "killed", "lost", "scheduled")


def add_commands(commands: Commands) -> None:
    """Add list, ui, report, export and diff."""
    commands.group("compare runs")
    _add_list(commands)
    ui_help = "serve the store on this machine and print the address to open"
    ui = commands.add("ui", ui_help, _ui, "--tracking-uri", example="filter_study --published")
    study = ui.add_argument("study", nargs="?", metavar="STUDY", help="print the addresses of this study alone")
    completed(study, commands.studies)
    ui.add_argument("--port", type=_port, metavar="N", default=5000, help=f"1 to {PORTS} (default: 5000)")
    allow_help = "also answer a browser that reaches it as HOST[:PORT], through a proxy; may be given again"
    ui.add_argument("--allow", action="append", type=_host, default=[], metavar="HOST", help=allow_help)
    ui.add_argument("--published", action="store_true", help="import the published runs into the store first, once")
    ui.add_argument("--open", action="store_true", help="open a browser there")
    report_help = "write one offline HTML page of all studies, of the recorded runs or of the published ones"
    store = ("study", "--tracking-uri")
    report = commands.add("report", report_help, _report, "--data-dir", *store, example="--output page.html")
    report.add_argument("--output", metavar="FILE", default="report.html", help="(default: report.html)")
    report.add_argument("--figures", metavar="DIR", help="write the studies' figures into this folder, too")
    whose = report.add_mutually_exclusive_group()
    whose.add_argument("--published", action="store_true", help="of the published runs; needs no store")
    else_help = "of the published runs where the store has no finished one of your own"
    whose.add_argument("--or-published", action="store_true", help=else_help)
    export = commands.add("export", "write runs.csv and epochs.csv", _export, *store, example="--output tables")
    export.add_argument("--output", metavar="DIR", default=".", help="folder to write into (default: this one)")
    diff_help = "tell how two runs differ: settings, seed, data, code, environment, and the first epoch that does"
    diff = commands.add("diff", diff_help, _diff, "--json", "--tracking-uri", example="1f0c9a3b 7d42e610")
    for name, which in (("first", RUN_ID), ("second", "another's")):
        diff.add_argument(name, metavar="RUN_ID", help=which)


def _add_list(commands: Commands) -> None:
    shared = ("study", "--json", "--tracking-uri")
    listing = commands.add("list", "list the recorded runs", _list, *shared, example="filter_study --limit 5")
    which = listing.add_argument_group("which runs")
    study_help = "of this study; may be given again, as STUDY may"
    study = which.add_argument("--study", dest="studies", action="append", default=[], metavar="STUDY", help=study_help)
    completed(study, commands.studies)
    arm_help = "of this arm, by its whole name; may be given again"
    arm = which.add_argument("--arm", dest="arms", action="append", default=[], metavar="NAME", help=arm_help)
    completed(arm, commands.arms)
    which.add_argument("--status", choices=STATUSES, help="that ended so, or have not ended")
    which.add_argument("--limit", type=count, metavar="N", help="the newest N of them")


def _port(text: str) -> int:
    return count(text, PORTS)


def _host(text: str) -> str:
    """A host as browsers send it, as an argument's type; a pattern would let in more than it says."""
    if re.fullmatch(r"[A-Za-z0-9._-]+(:[0-9]+)?", text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a name or name:port, as in the browser's address")


def _list(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.cli.answers import run_values
    from fashion_cnn.store.tracking import is_lost

    store = open_store(options)
    _tell_renamed(store)
    rows, now = _recorded_runs(project, [*options.study, *options.studies], store).to_dict("records"), store.clock.now()
    arms = list(dict.fromkeys(str(row["arm"]) for row in rows))
    for arm in options.arms:
        if arm not in arms:
            there = f"there are: {'; '.join(arms)}" if arms else "there are none"
            raise StudyError(f"no run of an arm {printable(arm)!r} is recorded{nearest(arm, arms)}; {there}")
    runs = [run_values({**row, "status": "LOST" if is_lost(row, now) else row["status"]}) for row in rows]
    chosen = [
        run
        for run in runs
        if options.status in (None, run["status"].lower()) and (not options.arms or run["arm"] in options.arms)
    ]
    newest = chosen[-options.limit :] if options.limit else chosen
    tables.show_runs(newest, of=len(runs), as_json=options.json)
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
    from fashion_cnn.reports.gather import data_set, study_views
    from fashion_cnn.reports.page import Exploratory, cost_figure, render_report, study_figures
    from fashion_cnn.reports.publish import published_views

    chosen, data = select_studies(project.studies, options.study), data_set(options.data_dir)
    own = _reported(project, options)
    if own is None:
        views, verdicts = published_views(chosen, project.published, project.post, data)
    else:
        store, stored = own
        views, verdicts = study_views(store, chosen, data, stored), stored.verdicts(project.studies, project.post)
    look = None if data is None else Exploratory(data.train_images, data.train_labels, data.test_labels, CLASS_NAMES)
    page = render_report(
        views,
        verdicts=verdicts,
        made_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        exploratory=look,
        published=own is None,
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


def _reported(project: Project, options: argparse.Namespace) -> tuple[Store, StoreFrames] | None:
    """The store whose runs a report is of, and what it holds; None where it is of the published ones."""
    from fashion_cnn.checkout import REPOSITORY
    from fashion_cnn.reports.stored import recorded
    from fashion_cnn.store.address import resolve

    if options.published:
        return None
    address = resolve(options.tracking_uri, REPOSITORY)
    if not options.or_published or address.file is None or address.file.exists():
        store = open_store(options)
        stored = recorded(store, project.studies)
        if not options.or_published or _own(stored.runs).any():
            return store, stored
    complain("no finished run of your own is recorded yet: this report is of the published runs")
    return None


def _own(runs: pd.DataFrame) -> pd.Series[bool]:
    """Which runs of a store were recorded in it, finished, and are no trials."""
    return (runs["status"] == "FINISHED") & (runs["smoke"] == "false") & runs["published"].isna()


def _export(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.cli.answers import EPOCH_FIELDS, RUN_FIELDS, csv_columns, csv_values, epoch_values, run_values
    from fashion_cnn.evidence.tables import columns_of, to_csv

    store = open_store(options)
    rows = _recorded_runs(project, options.study, store).to_dict("records")
    epochs = epoch_values(store.epochs([row["run_id"] for row in rows]).to_dict("records"))
    tables = {
        "runs.csv": (columns_of(rows, csv_columns(RUN_FIELDS)), list(map(run_values, rows))),
        "epochs.csv": (csv_columns(EPOCH_FIELDS), epochs),
    }
    for name, (columns, values) in tables.items():
        path = Path(options.output, name)
        write_output(path, to_csv(map(csv_values, values), columns))
        print(f"{path}: {counted(len(values), 'row')}")
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
