"""What the command line prints: plan and closing table, the list of runs, verdicts, what checks and replays found."""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import MEASURES
from fashion_cnn.cli.answers import json_text, numbered_seed
from fashion_cnn.evidence.images import ONLY_THESE
from fashion_cnn.evidence.verdicts import CAVEATS, misses
from fashion_cnn.review.comparison import WORST_FIRST
from fashion_cnn.running.plan import expected_epochs
from fashion_cnn.terminal import Grid, complain, console, counted, duration, show

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.evidence.record import Contradiction, Lack, Record
    from fashion_cnn.evidence.statistics import Part
    from fashion_cnn.evidence.verdicts import StudyVerdicts, Verdicts
    from fashion_cnn.review.comparison import Comparison
    from fashion_cnn.review.equivalence import ArmEquivalence
    from fashion_cnn.review.replay import ReplayResult
    from fashion_cnn.running.plan import Plan
    from fashion_cnn.running.results import CallResult
    from fashion_cnn.study import Study

_VERDICT_WIDTH: Final = 15  # columns
SHOWN_ID = 8  # digits of a run's id, of which every command takes so many


def show_plan(plan: Plan, *, seconds_per_work: float, measured: bool, workers: int) -> None:
    """Print what is to be trained and recorded, what is recorded already, and about how long it takes."""
    from fashion_cnn.running.session import BYTES_PER_RUN  # with MLflow, which the other tables need not wait for

    out = console()
    if not plan.runs:
        out.print(f"Nothing to do: {_all_recorded(len(plan.recorded))}")
        return
    seconds = [planned.work * seconds_per_work for planned in plan.trajectories]
    rows = []
    for planned, estimate in zip(plan.trajectories, seconds, strict=True):
        runs = "\n".join(f"{run.study.name}: {run.arm}" for run in planned.runs)
        rows.append((runs, str(planned.seed), str(planned.epochs), f"{planned.steps:,}", duration(estimate)))
    numbers = ("seed", "epochs", "steps", "training")
    show(out, Grid(("runs cut from it",), numbers, [("plan", "Trajectories, longest first", rows)], about="table"))
    wall = max(sum(seconds) / workers, max(seconds, default=0.0))
    source = "from epochs measured on this machine" if measured else "nothing is measured here yet: a guess"
    todo = f"{counted(len(plan.runs), 'run')} to record from {counted(len(plan.trajectories), 'trajectory')}"
    out.print(f"{todo}; {len(plan.recorded)} {'is' if len(plan.recorded) == 1 else 'are'} recorded already.")
    states = sum(planned.state_bytes for planned in plan.trajectories)
    disk = f"{(len(plan.runs) * BYTES_PER_RUN + states) / 2**20:,.0f} MiB of disk"
    out.print(f"About {duration(wall)} of training on {counted(workers, 'worker')} ({source}) and {disk}.")
    stopping = [expected_epochs(run.config) for run in plan.runs if run.config.callback_loss is not None]
    if stopping:
        out.print(f"A run that stops at a loss is taken to need {max(stopping)} epochs.")


def _all_recorded(count: int) -> str:
    return "the run was recorded already." if count == 1 else f"all {count} runs were recorded already."


def show_results(call: CallResult, studies: Sequence[Study], seconds: float) -> None:
    """Print the closing table and what to do next; the command took so many seconds of wall time."""
    order = [(study.name, arm) for study in studies for arm in study.arms]
    results = sorted(call.results, key=lambda result: (order.index((result.study, result.arm)), result.seed))
    out = console()
    sections: dict[str, list[Sequence[str]]] = {}
    for result in results:
        scores = [_number(result.metrics.get(name), 4) for name in ("loss", "accuracy", "test_loss", "test_accuracy")]
        counts = [str(result.seed), str(result.epochs)]
        row = (result.arm, result.status, *counts, *scores, _number(result.seconds, 1))
        sections.setdefault(result.study, []).append(row)
    numbers = ("seed", "epochs", "loss", "accuracy", "test loss", "test accuracy", "seconds")
    if results:
        optional = ("seconds", "loss", "accuracy")
        show(out, Grid(("arm", "status"), numbers, _by_study(sections), optional=optional))
    skipped = len(results) - call.made
    if call.made:
        out.print(f"{counted(call.made, 'run')} made in {duration(seconds)}, from start to end of this command.")
    else:
        out.print(f"Nothing to do: {_all_recorded(skipped)}")
    if call.failed:
        out.print(f"{call.failed} of them did not finish; the same command goes on with them.")
    if call.made and skipped:
        out.print(f"{counted(skipped, 'run')} {'was' if skipped == 1 else 'were'} recorded already.")
    if call.unsent:
        out.print(f"{call.unsent} runs are not in the store yet ({call.trouble}): fashion-cnn sync sends them.")
    out.print(f"Compare them: {_command()} ui {studies[0].name if len(studies) == 1 else ''}".rstrip())


