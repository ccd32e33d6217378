"""The tables of docs/power.md: what the pilot's runs say of the number of seeds. Pure."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from fashion_cnn.claims import Stops
from fashion_cnn.config import RunConfig
from fashion_cnn.evidence.power import DRAWS, PartPower, SentencePower, found_difference, power
from fashion_cnn.evidence.statistics import tested
from fashion_cnn.reports.markdown import named_once, table
from fashion_cnn.reports.page import typeset
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

SEEDS: Final = 20
FIRST: Final = 10
"""The published seeds: so many, from this one on."""
SPLIT_VARIANCE: Final = 2.0
"""How much more the differences are assumed to vary where each seed draws its own images; no pilot has done so."""


@dataclass(frozen=True)
class _Plan:
    """What the pilot says of the studies; each public method is a part of the page."""

    studies: Sequence[Study]
    pilot: pd.DataFrame
    """One row per config and seed: `config_sha256`, `seed` and the measures."""

    @cached_property
    def powers(self) -> dict[str, list[SentencePower]]:
        """Of each study whose claimed arms the pilot has."""
        known = {study.name: (study, self._runs(study)) for study in self.studies}
        return {
            name: power(study.claims, runs, SEEDS, study.overlap, SPLIT_VARIANCE if study.overlap else 1.0)
            for name, (study, runs) in known.items()
            if tested(study.claims) and {arm for claim in study.claims for arm in claim.arms} <= set(runs["arm"])
        }

    def _runs(self, study: Study) -> pd.DataFrame:
        """The pilot's runs of a study's arms; where seeds draw their images, those on the given ones."""
        import pandas as pd

        arms = [
            self.pilot[self.pilot["config_sha256"] == replace(config, split=RunConfig().split).sha256()].assign(arm=arm)
            for arm, config in study.arms.items()
        ]
        return pd.concat(arms)

    def basis(self) -> str:
        """What the tables rest on."""
        seeds = sorted(self.pilot["seed"].unique())
        return (
            f"Pilot: seeds {seeds[0]} to {seeds[-1]}. Confirmation: {SEEDS} seeds, {FIRST} to {FIRST + SEEDS - 1}. "
            f"Each probability is the share of {DRAWS:,} simulated studies; its standard error is at most "
            f"{100 * math.sqrt(0.25 / DRAWS):.1f} points."
        )

    def sentences(self) -> str:
        """One row per sentence."""
        rows = [
            [name, each.says, *map(_percent, (each.chances.supported, each.chances.contradicted)),
             _percent(each.chances.undecided), _percent(each.unsure.undecided)]
            for name, sentences in self.powers.items()
            for each in sentences
        ]  # fmt: skip
        heads = ["study", "the sentence", "supported", "contradicted", "undecided", "undecided, if the pilot may err"]
        return table(heads, named_once(rows), numbers=range(2, 6))

    def parts(self) -> str:
        """One row per part."""
        rows = [
            [name, str(part.claim), *_numbers(part), _percent(part.chances.supported),
             _percent(part.chances.contradicted)]
            for name, sentences in self.powers.items()
            for each in sentences
            for part in each.parts
        ]  # fmt: skip
        heads = ["study", "the part", "pilot", "sd", "interval ±", "supported", "contradicted"]
        return table(heads, named_once(rows), numbers=range(2, 7))

    def unknown(self) -> str:
        """One row per part of a study without a pilot: what difference would be found."""
        spread: dict[str, float] = {}
        drawn = {study.name for study in self.studies if study.overlap}
        for sentences in (known for name, known in self.powers.items() if name not in drawn):
            for part in (part for each in sentences for part in each.parts if len(part.claim.arms) > 1):
                spread[part.claim.measure] = max(part.sd, spread.get(part.claim.measure, 0.0))
        rows = [
            [study.name, str(claim), f"{spread[claim.measure]:.4f}",
             *(f"{found_difference(study.claims, spread[claim.measure], SEEDS, wanted):.4f}" for wanted in (0.8, 0.9))]
            for study in self.studies
            if study.name not in self.powers
            for claim in tested(study.claims)
        ]  # fmt: skip
        heads = ["study", "the part", "assumed sd", "found with 80 %", "found with 90 %"]
        return table(heads, named_once(rows), numbers=range(2, 5))


def parts(studies: Sequence[Study], pilot: bytes) -> dict[str, Callable[[], str]]:
    """What can stand in docs/power.md, by name, as of `readme.parts`; `pilot` are the pilot's runs, CSV."""
    import pandas as pd

    plan = _Plan(studies, pd.read_csv(io.BytesIO(pilot)))
    made = (plan.basis, plan.sentences, plan.parts, plan.unknown)
    return {f"power_{each.__name__}": each for each in made}


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _numbers(part: PartPower) -> list[str]:
    """The pilot's mean, its sd, and half the interval."""
    claim, mean = part.claim, part.mean
    if isinstance(claim, Stops):
        return [f"epoch {mean:.1f}", f"{part.sd:.1f}", ""]
    relative = getattr(claim, "relative", False)
    written = [claim.written(math.expm1(mean) if relative else mean), *map(claim.written, (part.sd, part.half))]
    return [typeset(written[0]), *(text.removeprefix("+") for text in written[1:])]
