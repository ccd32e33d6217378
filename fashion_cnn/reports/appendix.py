"""The generated parts of docs/appendix.md and docs/history.md: what repeats each claim, how the runs came to be.

Whatever a run produced is computed from the published records; `readme.parts` gives the parts their names.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import ALPHA, Stops, Test
from fashion_cnn.evidence.record import Record, absent
from fashion_cnn.evidence.statistics import TIMES, Part
from fashion_cnn.evidence.verdicts import Verdicts
from fashion_cnn.intervals import prediction_interval
from fashion_cnn.reports.basis import PILOT_SEEDS
from fashion_cnn.reports.markdown import named_once, plain, processor, table
from fashion_cnn.reports.page import moment, typeset

if TYPE_CHECKING:
    import pandas as pd

PROGRAM: Final = ".venv/bin/fashion-cnn"
_MINUTES: Final = ("CPU minutes", "minutes")
_HARDWARE: Final = ("processor", "arithmetic", "threads", "device", "Python", "libraries", "MiB of a training")
_NONE: Final = "\N{EN DASH}"


@dataclass(frozen=True)
class Appendix:
    """What the published records tell of their own making; each public method is a part."""

    records: Sequence[Record]
    verdicts: Verdicts
    chosen: Mapping[str, pd.DataFrame]
    """Of each study the runs that count."""
    pilot_verdicts: bytes
    """CSV: `study`, `source`, `says`, `verdict`, `n`; one row per sentence. May be empty."""

    @cached_property
    def published(self) -> pd.DataFrame:
        """Every published run, whether it counts or not."""
        import pandas as pd

        return pd.DataFrame([record.row for record in self.records])

    @cached_property
    def counted(self) -> pd.DataFrame:
        """Those that count."""
        import pandas as pd

        return pd.concat(self.chosen.values(), ignore_index=True)

    def parts(self) -> dict[str, Callable[[], str]]:
        """What can stand in a page, by name; each is made when it is called."""
        made = (self.claim_commands, self.study_commands, self.replay_commands, self.compute, self.hardware)
        return {part.__name__: part for part in (*made, self.data_files, self.origin, self.pilot)}

    def claim_commands(self) -> str:
        """One row per claim: what trains its arms, how long, what comes out, how far another training may be off."""
        rows = []
        for judged in self.verdicts.studies:
            name, runs = judged.study.name, self.chosen[judged.study.name]
            for sentence in judged.sentences:
                if not sentence.parts:
                    row = [name, sentence.says, sentence.verdict, _NONE, f"`{PROGRAM} results`", _NONE, _NONE]
                    rows.append(row)
                for part in sentence.parts:
                    arms = [arm for arm in judged.study.arms if arm in part.claim.arms]
                    of_claim = runs[runs["arm"].isin(arms)]
                    command = _run(name, runs, [] if len(arms) == len(judged.study.arms) else arms)
                    told = [f"{sentence.says}: {part.claim}", _expected(part), _tolerance(part), command]
                    rows.append([name, *told, *_minutes(trainings(of_claim))])
        heads = ["study", "claim", "published", "a repetition", "command", *_MINUTES]
        return table(heads, named_once(rows), numbers=(5, 6))

    def study_commands(self) -> str:
        """One row per study, and one for all together, in which trainings that studies share count once."""
        everything = [(f"`{name}`", name, runs) for name, runs in self.chosen.items()]
        rows = []
        for title, name, runs in [*everything, ("all together", "", self.counted)]:
            trained = trainings(runs)
            rows.append([title, str(len(runs)), str(len(trained)), _run(name, runs), *_minutes(trained)])
        return table(["study", "runs", "trainings", "command", *_MINUTES], rows, numbers=(1, 2, 4, 5))

    def replay_commands(self) -> str:
        """What a reviewer runs first, and what it answers: replays of the lowest seed."""
        lowest = min(self.counted["seed"], key=int)
        seed = self.counted[self.counted["seed"] == lowest]
        trained = trainings(seed)
        first = [state for record in self._of(trained.index) for state in record.states()[:1]]
        one_epoch = [sum(float(state[name]) for state in first) for name in ("epoch_cpu_seconds", "epoch_seconds")]
        n = len(trained)
        expected = f"`EXACT {n} of {n}` on {self._where_exact()}; elsewhere `NOT COMPARABLE`, status 3"
        check = "a line for each table and page that differs, else that all of it holds; status 0"
        rows = [
            [f"`{PROGRAM} results --check`", check, _NONE, _NONE],
            ["`make replay EPOCHS=1`", expected, *(plain(seconds / 60, 1) for seconds in one_epoch)],
            ["`make replay`", expected, *_minutes(trained)],
        ]
        return table(["command", "expected", *_MINUTES], rows, numbers=(2, 3))

    def compute(self) -> str:
        """What all published trainings took together, those that no table counts included."""
        runs, trained = self.published, trainings(self.published)
        cpu, wall = (trained[name].sum() / 3600 for name in reversed(TIMES))
        alone = runs["fit_cpu_seconds"].astype(float).sum() / 3600
        start, end = (moment(float(value)) for value in (runs["start_time"].min(), runs["end_time"].max()))
        return (
            f"The {len(runs)} published runs are cut from {len(trained)} trainings. These took {cpu:.2f} hours of CPU "
            f"time, and {wall:.2f} hours one after another; the first began {start}, the last ended {end} (UTC). Each "
            f"run trained for itself would have taken {alone:.2f} hours of CPU time."
        )

    def hardware(self) -> str:
        """One row per kind of machine and software that the published runs were made with."""
        kinds: dict[tuple[str, ...], float] = {}
        for record in self.records:
            kind, memory = _kind(record), float(record.row["peak_memory_mib"])
            kinds[kind] = max(memory, kinds.get(kind, 0.0))
        return table(_HARDWARE, [[*kind, plain(memory, 0)] for kind, memory in sorted(kinds.items())], numbers=[6])

    def data_files(self) -> str:
        """One row per file of the data set: the SHA-256 of what it holds, unpacked."""
        files = self.records[0].json("trajectory.json")["data_files"]
        return table(["file", "SHA-256, unpacked"], [[f"`{name}`", f"`{sha256}`"] for name, sha256 in files.items()])

    def origin(self) -> str:
        """One row per commit, code and environment: the published runs that it trained, where and when."""
        groups: dict[tuple[str, ...], list[Record]] = {}
        for record in self.records:
            row = record.row
            dirty = " and changes" if row["git_dirty"] == "true" else ""
            commit = f"`{str(row['git_commit'])[:10]}`{dirty}"
            key = (commit, str(row["code_sha256"])[:12], *_kind(record)[:2], str(row["workers"]))
            groups.setdefault(key, []).append(record)
        rows = [[*key, *self._made(records)] for key, records in groups.items()]
        made = ("commit", "code", "processor", "arithmetic", "at once")
        heads = [*made, "seeds", "runs", "trainings", *_MINUTES, "from", "to"]
        return table(heads, sorted(rows, key=lambda row: row[-2]), numbers=(4, 6, 7, 8, 9))

    def pilot(self) -> str:
        """The pilot's verdict on each sentence, and the present one where the same sentence is stated now."""
        now = {(judged.study.name, said.says): said for judged in self.verdicts.studies for said in judged.sentences}
        rows = []
        for row in csv.DictReader(io.StringIO(self.pilot_verdicts.decode(), newline="")):
            stated = now.get((row["study"], row["says"]))
            present = "no longer stated so" if stated is None else stated.verdict
            rows.append([row["study"], row["source"], row["says"], row["n"], row["verdict"], present])
        seeds = _seeds(self.counted["seed"])
        known = set(map(int, self.counted["seed"])) <= set(PILOT_SEEDS)
        what = "Published now are the pilot's own seeds" if known else "Published now are other seeds"
        heads = ["study", "whose", "the sentence, as it was stated", "n", "in the pilot", "published now"]
        return f"{what}: {seeds}.\n\n{table(heads, named_once(rows), numbers=[3])}"

    def _of(self, run_ids: Iterable[Any]) -> list[Record]:
        wanted = set(map(str, run_ids))
        return [record for record in self.records if str(record.row["run_id"]) in wanted]

    def _where_exact(self) -> str:
        """On which processors the runs that count replay with the same bits."""
        used = self._of(self.counted["run_id"])
        native = sorted({_kind(record)[0] for record in used if _kind(record)[1] == "native"})
        return " or ".join(native) or "every x86-64 processor with AVX2 that passes `doctor`"

    def _made(self, records: Sequence[Record]) -> list[str]:
        import pandas as pd

        runs = pd.DataFrame([record.row for record in records])
        times = (moment(float(value)) for value in (runs["start_time"].min(), runs["end_time"].max()))
        trained = trainings(runs)
        return [_seeds(runs["seed"]), str(len(runs)), str(len(trained)), *_minutes(trained), *times]


