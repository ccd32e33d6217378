"""Published records in, the tables of README.md and docs/ out: Markdown, generated and never typed.

`render` fills the marked parts of a page with cog (Ned Batchelder's code generator). A part is called by name, as in
`cog.outl(part("arms"))`. Nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from inspect import isfunction
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import MEASURES, Equivalent, Higher, Stops
from fashion_cnn.evidence.printed import misses
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import Part, Sentence
from fashion_cnn.evidence.tables import frames
from fashion_cnn.evidence.verdicts import CAVEATS, Verdicts
from fashion_cnn.reports import speed
from fashion_cnn.reports.markdown import named_once, plain, signed, table
from fashion_cnn.reports.page import arm_table, post_comparison
from fashion_cnn.reports.published import verdicts_over
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

_VERDICTS: Final = ("supported", "contradicted", "undecided", "too few seeds", "not tested")
_COUNTED: Final = {"too few seeds": "with too few seeds"}
_SCORES: Final = ("post: accuracy", "ours: test accuracy", "post: loss", "ours: test loss")
_LIBRARIES: Final = {"tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}


class SummaryError(ValueError):
    """A page whose parts cannot be filled: one line that says why."""


@dataclass(frozen=True)
class _Findings:
    """What the published records say; each public method is a part."""

    studies: Sequence[Study]
    records: Sequence[Record]
    verdicts: Verdicts
    benchmarks: Mapping[str, Any]

    @cached_property
    def chosen(self) -> dict[str, pd.DataFrame]:
        """Of each study the runs that count."""
        runs, _ = frames(self.records)
        return {study.name: select(runs[runs["study"] == study.name], study)[0] for study in self.studies}

    @cached_property
    def counted(self) -> pd.DataFrame:
        """All of them."""
        import pandas as pd

        return pd.concat(self.chosen.values(), ignore_index=True)

    def arms(self) -> str:
        """One row per arm: what it reached and cost, beside what the post printed."""
        rows = []
        for study in self.studies:
            for row in self._arm_rows(study):
                epochs = plain(row["epochs_mean"], 0 if row["epochs_min"] == row["epochs_max"] else 1)
                cost = [epochs, plain(row["cpu_seconds"], 0)]
                rows.append([study.name, row["arm"], str(row["n"]), *_scores(row), *cost])
        return table(["study", "arm", "n", *_SCORES, "epochs", "CPU s"], named_once(rows), numbers=range(2, 9))

    def answer(self) -> str:
        """One row for each arm whose test results the post prints and comments on, with the first comment's verdict."""
        rows = []
        for judged in self.verdicts.studies:
            for row in self._arm_rows(judged.study):
                comments = [sentence for sentence in judged.sentences if _is_comment(sentence, row["arm"])]
                if comments and "test_accuracy" in row["printed"]:
                    said = [comments[0].says, f"**{comments[0].verdict}**"]
                    rows.append([*said, str(row["n"]), *_scores(row)])
        return table(["the post says", "verdict", "n", *_SCORES], rows, numbers=range(2, 7))

    def claims(self) -> str:
        """One row per sentence: its verdict, and what the runs say of its parts."""
        rows = [
            [judged.study.name, _whose(sentence), f"**{sentence.verdict}**", _evidence(sentence)]
            for judged in self.verdicts.studies
            for sentence in judged.sentences
        ]
        return table(["study", "the sentence", "verdict", "its parts"], named_once(rows))

    def counts(self) -> str:
        """How many of the post's sentences hold, and how many of its numbers could be ours."""
        sentences = [sentence for judged in self.verdicts.studies for sentence in judged.sentences]
        given = [sentence.verdict for sentence in sentences if sentence.source == "post"]
        counts = [f"{given.count(name)} {_COUNTED.get(name, name)}" for name in _VERDICTS if name in given]
        printed = misses(self.verdicts.test_results)
        return (
            f"Of the post's {len(given)} sentences: {', '.join(counts)}. Of its {printed['compared']} printed test "
            f"results {printed['outside']} lie outside of the 95 % prediction interval for one more run of ours; "
            f"chance alone would put at most {printed['by_chance']:.1f} there."
        )

    def printed(self) -> str:
        """One row for each test result that the post printed: could it be one more run of ours?"""
        rows = [
            [
                row["study"],
                row["arm"],
                MEASURES[row["measure"]],
                plain(row["printed"], 2),
                str(row["n"]),
                plain(row["mean"], 4),
                f"{plain(row['low'], 4)} to {plain(row['high'], 4)}",
                {True: "inside", False: "**outside**"}.get(row["inside"], "too few seeds"),
            ]
            for row in self.verdicts.test_results.to_dict("records")
        ]
        heads = ["study", "arm", "measure", "the post's one run", "n", "our mean", "one more run of ours", "the post's"]
        return table(heads, named_once(rows), numbers=range(3, 7))

    def caveats(self) -> str:
        """What the verdicts do not say."""
        return "\n".join(f"- {caveat}" for caveat in CAVEATS)

    def cost(self) -> str:
        """What a seed of the studies costs."""
        return speed.cost(self.counted)

    def surprises(self) -> str:
        """What the runs say against the post or against us, and how far a seed alone moves a score, as a list."""
        lines = [
            f"- `{judged.study.name}`: *{sentence.says}.* **Contradicted**: {_evidence(sentence)}."
            + (" It was our own expectation." if sentence.source == "ours" else "")
            for judged in self.verdicts.studies
            for sentence in judged.sentences
            if sentence.verdict == "contradicted"
        ]
        printed = self.verdicts.test_results
        for row in printed[printed["inside"].eq(False)].to_dict("records"):
            lines.append(
                f"- `{row['study']}`, {row['arm']}: the post printed a {MEASURES[row['measure']]} of "
                f"{plain(row['printed'], 2)}; one more run of ours would lie between {plain(row['low'], 4)} and "
                f"{plain(row['high'], 4)}."
            )
        scores = self.counted.astype({"test_accuracy": float}).groupby(["study", "arm"])["test_accuracy"]
        study, arm = (scores.max() - scores.min()).idxmax()
        widest = scores.get_group((study, arm))
        if len(widest) > 1:
            lines.append(
                f"- Seeds alone move `{study}`, {arm}, from {plain(widest.min(), 4)} to {plain(widest.max(), 4)} in "
                f"test accuracy, more than any other arm (n = {len(widest)})."
            )
        return "\n".join(lines) or "Nothing yet."

    def basis(self) -> str:
        """What the numbers rest on: how many runs, where and when they were made, and their hashes."""
        seeds = sorted({int(seed) for seed in self.counted["seed"]})
        used = [record for record in self.records if record.row["run_id"] in set(self.counted["run_id"])]
        environments = [record.json("environment.json")["fingerprint"] for record in used]
        days = sorted({_day(record.row["start_time"]) for record in used})
        processors = _distinct(fingerprint.get("processor", "an unknown processor") for fingerprint in environments)
        libraries = _distinct(
            ", ".join(f"{name} {fingerprint[key]}" for key, name in _LIBRARIES.items() if key in fingerprint)
            for fingerprint in environments
        )
        commits = _distinct(str(record.row["git_commit"])[:10] for record in used)
        codes = _distinct(str(record.row["code_sha256"])[:12] for record in used)
        studies = {str(record.row["study"]) for record in used}
        others = sum(record.row["study"] in studies for record in self.records) - len(used)
        return (
            f"{len(used)} runs, seeds {seeds[0]} to {seeds[-1]}, made {' to '.join(_ends(days))} on "
            f"{' and '.join(processors)} with {'; '.join(libraries)}; commit {', '.join(commits)}, code "
            f"{', '.join(codes)}."
            + (f" {others} more runs of another environment are published and not counted." if others else "")
        )

    def benchmark(self) -> str:
        """How fast the training is, in ratios."""
        return speed.ratios(self.benchmarks.get("benchmark"))

    def scaling(self) -> str:
        """How far it scales."""
        return speed.scaling(self.benchmarks.get("scaling"), self.benchmarks.get("server"), self.counted)

    def _arm_rows(self, study: Study) -> list[dict[str, Any]]:
        """The rows of `arm_table` of a study; `printed` has the post's numbers by measure, where it has some."""
        printed = post_comparison(study, self.verdicts)
        rows: list[dict[str, Any]] = arm_table(self.chosen[study.name], list(study.arms)).to_dict("records")
        return [
            {**row, "printed": printed[printed["arm"] == row["arm"]].set_index("measure")["printed"].to_dict()}
            for row in rows
        ]


