"""Published records in, the tables of README.md and docs/ out: Markdown, generated and never typed.

`render` fills the marked parts of a page with cog (Ned Batchelder's code generator). A part is called by name, as in
`cog.outl(part("arms"))`. Nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import MEASURES
from fashion_cnn.config import RunConfig
from fashion_cnn.evidence.images import (
    ONLY_THESE,
    Answers,
    Flips,
    OverImages,
    answers_of,
    flips,
    is_limited,
    over_images,
)
from fashion_cnn.evidence.record import Record
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import Part, Sentence
from fashion_cnn.evidence.tables import frames
from fashion_cnn.evidence.verdicts import CAVEATS, Verdicts, misses
from fashion_cnn.reports import speed
from fashion_cnn.reports.appendix import Appendix
from fashion_cnn.reports.basis import basis
from fashion_cnn.reports.images import images_part
from fashion_cnn.reports.markdown import decided, evidence, findings, named_once, noted, plain, table
from fashion_cnn.reports.page import post_comparison, study_table
from fashion_cnn.reports.published import unpublished, with_records
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

_VERDICTS: Final = ("supported", "contradicted", "undecided", "too few seeds", "not tested")
_COUNTED: Final = {"too few seeds": "with too few seeds"}
_SCORES: Final = ("post: accuracy", "ours: test accuracy", "post: loss", "ours: test loss")
_OURS: Final = {"post": "", "ours": "*ours:* "}
_PLACES: Final = {True: "inside", False: "**outside**"}


class SummaryError(ValueError):
    """A page whose parts cannot be filled: one line that says why."""


@dataclass(frozen=True)
class _Findings:
    """What the published records say; each public method is a part."""

    studies: Sequence[Study]
    """Those that are published."""
    records: Sequence[Record]
    """Theirs."""
    verdicts: Verdicts
    unpublished: str
    """Which are not, as a sentence, or nothing."""

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

    @cached_property
    def sentences(self) -> list[tuple[str, Sentence]]:
        """All that are claimed, each with its study."""
        return [(judged.study.name, sentence) for judged in self.verdicts.studies for sentence in judged.sentences]

    @property
    def of_the_post(self) -> set[str]:
        """The studies whose arms the post trained: it prints their results."""
        return set(self.verdicts.post["study"])

    def arms(self) -> str:
        """One row per arm: what it reached and cost, beside what the post printed."""
        rows = []
        for study in self.studies:
            for row in self._arm_rows(study):
                epochs = plain(row["epochs_mean"], 0 if row["epochs_min"] == row["epochs_max"] else 1)
                cost = [epochs, plain(row["steps"], 0), plain(row["cpu_seconds"], 0)]
                rows.append([study.name, row["arm"], str(row["n"]), *_scores(row), *cost])
        heads = ["study", "arm", "n", *_SCORES, "epochs", "steps", "CPU s"]
        return table(heads, named_once(rows), numbers=range(2, 10))

    def headlines(self) -> str:
        """A list of three: the first sentence of the post that holds, the first that does not, and our last find.

        Where there is none of a kind, it is left out.
        """
        found: dict[tuple[str, str], list[tuple[str, Sentence]]] = defaultdict(list)
        for study, each in self.sentences:
            found[each.source, each.verdict].append((study, each))
        ours = found["ours", "supported"]
        last = [(study, each) for study, each in ours if study == ours[-1][0]]
        chosen = [*found["post", "supported"][:1], *found["post", "contradicted"][:1], *last[:1]]
        return "\n".join(
            f"- {'The post' if each.source == 'post' else 'Ours'}: *{each.says}.* "
            f"{self._verdict(study, each, begins=True)}: {findings(each)}."
            for study, each in chosen
        )

    def answer(self) -> str:
        """One row for each arm whose test results the post prints and comments on: the comment and what became of it.

        It is the first about the arm's test results, else the first that compares another arm with this one and is
        about no test results.
        """
        rows = []
        for judged in self.verdicts.studies:
            said = [sentence for sentence in judged.sentences if sentence.source == "post"]
            printed = [row["arm"] for row in self._arm_rows(judged.study) if "test_accuracy" in row["printed"]]
            others = [each for each in said if not any(_is_comment(each, arm) for arm in printed)]
            for arm in printed:
                comments = [each for each in said if _is_comment(each, arm)]
                comments += [each for each in others if _compares_with(each, arm)]
                rows += [[noted(each), self._verdict(judged.study.name, each), findings(each)] for each in comments[:1]]
        return table(["the post says", "verdict", "what decides it"], rows)

    def claims(self) -> str:
        """One row per sentence: its verdict, and what the runs say of its parts."""
        rows = [
            [study, _OURS[sentence.source] + noted(sentence), self._verdict(study, sentence), evidence(sentence)]
            for study, sentence in self.sentences
        ]
        return table(["study", "the sentence", "verdict", "its parts"], named_once(rows))

    @cached_property
    def over_images(self) -> dict[str, list[OverImages]]:
        """Of each study what its claims' differences of test accuracy are over seeds and test images."""
        judged = {each.study.name: each.sentences for each in self.verdicts.studies}
        return {name: over_images(judged[name], self.chosen[name], self._answers) for name in self.chosen}

    @cached_property
    def _answers(self) -> dict[str, Answers]:
        return answers_of(self.records)

    def _verdict(self, study: str, sentence: Sentence, *, begins: bool = False) -> str:
        """In bold and, where it `begins` a sentence, with a capital; with what limits it."""
        verdict = sentence.verdict.capitalize() if begins else sentence.verdict
        return f"**{verdict}**{f' {ONLY_THESE}' if self._is_limited(study, sentence) else ''}"

    def _is_limited(self, study: str, sentence: Sentence) -> bool:
        return is_limited(sentence, self.over_images[study])

    def images(self) -> str:
        """Do verdicts on test accuracy hold for other test images, and how many images flip between seeds?"""
        flipped: dict[str, list[Flips]] = {}
        told: set[frozenset[str]] = set()
        for study in self.studies:
            runs = self.chosen[study.name]
            networks = {arm: frozenset(runs[runs["arm"] == arm]["weights_sha256"]) for arm in study.arms}
            first = [arm for arm in study.arms if networks[arm] not in told]  # others' networks are told there
            told.update(networks.values())
            flipped[study.name] = flips(first, runs, self._answers)
        return images_part(self.over_images, flipped)

    def splits(self) -> str:
        """One row per part that is also decided where each seed draws its own images, with both verdicts."""
        said = [
            (judged.study, part)
            for judged in self.verdicts.studies
            for sentence in judged.sentences
            for part in sentence.parts
        ]
        drawn = [(study, part) for study, part in said if study.overlap]
        if not drawn:
            return "No study that draws its images is published yet."
        given = {_stated(study, part): part for study, part in said if not study.overlap}
        heads = ["claimed", "on the given images", "verdict", "on drawn images", "verdict"]
        rows = [[str(part.claim), *decided(given.get(_stated(study, part))), *decided(part)] for study, part in drawn]
        return table(heads, rows)

    def counts(self) -> str:
        """How many of the post's sentences hold, and how many of its numbers could be ours."""
        said = [(study, sentence) for study, sentence in self.sentences if sentence.source == "post"]
        given = [sentence.verdict for _, sentence in said]
        counts = [f"{given.count(name)} {_COUNTED.get(name, name)}" for name in _VERDICTS if name in given]
        limited = sum(self._is_limited(study, sentence) for study, sentence in said)
        only = f"; {limited} of these verdicts {ONLY_THESE}" if limited else ""
        printed = misses(self.verdicts.test_results)
        strictly = f"{printed['outside_strictly']} where it is not (by chance: {printed['by_chance_strictly']:.1f})"
        return (
            f"Of the post's {len(given)} sentences: {', '.join(counts)}{only}. Of its {printed['compared']} printed "
            f"test results {printed['outside']} lie outside the 95 % prediction interval for one more run of ours "
            f"where rounding is allowed for (by chance: {printed['by_chance']:.1f}), {strictly}."
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
                *(_PLACES.get(row[name], "too few seeds") for name in ("inside", "strictly")),
            ]
            for row in self.verdicts.test_results.to_dict("records")
        ]
        heads = ["study", "arm", "measure", "the post's one run", "n", "our mean", "one more run of ours"]
        return table([*heads, "rounded", "as printed"], named_once(rows), numbers=range(3, 7))

    def surprises(self) -> str:
        """What the runs say against the post or against us, and how far a seed alone moves a score, as a list."""
        lines = [
            f"- `{study}`: *{sentence.says}.* {self._verdict(study, sentence, begins=True)}: {evidence(sentence)}."
            + (" It was our own expectation." if sentence.source == "ours" else "")
            for study, sentence in self.sentences
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

    def _arm_rows(self, study: Study) -> list[dict[str, Any]]:
        """The rows of `study_table` of a study; `printed` has the post's numbers by measure, where it has some."""
        printed = post_comparison(study, self.verdicts)
        rows: list[dict[str, Any]] = study_table(self.chosen[study.name], study).to_dict("records")
        return [
            {**row, "printed": printed[printed["arm"] == row["arm"]].set_index("measure")["printed"].to_dict()}
            for row in rows
        ]


def parts(
    studies: Sequence[Study],
    records: Sequence[Record],
    verdicts: Verdicts,
    benchmarks: Mapping[str, Any],
    pilot: bytes = b"",
) -> dict[str, Callable[[], str]]:
    """What can stand in a page, by name; each is made when it is called.

    At least one record must be published; `verdicts` are what `verdicts_over` makes of them; `benchmarks` has by name
    the JSON values of what `experiments.benchmark` wrote, and may be empty; `pilot` are the pilot's verdicts, see
    `Appendix`.
    """
    there = with_records(studies, records)
    names = {study.name for study in there}
    lacking = unpublished(studies, names)
    findings = _Findings(there, [one for one in records if one.row["study"] in names], verdicts, lacking)
    appendix = Appendix(records, findings.verdicts, findings.chosen, pilot)
    measured, scaling, server = (benchmarks.get(name) for name in ("benchmark", "scaling", "server"))
    return {
        "arms": findings.arms,
        "answer": findings.answer,
        "claims": findings.claims,
        "splits": findings.splits,
        "counts": findings.counts,
        "headlines": findings.headlines,
        "printed": findings.printed,
        "images": findings.images,
        "caveats": lambda: "\n".join(f"- {caveat}" for caveat in CAVEATS),
        "cost": lambda: speed.cost(findings.counted),
        "cost_of_the_post": lambda: speed.cost(findings.counted[findings.counted["study"].isin(findings.of_the_post)]),
        "again": lambda: speed.again(findings.counted, [study.name for study in studies]),
        "surprises": findings.surprises,
        "basis": lambda: basis(records, findings.counted, there, lacking),
        "studies": lambda: _studies_table(studies),
        "benchmark": lambda: speed.ratios(measured),
        "scaling": lambda: speed.scaling(scaling, server, findings.counted),
        **appendix.parts(),
    }


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


def _studies_table(studies: Sequence[Study]) -> str:
    """One row per registered study, published or not: its question and its arms."""
    rows = []
    for study in studies:
        post = any(claim.source == "post" for claim in study.claims)
        rows.append([f"`{study.name}`{'' if post else ' (ours)'}", study.question, "; ".join(study.arms)])
    return table(["study", "question", "arms"], rows)


def _scores(row: Mapping[str, Any]) -> list[str]:
    """The cells below `_SCORES` for a row of `_arm_rows`."""
    cells = []
    for measure in ("test_accuracy", "test_loss"):
        mean, low, high = (row[f"{measure}_{name}"] for name in ("mean", "low", "high"))
        interval = "" if math.isnan(low) else f" ({plain(low, 4)} to {plain(high, 4)})"
        cells += [plain(row["printed"].get(measure), 2), f"{plain(mean, 4)}{interval}"]
    return cells


def _is_comment(sentence: Sentence, arm: str) -> bool:
    """Whether a sentence compares an arm's test results with another's."""
    about = {(part.claim.arm, part.claim.measure) for part in sentence.parts if len(part.claim.arms) > 1}
    return any((arm, measure) in about for measure in ("test_accuracy", "test_loss"))


def _stated(study: Study, part: Part) -> tuple[Any, ...]:
    """What a part claims of which configs, whichever images they are trained and tested on."""
    configs = [replace(study.arms[arm], split=RunConfig().split).sha256() for arm in part.claim.arms]
    return type(part.claim), part.claim.measure, part.margins, *configs


def _compares_with(sentence: Sentence, arm: str) -> bool:
    return any(arm in part.claim.arms[1:] for part in sentence.parts)
