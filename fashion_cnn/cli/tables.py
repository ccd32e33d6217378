"""What the command line prints: the plan, the closing table, the list of runs, the verdicts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from fashion_cnn.claims import MEASURES, Stops
from fashion_cnn.evidence.statistics import misses
from fashion_cnn.evidence.verdicts import CAVEATS
from fashion_cnn.running.plan import PlannedTrajectory, expected_epochs
from fashion_cnn.terminal import console, duration, table

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.evidence.consistency import Contradiction
    from fashion_cnn.evidence.record import Lack, Record
    from fashion_cnn.evidence.statistics import Part
    from fashion_cnn.evidence.verdicts import Verdicts
    from fashion_cnn.review.replay import ReplayResult
    from fashion_cnn.running.plan import Plan
    from fashion_cnn.running.results import CallResult
    from fashion_cnn.study import Study


def show_plan(plan: Plan, *, seconds_per_work: float, measured: bool, workers: int, bytes_per_run: int) -> None:
    """Print what is to be trained and recorded, what is recorded already, and about how long it takes."""
    out = console()

    def seconds(planned: PlannedTrajectory) -> float:
        return planned.work * seconds_per_work

    made = table("Trajectories, longest first", ("runs cut from it",), ("seed", "epochs", "about"))
    for planned in plan.trajectories:
        runs = "\n".join(f"{run.study.name}: {run.arm}" for run in planned.runs)
        made.add_row(runs, str(planned.seed), str(planned.epochs), duration(seconds(planned)))
    out.print(made)
    work = [seconds(planned) for planned in plan.trajectories]
    wall = max(sum(work) / workers, max(work, default=0.0))
    source = "from epochs measured on this machine" if measured else "nothing is measured here yet: a guess"
    out.print(
        f"{len(plan.runs)} runs to record from {len(plan.trajectories)} trajectories; "
        f"{len(plan.recorded)} are recorded already."
    )
    out.print(f"About {duration(wall)} on {workers} workers ({source}) and {_mib(len(plan.runs) * bytes_per_run)}.")
    if any(run.config.callback_loss is not None for run in plan.runs):
        longest = max(expected_epochs(run.config) for run in plan.runs if run.config.callback_loss is not None)
        out.print(f"A run that stops at a loss is taken to need {longest} epochs.")


def show_outcome(outcome: CallResult, studies: Sequence[Study]) -> None:
    """Print the closing table and how to go on."""
    order = [(study.name, arm) for study in studies for arm in study.arms]
    results = sorted(outcome.results, key=lambda result: (order.index((result.study, result.arm)), result.seed))
    out = console()
    numbers = ("seed", "epochs", "loss", "accuracy", "test loss", "test accuracy", "seconds")
    made = table("", ("study", "arm", "status"), numbers)
    for result in results:
        values = [result.metrics.get(name) for name in ("loss", "accuracy", "test_loss", "test_accuracy")]
        made.add_row(
            *(result.study, result.arm, result.status, str(result.seed), str(result.epochs)),
            *(_number(value, 4) for value in values),
            _number(result.seconds, 1),
        )
    if results:
        out.print(made)
    spent = sum(result.seconds for result in results if result.status != "recorded")
    out.print(
        f"{outcome.made} runs made in {duration(outcome.seconds)}; trained one after another, each from the start, "
        f"they would have taken {duration(spent)}."
    )
    if outcome.failed:
        out.print(f"{outcome.failed} of them did not finish; the same command goes on with them.")
    if skipped := len(results) - outcome.made:
        out.print(f"{skipped} runs were recorded already.")
    if outcome.unsent:
        out.print(f"{outcome.unsent} runs are not in the store yet ({outcome.trouble}): fashion-cnn sync sends them.")
    out.print(f"Compare them: fashion-cnn ui {studies[0].name if len(studies) == 1 else ''}".rstrip())


def show_runs(runs: pd.DataFrame, *, as_json: bool) -> None:
    """Print a frame of `Store.runs`, in which the status of a run that gives no sign of life is `lost`."""
    if as_json:
        print(runs.to_json(orient="records", indent=1))
        return
    numbers = ("seed", "epochs", "test loss", "test accuracy", "seconds")
    made = table("", ("run id", "study", "arm", "status", "smoke"), numbers)
    for row in runs.to_dict("records"):
        made.add_row(
            *(str(row[name]) for name in ("run_id", "study", "arm", "status", "smoke", "seed")),
            _whole(row["epochs_trained"]),
            _number(row["test_loss"], 4),
            _number(row["test_accuracy"], 4),
            _number(row["fit_seconds"] + row["evaluate_seconds"], 1),
        )
    console().print(made if len(runs) else "No runs are recorded.")
    if lost := sum(runs["status"] == "lost"):
        console().print(
            f"{lost} lost: said to be running, but without a sign of life for two minutes. The next fashion-cnn run "
            "goes on with them where they are asked for, and closes the others."
        )


def show_verdicts(said: Verdicts, *, as_json: bool) -> None:
    """Print what became of the claims, and the post's test results among our runs."""
    if as_json:
        print(json.dumps(said.as_dict(), indent=1, allow_nan=False))
        return
    out = console()
    for one in said.studies:
        title = f"{one.study.name}: {one.study.question}"
        made = table(title, ("sentence and its parts",), ("difference", "p", "verdict"))
        for sentence in one.sentences:
            whose = "ours: " if sentence.source == "ours" else ""
            notes = [f"({note})" for note in sentence.notes]
            made.add_row("\n".join([whose + sentence.says, *notes]), "", "", sentence.verdict.upper())
            for part in sentence.parts:
                made.add_row(f"· {part.claim}", *_part(part), part.verdict)
            made.add_section()
        out.print(made)
        reasons = ", ".join(f"{reason} ({count})" for reason, count in one.left_out)
        left_out = f"; left out: {reasons}" if reasons else ""
        out.print(f"{one.taken} of {one.recorded} recorded runs are taken{left_out}.\n")
    if len(said.test_results):
        out.print(_printed(said.test_results))
        for frame, what in ((said.test_results, "test results"), (said.epoch_results, "numbers of training epochs")):
            count = misses(frame)
            out.print(
                f"Outside of the 95 % prediction interval: {count['outside']} of {count['compared']} {what}; "
                f"chance alone would put at most {count['by_chance']:.1f} there."
            )
        out.print()
    out.print(
        "difference: the mean over seeds (or the share of runs that end in time), its 95 % interval (90 % where the "
        "claim is a range), and in how many seeds the arm is the higher one (the lower one where that is claimed). "
        "p: adjusted by Holm's procedure. inside: whether the post's number, give or take half its last digit, meets "
        "the 95 % prediction interval for one more of our runs."
    )
    for caveat in CAVEATS:
        out.print(caveat)


