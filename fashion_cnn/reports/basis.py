"""What the published numbers rest on: how many runs, where and when they were made, and whether as it was planned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from fashion_cnn.evidence.record import Record
from fashion_cnn.reports.markdown import processor
from fashion_cnn.reports.page import moment
from fashion_cnn.study import Study

if TYPE_CHECKING:
    import pandas as pd

PILOT_SEEDS: Final = range(10)
"""Those whose results were known when statements were revised; see docs/history.md."""
PLANNED_SEEDS: Final = range(10, 30)
"""Those that the statements are tested by, settled before the first was trained; see docs/power.md."""
PILOTS: Final = "These are the pilot: the sentences and margins were settled with these results known."
INTERIM: Final = (
    f"An interim result: seeds {PLANNED_SEEDS[0]} to {PLANNED_SEEDS[-1]} are planned, and the final verdicts are those "
    "over all of them."
)
_LIBRARIES: Final = {"tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}


def basis(records: Sequence[Record], counted: pd.DataFrame, studies: Sequence[Study], unpublished: str) -> str:
    """A paragraph, with the hashes of code and commit.

    Args:
        records: that are published.
        counted: a row for each of them that counts.
        studies: of these.
        unpublished: which other studies are not, as a sentence, or nothing.
    """
    seeds = sorted({int(seed) for seed in counted["seed"]})
    ids = set(counted["run_id"])
    used = [record for record in records if record.row["run_id"] in ids]
    environments = [record.json("environment.json")["fingerprint"] for record in used]
    days = _distinct(moment(int(record.row["start_time"]))[:10] for record in used)
    made = " to ".join(dict.fromkeys((days[0], days[-1])))
    processors = _distinct(processor(record.processor()) for record in used)
    libraries = _distinct(
        ", ".join(f"{name} {fingerprint[key]}" for key, name in _LIBRARIES.items() if key in fingerprint)
        for fingerprint in environments
    )
    commits = _distinct(str(record.row["git_commit"])[:10] for record in used)
    codes = _distinct(str(record.row["code_sha256"])[:12] for record in used)
    names = {str(record.row["study"]) for record in used}
    others = sum(record.row["study"] in names for record in records) - len(used)
    said = [
        f"{len(used)} runs, seeds {seeds[0]} to {seeds[-1]}, made {made} on {' and '.join(processors)} with "
        f"{'; '.join(libraries)}; commit {', '.join(commits)}, code {', '.join(codes)}."
    ]
    if others:
        said.append(f"{others} more runs of another environment are published and not counted.")
    return " ".join([*said, *_of_the_plan(counted, studies), *([unpublished] if unpublished else [])])


def _of_the_plan(counted: pd.DataFrame, studies: Sequence[Study]) -> list[str]:
    """What is still to come of the runs that were planned, and what was not planned; a sentence each."""
    seeds, planned = {int(seed) for seed in counted["seed"]}, set(PLANNED_SEEDS)
    if seeds <= set(PILOT_SEEDS):
        return [PILOTS]
    of_arms = {arm: set(map(int, part["seed"])) for arm, part in counted.groupby(["study", "arm"])}
    whole = all(planned <= of_arms.get((study.name, arm), set()) for study in studies for arm in study.arms)
    strangers = ", ".join(map(str, sorted(seeds - planned)))
    others = [f"Seeds that were not planned count, too: {strangers}."] if strangers else []
    return [*([] if whole else [INTERIM]), *others]


def _distinct(texts: Iterable[Any]) -> list[str]:
    return sorted({str(text) for text in texts})
