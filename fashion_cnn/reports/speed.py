"""What the pages say of speed and cost: in Markdown, from the benchmark's values and the published runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.evidence.verdicts import with_counted_times
from fashion_cnn.reports.markdown import processor, table

if TYPE_CHECKING:
    import pandas as pd

_UNMEASURED: Final = "Not measured yet."
_RATIOS: Final = {  # the benchmark's ratios that the documents quote, and in which words
    "epoch_cpu_ours_to_fit": "CPU time of an epoch of the default CNN, ours to plain `fit`'s",
    "epoch_cpu_ours_to_tuned": "the same, to a tuned `fit`'s (oneDNN's kernels, many steps a call)",
    "epoch_cpu_ours_to_torch": "the same, to PyTorch's (a plain eager loop)",
    "limit_share_ours": "our epoch's share of the processor's floating-point limit (a matrix product)",
    "suite_post_to_portable": "the runs of one seed, one after another by plain `fit`, to ours (wall time)",
    "suite_post_to_native": "the same, to ours in the native arithmetic",
    "recording_share": "what recording adds to a run's CPU time",
}
_SEEDS: Final = 1000
_MACHINES: Final = 100
_STORES: Final = {  # in the order in which they tell more of several machines
    "server": "through a tracking server",
    "postgresql": "in PostgreSQL, without a server before it",
    "sqlite": "in SQLite, which several machines cannot share (PostgreSQL was not measured)",
}


def ratios(values: Mapping[str, Any] | None) -> str:
    """The benchmark's ratios; `values` are those of `benchmark.json`, None where nothing was measured."""
    if not values:
        return _UNMEASURED
    rows = [[words, f"{values['ratios'][name]:.2f}"] for name, words in _RATIOS.items() if name in values["ratios"]]
    epoch, settings = values.get("epoch"), values["settings"]
    notes = [f"{settings['images']:,} of {settings['all_images']:,} training images"]
    notes += [f"an epoch: medians of n = {epoch['repeats']}"] if epoch else []
    suite = values.get("suite")
    notes += [f"the {suite['runs']} runs of the post's studies: each way whole, n = 1"] if suite else []
    return f"{_measured(values)} {'; '.join(notes)}.\n\n{table(['ratio', 'measured'], rows, numbers=[1])}"


def scaling(values: Mapping[str, Any] | None, served: Mapping[str, Any] | None, runs: pd.DataFrame) -> str:
    """What more workers gain, what a full store costs, and what many seeds on many machines would take by that."""
    if not values:
        return _UNMEASURED
    measured = values["scaling"]
    executors = table(
        ["executor", "two workers against one: times as fast", "more than local, of a run of 10 epochs"],
        [
            [name, f"{figures['speedup']:.2f}", f"{figures['overhead_share']:.1%}"]
            for name, figures in measured["executors"].items()
        ],
        numbers=[1, 2],
    )
    sittings = [measured, *([served["server"]] if served else [])]
    grown = [(name, figures, sitting["runs"]) for sitting in sittings for name, figures in sitting["stores"].items()]
    stores = table(
        ["store", "runs", "recording a run: times as long", "`list`", "`report`"],
        [
            [name, f"{sizes[-1]:,} against {sizes[0]:,}", *(f"{ratio:.2f}" for ratio in figures["growth"].values())]
            for name, figures, sizes in grown
        ],
        numbers=[2, 3, 4],
    )
    notes = (
        f"both tables are ratios of wall times; the executors' of medians of n = {measured['repeats']}, recording's of "
        f"n = {measured['sent']}; `list` and `report`: n = 1."
    )
    return f"{_measured(values)} {notes}\n\n{executors}\n\n{stores}\n\n{_many_seeds(values, grown, runs)}"


