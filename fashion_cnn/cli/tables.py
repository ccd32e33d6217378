"""What the command line prints: plan and closing table, the list of runs, verdicts, what checks and replays found."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from fashion_cnn.claims import MEASURES
from fashion_cnn.evidence.verdicts import CAVEATS, misses
from fashion_cnn.review.comparison import WORST_FIRST
from fashion_cnn.running.plan import expected_epochs
from fashion_cnn.terminal import console, duration, table

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


def show_plan(plan: Plan, *, seconds_per_work: float, measured: bool, workers: int) -> None:
    """Print what is to be trained and recorded, what is recorded already, and about how long it takes."""
    from fashion_cnn.running.session import BYTES_PER_RUN  # with MLflow, which the other tables need not wait for

    out = console()
    seconds = [planned.work * seconds_per_work for planned in plan.trajectories]
    trajectories = table("Trajectories, longest first", ("runs cut from it",), ("seed", "epochs", "steps", "about"))
    for planned, estimate in zip(plan.trajectories, seconds, strict=True):
        runs = "\n".join(f"{run.study.name}: {run.arm}" for run in planned.runs)
        numbers = str(planned.seed), str(planned.epochs), f"{planned.steps:,}"
        trajectories.add_row(runs, *numbers, duration(estimate))
    out.print(trajectories)
    wall = max(sum(seconds) / workers, max(seconds, default=0.0))
    source = "from epochs measured on this machine" if measured else "nothing is measured here yet: a guess"
    todo = f"{len(plan.runs)} runs to record from {len(plan.trajectories)} trajectories"
    out.print(f"{todo}; {len(plan.recorded)} are recorded already.")
    states = sum(planned.state_bytes for planned in plan.trajectories)
    disk = f"{(len(plan.runs) * BYTES_PER_RUN + states) / 2**20:,.0f} MiB of disk"
    out.print(f"About {duration(wall)} on {workers} workers ({source}) and {disk}.")
    stopping = [expected_epochs(run.config) for run in plan.runs if run.config.callback_loss is not None]
    if stopping:
        out.print(f"A run that stops at a loss is taken to need {max(stopping)} epochs.")


def show_results(call: CallResult, studies: Sequence[Study]) -> None:
    """Print the closing table and what to do next."""
    order = [(study.name, arm) for study in studies for arm in study.arms]
    results = sorted(call.results, key=lambda result: (order.index((result.study, result.arm)), result.seed))
    out = console()
    numbers = ("seed", "epochs", "loss", "accuracy", "test loss", "test accuracy", "seconds")
    closing = table("", ("study", "arm", "status"), numbers)
    for result in results:
        metrics = [_number(result.metrics.get(name), 4) for name in ("loss", "accuracy", "test_loss", "test_accuracy")]
        counts = [str(result.seed), str(result.epochs)]
        closing.add_row(result.study, result.arm, result.status, *counts, *metrics, _number(result.seconds, 1))
    if results:
        out.print(closing)
    spent = sum(result.seconds for result in results if result.status != "recorded")
    out.print(
        f"{call.made} runs made in {duration(call.seconds)}; trained one after another, each from the start, "
        f"they would have taken {duration(spent)}."
    )
    if call.failed:
        out.print(f"{call.failed} of them did not finish; the same command goes on with them.")
    if skipped := len(results) - call.made:
        out.print(f"{skipped} runs were recorded already.")
    if call.unsent:
        out.print(f"{call.unsent} runs are not in the store yet ({call.trouble}): fashion-cnn sync sends them.")
    out.print(f"Compare them: fashion-cnn ui {studies[0].name if len(studies) == 1 else ''}".rstrip())


def show_runs(runs: pd.DataFrame, *, as_json: bool) -> None:
    """Print a frame of `Store.runs`, in which the status of a run that gives no sign of life is `lost`."""
    if as_json:
        print(runs.to_json(orient="records", indent=1))
        return
    numbers = ("seed", "epochs", "test loss", "test accuracy", "seconds")
    listing = table("", ("run id", "study", "arm", "status", "smoke"), numbers)
    for row in runs.to_dict("records"):
        texts = [str(row[name]) for name in ("run_id", "study", "arm", "status", "smoke", "seed")]
        scores = [_number(row["test_loss"], 4), _number(row["test_accuracy"], 4)]
        seconds = _number(row["fit_seconds"] + row["evaluate_seconds"], 1)
        listing.add_row(*texts, _number(row["epochs_trained"], 0), *scores, seconds)
    console().print(listing if len(runs) else "No runs are recorded.")
    if lost := sum(runs["status"] == "lost"):
        console().print(
            f"{lost} lost: said to be running, but without a sign of life for two minutes. The next fashion-cnn run "
            "goes on with them where they are asked for, and closes the others."
        )


def show_verdicts(verdicts: Verdicts, *, as_json: bool) -> None:
    """Print the verdicts on the claims, and the post's test results among our runs."""
    if as_json:
        print(json.dumps(verdicts.as_dict(), indent=1, allow_nan=False))
        return
    out = console()
    for study in verdicts.studies:
        out.print(_sentences(study))
        reasons = ", ".join(f"{reason} ({count})" for reason, count in study.left_out)
        left_out = f"; left out: {reasons}" if reasons else ""
        times = f"; {study.about_times}" if study.about_times else ""
        out.print(f"{study.taken} of {study.recorded} recorded runs are taken{left_out}{times}.\n")
    if len(verdicts.test_results):
        out.print(_printed(verdicts.test_results))
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