def trainings(runs: pd.DataFrame) -> pd.DataFrame:
    """What each training of some published runs took: as long as the longest run that was cut from it.

    A run that was trained without reuse is a training of its own. One row per training, by the id of its longest run:
    `fit_seconds` and `fit_cpu_seconds`.
    """
    times = runs.set_index("run_id")[list(TIMES)].astype(float)
    alone = (runs["reuse"] == "off").to_numpy()
    shared = times["fit_cpu_seconds"][~alone].groupby(runs["trajectory_sha256"].to_numpy()[~alone])
    return times[alone | times.index.isin(shared.idxmax())]


def _minutes(trained: pd.DataFrame) -> list[str]:
    """The cells below `_MINUTES`."""
    return [plain(float(trained[name].sum()) / 60, 1) for name in reversed(TIMES)]


def _run(study: str, runs: pd.DataFrame, arms: Sequence[str] = ()) -> str:
    """The command that trains some arms with the seeds of these runs, as code; without a study, all of them."""
    words = [PROGRAM, "run", *([study] if study else []), *(["--arms", *arms] if arms else [])]
    if len(runs):
        seeds = runs["seed"].astype(int)
        words += ["--first-seed", str(seeds.min()), "--seeds", str(seeds.max() - seeds.min() + 1)]
    return f"`{shlex.join(words)}`"


