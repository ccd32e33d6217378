"""The command line: `fashion-cnn` and the experiment scripts. What is slow to import is imported where it is used."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fashion_cnn.config import FIELDS, RunConfig, allowed, kind, nearest, parse
from fashion_cnn.signals import Stopped
from fashion_cnn.study import AD_HOC, Study, StudyError, changes, select_studies
from fashion_cnn.terminal import shown

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.running.session import Options
    from fashion_cnn.store.tracking import Store

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


def console(studies: Sequence[Study], post: Path, published: Path, arguments: Sequence[str] | None = None) -> int:
    """The command line `fashion-cnn`.

    Args:
        studies: in order.
        post: the post's printed numbers, CSV.
        published: the folder of published results.
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
        lambda given: _ui(studies, published, given),
    )
    ui.add_argument("study", nargs="?", metavar="STUDY", help="print the address that compares this study's runs")
    ui.add_argument("--port", type=_count, default=5000, help="(default: 5000)")
    ui.add_argument("--published", action="store_true", help="import the published runs into the store first, once")
    _add_common(ui)
    report = command(
        "report", "write one offline HTML page of all studies", lambda given: _report(studies, post, given)
    )
    _add_selection(report, names)
    report.add_argument("--output", metavar="FILE", default="report.html", help="(default: report.html)")
    report.add_argument("--figures", metavar="DIR", help="write the studies' figures into this folder, too")
    report.add_argument("--data-dir", metavar="DIR", help="folder of Fashion-MNIST's four files")
    claims = command(
        "claims",
        "decide each study's claims over the recorded seeds",
        lambda given: _claims(studies, post, given),
    )
    _add_selection(claims, names)
    _add_json(claims)
    replay = command(
        "replay",
        "train a recorded run again, or a whole study, and compare it state by state",
        lambda given: _replay(studies, given),
    )
    _add_replay_options(replay, names)
    check = command("check", "tell whether a run's record is complete and at one with itself", _check)
    check.add_argument("run_id", metavar="RUN_ID", help="or its first digits, at least 6")
    _add_json(check)
    _add_common(check)
    bundle = command(
        "bundle",
        "pack the complete records of studies into one file for a reviewer",
        lambda given: _bundle(studies, post, given),
    )
    _add_selection(bundle, names)
    bundle.add_argument("--output", metavar="FILE", default="bundle.zip", help="(default: bundle.zip)")
    _add_json(bundle)
    verify = command(
        "verify",
        "check a bundle: its hashes, whether its records are complete and at one with themselves, its claims",
        lambda given: _verify(studies, given),
    )
    verify.add_argument("bundle", metavar="BUNDLE", type=Path, help="the file")
    verify.add_argument("--expect", metavar="SHA256", help="of the file, from where the result was published")
    _add_json(verify)
    _add_debug(verify)
    results = command(
        "results",
        "show what the published results say, check them, or bring them up to date",
        lambda given: _results(studies, post, published, given),
    )
    _add_results_options(results)
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
    _add_debug(parser)


def _add_debug(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--executor", choices=("local", "ray"), default="local", help="ray: on a cluster's nodes (default: local)"
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster's head, or auto for the cluster that runs here (default: RAY_ADDRESS, else a cluster of "
        "this machine alone)",
    )
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


def _add_replay_options(parser: argparse.ArgumentParser, names: str) -> None:
    parser.description = (
        "Train a recorded run again in a fresh process, from its record alone, and compare the metrics of every epoch "
        "in full precision and the SHA-256 of the weights; nothing is written. TensorFlow promises the same bits only "
        "for the same hardware and software: the same processor and instruction set, threads, libraries. "
        "The answers, the first that holds: INCONSISTENT (status 1): the record contradicts itself. "
        "EXACT (0): every state is the same to the last bit, whatever the environment. "
        "NOT COMPARABLE (1): other bits in another environment; is the result where other seeds would lead to expect "
        "it? DIFFERENT (1): other bits in the same environment; where first, by how much, and why where that is known."
    )
    parser.add_argument("run_id", nargs="?", metavar="RUN_ID", help="or its first digits, at least 6")
    parser.add_argument(
        "--all", metavar="STUDY", help=f"every run of a study, each trajectory trained once; of {names}, {AD_HOC}"
    )
    parser.add_argument("--epochs", type=_count, metavar="K", help="only the first K epochs: a quick check")
    parser.add_argument("--threads", type=_count, metavar="N", help="of a training (default: as recorded)")
    parser.add_argument("--workers", type=_count, metavar="N", help="trainings at a time (default: the cores)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of Fashion-MNIST's four files")
    _add_json(parser)
    _add_common(parser)