def _command() -> str:
    """What a shell takes for this command here: its name, or where PATH lacks it, as in `.venv`, the file."""
    beside = Path(sys.executable).with_name("fashion-cnn")
    return beside.name if shutil.which(beside.name) else os.path.relpath(beside)


def show_runs(runs: Sequence[Mapping[str, Any]], *, of: int, as_json: bool) -> None:
    """Print runs as `answers.run_values` gives them, some of so many: a run that gives no sign of life is `LOST`."""
    if as_json:
        print(json_text({"runs": runs}))
        return
    out = console()
    seen = out.file.isatty()
    sections: dict[str, list[Sequence[str]]] = {}
    for run in runs:
        sections.setdefault(str(run["study"]), []).append(_listed(run, seen=seen))
    if seen and not of:
        out.print("No runs are recorded.")
    else:
        left = ("run id", "arm", "status")
        numbers = ("seed", "epochs", "test loss", "test accuracy", "seconds", "started")
        show(out, Grid(left, numbers, _by_study(sections), optional=("seconds", "epochs")))
    if len(runs) < of:
        complain(f"{len(runs)} of {counted(of, 'run')} that are recorded")
    if lost := sum(run["status"] == "LOST" for run in runs):
        complain(
            f"{lost} lost: said to be running, but without a sign of life for two minutes. The next fashion-cnn run "
            "goes on with them where they are asked for, and closes the others."
        )


def _by_study(rows: Mapping[str, Sequence[Sequence[str]]]) -> list[tuple[str, str, Sequence[Sequence[str]]]]:
    return [(study, study, of_study) for study, of_study in rows.items()]


def _listed(run: Mapping[str, Any], *, seen: bool) -> Sequence[str]:
    """A run's cells; short ones where people see them."""
    started = datetime.fromtimestamp(run["start_time"] / 1000, UTC)
    marks = [name for name in ("smoke", "imported") if run[name]]
    seconds = [run[name] for name in ("fit_seconds", "evaluate_seconds")]
    return (
        run["run_id"][:SHOWN_ID] if seen else run["run_id"],
        str(run["arm"]),
        " ".join([run["status"].lower(), *marks]),
        "-" if run["seed"] is None else str(run["seed"]),
        _number(run["epochs_trained"], 0),
        *(_number(run[name], 4) for name in ("test_loss", "test_accuracy")),
        "-" if None in seconds else f"{sum(seconds):.1f}",
        started.date().isoformat() if seen else started.isoformat(timespec="seconds"),
    )


def show_verdicts(verdicts: Verdicts, only_these: Mapping[str, Sequence[str]], *, as_json: bool) -> None:
    """Print the verdicts on the claims, and the post's test results among our runs.

    `only_these` are by study the sentences whose verdict holds for these test images only.
    """
    if as_json:
        print(json_text({**verdicts.as_dict(), "for_these_test_images_only": only_these}))
        return
    out = console()
    for study in verdicts.studies:
        show(out, _sentences(study, only_these.get(study.study.name, ())))
        reasons = ", ".join(f"{reason} ({count})" for reason, count in study.left_out)
        left_out = f"; left out: {reasons}" if reasons else ""
        times = f"; {study.about_times}" if study.about_times else ""
        out.print(f"{study.taken} of {study.recorded} recorded runs are taken{left_out}{times}.\n")
    if len(verdicts.test_results):
        show(out, _printed(verdicts.test_results))
        compared = {"test results": verdicts.test_results, "numbers of training epochs": verdicts.epoch_results}
        for what, values in compared.items():
            count = misses(values)
            out.print(
                f"Outside of the 95 % prediction interval: {count['outside']} of {count['compared']} {what}, give or "
                f"take half a last digit (by chance alone: {count['by_chance']:.1f}), and "
                f"{count['outside_strictly']} as printed (by chance: {count['by_chance_strictly']:.1f})."
            )
        out.print()
    out.print(
        "difference: the mean over seeds (of times and epochs, as a share of the other arm's; or the share of runs "
        "that end in time), the interval that decides, and in how many seeds the arm is the higher one (the lower one "
        "where that is claimed). p: adjusted over the study, as the interval is. inside: whether "
        "the post's number, give or take half its last digit, meets the 95 % prediction interval for one more of our "
        "runs; strictly: whether it does as printed. Neither is said of fewer than 6 runs."
    )
    for caveat in CAVEATS:
        out.print(caveat)


