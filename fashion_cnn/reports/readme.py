"""Published records in, the README's tables out: Markdown, generated and never typed.

`render` fills the marked parts of a text with cog (Ned Batchelder's code generator). A part is called by name, as in
`cog.outl(part("arms"))`. Nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import MEASURES, Equivalent, Higher, Stops
from fashion_cnn.evidence import tables as bundle
from fashion_cnn.evidence.printed import misses
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import Part, Sentence
from fashion_cnn.reports.page import arm_table, post_comparison
from fashion_cnn.reports.published import verdicts_over
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.evidence.verdicts import Verdicts

Row = Sequence[str]
_MINUS: Final = "\N{MINUS SIGN}"
_NONE: Final = "\N{EN DASH}"


class SummaryError(ValueError):
    """A text whose parts cannot be filled: one line that says why."""


def parts(
    studies: Sequence[Study], records: Sequence[Record], post: bytes, benchmarks: Mapping[str, Any]
) -> dict[str, Callable[[], str]]:
    """What can stand in a text, by name; each is made when it is called.

    Args:
        studies: in order.
        records: published; at least one.
        post: the post's printed numbers, CSV.
        benchmarks: by name the JSON values of what `experiments.benchmark` wrote; may be empty.
    """
    said = verdicts_over(studies, records, post)
    runs, _ = bundle.frames((one.row for one in records), ())
    chosen = {study.name: select(runs[runs["study"] == study.name], study)[0] for study in studies}
    counted = pooled(chosen.values())

    def arms() -> str:
        rows = []
        for study in studies:
            theirs = post_comparison(study, said).set_index(["arm", "measure"])["printed"].to_dict()
            for row in arm_table(chosen[study.name], list(study.arms)).to_dict("records"):
                printed = [_plain(theirs.get((row["arm"], one)), 2) for one in ("test_accuracy", "test_loss")]
                ours = [_mean(row, one) for one in ("test_accuracy", "test_loss")]
                epochs = _plain(row["epochs_mean"], 0 if row["epochs_min"] == row["epochs_max"] else 1)
                cost = [epochs, _plain(row["cpu_seconds"], 0)]
                rows.append([study.name, row["arm"], str(row["n"]), printed[0], ours[0], printed[1], ours[1], *cost])
        heads = ["study", "arm", "n", "post: accuracy", "ours: test accuracy", "post: loss", "ours: test loss"]
        return table([*heads, "epochs", "CPU s"], _once(rows), numbers=range(2, 9))

    def claims() -> str:
        rows = [
            [one.study.name, _whose(sentence), f"**{sentence.verdict}**", _evidence(sentence)]
            for one in said.studies
            for sentence in one.sentences
        ]
        return table(["study", "the sentence", "verdict", "its parts"], _once(rows))

    def counts() -> str:
        verdicts = [sentence.verdict for one in said.studies for sentence in one.sentences if sentence.source == "post"]
        told = [f"{verdicts.count(one)} {_COUNTED.get(one, one)}" for one in _ORDER if one in verdicts]
        found = misses(said.test_results)
        return (
            f"Of the post's {len(verdicts)} sentences: {', '.join(told)}. Of its {found['compared']} printed test "
            f"results {found['outside']} lie outside of the 95 % prediction interval for one more run of ours; chance "
            f"alone would put at most {found['by_chance']:.1f} there."
        )

    def cost() -> str:
        return _cost(counted)

    def surprises() -> str:
        return _surprises(said, counted)

    def basis() -> str:
        return _basis(records, counted)

    def benchmark() -> str:
        return _ratios(benchmarks.get("benchmark"))

    def scaling() -> str:
        return _scaling(benchmarks.get("scaling"), benchmarks.get("server"), counted)

    return {made.__name__: made for made in (arms, claims, counts, cost, surprises, basis, benchmark, scaling)}


def pooled(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Some frames of runs as one."""
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def render(text: str, made: Mapping[str, Callable[[], str]]) -> str:
    """A text with its marked parts generated anew.

    Raises:
        SummaryError: a mark that cog does not understand, or a part that there is none of.
    """
    from cogapp.cogapp import Cog, CogError

    def part(name: str) -> str:
        if name not in made:
            raise SummaryError(f"there is no part {name!r}; there are: {', '.join(made)}")
        return made[name]()

    cog = Cog()
    cog.options.defines["part"] = part
    try:
        return str(cog.process_string(text, "README.md"))
    except CogError as error:
        raise SummaryError(f"README.md: {error}") from None


