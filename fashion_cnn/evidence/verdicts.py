"""What the runs of some studies say of the claims and of the post's numbers, whatever they come from. Pure."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.claims import ALPHA, DIGITS
from fashion_cnn.evidence.record import absent
from fashion_cnn.evidence.selection import select
from fashion_cnn.evidence.statistics import MIN_PAIRS, ROUNDING, TIMES, Sentence, decide
from fashion_cnn.evidence.tables import from_json, to_json
from fashion_cnn.intervals import prediction_interval
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from fashion_cnn.claims import Floats

QUIET: Final = 0.25
"""Cores that other processes may keep busy, in the mean, beside a run whose times count."""
CAVEATS: Final = (
    f"The error rate is per study: any of its false parts is called supported with a probability of at most "
    f"{ALPHA:.0%}, and any of its true ones contradicted likewise. The intervals are as wide as that takes (each end "
    f"errs with {ALPHA:.0%} divided by the number of the study's margins), and the verdict is read off them. Over "
    f"several studies errors add up.",
    "The runs with 32 filters and one additional convolution serve all studies: their verdicts depend on each other.",
    'A direction is tested, and no more than that where a sentence says "a little" or "slightly".',
    "Verdicts hold for this training set and this test set; more seeds do not make them hold for other images. Where "
    "each seed draws its own images, its splits overlap, and the intervals are widened for it (Nadeau & Bengio 2003).",
    "Where all seeds give the same difference its interval has no width, and says nothing of rarer ones.",
    f"Times count of runs beside which other work kept at most {QUIET:g} cores busy, in the mean, and of one type of "
    "processor, that of most of these: on another one two arms may take other shares of each other's time. Where other "
    "work was not recorded, as in the first record format, they count all the same, though some of those runs were "
    "made beside it, which makes CPU seconds more, too. Seeds that were trained side by side share the machine's "
    "moment: of times they tell less than as many single ones.",
)
PRINTED_COLUMNS: Final = [
    "study", "arm", "measure", "epoch", "printed", "give", "n", "mean", "sd", "low", "high", "inside", "strictly",
    "chance", "chance_strictly",
]  # fmt: skip
"""Of the frame that `printed_values` returns."""
_DRAWS: Final = 20_000  # of a simulated run and its interval: a chance of 2 % is known to 0.1 % of all


@dataclass(frozen=True)
class StudyVerdicts:
    """What became of a study's claims."""

    study: Study
    recorded: int
    """Runs, whatever became of them."""
    taken: int
    """Of these: one per arm and seed."""
    left_out: tuple[tuple[str, int], ...]
    """The others: reason and count."""
    busy: int
    """Of those taken: made beside other work, so that their times do not count."""
    elsewhere: int
    """Of those taken and not made beside other work: trained by another type of processor than most of them."""
    unknown_load: int
    """Of those taken: whether they were was not recorded, so that their times count."""
    sentences: tuple[Sentence, ...]

    @property
    def about_times(self) -> str:
        """Which of the runs' times count, in words."""
        told = []
        if self.busy:
            told.append(f"the times of {self.busy} do not count: beside them other work kept over {QUIET:g} cores busy")
        if self.elsewhere:
            told.append(f"the times of {self.elsewhere} do not count: another type of processor than most took them")
        if self.unknown_load:
            told.append(f"of {self.unknown_load} it was not recorded whether they were made beside other work")
        return "; ".join(told)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "study": self.study.name,
            "question": self.study.question,
            "recorded": self.recorded,
            "taken": self.taken,
            "left_out": dict(self.left_out),
            "times": {
                "quiet": QUIET,
                "busy": self.busy,
                "elsewhere": self.elsewhere,
                "unknown_load": self.unknown_load,
            },
            "sentences": [sentence.as_dict() for sentence in self.sentences],
        }


@dataclass(frozen=True)
class Verdicts:
    """What became of the claims of some studies and of the post's numbers."""

    studies: tuple[StudyVerdicts, ...]
    post: pd.DataFrame
    """What the post printed, one row per epoch."""
    printed: pd.DataFrame
    """See `printed_values`; by study and arm as in `post`."""
    pool: pd.DataFrame
    """Our runs that `printed` compares with: one per config and seed, whichever study it is recorded in."""

    def of(self, studies: Sequence[Study]) -> Verdicts:
        """The part that is about some of the studies."""
        names = [study.name for study in studies]
        return replace(
            self,
            studies=tuple(verdict for verdict in self.studies if verdict.study.name in names),
            post=self.post[self.post["study"].isin(names)],
            printed=self.printed[self.printed["study"].isin(names)],
        )

    @property
    def test_results(self) -> pd.DataFrame:
        """The printed numbers of the test images: the finding."""
        return self.printed[self.printed["measure"].str.startswith("test_")]

    @property
    def epoch_results(self) -> pd.DataFrame:
        """The printed numbers of the training epochs: they describe."""
        return self.printed[~self.printed["measure"].str.startswith("test_")]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        post = {}
        for name, frame in (("test_results", self.test_results), ("epoch_results", self.epoch_results)):
            rows = frame.to_dict("records")
            values = [{column: None if absent(value) else value for column, value in row.items()} for row in rows]
            post[name] = {**misses(frame), "values": values}
        studies = [verdict.as_dict() for verdict in self.studies]
        return {"alpha": ALPHA, "caveats": list(CAVEATS), "studies": studies, "post": post}