def _sentences(study: StudyVerdicts, only_these: Collection[str]) -> Grid:
    rows: list[Sequence[str]] = []
    for sentence in study.sentences:
        whose = "ours: " if sentence.source == "ours" else ""
        notes = [f"({note})" for note in sentence.notes]
        limits = textwrap.wrap(ONLY_THESE, _VERDICT_WIDTH) if sentence.says in only_these else []
        verdict = "\n".join([sentence.verdict.upper(), *limits])
        rows.append(("\n".join([whose + sentence.says, *notes]), "", "", verdict))
        for part in sentence.parts:
            claimed = f"· {part.claim}" + (f" ({part.needs})" if part.needs else "")
            rows.append((claimed, _difference(part), _p(part), part.verdict))
        rows.append(())
    name = study.study.name
    parts = [(name, f"{name}: {study.study.question}", rows)]
    return Grid(("sentence and its parts",), ("difference", "p", "verdict"), parts, ruled=True)


def _difference(part: Part) -> str:
    lines = [(part.estimate_text or "-") + (" in all" if part.constant else "")]
    if part.interval_text:
        lines.append(part.interval_text)
    ties = f", {part.ties} equal" if part.ties else ""
    lines.append(f"{part.wins} of {part.n} seeds{ties}" if part.n else "no seeds")
    return "\n".join(lines)


def _p(part: Part) -> str:
    sides = (("for", part.p_for), ("against", part.p_against))
    known = [(side, value) for side, value in sides if value is not None]
    return "\n".join(f"{side} {'<0.0001' if value < 0.0001 else f'{value:.4f}'}" for side, value in known)


def _printed(values: pd.DataFrame) -> Grid:
    numbers = ("post", "n", "mean", "sd", "one more of ours", "inside", "strictly")
    rows = [
        (
            f"{row['study']}: {row['arm']}, {MEASURES[row['measure']]}",
            f"{row['printed']:.2f}",
            str(row["n"]),
            _number(row["mean"], 4),
            _number(row["sd"], 4),
            "-" if math.isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}",
            *({None: "-", True: "yes", False: "no"}[row[name]] for name in ("inside", "strictly")),
        )
        for row in values.to_dict("records")
    ]
    title = "The post's test results among our runs of the same config"
    parts, optional = [("post", title, rows)], ("sd", "strictly", "mean")
    return Grid(("arm and measure",), numbers, parts, about="table", optional=optional, ruled=True)


def show_check(record: Record, lacks: Sequence[Lack], against: Sequence[Contradiction], *, as_json: bool) -> None:
    """Print what a record lacks and where it contradicts itself."""
    run = numbered_seed({name: record.row.get(name) for name in ("run_id", "study", "arm", "seed")})
    complete = not lacks and not against
    if as_json:
        missing, contradictions = [asdict(lack) for lack in lacks], [asdict(each) for each in against]
        print(json_text({**run, "complete": complete, "missing": missing, "contradictions": contradictions}))
        return
    out = console()
    for lack in lacks:
        out.print(f"missing: {told(lack)}")
    for contradiction in against:
        out.print(f"contradiction: {contradiction}")
    verdict = "complete, and nothing in it contradicts itself" if complete else "no evidence as it stands"
    out.print(f"{run['study']}: {run['arm']} · seed {record.row.get('seed')} ({run['run_id']}): {verdict}.")


