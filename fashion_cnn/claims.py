"""What a study claims of its arms before they run. A claim is a value; `evidence.statistics` decides it over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

ALPHA: Final = 0.05
MEASURES: Final = {
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "accuracy": "training accuracy",
    "loss": "training loss",
    "epochs_trained": "epochs trained",
    "fit_cpu_seconds": "CPU seconds of training",
}
"""What a claim may be about: columns of the frame of runs, and their names in a sentence."""
DIGITS: Final = {"test_accuracy": 2, "test_loss": 2, "accuracy": 4, "loss": 4}
"""How many decimals of them Keras and the post print."""
RELATIVE: Final = ("epochs_trained", "fit_cpu_seconds")
"""What an arm costs: compared as a share of the other arm's, so -0.3 is 30 % less. Seconds depend on the machine."""


class ClaimError(ValueError):
    """An impossible claim, or runs that cannot decide it: one line that says why."""


@dataclass(frozen=True, kw_only=True)
class _Stated:
    """What every claim has."""

    says: str  # the sentence, in short. Claims that say the same are the parts of one sentence
    source: Literal["post", "ours"] = "post"  # whose sentence it is
    note: str = ""  # what a reader must know, such as a disagreement between the sentence and the numbers beside it

    def __post_init__(self) -> None:
        if not self.says.strip():
            raise ClaimError("a claim must say something")
        if self.source not in ("post", "ours"):
            raise ClaimError(f"the source of a claim is {self.source!r}; allowed: post or ours")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms it is about: first the one that is claimed of, then the one that it is compared with."""
        return tuple(getattr(self, name) for name in ("arm", "than", "to") if hasattr(self, name))

    def _check_measure(self, measure: str) -> None:
        if measure not in MEASURES:
            raise ClaimError(f"there is no measure {measure!r}; there are: {', '.join(MEASURES)}")


@dataclass(frozen=True)
class _BetweenArms(_Stated):
    """A claim about the differences between two arms."""

    measure: str
    arm: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_measure(self.measure)
        if len(set(self.arms)) < 2:
            raise ClaimError(f"the arm {self.arm!r} is compared with itself")

    @property
    def relative(self) -> bool:
        """Whether the difference is a share of the other arm's value."""
        return self.measure in RELATIVE

    def written(self, value: float, more: int = 0) -> str:
        """A difference as text, with so many decimals more than usual."""
        return f"{100 * value:+.{1 + more}f} %" if self.relative else f"{value:+.{4 + more}f}"

    def amount(self, value: float) -> str:
        """A margin as text."""
        return f"{100 * value:.3g} %" if self.relative else f"{value:g}"


@dataclass(frozen=True)
class _Directed(_BetweenArms):
    """A claim that one arm lies beyond another."""

    than: str = field(kw_only=True)
    margin: float = field(default=0.0, kw_only=True)  # the difference must be larger than this
    closed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.margin < math.inf:
            raise ClaimError(f"the margin is {self.margin!r}; allowed: a number of at least 0")

    @property
    def _beyond(self) -> str:
        return f" by more than {self.amount(self.margin)}" if self.margin else ""


class Higher(_Directed):
    """The mean difference `arm` - `than` is above the margin."""

    @property
    def holds(self) -> tuple[float, float]:
        """Where the mean difference lies if the claim is true; the ends count only where it is `closed`."""
        return self.margin, math.inf

    def __str__(self) -> str:
        return f"{MEASURES[self.measure]}: {self.arm} higher than {self.than}{self._beyond}"


class Lower(_Directed):
    """The mean difference `than` - `arm` is above the margin."""

    @property
    def holds(self) -> tuple[float, float]:
        """As of `Higher`."""
        return -math.inf, -self.margin

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.relative and self.margin >= 1:
            raise ClaimError(f"the margin is {self.margin!r}; allowed: a share below 1, as nothing is less by more")

    def __str__(self) -> str:
        return f"{MEASURES[self.measure]}: {self.arm} lower than {self.than}{self._beyond}"


@dataclass(frozen=True)
class Equivalent(_BetweenArms):
    """The mean difference between `arm` and `to` is at most `within`, whatever its sign."""

    to: str
    within: float = field(kw_only=True)  # in units of the measure, or a share
    closed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.within < (1 if self.relative else math.inf):
            below = ", a share below 1" if self.relative else ""
            raise ClaimError(f"within is {self.within!r}; allowed: a number above 0{below}")

    @property
    def holds(self) -> tuple[float, float]:
        """As of `Higher`."""
        return -self.within, self.within

    def __str__(self) -> str:
        return f"{MEASURES[self.measure]}: {self.arm} within {self.amount(self.within)} of {self.to}"


@dataclass(frozen=True)
class Between(_Stated):
    """The mean of one arm lies between two values, such as those that one printed number rounds."""

    measure: str
    arm: str
    least: float = field(kw_only=True)
    most: float = field(kw_only=True)
    closed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_measure(self.measure)
        if not -math.inf < self.least < self.most < math.inf:
            raise ClaimError(f"least and most are {self.least!r} and {self.most!r}; allowed: two numbers in that order")

    @property
    def holds(self) -> tuple[float, float]:
        """As of `Higher`, but of the mean."""
        return self.least, self.most

    def written(self, value: float, more: int = 0) -> str:
        """A mean as text, with so many decimals more than usual."""
        return f"{value:.{4 + more}f}"

    def __str__(self) -> str:
        return f"{MEASURES[self.measure]}: {self.arm} from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Stops(_Stated):
    """More than half of the runs of `arm` end before the epoch `before`, counted from 1."""

    arm: str
    before: int = field(kw_only=True)
    measure: ClassVar[str] = "epochs_trained"
    closed: ClassVar[bool] = False
    holds: ClassVar[tuple[float, float]] = (0.5, math.inf)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.before < 2:
            raise ClaimError(f"before is {self.before!r}; allowed: a whole number of at least 2")

    def written(self, value: float, more: int = 0) -> str:
        """A share of the runs as text, with so many decimals more than usual."""
        return f"{value:.{2 + more}f}"

    def __str__(self) -> str:
        return f"{self.arm} ends before epoch {self.before}"


@dataclass(frozen=True)
class NotTested(_Stated):
    """A sentence that the study's runs cannot decide, and why."""

    says: str
    why: str

    def __str__(self) -> str:
        return f"not tested: {self.why}"


Difference: TypeAlias = Higher | Lower | Equivalent  # a claim about the differences between two arms within a seed
Test: TypeAlias = Difference | Between | Stops  # a claim that runs can decide
Claim: TypeAlias = Test | NotTested