def cost(runs: pd.DataFrame) -> str:
    """What a seed of the studies costs, by the published runs whose times count."""
    runs = with_counted_times(runs).dropna(subset="fit_cpu_seconds")
    seconds, trained = _trainings(runs, "fit_cpu_seconds")
    alone, recorded = _of_a_seed(runs.set_index("seed")["fit_cpu_seconds"])
    said = f"A seed of these studies is {recorded} runs from {trained} trainings"
    if trained == recorded:
        return f"{said}: {seconds / 60:.0f} minutes of CPU time."
    shared = "because runs share what they have in common"
    return f"{said}, {shared}: {seconds / 60:.0f} minutes of CPU time instead of {alone / 60:.0f}."


def again(runs: pd.DataFrame, studies: Sequence[str]) -> str:
    """The command that makes the published runs that count, and what it takes; `studies` are all that there are."""
    published = [study for study in studies if study in set(runs["study"])]
    named = "all" if published == list(studies) else f'"{" ".join(published)}"'
    seeds = runs["seed"].astype(int)
    count = seeds.max() - seeds.min() + 1
    seconds, _ = _trainings(with_counted_times(runs).dropna(subset="fit_cpu_seconds"), "fit_cpu_seconds")
    hours = count * seconds / 3600
    return f"`make studies STUDIES={named} FIRST_SEED={seeds.min()} SEEDS={count}`: {hours:.1f} hours of CPU time."


def _many_seeds(
    values: Mapping[str, Any], grown: list[tuple[str, Mapping[str, Any], list[int]]], runs: pd.DataFrame
) -> str:
    """What many seeds would take, where a call's only recorder works while the others train."""
    store, figures, sizes = min(grown, key=lambda sized: list(_STORES).index(sized[0]))
    few, many = sizes[0], sizes[-1]
    record_seconds = figures[f"record_{many}"]["median"]
    report_seconds = (figures[f"report_{many}"]["seconds"] - figures[f"report_{few}"]["seconds"]) / (many - few)
    besides = max(executor["seconds_besides_epochs"] for executor in values["scaling"]["executors"].values())
    seconds, trained = _trainings(with_counted_times(runs).dropna(subset="fit_seconds"), "fit_seconds")
    _, recorded = _of_a_seed(runs.set_index("seed")["fit_seconds"])
    training = _SEEDS * (seconds + trained * besides) / (_MACHINES * values["machine"]["cores"]) / 3600
    recording, reporting = (_SEEDS * recorded * each / 3600 for each in (record_seconds, report_seconds))
    estimate = (
        f"{_SEEDS:,} seeds on {_MACHINES} such machines, which are {_SEEDS * recorded:,} runs from "
        f"{_SEEDS * trained:,} trainings, would train for {training:.1f} hours by the published runs' times and what a "
        f"task takes besides (`experiments/results/scaling.md`). To record them takes {recording:.1f} hours "
        f"{_STORES[store]}, and a report of them {reporting:.1f} hours: "
    )
    if recording <= training:
        return f"{estimate}one call's recorder keeps up, and the processors set the pace."
    return (
        f"{estimate}a call's only recorder breaks first. The work of {math.ceil(recording / training)} is needed: so "
        "many calls, each with its own seeds. Whether a store keeps up with them all at once was not measured."
    )


def _trainings(runs: pd.DataFrame, seconds: str) -> tuple[float, int]:
    """What the trainings of a seed take, and how many they are: each as long as its longest run."""
    return _of_a_seed(runs.groupby(["seed", "trajectory_sha256"])[seconds].max())


def _of_a_seed(values: pd.Series) -> tuple[float, int]:
    """Their sum and their number: the mean over the seeds that have the most of them."""
    seeds = values.groupby("seed").agg(["sum", "size"])
    whole = seeds[seeds["size"] == seeds["size"].max()]
    return float(whole["sum"].mean()), int(whole["size"].iloc[0])


def _measured(values: Mapping[str, Any]) -> str:
    machine = values["machine"]
    return f"Measured {values['date'][:10]} on {processor(machine['processor'])}, {machine['cores']} cores:"
