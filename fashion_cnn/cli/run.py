"""The commands for running experiments: run, train, doctor, sync, gc; and the experiment scripts' own."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fashion_cnn.checkout import REPOSITORY
from fashion_cnn.cli.actions import (
    DONE,
    FAILED,
    RUN_ID,
    SHARED,
    Commands,
    Parser,
    Project,
    answer,
    completed,
    count,
    guarded,
    open_store,
)
from fashion_cnn.config import CNN_ONLY, FIELDS, ConfigError, RunConfig, allowed, kind, parse
from fashion_cnn.environment import ARITHMETICS
from fashion_cnn.start import collect_rarely
from fashion_cnn.study import Study, ad_hoc, arm_name, select_studies
from fashion_cnn.terminal import complain, counted, readable_outputs, shown

if TYPE_CHECKING:
    from fashion_cnn.store.tracking import Store

POST: Final = "experiments/post_results.csv"  # in the repository, for scripts that know no more than their study


def main(study: Study, arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line of an experiment script; exits with its status."""
    collect_rarely()
    readable_outputs()
    parser = Parser(description=f"{study.question} Trains and records the arms of {study.name}.")
    parser.add_shared("--debug")
    _add_run_options(parser, list(study.arms))
    options = parser.parse_args(arguments)
    raise SystemExit(guarded(lambda: _run([study], options, REPOSITORY / POST), options.debug))


def add_commands(commands: Commands) -> None:
    """Add run, train, doctor, sync and gc."""
    commands.group("run experiments")
    example = "filter_study --seeds 3"
    run = commands.add("run", "train and record studies", _run_selected, "study", example=example)
    _add_run_options(run, commands.arms)
    _add_train(commands)
    doctor_help = "look at what recording and replaying need, and whether this machine gives the published bits"
    store = ("--json", "--tracking-uri")
    commands.add("doctor", doctor_help, _doctor, "--data-dir", *store, example="--data-dir ~/fashion-mnist")
    commands.add("sync", "send to the store what could not be sent", _sync, *store, example="--json")
    gc_help = "drop what recorded runs no longer need from the trajectories' folders"
    gc = commands.add("gc", gc_help, _gc, *store, example="--dry-run")
    gc.add_argument("--dry-run", action="store_true", help="tell what would be freed, drop nothing")


def _add_train(commands: Commands) -> None:
    train_help = "train and record one run that belongs to no study"
    train = commands.add("train", train_help, _train, example="--filters 8 --epochs 3 --seed 1")
    which = train.add_argument_group("which run")
    which.add_argument("--name", help="the run's arm (default: what differs from the defaults)")
    like_help = "start from the settings and the seed of this recorded run; those that are given here replace its own"
    which.add_argument("--like", metavar="RUN_ID", help=f"{like_help} ({RUN_ID})")
    which.add_argument("--seed", type=_seed, metavar="K", help="a whole number (default: 0)")
    settings = train.add_argument_group("its settings")
    for name, setting in FIELDS.items():
        default = "none" if setting.default is None else setting.default
        choices = setting.metadata.get("choices")
        settings.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=f"{{{','.join(choices)}}}" if choices else {int: "N", float: "X"}[kind(name)],
            help=f"{setting.metadata['help']}: {allowed(name)} (default: {default})",
        )
    _add_training_options(train)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a whole number of at least 0")
    return int(text)


def _add_run_options(parser: Parser, arms: Sequence[str]) -> None:
    which = parser.add_argument_group("which runs")
    which.add_argument("--seeds", type=count, default=1, metavar="N", help="how many seeds (default: 1)")
    which.add_argument("--first-seed", type=_seed, default=0, metavar="K", help="the first of them (default: 0)")
    arms_help = f"only these arms, of: {'; '.join(arms)} (default: all)"
    completed(which.add_argument("--arms", nargs="+", default=(), metavar="NAME", help=arms_help), arms)
    _add_training_options(parser)


def _add_training_options(parser: Parser) -> None:
    """Add how runs are made: see `running.session.Options`."""
    parser.add_shared("--data-dir", "--tracking-uri")
    how = parser.add_argument_group("how they are made")
    how.add_argument("--smoke", action="store_true", help="a trial in seconds: few images, at most 2 epochs; tagged")
    how.add_argument("--dry-run", action="store_true", help="print the plan, train nothing")
    no_reuse_help = "train every run alone from the start and record it again, tagged"
    how.add_argument("--no-reuse", dest="reuse", action="store_false", help=no_reuse_help)
    arithmetic_help = (
        "portable: the same bits on every processor with AVX2; native: this processor's fastest kernels (default: "
        "portable where the processor can)"
    )
    how.add_argument("--arithmetic", choices=ARITHMETICS, help=arithmetic_help)
    where = parser.add_argument_group("where they are made")
    where.add_argument("--workers", **SHARED["--workers"])
    where.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: one worker (default: cpu)")
    executor_help = "ray: on a cluster's nodes (default: local)"
    where.add_argument("--executor", choices=("local", "ray"), default="local", help=executor_help)
    default = "default: RAY_ADDRESS, else a cluster of this machine alone"
    address_help = f"the Ray cluster's head, or auto for the cluster that runs here ({default})"
    where.add_argument("--address", metavar="HOST:PORT", help=address_help)