def parts(
    studies: Sequence[Study], records: Sequence[Record], post: bytes, benchmarks: Mapping[str, Any]
) -> dict[str, Callable[[], str]]:
    """What can stand in a page, by name; each is made when it is called.

    At least one record must be published; `post` are the post's printed numbers, CSV; `benchmarks` has by name the JSON
    values of what `experiments.benchmark` wrote, and may be empty.
    """
    findings = _Findings(studies, records, verdicts_over(studies, records, post), benchmarks)
    names = [name for name, member in vars(_Findings).items() if isfunction(member) and not name.startswith("_")]
    return {name: getattr(findings, name) for name in names}


def render(text: str, made: Mapping[str, Callable[[], str]], page: str = "README.md") -> str:
    """The text of a page with its marked parts, of `parts`, generated anew; a SummaryError where one cannot be."""
    from cogapp.cogapp import Cog, CogError

    def part(name: str) -> str:
        if name not in made:
            raise SummaryError(f"there is no part {name!r}; there are: {', '.join(made)}")
        return made[name]()

    cog = Cog()
    cog.options.defines["part"] = part
    try:
        return str(cog.process_string(text, page))
    except CogError as error:
        raise SummaryError(f"{page}: {error}") from None


def _day(milliseconds: Any) -> str:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).strftime("%Y-%m-%d")