def table(heads: Row, rows: Iterable[Row], numbers: Iterable[int] = ()) -> str:
    """A table in GitHub's Markdown.

    Args:
        heads: of the columns.
        rows: of cells; what would end a cell is escaped.
        numbers: the columns whose cells are set to the right.
    """
    right = set(numbers)
    rule = ["---:" if place in right else "---" for place, _ in enumerate(heads)]
    lines = [heads, rule, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_ORDER: Final = ("supported", "contradicted", "undecided", "too few seeds", "not tested")
_COUNTED: Final = {"too few seeds": "with too few seeds"}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _once(rows: Sequence[Row]) -> list[Row]:
    """The rows, a first cell that repeats the one above left empty."""
    above = [None, *(row[0] for row in rows)]
    return [["" if row[0] == last else f"`{row[0]}`", *row[1:]] for row, last in zip(rows, above, strict=False)]


def _plain(value: float | None, decimals: int) -> str:
    return _NONE if value is None or math.isnan(value) else f"{value:,.{decimals}f}".replace("-", _MINUS)


def _mean(row: Mapping[str, Any], measure: str) -> str:
    """A mean with its 95 % interval."""
    mean, low, high = (row[f"{measure}_{name}"] for name in ("mean", "low", "high"))
    interval = "" if math.isnan(low) else f" ({_plain(low, 4)} to {_plain(high, 4)})"
    return f"{_plain(mean, 4)}{interval}"


def _whose(sentence: Sentence) -> str:
    return sentence.says if sentence.source == "post" else f"*ours:* {sentence.says}"


def _evidence(sentence: Sentence) -> str:
    if not sentence.parts:
        return " ".join(sentence.notes)
    return "; ".join(_part(part) for part in sentence.parts)


def _part(part: Part) -> str:
    """What a part's runs say, in short: the difference, its interval, and what was claimed of it."""
    claim = part.claim
    verdict = "" if part.verdict == "supported" else f" ({part.verdict})"
    if part.estimate is None:
        return f"{claim}{verdict}"
    if isinstance(claim, Stops):
        return f"{claim}: in {part.wins} of {part.n} runs{verdict}"
    sign = "+"
    estimate = f"{part.estimate:{sign}.{claim.decimals}f}".replace("-", _MINUS)
    interval = ""
    if part.low is not None and part.high is not None:
        ends = [f"{end:{sign}.{claim.decimals}f}".replace("-", _MINUS) for end in (part.low, part.high)]
        interval = f" ({ends[0]} to {ends[1]})"
    told = f"{MEASURES[claim.measure]} {estimate}{interval}"
    if isinstance(claim, Equivalent):
        return f"{told}, claimed within {claim.within:g}{verdict}"
    direction = "higher" if isinstance(claim, Higher) else "lower"
    beyond = f", claimed by more than {claim.margin:g}" if claim.margin else ""
    return f"{told}, {direction} in {part.wins} of {part.n} seeds{beyond}{verdict}"


def _surprises(said: Verdicts, runs: pd.DataFrame) -> str:
    """What the runs say against the post or against us, and how far a seed alone moves a score, as a list."""
    lines = [
        f"- `{one.study.name}`: *{sentence.says}.* **Contradicted**: {_evidence(sentence)}."
        + (" It was our own expectation." if sentence.source == "ours" else "")
        for one in said.studies
        for sentence in one.sentences
        if sentence.verdict == "contradicted"
    ]
    printed = said.test_results
    for row in printed[printed["inside"].eq(False)].to_dict("records"):
        lines.append(
            f"- `{row['study']}`, {row['arm']}: the post printed a {MEASURES[row['measure']]} of "
            f"{_plain(row['printed'], 2)}; one more run of ours would lie between {_plain(row['low'], 4)} and "
            f"{_plain(row['high'], 4)}."
        )
    scores = runs.astype({"test_accuracy": float}).groupby(["study", "arm"])["test_accuracy"]
    widest = (scores.max() - scores.min()).idxmax()
    one = scores.get_group(widest)
    if len(one) > 1:
        lines.append(
            f"- Seeds alone move `{widest[0]}`, {widest[1]}, from {_plain(one.min(), 4)} to {_plain(one.max(), 4)} in "
            f"test accuracy, more than any other arm (n = {len(one)})."
        )
    return "\n".join(lines) or "Nothing yet."


def _basis(records: Sequence[Record], chosen: pd.DataFrame) -> str:
    """What the numbers rest on: how many runs, where and when they were made, and their hashes."""
    seeds = sorted({int(seed) for seed in chosen["seed"]})
    used = [one for one in records if one.row["run_id"] in set(chosen["run_id"])]
    told = [one.json("environment.json")["fingerprint"] for one in used]
    days = sorted(datetime.fromtimestamp(int(one.row["start_time"]) / 1000, UTC).strftime("%Y-%m-%d") for one in used)
    processors = sorted({str(one.get("processor", "an unknown processor")) for one in told})
    names = {"tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}
    libraries = sorted({", ".join(f"{names[key]} {one[key]}" for key in names if key in one) for one in told})
    commits = sorted({str(one.row["git_commit"])[:10] for one in used})
    code = sorted({str(one.row["code_sha256"])[:12] for one in used})
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    studies = {str(one.row["study"]) for one in used}
    others = sum(one.row["study"] in studies for one in records) - len(used)
    return (
        f"{len(used)} runs, seeds {seeds[0]} to {seeds[-1]}, made {when} on {' and '.join(processors)} with "
        f"{'; '.join(libraries)}; commit {', '.join(commits)}, code {', '.join(code)}."
        + (f" {others} more runs of another environment are published and not counted." if others else "")
    )


_RATIOS: Final = {
    "epoch_cpu_ours_to_fit": "CPU time of an epoch of the default CNN, ours to plain `fit`'s",
    "epoch_cpu_ours_to_tuned": "the same, to a tuned `fit`'s (oneDNN's kernels, many steps a call)",
    "epoch_cpu_ours_to_torch": "the same, to PyTorch's (a plain eager loop)",
    "limit_share_ours": "our epoch's share of the processor's floating-point limit (a matrix product)",
    "suite_post_to_ours": "the sixteen runs of one seed, one after another by plain `fit`, to ours (wall time)",
    "recording_share": "what recording adds to a run's CPU time",
}
"""Of `experiments.benchmark`'s ratios those that the README quotes, and in which words."""


def _ratios(values: Mapping[str, Any] | None) -> str:
    """A benchmark's ratios; seconds are one machine's and stand in its own page."""
    if not values:
        return _UNMEASURED
    rows = [[words, f"{values['ratios'][name]:.2f}"] for name, words in _RATIOS.items() if name in values["ratios"]]
    epoch, given = values.get("epoch"), values["settings"]
    notes = [f"{given['images']:,} of {given['all_images']:,} training images"]
    notes += [f"an epoch: medians of n = {epoch['repeats']}"] if epoch else []
    notes += ["the sixteen runs: from one epoch of each network"] if "suite" in values else []
    return f"{_measured(values)} {'; '.join(notes)}.\n\n{table(['ratio', 'measured'], rows, numbers=[1])}"


_SEEDS: Final = 1000
_MACHINES: Final = 100
_STORES: Final = {
    "server": "through a tracking server",
    "postgresql": "in PostgreSQL, without a server before it",
    "sqlite": "in SQLite, which several machines cannot share (PostgreSQL was not measured)",
}


def _scaling(values: Mapping[str, Any] | None, served: Mapping[str, Any] | None, runs: pd.DataFrame) -> str:
    """What more workers gain, what a full store costs, and what many seeds on many machines would take by that.

    Args:
        values: of `scaling.json`.
        served: of `server.json`.
        runs: the published ones that count.
    """
    if not values:
        return _UNMEASURED
    found = values["scaling"]
    trained = table(
        ["executor", "two workers against one: times as fast", "more than local, of a run of 10 epochs"],
        [[name, f"{one['speedup']:.2f}", f"{one['overhead_share']:.1%}"] for name, one in found["executors"].items()],
        numbers=[1, 2],
    )
    parts = [found, *([served["server"]] if served else [])]
    grown = [(name, one, part["runs"]) for part in parts for name, one in part["stores"].items()]
    stored = table(
        ["store", "runs", "recording a run: times as long", "`list`", "`report`"],
        [
            [name, f"{sizes[-1]:,} against {sizes[0]:,}", *(f"{ratio:.2f}" for ratio in one["growth"].values())]
            for name, one, sizes in grown
        ],
        numbers=[2, 3, 4],
    )
    # Several machines need a server; without one measured, its database tells most.
    store, one, sizes = min(grown, key=lambda told: list(_STORES).index(told[0]))
    few, many = sizes[0], sizes[-1]
    record_seconds = one[f"record_{many}"]["median"]
    reported = (one[f"report_{many}"]["seconds"] - one[f"report_{few}"]["seconds"]) / (many - few)
    besides = max(one["seconds_besides_epochs"] for one in found["executors"].values())
    cores = _MACHINES * values["machine"]["cores"]
    estimate = _many_seeds(runs, cores, besides, _STORES[store], record_seconds, reported)
    told = (
        f"both tables are ratios of wall times; the executors' of medians of n = {found['repeats']}, recording's of "
        f"n = {found['sent']}; `list` and `report`: n = 1."
    )
    return f"{_measured(values)} {told}\n\n{trained}\n\n{stored}\n\n{estimate}"


def _many_seeds(
    runs: pd.DataFrame, cores: int, besides: float, store: str, record_seconds: float, report_seconds: float
) -> str:
    """What many seeds would take, where a call's only recorder works while the others train.

    Args:
        runs: the published ones that count.
        cores: on all machines.
        besides: the seconds that a task takes besides its epochs.
        store: in words.
        record_seconds: to record a run there.
        report_seconds: that a report takes for each run there.
    """
    seconds, trained = _trainings(runs, "fit_seconds")
    _, recorded = _of_a_seed(runs.set_index("seed")["fit_seconds"])
    training = _SEEDS * (seconds + trained * besides) / cores / 3600
    recording, reporting = (_SEEDS * recorded * each / 3600 for each in (record_seconds, report_seconds))
    told = (
        f"{_SEEDS:,} seeds on {_MACHINES} such machines, which are {_SEEDS * recorded:,} runs from "
        f"{_SEEDS * trained:,} trainings, would train for {training:.1f} hours by the published runs' times and what a "
        f"task takes besides (`experiments/results/scaling.md`). To record them takes {recording:.1f} hours "
        f"{store}, and a report of them {reporting:.1f} hours: "
    )
    if recording <= training:
        return f"{told}one call's recorder keeps up, and the processors set the pace."
    return (
        f"{told}a call's only recorder breaks first. The work of {math.ceil(recording / training)} is needed: so many "
        "calls, each with its own seeds. Whether a store keeps up with them all at once was not measured."
    )


def _cost(runs: pd.DataFrame) -> str:
    """What a seed of the studies costs."""
    seconds, trained = _trainings(runs, "fit_cpu_seconds")
    alone, recorded = _of_a_seed(runs.set_index("seed")["fit_cpu_seconds"])
    return (
        f"A seed of these studies is {recorded} runs from {trained} trainings. They take {seconds / 60:.0f} minutes of "
        f"CPU time; each run trained for itself would make them {alone / 60:.0f}."
    )


def _trainings(runs: pd.DataFrame, seconds: str) -> tuple[float, int]:
    """What the trainings of a seed take, and how many they are: each as long as its longest run."""
    return _of_a_seed(runs.groupby(["seed", "trajectory_sha256"])[seconds].max())


def _of_a_seed(values: pd.Series) -> tuple[float, int]:
    """Their sum and their number: the mean over the seeds that have the most of them."""
    seeds = values.groupby("seed").agg(["sum", "size"])
    whole = seeds[seeds["size"] == seeds["size"].max()]
    return float(whole["sum"].mean()), int(whole["size"].iloc[0])


_UNMEASURED: Final = "Not measured yet."


def _measured(values: Mapping[str, Any]) -> str:
    machine = values["machine"]
    return f"Measured {values['date'][:10]} on {machine['processor']}, {machine['cores']} cores:"