def told(lack: Lack) -> str:
    """What a record lacks, for people."""
    place, _, name = lack.field.partition(".")
    if sentence := _NEVER.get((lack.field, lack.found)):
        return sentence
    where = {
        "artifacts": f"the artifact {name}",
        "epochs": f"{name} of each epoch",
        "states": f"{name} of each epoch in trajectory.json",
        "machine": f"{name} in environment.json",
    }.get(place, name)
    return f"{where} is {lack.found}; it must be {lack.wanted}"


_NEVER: Final = {
    ("row.smoke", "'true'"): "a smoke run: never counts",
    ("row.status", "'RUNNING'"): "it is still running: counts once it has finished",
    ("row.status", "'FAILED'"): "it failed: the same command makes it again",
    ("row.status", "'KILLED'"): "it was stopped: the same command goes on with it",
}
"""What a person wants to know where a record is none by its nature, by field and what it holds."""


def show_replay(result: ReplayResult, arms: Sequence[ArmEquivalence], *, study: str | None, as_json: bool) -> None:
    """Print what a replay found: of one run, or of a whole study with its arms whose bits differ."""
    counts = Counter(comparison.answer for comparison in result.comparisons)
    if as_json:
        runs = [numbered_seed(comparison.as_dict()) for comparison in result.comparisons]
        whole = {"study": study, "answers": counts, "trainings": result.trainings, "runs": runs}
        whole |= {"arms": [arm.as_dict() for arm in arms], "left_out": _left_out(result.left_out)}
        print(json_text(whole if study else runs[0]))
        return
    out = console()
    if study:
        show(out, _replays(study, result.comparisons))
    for comparison in result.comparisons:
        if not study or comparison.answer != "EXACT":
            out.print("\n".join(comparison.lines()))
    for _, reason in result.left_out:
        out.print(f"Left out: {reason}.")
    if study:
        answers = ", ".join(f"{count} {answer}" for answer, count in counts.items())
        out.print(f"{study}: {len(result.comparisons)} runs from {result.trainings} trainings: {answers}.")
    for arm in arms:
        out.print(str(arm))


def show_published(
    trajectories: Sequence[tuple[Comparison, int]], left_out: Sequence[tuple[str, str]], *, as_json: bool
) -> None:
    """Print what the replay of published runs found: a line per trajectory, then causes, then how many are exact."""
    counts = Counter(comparison.answer for comparison, _ in trajectories)
    if as_json:
        values = [{**numbered_seed(comparison.as_dict()), "runs": runs} for comparison, runs in trajectories]
        whole = {"answers": counts, "trajectories": values, "left_out": _left_out(left_out)}
        print(json_text(whole))
        return
    out = console()
    causes, notes = Counter[str](), Counter[str]()
    for comparison, runs in trajectories:
        shared = f" ({runs} runs are cut from it)" if runs > 1 else ""
        if comparison.answer in ("EXACT", "NOT COMPARABLE"):
            out.print(f"{comparison.headline()}{shared}")
            if comparison.answer != "EXACT":  # whose line has it all
                causes.update([*comparison.causes(), f"replayed in the {comparison.terms}"])
            notes.update(comparison.notes)
        else:
            out.print("\n".join(comparison.lines()))
    for text, count in [*causes.items(), *notes.items()]:
        out.print(f"{count} of {len(trajectories)}: {text}")
    for _, reason in left_out:
        out.print(f"Left out: {reason}.")
    whole_count = len(trajectories) + len(left_out)
    answers = [f"{answer} {counts[answer]} of {whole_count}" for answer in reversed(WORST_FIRST) if counts[answer]]
    out.print(", ".join(answers) or f"EXACT 0 of {whole_count}")


def _left_out(left_out: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"run_id": run_id, "reason": reason} for run_id, reason in left_out]


def _replays(study: str, comparisons: Sequence[Comparison]) -> Grid:
    rows = []
    for comparison in comparisons:
        differences = comparison.differences
        first = f"epoch {differences[0].epoch}, {differences[0].quantity}" if differences else ""
        another = ", ".join(kind for kind in ("environment", "data", "code") if getattr(comparison, kind))
        replayed = f"{len(comparison.replayed)} of {comparison.recorded}"
        run_id = comparison.run_id[:SHOWN_ID]
        rows.append((run_id, comparison.arm, comparison.answer, first, another, comparison.seed, replayed))
    left = ("run id", "arm", "answer", "first difference", "another")
    return Grid(left, ("seed", "epochs replayed"), [(study, study, rows)], optional=("another", "first difference"))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