def _add_results_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--update",
        action="store_true",
        help="merge the store's complete records into experiments/results, and write the README's tables",
    )
    which.add_argument(
        "--check",
        action="store_true",
        help="compute verdicts and tables again from the published files alone; status 1 where anything differs",
    )
    _add_json(parser)
    _add_common(parser)


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
    except Stopped as stop:
        _complain(str(stop))
        return 128 + stop.number
    except Exception as error:
        if debug:
            raise
        # Only what was made for people is told as it is.
        known = type(error).__module__.startswith("fashion_cnn.")
        text = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        line = " ".join(text.split("\n"))
        # A server's words may be in it, and control characters act on a terminal.
        _complain("error: " + "".join(one if one.isprintable() else "\ufffd" for one in line))
        return WRONG if known else FAILED


def _complain(line: str) -> None:
    from fashion_cnn.terminal import complain

    complain(line)


def _options(given: argparse.Namespace) -> Options:
    from fashion_cnn.running.session import Options

    return Options(
        workers=given.workers,
        smoke=given.smoke,
        reuse=not given.no_reuse,
        data_dir=given.data_dir,
        tracking_uri=given.tracking_uri,
        device=given.device,
        executor=given.executor,
        address=given.address,
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
    from fashion_cnn.cli import tables
    from fashion_cnn.running.runner import run
    from fashion_cnn.running.session import BYTES_PER_RUN, Session

    session = Session(_options(given))
    try:
        _noticed(session.store)
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
    finally:
        session.executor.stop()
    return shown(FAILED if outcome.failed else DONE, lambda: tables.show_outcome(outcome, studies))


def _store(given: argparse.Namespace, *, create: bool = False) -> Store:
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.store.address import resolve
    from fashion_cnn.store.tracking import Store

    return _noticed(Store(resolve(given.tracking_uri, REPOSITORY), create=create))


def _noticed(store: Store) -> Store:
    """The store itself; the user is told what there is to know about it."""
    for line in store.notices:
        _complain(line)
    return store


def _recorded(studies: Sequence[Study], given: argparse.Namespace, store: Store) -> pd.DataFrame:
    """The runs of the named studies, or all runs of the store."""
    names = [study.name for study in select_studies([*studies, _AD_HOC], given.study)] if given.study else None
    return store.runs(names)


_AD_HOC = Study(AD_HOC, "Single runs that belong to no study.", {"defaults": RunConfig()})


def _list(studies: Sequence[Study], given: argparse.Namespace) -> int:
    import time

    import pandas as pd

    from fashion_cnn.cli import tables
    from fashion_cnn.store.heartbeat import is_lost

    runs = _recorded(studies, given, _store(given))
    lost = pd.Series([is_lost(row, time.time()) for row in runs.to_dict("records")], runs.index, dtype=bool)
    tables.show_runs(runs.assign(status=runs["status"].mask(lost, "lost")), as_json=given.json)
    return DONE


def _export(studies: Sequence[Study], given: argparse.Namespace) -> int:
    from fashion_cnn.store.files import write_bytes

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

    from fashion_cnn.evidence.verdicts import verdicts
    from fashion_cnn.reports.gather import data_set, first_look, recorded, study_records
    from fashion_cnn.reports.page import render, study_figures
    from fashion_cnn.store.files import write_bytes

    chosen = select_studies(studies, given.study)
    data = data_set(given.data_dir)
    store = _store(given)
    found = recorded(store, studies)
    records = study_records(store, chosen, data, found)
    page = render(
        records,
        verdicts=verdicts(studies, found.runs, found.epochs, pd.read_csv(post), found.incomplete),
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


def _claims(studies: Sequence[Study], post: Path, given: argparse.Namespace) -> int:
    import pandas as pd

    from fashion_cnn.cli import tables
    from fashion_cnn.evidence.verdicts import verdicts
    from fashion_cnn.reports.gather import recorded

    chosen = select_studies(studies, given.study)
    found = recorded(_store(given), studies)
    said = verdicts(studies, found.runs, found.epochs, pd.read_csv(post), found.incomplete)
    tables.show_verdicts(said.of(chosen), as_json=given.json)
    return DONE


def _bundle(studies: Sequence[Study], post: Path, given: argparse.Namespace) -> int:
    import hashlib

    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.reports.gather import selections
    from fashion_cnn.review.pack import pack, told
    from fashion_cnn.store.files import write_bytes

    chosen = selections(_store(given), select_studies(studies, given.study))
    content = pack(chosen, lock=(REPOSITORY / "requirements.lock").read_bytes(), post=post.read_bytes())
    output, sha256 = Path(given.output), hashlib.sha256(content).hexdigest()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(output, content)
    except OSError as error:
        raise StudyError(f"{output} cannot be written ({error.strerror}); name another with --output") from None
    lines, packed = [], {}
    for one in chosen:
        lines.append(f"{one.study.name}: {len(one.records)} runs; left out: {told(one.left_out) or 'none'}")
        lines += [f"  {run_id}: {reason}" for run_id, reason in one.incomplete.items()]
        left_out = {"left_out": dict(one.left_out), "incomplete": dict(one.incomplete)}
        packed[one.study.name] = {"runs": len(one.records), **left_out}
    lines += [
        f"{output}: {len(content) / 2**20:.1f} MiB, SHA-256 {sha256}",
        f"Publish the SHA-256 apart from the file: fashion-cnn verify {output} --expect {sha256}",
    ]
    value = {"file": str(output), "bytes": len(content), "sha256": sha256, "studies": packed}
    _tell(given, value, "\n".join(lines))
    return DONE


def _verify(studies: Sequence[Study], given: argparse.Namespace) -> int:
    from fashion_cnn.environment import code_sha256
    from fashion_cnn.review.verify import verify_file

    outcome = verify_file(given.bundle, expected=given.expect, here=studies, code_sha256=code_sha256())
    _tell(given, outcome.as_dict(), f"{given.bundle}: {outcome}")
    return DONE if outcome.holds else FAILED


def _ui(studies: Sequence[Study], published: Path, given: argparse.Namespace) -> int:
    from fashion_cnn.cli.ui import serve
    from fashion_cnn.reports.publish import load

    chosen = select_studies(studies, [given.study] if given.study else [])
    store = _store(given, create=given.published)
    if given.published and (count := load(store, studies, published)):
        print(f"{count} published runs imported, tagged `published`; they never count as recorded", file=sys.stderr)
    return serve(store, [study.name for study in chosen], given.port)


def _results(studies: Sequence[Study], post: Path, published: Path, given: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.environment import REPOSITORY
    from fashion_cnn.reports.publish import problems, read, update, write_readme
    from fashion_cnn.reports.published import verdicts_over

    readme = REPOSITORY / "README.md"
    if given.check:
        found = problems(studies, published, post, readme)
        _tell(given, {"problems": found}, "\n".join(found) or f"{published.name}: all of it holds")
        return FAILED if found else DONE
    if given.update:
        merged = update(_store(given), studies, published, post)
        write_readme(studies, published, post, readme)
        value = {"added": merged.added, "runs": len(merged.records), "dropped": list(merged.dropped)}
        lines = [f"dropped: {line}" for line in merged.dropped]
        _tell(given, value, "\n".join([*lines, f"{merged.added} runs added; {len(merged.records)} are published"]))
        return DONE
    tables.show_verdicts(verdicts_over(studies, read(published), post.read_bytes()), as_json=given.json)
    return DONE


def _replay(studies: Sequence[Study], given: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.review.replay import Options, ReplayError, replay

    if (given.run_id is None) == (given.all is None):
        raise ReplayError("name one run, or with --all a study; fashion-cnn list shows the runs")
    store = _store(given)
    if given.all is None:
        rows = [store.find(given.run_id)]
    else:
        chosen = select_studies([*studies, _AD_HOC], [given.all])
        rows = store.runs([study.name for study in chosen]).to_dict("records")
    outcome = replay(store, rows, Options(given.epochs, given.threads, given.workers, given.data_dir))
    if not outcome.comparisons:
        raise ReplayError(outcome.left_out[0][1] if outcome.left_out else f"{given.all} has no recorded runs")
    status = DONE if all(one.answer == "EXACT" for one in outcome.comparisons) else FAILED
    return shown(status, lambda: tables.show_replay(outcome, study=given.all, as_json=given.json))


def _check(given: argparse.Namespace) -> int:
    from fashion_cnn.cli import tables
    from fashion_cnn.evidence.consistency import contradictions
    from fashion_cnn.evidence.record import missing, rules_of
    from fashion_cnn.review.replay import records_of

    store = _store(given)
    (record,) = records_of(store, [store.find(given.run_id)])
    lacks, against = missing(record, rules_of(record.row)), contradictions(record)
    status = FAILED if lacks or against else DONE
    return shown(status, lambda: tables.show_check(record, lacks, against, as_json=given.json))


def _sync(given: argparse.Namespace) -> int:
    from fashion_cnn.store.maintenance import sync

    sent, trouble = sync(_store(given))
    _tell(
        given,
        {"sent": sent, "error": trouble},
        f"{sent} runs sent" + (f"; then: {trouble}" if trouble else ""),
    )
    return FAILED if trouble else DONE


def _gc(given: argparse.Namespace) -> int:
    from fashion_cnn.store.maintenance import clean

    freed, left = clean(_store(given))
    text = f"{freed / 2**20:.1f} MiB freed; {left} trajectories left alone: their runs have not all ended and been sent"
    _tell(given, {"bytes_freed": freed, "left": left}, text)
    return DONE


def _tell(given: argparse.Namespace, value: dict[str, Any], text: str) -> None:
    import json

    print(json.dumps(value) if given.json else text)