def verdicts(
    studies: Sequence[Study],
    runs: pd.DataFrame,
    epochs: pd.DataFrame,
    post: pd.DataFrame,
    incomplete: Collection[str] = (),
) -> Verdicts:
    """What some runs say of the studies' claims and of the post's numbers.

    Args:
        studies: in order.
        runs: one row per run of these studies, as `Store.runs` gives them; with `processor`, if that is known.
        epochs: one row per epoch, as `Store.epochs` gives them; at least of the runs that count.
        post: one row per epoch of the post's only run of an arm: `study`, `arm`, `epoch`, `epoch_seconds`, `loss`,
            `accuracy`, and with the last epoch `test_loss`, `test_accuracy`.
        incomplete: the ids of runs whose record is no evidence.
    """
    import pandas as pd

    decided, counted = [], []
    for study in studies:
        of_study = runs[runs["study"] == study.name]
        chosen, left_out = select(of_study, study, incomplete)
        counted.append(chosen)
        load, count = loads(chosen), times_count(chosen)
        busy = load > QUIET
        sentences = tuple(decide(study.claims, with_counted_times(chosen), study.overlap))
        untimed = int(busy.sum()), int((~busy & ~count).sum()), int(load.isna().sum())
        decided.append(StudyVerdicts(study, len(of_study), len(chosen), tuple(left_out), *untimed, sentences))
    together = pd.concat(counted, ignore_index=True) if counted else runs.iloc[:0]
    # As if all studies were one and each config an arm of it: one record of a config and seed, of one code and machine.
    pool, _ = select(together.assign(study="", arm=together["config_sha256"]))
    configs = {(study.name, arm): config.sha256() for study in studies for arm, config in study.arms.items()}
    return Verdicts(tuple(decided), post, printed_values(post, configs, pool, epochs), pool)


def loads(runs: pd.DataFrame) -> pd.Series[float]:
    """How many cores other processes kept busy beside each run; NaN where it was not recorded."""
    import pandas as pd

    return pd.to_numeric(runs["other_load"]) if "other_load" in runs else pd.Series(math.nan, runs.index)


def times_count(runs: pd.DataFrame) -> pd.Series[bool]:
    """Of which runs the times count: little else ran beside them, and the `processor` is that of most such runs.

    What two arms take may stand in another ratio on another type of processor, and then a mean over several would say
    how many seeds each of them trained. Of equally many the first by name is taken. Where `processor` is not told, it
    is one.
    """
    quiet = ~(loads(runs) > QUIET)
    if "processor" not in runs or not quiet.any():
        return quiet
    processors = runs["processor"].fillna("")
    trained = processors[quiet].value_counts()
    return quiet & (processors == min(trained[trained == trained.max()].index))


