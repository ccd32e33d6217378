"""What the runs of all studies say together, as it is printed and as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import POST_RESULTS, STUDIES
from fashion_cnn.cli import tables as console
from fashion_cnn.cli.answers import SCHEMA
from fashion_cnn.evidence.statistics import Part
from fashion_cnn.evidence.verdicts import CAVEATS, QUIET, Verdicts, times_count, verdicts
from tests.support.screens import on_screen

SEEDS = 6
ARMS = sum(len(study.arms) for study in STUDIES)


def frames(**changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up runs of every study, arm and seed, those of one config and seed alike; and their epochs."""
    runs: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    for study in STUDIES:
        for arm, config in study.arms.items():
            for seed in range(SEEDS):
                rng = np.random.default_rng([seed, int(config.sha256()[:8], 16)])
                run_id, last = f"{len(runs):032x}", min(config.epochs, 20) if config.callback_loss is None else 7
                runs.append(
                    {
                        **{"run_id": run_id, "study": study.name, "arm": arm, "seed": str(seed)},
                        **{"status": "FINISHED", "smoke": "false", "start_time": len(runs)},
                        **{"config_sha256": config.sha256(), "data_sha256": "d", "code_sha256": "c"},
                        **{"environment_sha256": "e", "epochs_trained": float(last), "accuracy": 0.95, "loss": 0.15},
                        **{"test_accuracy": rng.normal(0.9, 0.003), "test_loss": rng.normal(0.3, 0.01)},
                        **{"fit_cpu_seconds": rng.normal(9, 0.1) * last, "fit_seconds": 10.0 * last, **changes},
                    }
                )
                epochs += [
                    {"run_id": run_id, "epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.5 / epoch}
                    for epoch in range(1, last + 1)
                ]
    return pd.DataFrame(runs), pd.DataFrame(epochs)


POST = pd.read_csv(POST_RESULTS)


@pytest.fixture(scope="module")
def said() -> Verdicts:
    return verdicts(STUDIES, *frames(), POST)


def test_each_study_takes_one_run_an_arm_and_seed(said: Verdicts) -> None:
    assert sum(one.taken for one in said.studies) == sum(one.recorded for one in said.studies) == ARMS * SEEDS
    assert all(one.left_out == () for one in said.studies)
    assert all(part.n == SEEDS for one in said.studies for sentence in one.sentences for part in sentence.parts)


def test_runs_that_no_table_takes_decide_nothing_and_are_counted() -> None:
    runs, epochs = frames()
    first = list(runs["run_id"][:2])
    runs.loc[2, "smoke"] = "true"
    found = verdicts(STUDIES, runs, epochs, POST, incomplete=first).studies[0]
    assert (found.recorded, found.taken) == (2 * SEEDS, 2 * SEEDS - 3)
    assert dict(found.left_out) == {"smoke run": 1, "an incomplete record": 2}
    assert found.sentences[0].parts[0].n == 3
    assert found.sentences[0].verdict == "too few seeds"


def part_about(found: Verdicts, measure: str) -> Part:
    """The first part of the depth study that is about a measure."""
    (study,) = (one for one in found.studies if one.study.name == "depth_study")
    return next(part for one in study.sentences for part in one.parts if part.claim.measure == measure)


def test_times_of_runs_beside_other_work_do_not_count_and_are_told_while_their_scores_do() -> None:
    runs, epochs = frames(other_load=QUIET)
    of_depth = runs["study"] == "depth_study"
    runs.loc[of_depth & runs["seed"].isin(["0", "1"]), "other_load"] = QUIET + 0.01
    found = verdicts(STUDIES, runs, epochs, POST)
    time = part_about(found, "fit_cpu_seconds")
    assert time.n == SEEDS - 2 and part_about(found, "test_accuracy").n == SEEDS
    (depth,) = (one for one in found.studies if one.study.name == "depth_study")
    assert (depth.busy, depth.unknown_load) == (2 * len(depth.study.arms), 0)
    assert (
        depth.about_times == f"the times of {depth.busy} do not count: beside them other work kept over 0.25 cores busy"
    )


def test_times_of_another_processor_than_most_do_not_count_and_are_told_while_their_scores_do() -> None:
    runs, epochs = frames(other_load=0.0)
    name = STUDIES[2].name
    dearer = runs["arm"] == "16 filters"
    runs["processor"] = np.where(runs["seed"] == "5", "a processor of another kind", "a processor")
    runs.loc[dearer & (runs["seed"] == "5"), "fit_cpu_seconds"] *= 20  # of which nothing is heard
    found = next(one for one in verdicts(STUDIES, runs, epochs, POST).studies if one.study.name == name)
    alike = next(
        one for one in verdicts(STUDIES, runs[runs["seed"] != "5"], epochs, POST).studies if one.study.name == name
    )
    parts = {str(part.claim): part for sentence in found.sentences for part in sentence.parts}
    others = {str(part.claim): part for sentence in alike.sentences for part in sentence.parts}
    for claim, part in parts.items():
        if part.claim.measure == "fit_cpu_seconds":
            assert (part.n, part.unpaired, part.estimate) == (SEEDS - 1, 1, others[claim].estimate)
        else:
            assert part.n == SEEDS
    assert (found.busy, found.elsewhere) == (0, len(STUDIES[2].arms))
    assert "another type of processor" in found.about_times


def test_of_processors_with_as_many_runs_the_times_of_one_count_whatever_the_order_of_the_rows() -> None:
    runs = pd.DataFrame({"other_load": [0.0] * 5, "processor": ["b", "a", "a", "b", None]})
    assert times_count(runs).tolist() == [False, True, True, False, False]
    assert times_count(runs[::-1])[runs.index].tolist() == times_count(runs).tolist()
    busy = runs.assign(other_load=[0.0, 0.0, 1.0, 0.0, 0.0])  # a busy machine's processor has no say
    assert times_count(busy).tolist() == [True, False, False, True, False]
    assert times_count(runs.assign(other_load=1.0)).tolist() == [False] * 5


def test_where_the_load_was_not_recorded_times_count_and_that_is_told(said: Verdicts) -> None:
    assert part_about(said, "fit_cpu_seconds").n == SEEDS
    assert all(one.unknown_load == one.taken and "it was not recorded" in one.about_times for one in said.studies)


def test_without_a_run_everything_stands_undecided() -> None:
    runs, epochs = frames()
    empty = verdicts(STUDIES, runs.iloc[:0], epochs.iloc[:0], POST)
    assert {sentence.verdict for one in empty.studies for sentence in one.sentences} == {"too few seeds", "not tested"}
    assert empty.printed["inside"].isna().all()
    json.dumps(empty.as_dict(), allow_nan=False)


def test_a_config_that_several_studies_record_is_one_run_a_seed(said: Verdicts) -> None:
    assert not said.pool.duplicated(["config_sha256", "seed"]).any()
    assert set(said.test_results["n"]) == {SEEDS}
    assert set(said.epoch_results["n"]) == {SEEDS}


def test_seeds_that_only_another_study_has_count_for_the_posts_numbers() -> None:
    runs, epochs = frames()
    runs = runs[(runs["study"] != "epochs_study") | (runs["seed"] == "0")]
    printed = verdicts(STUDIES, runs, epochs, POST).test_results.set_index("arm")["n"]
    assert set(printed["10 epochs"]) == {SEEDS}  # the runs with 32 filters
    assert set(printed["15 epochs"]) == {1}


def test_a_part_of_the_studies_can_be_asked_for(said: Verdicts) -> None:
    some = said.of([STUDIES[2]])
    assert [one.study.name for one in some.studies] == ["filter_study"]
    assert set(some.printed["study"]) == set(some.post["study"]) == {"filter_study"}
    assert some.studies[0] == said.studies[2]


def test_the_order_of_the_rows_makes_no_difference(said: Verdicts) -> None:
    runs, epochs = frames()
    mixed = verdicts(STUDIES, runs.sample(frac=1, random_state=1), epochs.sample(frac=1, random_state=1), POST)
    assert json.dumps(mixed.as_dict()) == json.dumps(said.as_dict())


def test_json_holds_everything(said: Verdicts, capsys: pytest.CaptureFixture[str]) -> None:
    console.show_verdicts(said, {}, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {"schema": SCHEMA, **said.as_dict(), "for_these_test_images_only": {}}
    assert [one["study"] for one in told["studies"]] == [study.name for study in STUDIES]
    assert told["caveats"] == list(CAVEATS)
    assert len(told["post"]["test_results"]["values"]) == told["post"]["test_results"]["compared"] == 18
    assert len(told["post"]["epoch_results"]["values"]) == told["post"]["epoch_results"]["compared"] == 2 * 97
    test_results = told["post"]["test_results"]
    assert 0 < test_results["by_chance"] < test_results["by_chance_strictly"]  # rounded to whole percents
    notes = [claim.note for study in STUDIES for claim in study.claims if claim.note]
    sentences = [sentence for study in told["studies"] for sentence in study["sentences"]]
    assert {part["note"] for sentence in sentences for part in sentence["parts"]} >= {*notes[:1], ""}
    assert [note for note in notes if not any(note in sentence["notes"] for sentence in sentences)] == []


@pytest.mark.parametrize("width", [80, 150])
def test_the_tables_fit_and_tell_every_verdict_and_caveat(said: Verdicts, width: int) -> None:
    limited = said.studies[0].sentences[0].says
    only_these = {said.studies[0].study.name: [limited]}
    printed = on_screen(lambda: console.show_verdicts(said, only_these, as_json=False), width)
    assert max(map(len, printed.splitlines())) <= width
    words = " ".join(re.sub("[│┃]", " ", printed).split())
    for one in said.studies:
        assert words.count(f"{one.taken} of {one.recorded} recorded runs are taken; {one.about_times}.") > 0
        for sentence in one.sentences:
            assert sentence.says.split()[0] in words
            for part in sentence.parts:
                assert f"{part.wins} of {part.n} seeds" in words
    assert printed.count("NOT TESTED") == sum(
        sentence.verdict == "not tested" for one in said.studies for sentence in one.sentences
    )
    for caveat in CAVEATS:
        assert caveat in words
    assert "Outside of the 95 % prediction interval: " in words
    assert all(words.count(word) > 0 for word in ["for", "these", "test", "images", "only"])


def test_what_was_left_out_is_printed_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    runs, epochs = frames(smoke="true")
    console.show_verdicts(verdicts(STUDIES[:1], runs, epochs, POST), {}, as_json=False)
    assert "0 of 12 recorded runs are taken; left out: smoke run (12)." in capsys.readouterr().out