def _distinct(texts: Iterable[Any]) -> list[str]:
    return sorted({str(text) for text in texts})


def _ends(ordered: Sequence[str]) -> list[str]:
    """The first and the last; one where they are the same."""
    return list(dict.fromkeys((ordered[0], ordered[-1])))


def _scores(row: Mapping[str, Any]) -> list[str]:
    """The cells below `_SCORES` for a row of `_arm_rows`."""
    cells = []
    for measure in ("test_accuracy", "test_loss"):
        mean, low, high = (row[f"{measure}_{name}"] for name in ("mean", "low", "high"))
        interval = "" if math.isnan(low) else f" ({plain(low, 4)} to {plain(high, 4)})"
        cells += [plain(row["printed"].get(measure), 2), f"{plain(mean, 4)}{interval}"]
    return cells


def _is_comment(sentence: Sentence, arm: str) -> bool:
    """Whether the post says in this sentence something of an arm's test results."""
    about = {(claim.arm, claim.measure) for part in sentence.parts if not isinstance(claim := part.claim, Stops)}
    return sentence.source == "post" and any((arm, measure) in about for measure in ("test_accuracy", "test_loss"))


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
    difference = f"{MEASURES[claim.measure]} {signed(part.estimate, claim.decimals)}"
    if part.low is not None and part.high is not None:
        difference += f" ({signed(part.low, claim.decimals)} to {signed(part.high, claim.decimals)})"
    if isinstance(claim, Equivalent):
        return f"{difference}, claimed within {claim.within:g}{verdict}"
    direction = "higher" if isinstance(claim, Higher) else "lower"
    beyond = f", claimed by more than {claim.margin:g}" if claim.margin else ""
    return f"{difference}, {direction} in {part.wins} of {part.n} seeds{beyond}{verdict}"