def with_counted_times(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, without the times of those whose times do not count."""
    kept = runs.copy()
    kept.loc[~times_count(runs), [name for name in TIMES if name in runs]] = math.nan
    return kept


def verdicts_of(studies: Sequence[Study], runs: pd.DataFrame, epochs: pd.DataFrame, post: bytes) -> Verdicts:
    """As `verdicts`, of the frames of a bundle's records and the CSV file of the post's numbers."""
    import pandas as pd

    return verdicts(studies, runs, epochs, pd.read_csv(io.BytesIO(post)))


def claims_values(decided: Verdicts) -> dict[str, Any]:
    """Verdicts as JSON values, without the words that say nothing about these runs."""
    values: dict[str, Any] = from_json(to_json(decided.as_dict()))  # tuples become lists, as in a file
    return {name: value for name, value in values.items() if name != "caveats"}


def printed_values(
    printed: pd.DataFrame, configs: Mapping[tuple[str, str], str], runs: pd.DataFrame, epochs: pd.DataFrame
) -> pd.DataFrame:
    """Could a number that somebody printed once be one of our runs? Each is set in the distribution of our seeds.

    Args:
        printed: one row per epoch of one run of an arm: `study`, `arm`, `epoch`, `loss`, `accuracy`, and with the last
            epoch `test_loss`, `test_accuracy`.
        configs: the `config_sha256` of each study and arm; rows of other arms are left out.
        runs: one row per config and seed: `run_id`, `config_sha256`, `test_loss`, `test_accuracy`; of any study.
        epochs: one row per epoch of a run: `run_id`, `epoch`, `loss`, `accuracy`. Runs that ended before an epoch have
            none.

    Returns:
        One row per number: `study`, `arm`, `measure`, `epoch`, `printed`, `give` (half its last digit), `n`, `mean`,
        `sd`, `low`, `high` (the 95 % prediction interval for one more run; below n = 2 there is none); whether the
        number lies in it as printed (`strictly`), and give or take half its last digit (`inside`); and how often one
        more run of ours, rounded like it, would not (`chance_strictly`, `chance`; by simulation, as if our runs' mean
        and sd were the true ones). From fewer than `MIN_PAIRS` runs these four are None.
    """
    import pandas as pd

    scores = dict(iter(runs.groupby("config_sha256", sort=False)))
    of_config = epochs.merge(runs[["run_id", "config_sha256"]], on="run_id")
    curves = dict(iter(of_config.groupby(["config_sha256", "epoch"], sort=False)))
    rows = []
    for row in printed.to_dict("records"):
        config = configs.get((row["study"], row["arm"]))
        for measure, digits in DIGITS.items():
            if config is None or not math.isfinite(row[measure]):
                continue
            ours = scores.get(config) if measure.startswith("test_") else curves.get((config, row["epoch"]))
            spread = _spread(() if ours is None else ours[measure], row[measure], 10.0**-digits / 2)
            rows.append({name: row[name] for name in ("study", "arm", "epoch")} | {"measure": measure, **spread})
    return pd.DataFrame(rows, columns=PRINTED_COLUMNS).astype({"inside": object, "strictly": object})


def _spread(values: Sequence[float], printed: float, give: float) -> dict[str, Any]:
    """The columns from `printed` on, of a number and our values of it."""
    import numpy as np

    ours = np.sort([value for value in values if math.isfinite(value)])  # so that their order changes no last digit
    n = len(ours)
    mean = float(ours.mean()) if n else math.nan
    sd = low = high = math.nan
    told: dict[str, Any] = {"inside": None, "strictly": None, "chance": None, "chance_strictly": None}
    if n > 1:
        sd = float(ours.std(ddof=1))
        low, high = prediction_interval(mean, sd, n, 1 - ALPHA)
    if n >= MIN_PAIRS:
        told = {"inside": low - give <= printed <= high + give, "strictly": low <= printed <= high}
        told |= _chances(mean, sd, n, give)
    return {"printed": printed, "give": give, "n": n, "mean": mean, "sd": sd, "low": low, "high": high, **told}


def _chances(mean: float, sd: float, n: int, give: float) -> dict[str, float]:
    """How often one more run that is printed with such rounding misses the interval of n others."""
    import numpy as np

    next_run, middle, spread = _draws(n)
    half = prediction_interval(0.0, 1.0, n, 1 - ALPHA)[1] * sd * spread
    printed = np.round((mean + sd * next_run) / (2 * give)) * 2 * give
    distance = np.abs(printed - (mean + sd * middle)) - half
    least = {"chance": give + ROUNDING, "chance_strictly": ROUNDING}
    return {name: float((distance > room).mean()) for name, room in least.items()}


@functools.lru_cache
def _draws(n: int) -> tuple[Floats, Floats, Floats]:
    """Of n + 1 standard normal values the last, and the mean and standard deviation of the others, many times.

    These are independent, so that each is drawn by its own distribution: normal, and chi with n - 1 degrees of freedom.
    """
    import numpy as np

    rng = np.random.default_rng(n)
    last, mean = rng.normal(size=(2, _DRAWS))
    return last, mean / math.sqrt(n), np.sqrt(rng.chisquare(n - 1, _DRAWS) / (n - 1))


def misses(values: pd.DataFrame) -> dict[str, float]:
    """How many of some `printed_values` lie outside, of how many `compared`, and how many `by_chance` would.

    Once with half a last digit of room, and once `strictly`. Numbers of one run miss together, so the counts stray
    further from chance than binomial ones.
    """
    compared = values[values["inside"].notna()]
    return {
        "compared": len(compared),
        "outside": int((~compared["inside"].astype(bool)).sum()),
        "by_chance": float(compared["chance"].astype(float).sum()),
        "outside_strictly": int((~compared["strictly"].astype(bool)).sum()),
        "by_chance_strictly": float(compared["chance_strictly"].astype(float).sum()),
    }
