"""The command line: `fashion-cnn` and the experiment scripts. What is slow to import is imported where it is used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fashion_cnn.config import FIELDS, RunConfig, allowed, kind, nearest, parse
from fashion_cnn.study import AD_HOC, Study, StudyError, changes, select_studies

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.session import Options
    from fashion_cnn.tracking import Store

DONE, FAILED, WRONG = 0, 1, 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(study: Study, arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line of an experiment script; exits with its status."""
    parser = _Parser(description=f"{study.question} Trains and records the arms of {study.name}.")
    _add_run_options(parser, list(study.arms))
    options = parser.parse_args(arguments)
    raise SystemExit(_guarded(lambda: _run([study], options), options.debug))


def console(studies: Sequence[Study], post: Path, arguments: Sequence[str] | None = None) -> int:
    """The command line `fashion-cnn`.

    Args:
        studies: in order.
        post: the post's printed numbers, CSV.
        arguments: in place of those of the process.

    Returns:
        The exit status: 0 done, 1 a run failed or the thing checked does not hold, 2 wrong use or input, 128 + signal.
    """
    parser = _Parser(prog="fashion-cnn", description="Tracked, replayable experiments on Fashion-MNIST.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, help: str, action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        added.set_defaults(action=action)
        return added

    names = ", ".join(study.name for study in studies)
    arms = list(dict.fromkeys(arm for study in studies for arm in study.arms))
    run = command("run", "train and record studies", lambda given: _run(select_studies(studies, given.study), given))
    run.add_argument("study", nargs="*", metavar="STUDY", help=f"of {names} (default: all)")
    _add_run_options(run, arms)
    train = command("train", "train and record one run that belongs to no study", _train)
    _add_train_options(train)
    show = command("list", "list the recorded runs", lambda given: _list(studies, given))
    _add_selection(show, names)
    _add_json(show)
    export = command("export", "write runs.csv and epochs.csv", lambda given: _export(studies, given))
    _add_selection(export, names)
    export.add_argument("--output", metavar="DIR", default=".", help="folder to write into (default: this one)")
    ui = command(
        "ui",
        "serve the store on this machine and print the address to open",
        lambda given: _ui(studies, given),
    )
    ui.add_argument("study", nargs="?", metavar="STUDY", help="print the address that compares this study's runs")
    ui.add_argument("--port", type=_count, default=5000, help="(default: 5000)")
    _add_common(ui)
    report = command(
        "report", "write one offline HTML page of all studies", lambda given: _report(studies, post, given)
    )
    _add_selection(report, names)
    report.add_argument("--output", metavar="FILE", default="report.html", help="(default: report.html)")
    report.add_argument("--figures", metavar="DIR", help="write the studies' figures into this folder, too")
    report.add_argument("--data-dir", metavar="DIR", help="folder of Fashion-MNIST's four files")
    sync = command("sync", "send to the store what could not be sent", _sync)
    _add_json(sync)
    _add_common(sync)
    gc = command("gc", "drop what recorded runs no longer need from the trajectories' folders", _gc)
    _add_json(gc)
    _add_common(gc)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and not given[0].startswith("-") and given[0] not in commands.choices:
        hint = nearest(given[0], list(commands.choices))
        parser.error(f"there is no command {given[0]!r}{hint}; there are: {', '.join(commands.choices)}")
    options = parser.parse_args(given)
    return _guarded(lambda: options.action(options), options.debug)


# -- options ---------------------------------------------------------------------------------------------------


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 1")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 0")
    return int(text)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tracking-uri", metavar="URI", help="the store (default: MLFLOW_TRACKING_URI, else mlruns/)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_selection(parser: argparse.ArgumentParser, names: str) -> None:
    parser.add_argument("study", nargs="*", metavar="STUDY", help=f"of {names} (default: all)")
    _add_common(parser)


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_count, metavar="N", help="trainings at a time (default: the cores)")
    parser.add_argument("--smoke", action="store_true", help="a trial in seconds: few images, at most 2 epochs; tagged")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, train nothing")
    parser.add_argument(
        "--no-reuse",
        action="store_true",
        help="train every run alone from the start and record it again, tagged",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of Fashion-MNIST's four files")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: one worker (default: cpu)")
    _add_common(parser)


def _add_run_options(parser: argparse.ArgumentParser, arms: Sequence[str]) -> None:
    parser.add_argument("--seeds", type=_count, default=1, metavar="N", help="how many seeds (default: 1)")
    parser.add_argument("--first-seed", type=_seed, default=0, metavar="K", help="the first of them (default: 0)")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=(),
        metavar="NAME",
        help=f"only these arms, of: {'; '.join(arms)} (default: all)",
    )
    _add_how(parser)


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="the run's arm (default: what differs from the defaults)")
    parser.add_argument("--seed", type=_seed, default=0, help="(default: 0)")
    for name, setting in FIELDS.items():
        default = "none" if setting.default is None else setting.default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar={int: "N", float: "X", str: "NAME"}[kind(name)],
            help=f"{setting.metadata['help']}: {allowed(name)} (default: {default})",
        )
    _add_how(parser)


# -- commands --------------------------------------------------------------------------------------------------