def _run_selected(project: Project, options: argparse.Namespace) -> int:
    return _run(select_studies(project.studies, options.study), options, project.post)


def _run(studies: Sequence[Study], options: argparse.Namespace, post: Path) -> int:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    return _record(studies, options.arms, seeds, options, post)


def _train(_: Project, options: argparse.Namespace) -> int:
    values = {name: parse(name, text) for name in FIELDS if (text := getattr(options, name)) is not None}
    base, seed = ({}, 0) if options.like is None else _settings_like(options, values.get("model"))
    config = RunConfig(**{**base, **values})
    study = ad_hoc({options.name or arm_name(config): config})
    return _record([study], (), [seed if options.seed is None else options.seed], options)


def _settings_like(options: argparse.Namespace, model: str | None) -> tuple[dict[str, Any], int]:
    """The settings and the seed of a recorded run, without those that another network does not have."""
    from fashion_cnn.evidence.record import Record, too_new, whole_number

    row = open_store(options).find(options.like)
    config, seed = Record(row, (), {}).config(), whole_number(row.get("seed"))
    if config is None or seed is None or too_new(row):
        raise ConfigError(
            f"run {row['run_id']} has no config and seed that this checkout can train; name the settings one by one "
            "(fashion-cnn train --help)"
        )
    foreign = CNN_ONLY if model not in (None, config.model) else ()
    return {name: value for name, value in asdict(config).items() if name not in foreign}, seed


def _record(
    studies: Sequence[Study],
    arms: Sequence[str],
    seeds: Sequence[int],
    options: argparse.Namespace,
    post: Path | None = None,
) -> int:
    """Train and record what is not recorded yet of these arms and seeds, or print the plan.

    With `post`, the file of the post's printed numbers, what MLflow's UI shows of the studies is brought up to date.
    """
    started = time.monotonic()
    from fashion_cnn.cli import tables
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import Options, Session

    settings = {field.name: getattr(options, field.name) for field in fields(Options)}
    with Session(Options(**settings), trains=not options.dry_run) as session:
        for notice in session.store.notices:
            complain(notice)
        todo = session.plan(studies, arms, seeds)
        if options.dry_run:
            seconds, measured = session.seconds_per_work()
            tables.show_plan(todo, seconds_per_work=seconds, measured=measured, workers=session.workers(todo))
            return DONE
        call = run(session, todo)
        if post is not None and call.made and not session.smoke:
            _refresh(session.store, studies, post)
    seconds = time.monotonic() - started
    return shown(FAILED if call.failed else DONE, lambda: tables.show_results(call, studies, seconds))


def _refresh(store: Store, studies: Sequence[Study], post: Path) -> None:
    """Bring up to date what MLflow's UI shows of some studies; the runs are recorded, whatever becomes of it."""
    from fashion_cnn.reports.dashboard import refresh
    from fashion_cnn.store.address import StoreError

    try:
        for line in refresh(store, studies, post):
            complain(line)
    except StoreError as error:
        complain(f"the views of the UI are not up to date: {error}; fashion-cnn ui does it")


def _doctor(_: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.review.doctor import checks
    from fashion_cnn.store.address import resolve

    address = resolve(options.tracking_uri, REPOSITORY)
    found = []
    for check in checks(address.name, address.trajectories, options.data_dir):
        found.append(check)
        if not options.json:
            line = f"{'ok' if check.holds else 'NO':2} {check.name}: {check.text}"
            shown(DONE, partial(print, line))
    if options.json:
        answer(options, {"checks": [check.as_dict() for check in found]}, "")
    return DONE if all(check.holds for check in found) else FAILED


def _sync(project: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.store.recorder import sync

    store = open_store(options)
    sent, trouble = sync(store)
    if sent:
        _refresh(store, project.studies, project.post)
    answer(options, {"sent": sent, "error": trouble}, f"{sent} runs sent{f'; then: {trouble}' if trouble else ''}")
    return FAILED if trouble else DONE


def _gc(_: Project, options: argparse.Namespace) -> int:
    from fashion_cnn.store.recorder import clean

    freed, left = clean(open_store(options), dry=options.dry_run)
    done = "would be freed" if options.dry_run else "freed"
    text = (
        f"{freed / 2**20:.1f} MiB {done}; {counted(left, 'trajectory')} left alone: not all runs are finished and sent"
    )
    answer(options, {"dry_run": options.dry_run, "bytes_freed": freed, "left": left}, text)
    return DONE