def _expected(part: Part) -> str:
    """The published difference, or share of runs, and the verdict."""
    if part.estimate is None:
        return part.verdict
    if isinstance(part.claim, Stops):
        return f"{part.wins} of {part.n} runs; {part.verdict}"
    return f"{typeset(part.estimate_text)}; {part.verdict}"


def _tolerance(part: Part) -> str:
    """Where the same number of other seeds, or other processors' bits, should put the mean difference."""
    claim: Test = part.claim
    if isinstance(claim, Stops):
        return "more than half of the runs"
    if "seconds" in claim.measure:
        return "another machine has other seconds"
    there, back = (math.log1p, math.expm1) if getattr(claim, "relative", False) else (float, float)
    if part.estimate is None or part.sd is None:
        return _NONE
    ends = prediction_interval(there(part.estimate), part.sd, part.n, 1 - ALPHA, of=part.n)
    return typeset(" to ".join(claim.written(back(end)) for end in ends))


def _kind(record: Record) -> tuple[str, ...]:
    """The cells below `_HARDWARE` but the last, of one record."""
    fingerprint, machine = record.json("environment.json")["fingerprint"], record.machine()
    arithmetic = record.row.get("arithmetic")
    libraries = ", ".join(
        f"{name} {fingerprint[name]}" for name in ("tensorflow", "keras", "numpy") if name in fingerprint
    )
    return (
        processor(record.processor()),
        "native" if absent(arithmetic) else str(arithmetic),
        str(fingerprint.get("threads", _NONE)),
        str(fingerprint.get("device", _NONE)),
        str(machine.get("python") or fingerprint.get("python", _NONE)),
        ", ".join(filter(None, (libraries, fingerprint.get("c_library")))),
    )


def _seeds(seeds: Iterable[Any]) -> str:
    """Seeds as a range; where some are missing between, they are listed."""
    known = sorted(set(map(int, seeds)))
    whole = known == list(range(known[0], known[-1] + 1))
    return f"{known[0]} to {known[-1]}" if whole and len(known) > 1 else ", ".join(map(str, known))
