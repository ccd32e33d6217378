"""A study is a value: a question, its arms and what is claimed of them. Nothing here touches files or processes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashion_cnn.claims import Claim
from fashion_cnn.config import TRAINING_IMAGES, RunConfig, nearest

AD_HOC = "ad_hoc"  # the study of single runs that belong to none
ALL = "all"  # on a command line, all studies
LONGEST_NAME = 120
LONGEST_QUESTION = 1000  # characters; MLflow shows it in the description of a run
TEST_SHARE = 10_000 / TRAINING_IMAGES  # a drawn split has as many of both as the given one


class StudyError(ValueError):
    """An unknown study, arm or seed, or an impossible one: one line that says what there is."""


@dataclass(frozen=True)
class Study:
    """A question, the arms that answer it, and what is claimed of them before they run; a StudyError refuses others."""

    name: str
    question: str
    arms: Mapping[str, RunConfig]
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", self.name) or self.name == ALL:
            raise StudyError(
                f"{self.name!r} cannot be a study's name: use small letters, digits and _, and not {ALL!r}"
            )
        if not isinstance(self.question, str) or not 0 < len(self.question) <= LONGEST_QUESTION:
            raise StudyError(f"the question of {self.name} must be text of 1 to {LONGEST_QUESTION} characters")
        if not self.arms:
            raise StudyError(f"{self.name} has no arms")
        for arm in self.arms:
            if not arm.strip() or len(arm) > LONGEST_NAME or not arm.isprintable():
                raise StudyError(
                    f"{arm[:40]!r} cannot be an arm's name: use 1 to {LONGEST_NAME} printable characters on one line"
                )
            if arm.startswith(("=", "+", "-", "@")):
                raise StudyError(f"{arm[:40]!r} cannot be an arm's name: a spreadsheet would run it; put a word first")
        for claim in self.claims:
            for arm in claim.arms:
                if arm not in self.arms:
                    unknown = f"{self.name} claims {claim.says!r} of {arm!r}{nearest(arm, self.arms)}"
                    raise StudyError(f"{unknown}; its arms are: {'; '.join(self.arms)}")

    @property
    def overlap(self) -> float:
        """Test images per training image where each seed draws its own split, else 0; see `intervals.half_width`."""
        return TEST_SHARE if any(config.split == "drawn" for config in self.arms.values()) else 0.0


def select_studies(studies: Sequence[Study], names: Sequence[str]) -> list[Study]:
    """The named studies in their own order; all where none or `ALL` is named. A StudyError names the nearest one."""
    known = [study.name for study in studies]
    if ALL in names:
        return list(studies)
    for name in names:
        if name not in known:
            raise StudyError(f"there is no study {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
    return [study for study in studies if not names or study.name in names]


def ad_hoc(arms: Mapping[str, RunConfig]) -> Study:
    """The study of runs that belong to none."""
    return Study(AD_HOC, "Single runs that belong to no study.", arms)


def arm_name(config: RunConfig) -> str:
    """What the arm of a single run is called where nobody named it: by what differs from the defaults."""
    return ", ".join(f"{name}={value}" for name, value in changes(config).items()) or "defaults"


def changes(config: RunConfig) -> dict[str, Any]:
    """The settings that differ from the defaults of the config's network; the network first where it is not the cnn."""
    base = RunConfig(model=config.model)
    differing = {name: value for name, value in config.canonical().items() if value != getattr(base, name)}
    return {"model": config.model, **differing} if config.model != RunConfig().model else differing