def _part(part: Part) -> list[str]:
    """The cells of a part's numbers."""
    sign = "" if isinstance(part.claim, Stops) else "+"

    def told(value: float | None) -> str:
        return "-" if value is None else f"{value:{sign}.{part.claim.decimals}f}"

    difference = [told(part.estimate) + (" in all" if part.constant else "")]
    if part.low is not None:
        difference.append(f"{told(part.low)} to {told(part.high)}")
    ties = f", {part.ties} equal" if part.ties else ""
    difference.append(f"{part.wins} of {part.n} seeds{ties}" if part.n else "no seeds")
    sides = {"for": part.p_for_holm, "against": part.p_against_holm}
    p = [
        f"{side} {'<0.0001' if value < 0.0001 else f'{value:.4f}'}"
        for side, value in sides.items()
        if value is not None
    ]
    return ["\n".join(difference), "\n".join(p)]


def _printed(values: pd.DataFrame) -> Table:
    numbers = ("post", "n", "mean", "sd", "one more of ours", "inside")
    made = table("The post's test results among our runs of the same config", ("arm and measure",), numbers)
    for row in values.to_dict("records"):
        interval = "-" if math.isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"
        inside = {None: "-", True: "yes", False: "no"}[row["inside"]]
        made.add_row(
            f"{row['study']}: {row['arm']}, {MEASURES[row['measure']]}",
            *(f"{row['printed']:.2f}", str(row["n"]), _number(row["mean"], 4), _number(row["sd"], 4)),
            *(interval, inside),
        )
    return made


def show_check(record: Record, lacks: Sequence[Lack], against: Sequence[Contradiction], *, as_json: bool) -> None:
    """Print what a record lacks and where it contradicts itself."""
    named = {name: record.row.get(name) for name in ("run_id", "study", "arm", "seed")}
    complete = not lacks and not against
    if as_json:
        found = {"missing": [asdict(one) for one in lacks], "contradictions": [asdict(one) for one in against]}
        print(json.dumps({**named, "complete": complete, **found}, indent=1))
        return
    out = console()
    for lack in lacks:
        out.print(f"missing: {lack}")
    for one in against:
        out.print(f"contradiction: {one}")
    verdict = "complete, and nothing in it contradicts itself" if complete else "no evidence as it stands"
    out.print(f"{named['study']}: {named['arm']} · seed {named['seed']} ({named['run_id']}): {verdict}.")


def show_replay(outcome: ReplayResult, *, study: str | None, as_json: bool) -> None:
    """Print what came of a replay: of one run, or of a whole study."""
    counts = Counter(one.answer for one in outcome.comparisons)
    if as_json:
        runs = [one.as_dict() for one in outcome.comparisons]
        left_out = [{"run_id": run_id, "reason": reason} for run_id, reason in outcome.left_out]
        every = {"study": study, "answers": counts, "trainings": outcome.trainings, "runs": runs, "left_out": left_out}
        print(json.dumps(every if study else runs[0], indent=1))
        return
    out = console()
    if study:
        made = table("", ("run id", "arm", "answer", "first difference", "another"), ("seed", "epochs replayed"))
        for one in outcome.comparisons:
            first = f"epoch {one.differences[0].epoch}, {one.differences[0].quantity}" if one.differences else ""
            replayed = f"{len(one.replayed)} of {one.recorded}"
            another = ", ".join(kind for kind in ("environment", "data", "code") if getattr(one, kind))
            made.add_row(one.run_id, one.arm, one.answer, first, another, one.seed, replayed)
        out.print(made)
    for one in outcome.comparisons:
        if not study or one.answer != "EXACT":
            out.print("\n".join(one.lines()), soft_wrap=True)
    for _, reason in outcome.left_out:
        out.print(f"Left out: {reason}.")
    if study:
        answers = ", ".join(f"{count} {answer}" for answer, count in counts.items())
        out.print(f"{study}: {len(outcome.comparisons)} runs from {outcome.trainings} trainings: {answers}.")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _whole(value: float | None) -> str:
    return _number(value, 0)


def _mib(count: float) -> str:
    return f"{count / 2**20:.0f} MiB of disk"