def _guarded(action: Callable[[], int], debug: bool) -> int:
    """Run a command; its errors become one line and an exit status."""
    try:
        return action()
    except BrokenPipeError:  # the reader of a pipe had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if debug:
            raise
        if (number := getattr(error, "number", None)) is not None:  # a runner's Stopped
            print(f"stopped by {error}; the same command goes on from the last epoch", file=sys.stderr)
            return 128 + int(number)
        # Only what was made for people is told as it is.
        known = type(error).__module__.startswith("fashion_cnn.")
        text = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        print("error: " + " ".join(text.split("\n")), file=sys.stderr)
        return WRONG if known else FAILED


def _options(given: argparse.Namespace) -> Options:
    from fashion_cnn.session import Options

    return Options(
        workers=given.workers,
        smoke=given.smoke,
        reuse=not given.no_reuse,
        data_dir=given.data_dir,
        tracking_uri=given.tracking_uri,
        device=given.device,
    )


def _run(studies: Sequence[Study], given: argparse.Namespace) -> int:
    return _make(studies, given.arms, range(given.first_seed, given.first_seed + given.seeds), given)


def _train(given: argparse.Namespace) -> int:
    values = {name: parse(name, text) for name in FIELDS if (text := getattr(given, name)) is not None}
    config = RunConfig(**values)
    name = given.name or ", ".join(f"{key}={value}" for key, value in changes(config).items()) or "defaults"
    study = Study(AD_HOC, "Single runs that belong to no study.", {name: config})
    return _make([study], (), [given.seed], given)


def _make(studies: Sequence[Study], arms: Sequence[str], seeds: Sequence[int], given: argparse.Namespace) -> int:
    from fashion_cnn import console as tables
    from fashion_cnn.runner import run
    from fashion_cnn.session import BYTES_PER_RUN, Session

    session = Session(_options(given))
    todo = session.plan(studies, arms, seeds)
    if given.dry_run:
        seconds, measured = session.seconds_per_work()
        tables.show_plan(
            todo,
            seconds_per_work=seconds,
            measured=measured,
            workers=session.workers(todo),
            bytes_per_run=BYTES_PER_RUN,
        )
        return DONE
    outcome = run(session, todo)
    tables.show_outcome(outcome, studies)
    return FAILED if outcome.failed else DONE


def _store(given: argparse.Namespace) -> Store:
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.tracking import Store, resolve

    return Store(resolve(given.tracking_uri, REPOSITORY), create=False)


def _recorded(studies: Sequence[Study], given: argparse.Namespace, store: Store) -> pd.DataFrame:
    """The runs of the named studies, or all runs of the store."""
    names = [study.name for study in select_studies([*studies, _AD_HOC], given.study)] if given.study else None
    return store.runs(names)


_AD_HOC = Study(AD_HOC, "Single runs that belong to no study.", {"defaults": RunConfig()})


def _list(studies: Sequence[Study], given: argparse.Namespace) -> int:
    from fashion_cnn import console as tables

    tables.show_runs(_recorded(studies, given, _store(given)), as_json=given.json)
    return DONE


def _export(studies: Sequence[Study], given: argparse.Namespace) -> int:
    from fashion_cnn.trajectories import write_bytes

    store = _store(given)
    runs = _recorded(studies, given, store)
    folder = Path(given.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in (("runs.csv", runs), ("epochs.csv", store.epochs(list(runs["run_id"])))):
            write_bytes(folder / name, frame.to_csv(index=False).encode())
            print(f"{folder / name}: {len(frame)} rows")
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({error.strerror}); name another with --output") from None
    return DONE


def _report(studies: Sequence[Study], post: Path, given: argparse.Namespace) -> int:
    import time

    import pandas as pd

    from fashion_cnn.records import data_set, first_look, study_records
    from fashion_cnn.report import render, study_figures
    from fashion_cnn.trajectories import write_bytes

    chosen = select_studies(studies, given.study)
    data = data_set(given.data_dir)
    records = study_records(_store(given), chosen, data)
    page = render(
        records,
        post=pd.read_csv(post),
        made_at=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        exploratory=None if data is None else first_look(data),
    )
    output = Path(given.output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(output, page.encode())
        for one in records if given.figures else ():
            for name, content in study_figures(one).items():
                path = Path(given.figures, one.study.name, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, content)
                print(f"{path}: {len(content) / 2**10:.0f} KiB")
    except OSError as error:
        raise StudyError(f"{error.filename} cannot be written ({error.strerror}); name another place") from None
    print(f"{output}: {len(page) / 2**20:.1f} MiB, opens in any browser without a network")
    return DONE


def _ui(studies: Sequence[Study], given: argparse.Namespace) -> int:
    from fashion_cnn.ui import serve

    chosen = select_studies(studies, [given.study] if given.study else [])
    return serve(_store(given), [study.name for study in chosen], given.port)


def _sync(given: argparse.Namespace) -> int:
    from fashion_cnn.upkeep import sync

    sent, trouble = sync(_store(given))
    _tell(
        given,
        {"sent": sent, "error": trouble},
        f"{sent} runs sent" + (f"; then: {trouble}" if trouble else ""),
    )
    return FAILED if trouble else DONE


def _gc(given: argparse.Namespace) -> int:
    from fashion_cnn.upkeep import clean

    freed, left = clean(_store(given))
    text = f"{freed / 2**20:.1f} MiB freed; {left} trajectories left alone: their runs have not all ended and been sent"
    _tell(given, {"bytes_freed": freed, "left": left}, text)
    return DONE


def _tell(given: argparse.Namespace, value: dict[str, Any], text: str) -> None:
    import json

    print(json.dumps(value) if given.json else text)
