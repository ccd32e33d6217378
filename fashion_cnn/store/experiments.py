"""Which experiment of a store is a study's: the one that is marked so, whatever it is called now.

An experiment is made with the mark, a tag. One without it is a study's by its name, or else by the runs in it: it was
made before there was a mark, and gets it with the next run.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote as url_quote

from fashion_cnn.store.address import Address, StoreError
from fashion_cnn.store.description import NOTE, signed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

OUR_TAG: Final = "trajectory_sha256"
MARK: Final = "fashion_cnn.study"
KIND, CUSTOM = "mlflow.experimentKind", "custom_model_development"  # an experiment's tag, and what ours are
OURS: Final = f"tags.{OUR_TAG} != ''"
"""MLflow's filter for this project's runs: other people's have tags such as `study`, too."""
ACTIVE, DELETED, ALL = "active", "deleted", 3  # an experiment's stages, and MLflow's view of both


@dataclass(frozen=True)
class Experiments:
    """The ids of a store's experiments: by study of those that are marked, by name of the others."""

    marked: dict[str, str]
    named: dict[str, str]
    renamed: dict[str, str]
    """What marked ones are called that are not called as their study."""
    elsewhere: frozenset[str]
    """The studies whose marked experiment is none of these, but in the bin (of those in the bin: in use)."""

    def of(self, study: str) -> str | None:
        """The experiment of a study, as far as mark and name tell."""
        return self.marked.get(study) or self.named.get(study)

    def to_search(self, studies: Collection[str] | None) -> list[str]:
        """Where runs of these studies may lie, or of all."""
        known = [] if studies is None else [self.of(study) for study in studies]
        if studies is None or None in known:
            return [*self.marked.values(), *self.named.values()]
        return [experiment for experiment in known if experiment]

    def place(self, run: Run) -> bool:
        """Whether a run lies in the experiment of the study that its tag names."""
        study, experiment = run.data.tags.get("study", ""), run.info.experiment_id
        if own := self.of(study):
            return own == experiment
        if study in self.elsewhere:
            return False
        return bool(study) and experiment not in self.marked.values()  # renamed before there was a mark


class NoExperiment(StoreError):
    """A study's runs have no experiment to go to; those of other studies may have."""


class Binned(NoExperiment):
    """A study's experiment is in the store's bin."""

    def __init__(self, study: str, experiment: str, address: Address) -> None:
        command = f"MLFLOW_TRACKING_URI={quote(address.name)} {quote(sys.executable)} -m mlflow experiments restore"
        self.study = study
        super().__init__(
            f"the experiment of {study} is in the store's bin, where nothing is recorded; this takes it out: {command} "
            f"--experiment-id {experiment}"
        )


def listing(client: MlflowClient) -> list[Any]:
    """All experiments of a store, those in its bin, too; the newest first, page after page."""
    page = client.search_experiments(ALL)
    found = list(page)
    while page.token:
        page = client.search_experiments(ALL, page_token=page.token)
        found += page
    return found


def listed(client: MlflowClient) -> Experiments:
    """The experiments of a store that are not in its bin."""
    return grouped(listing(client))


def grouped(everything: Sequence[Any], stage: str = ACTIVE) -> Experiments:
    """Those at a stage, of all, the newest first as MLflow lists them; of two with one mark, the older one counts."""
    found = [each for each in everything if each.lifecycle_stage == stage]
    marked = [(each.tags[MARK], each) for each in found if MARK in each.tags]
    return Experiments(
        {study: each.experiment_id for study, each in marked},
        {each.name: each.experiment_id for each in found if MARK not in each.tags},
        {study: each.name for study, each in marked if each.name != study},
        frozenset(each.tags[MARK] for each in everything if MARK in each.tags) - {study for study, _ in marked},
    )


def experiment_of(client: MlflowClient, address: Address, study: str, question: str) -> str:
    """The id of a study's experiment, made where there is none, and marked.

    Raises:
        NoExperiment: it is in the store's bin (Binned), or another one has its name.
    """
    from mlflow.exceptions import MlflowException

    everything = listing(client)
    there = grouped(everything)
    found = there.of(study)
    if found is None and study not in there.elsewhere:
        found = _renamed(client, study, there)
    if found:
        if study not in there.marked:
            with suppress(MlflowException):  # somebody else just did, or this user may not: it is known without, too
                client.set_experiment_tag(found, MARK, study)
        return found
    for lost in binned(everything, address, [study]):
        raise lost
    # Without the kind a new experiment opens in MLflow's view for language models.
    artifacts = address.artifacts and f"{address.artifacts}/{url_quote(study)}"
    tags = {MARK: study, KIND: CUSTOM, NOTE: signed(question)}
    try:
        return str(client.create_experiment(study, artifacts, tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if made := listed(client).of(study):  # somebody was faster
        return made
    raise NoExperiment(
        f"another study's experiment was renamed to {study}: give it another name in the UI, and start again"
    )


def binned(everything: Sequence[Any], address: Address, studies: Iterable[str]) -> list[Binned]:
    """Why nothing can be recorded of some studies, of a store's listing: those whose only experiment is in the bin."""
    active, deleted = grouped(everything), grouped(everything, DELETED)
    lost = {study: deleted.of(study) for study in studies if not active.of(study)}
    return [Binned(study, experiment, address) for study, experiment in lost.items() if experiment]


def _renamed(client: MlflowClient, study: str, there: Experiments) -> str | None:
    """The experiment that a study's runs lie in, where neither mark nor name tells."""
    unmarked = list(there.named.values())
    found = client.search_runs(unmarked, f"{OURS} and tags.study = '{study}'", max_results=1) if unmarked else []
    return str(found[0].info.experiment_id) if found else None