def _sentences(study: StudyVerdicts) -> Table:
    title = f"{study.study.name}: {study.study.question}"
    sentences = table(title, ("sentence and its parts",), ("difference", "p", "verdict"))
    for sentence in study.sentences:
        whose = "ours: " if sentence.source == "ours" else ""
        notes = [f"({note})" for note in sentence.notes]
        sentences.add_row("\n".join([whose + sentence.says, *notes]), "", "", sentence.verdict.upper())
        for part in sentence.parts:
            claimed = f"· {part.claim}" + (f" ({part.needs})" if part.needs else "")
            sentences.add_row(claimed, _difference(part), _p(part), part.verdict)
        sentences.add_section()
    return sentences


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


def _printed(values: pd.DataFrame) -> Table:
    numbers = ("post", "n", "mean", "sd", "one more of ours", "inside", "strictly")
    printed = table("The post's test results among our runs of the same config", ("arm and measure",), numbers)
    for row in values.to_dict("records"):
        printed.add_row(
            f"{row['study']}: {row['arm']}, {MEASURES[row['measure']]}",
            f"{row['printed']:.2f}",
            str(row["n"]),
            _number(row["mean"], 4),
            _number(row["sd"], 4),
            "-" if math.isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}",
            *({None: "-", True: "yes", False: "no"}[row[name]] for name in ("inside", "strictly")),
        )
    return printed


def show_check(record: Record, lacks: Sequence[Lack], against: Sequence[Contradiction], *, as_json: bool) -> None:
    """Print what a record lacks and where it contradicts itself."""
    run = {name: record.row.get(name) for name in ("run_id", "study", "arm", "seed")}
    complete = not lacks and not against
    if as_json:
        missing, contradictions = [asdict(lack) for lack in lacks], [asdict(each) for each in against]
        print(json.dumps({**run, "complete": complete, "missing": missing, "contradictions": contradictions}, indent=1))
        return
    out = console()
    for lack in lacks:
        out.print(f"missing: {lack}")
    for contradiction in against:
        out.print(f"contradiction: {contradiction}")
    verdict = "complete, and nothing in it contradicts itself" if complete else "no evidence as it stands"
    out.print(f"{run['study']}: {run['arm']} · seed {run['seed']} ({run['run_id']}): {verdict}.")


def show_replay(result: ReplayResult, arms: Sequence[ArmEquivalence], *, study: str | None, as_json: bool) -> None:
    """Print what a replay found: of one run, or of a whole study with its arms whose bits differ."""
    counts = Counter(comparison.answer for comparison in result.comparisons)
    if as_json:
        runs = [comparison.as_dict() for comparison in result.comparisons]
        whole = {"study": study, "answers": counts, "trainings": result.trainings, "runs": runs}
        whole |= {"arms": [arm.as_dict() for arm in arms], "left_out": _left_out(result.left_out)}
        print(json.dumps(whole if study else runs[0], indent=1))
        return
    out = console()
    if study:
        out.print(_replays(result.comparisons))
    for comparison in result.comparisons:
        if not study or comparison.answer != "EXACT":
            out.print("\n".join(comparison.lines()), soft_wrap=True)
    for _, reason in result.left_out:
        out.print(f"Left out: {reason}.")
    if study:
        answers = ", ".join(f"{count} {answer}" for answer, count in counts.items())
        out.print(f"{study}: {len(result.comparisons)} runs from {result.trainings} trainings: {answers}.")
    for arm in arms:
        out.print(str(arm), soft_wrap=True)


def show_published(
    trajectories: Sequence[tuple[Comparison, int]], left_out: Sequence[tuple[str, str]], *, as_json: bool
) -> None:
    """Print what the replay of published runs found: a line per trajectory, then causes, then how many are exact."""
    counts = Counter(comparison.answer for comparison, _ in trajectories)
    if as_json:
        values = [{**comparison.as_dict(), "runs": runs} for comparison, runs in trajectories]
        whole = {"answers": counts, "trajectories": values, "left_out": _left_out(left_out)}
        print(json.dumps(whole, indent=1))
        return
    out = console()
    causes, notes = Counter[str](), Counter[str]()
    for comparison, runs in trajectories:
        shared = f" ({runs} runs are cut from it)" if runs > 1 else ""
        if comparison.answer in ("EXACT", "NOT COMPARABLE"):
            out.print(f"{comparison.headline()}{shared}", soft_wrap=True)
            if comparison.answer != "EXACT":  # whose line has it all
                causes.update([*comparison.causes(), f"replayed in the {comparison.terms}"])
            notes.update(comparison.notes)
        else:
            out.print("\n".join(comparison.lines()), soft_wrap=True)
    for text, count in [*causes.items(), *notes.items()]:
        out.print(f"{count} of {len(trajectories)}: {text}", soft_wrap=True)
    for _, reason in left_out:
        out.print(f"Left out: {reason}.")
    whole_count = len(trajectories) + len(left_out)
    answers = [f"{answer} {counts[answer]} of {whole_count}" for answer in reversed(WORST_FIRST) if counts[answer]]
    out.print(", ".join(answers) or f"EXACT 0 of {whole_count}")


def _left_out(left_out: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"run_id": run_id, "reason": reason} for run_id, reason in left_out]


def _replays(comparisons: Sequence[Comparison]) -> Table:
    texts, numbers = ("run id", "arm", "answer", "first difference", "another"), ("seed", "epochs replayed")
    replays = table("", texts, numbers)
    for comparison in comparisons:
        differences = comparison.differences
        first = f"epoch {differences[0].epoch}, {differences[0].quantity}" if differences else ""
        another = ", ".join(kind for kind in ("environment", "data", "code") if getattr(comparison, kind))
        replayed = f"{len(comparison.replayed)} of {comparison.recorded}"
        replays.add_row(comparison.run_id, comparison.arm, comparison.answer, first, another, comparison.seed, replayed)
    return replays


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
