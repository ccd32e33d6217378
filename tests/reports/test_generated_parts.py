"""The parts of README.md and docs/ that are generated from published results."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fashion_cnn.claims import Equivalent, Higher
from fashion_cnn.config import CNN
from fashion_cnn.reports import published as results
from fashion_cnn.reports import readme as summary
from fashion_cnn.study import Study
from tests.support.published import EPOCHS, POST, SEEDS, STUDY, file_problems, parts, records


@pytest.fixture(scope="module")
def made(files: dict[str, bytes]) -> dict[str, Callable[[], str]]:
    return parts(STUDY, results.published_records(files))


def test_a_marked_part_is_filled_and_filled_again_the_same(made: dict[str, Callable[[], str]]) -> None:
    text = 'before\n<!-- [[[cog cog.outl(part("arms")) ]]] -->\nold\n<!-- [[[end]]] -->\nafter\n'
    once = summary.render(text, made)
    assert once.startswith("before\n<!--") and once.endswith("<!-- [[[end]]] -->\nafter\n") and "old" not in once
    assert summary.render(once, made) == once


def test_the_table_of_arms_has_a_row_an_arm_with_n_and_intervals(made: dict[str, Callable[[], str]]) -> None:
    lines = made["arms"]().splitlines()
    assert len(lines) == 2 + 4 and lines[2].startswith("| `baseline_study` | dense | 7 | 0.87 | 0.")
    assert all(re.search(r"0\.\d{4} \(0\.\d{4} to 0\.\d{4}\)", line) for line in lines[2:])


def test_a_study_that_is_not_published_yet_is_named_and_stands_in_no_table(
    made: dict[str, Callable[[], str]], files: dict[str, bytes]
) -> None:
    more = (*STUDY, Study("later_study", "And later?", {"cnn": CNN}))
    with_it = parts(more, results.published_records(files))
    assert with_it["basis"]() == f"{made['basis']()} Not published yet: later_study."
    assert all(with_it[name]() == made[name]() for name in ("arms", "claims", "answer", "counts", "surprises", "cost"))
    assert file_problems(files, more) == file_problems(files, STUDY) == []


def test_the_table_of_arms_has_the_steps_of_the_epochs(made: dict[str, Callable[[], str]]) -> None:
    lines = made["arms"]().splitlines()
    assert lines[0].endswith("| epochs | steps | CPU s |")
    assert " | 2 | 3,750 | " in lines[2] and " | 10 | 18,750 | " in lines[-1]


def test_the_answer_has_a_row_for_each_arm_that_the_post_prints_and_comments_on(
    made: dict[str, Callable[[], str]],
) -> None:
    lines = made["answer"]().splitlines()
    assert len(lines) == 2 + 1  # this EPOCHS claims nothing
    assert re.search(r"^\| The CNN after 5 epochs beats the dense .* \| \*\*[a-z ]+\*\* \| ", lines[-1])
    assert re.search(r"test accuracy .0\.\d{4} \(.0\.\d{4} to .0\.\d{4}\)", lines[-1])


def test_the_posts_test_results_stand_beside_what_one_more_run_would_give(made: dict[str, Callable[[], str]]) -> None:
    lines = made["printed"]().splitlines()
    assert len(lines) == 2 + 6  # of EPOCHS' two arms the post prints one
    assert lines[2].startswith("| `baseline_study` | dense | test accuracy | 0.87 | 7 | 0.")
    assert all(re.search(r" to \d\.\d{4} (\| (inside|\*\*outside\*\*) ){2}\|$", line) for line in lines[2:])
    alone = parts(STUDY, records(0))["printed"]().splitlines()
    assert all(line.endswith(" | too few seeds | too few seeds |") for line in alone[2:])


def test_what_the_verdicts_do_not_say_is_listed(made: dict[str, Callable[[], str]]) -> None:
    assert all(line.startswith("- ") for line in made["caveats"]().splitlines())


def test_the_table_of_claims_has_a_row_a_sentence_with_its_verdict(made: dict[str, Callable[[], str]]) -> None:
    lines = made["claims"]().splitlines()
    sentences = {claim.says for claim in STUDY[0].claims}
    assert len(lines) == 2 + len(sentences)
    assert all(
        re.search(r"\*\*(supported|contradicted|undecided|too few seeds|not tested)\*\*", one) for one in lines[2:]
    )


def test_the_basis_names_runs_seeds_commit_and_libraries(made: dict[str, Callable[[], str]]) -> None:
    said = made["basis"]()
    assert said.startswith(f"{4 * SEEDS} runs, seeds 0 to {SEEDS - 1}, made 2026-11-18 on ")
    assert "commit 0123456789" in said and "unknown processor" not in said


def test_the_benchmark_is_quoted_as_ratios_with_machine_and_date(files: dict[str, bytes]) -> None:
    measured = {
        "date": "2026-11-18T10:00:00+00:00",
        "machine": {"processor": "a processor", "cores": 2},
        "settings": {"images": 6000, "all_images": 60_000},
        "epoch": {"repeats": 3},
        "ratios": {"epoch_cpu_ours_to_fit": 0.538, "suite_post_to_portable": 5.25, "limit_share_fit": 0.2},
    }
    said = parts(STUDY, results.published_records(files), {"benchmark": measured})["benchmark"]()
    assert (
        "Measured 2026-11-18 on a processor, 2 cores: 6,000 of 60,000 training images; an epoch: medians of n = 3."
        in said
    )
    assert "| 0.54 |" in said and "| 5.25 |" in said and "0.20" not in said
    assert parts(STUDY, results.published_records(files))["benchmark"]() == "Not measured yet."


def test_the_cost_of_a_seed_counts_each_training_once(files: dict[str, bytes]) -> None:
    alike = [replace(one, row={**one.row, "fit_cpu_seconds": 90.0}) for one in results.published_records(files)]
    said = parts(STUDY, alike)["cost"]()
    assert said.startswith("A seed of these studies is 4 runs from 2 trainings, ")
    assert said.endswith(": 3 minutes of CPU time instead of 6.")


def test_the_cost_of_the_posts_studies_is_that_of_those_whose_results_it_prints(files: dict[str, bytes]) -> None:
    post = b"".join(line for line in POST.splitlines(keepends=True) if not line.startswith(b"epochs_study,"))
    said = parts(STUDY, results.published_records(files), post=post)["cost_of_the_post"]()
    assert said.startswith("A seed of these studies is 2 runs from 2 trainings: ")


def test_the_headlines_are_what_holds_of_the_post_what_does_not_and_what_we_found_last() -> None:
    wrong = Higher("test_accuracy", "dense", than="cnn", says="Dense is better")
    ours = [replace(wrong, arm="cnn", than="dense", says=says, source="ours") for says in ("A CNN wins", "And again")]
    studies = (replace(STUDY[0], claims=(STUDY[0].claims[0], wrong, *ours)), EPOCHS)
    first, second, third = parts(studies, records())["headlines"]().splitlines()
    assert first.startswith("- The post: *The CNN after 5 epochs beats ") and ".* **Supported**: test acc" in first
    assert second.startswith("- The post: *Dense is better.* **Contradicted**: test accuracy ")
    assert third.startswith("- Ours: *A CNN wins.* **Supported**: ")
    assert parts(STUDY, records(0))["headlines"]() == ""


def test_the_command_that_makes_the_published_runs_names_studies_and_seeds(files: dict[str, bytes]) -> None:
    alike = [replace(one, row={**one.row, "fit_cpu_seconds": 1800.0}) for one in results.published_records(files)]
    said = parts(STUDY, alike)["again"]()
    assert said == f"`make studies STUDIES=all FIRST_SEED=0 SEEDS={SEEDS}`: {SEEDS}.0 hours of CPU time."
    more = (*STUDY, Study("later_study", "And later?", {"cnn": CNN}))
    named = " ".join(study.name for study in STUDY)
    assert parts(more, alike)["again"]().startswith(f'`make studies STUDIES="{named}" FIRST_SEED=0 ')


def test_what_surprised_us_is_what_the_runs_contradict_and_how_far_seeds_lie_apart() -> None:
    wrong = Higher("test_accuracy", "dense", than="cnn", says="Dense is better", source="ours")
    studies = (replace(STUDY[0], claims=(*STUDY[0].claims, wrong)), EPOCHS)
    lines = parts(studies, records())["surprises"]().splitlines()
    assert lines[0].startswith("- `baseline_study`: *")
    (ours,) = [line for line in lines if "Dense is better" in line]
    assert "**Contradicted**: test accuracy " in ours and ours.endswith("It was our own expectation.")
    assert "higher in 0 of 7 seeds" in ours
    assert not [line for line in lines if "beats the dense network" in line]  # which is supported
    assert lines[-1].startswith("- Seeds alone move `") and lines[-1].endswith("(n = 7).")
    assert parts(STUDY, records(0))["surprises"]() == "Nothing yet."


def test_a_range_is_told_with_what_was_claimed_of_it(files: dict[str, bytes]) -> None:
    alike = Equivalent("test_accuracy", "cnn", "dense", within=0.05, says="They are alike")
    studies = (replace(STUDY[0], claims=(alike,)), EPOCHS)
    said = parts(studies, results.published_records(files))["claims"]()
    assert re.search(r"test accuracy \+0\.0\d{3} \(\+0\.0\d{3} to \+0\.0\d{3}\), claimed ± 0\.05 \|", said)


@pytest.mark.parametrize(
    ("record_seconds", "told"),
    [
        # Of 1,000 seeds 2,000 trainings of 50 s and 10 s each on 200 cores are 10 minutes; 4,000 runs of 0.3 s are 20.
        (
            0.3,
            "0.3 hours through a tracking server, and a report of them 0.6 hours: a call's only recorder breaks first",
        ),
        (0.03, "0.0 hours through a tracking server, and a report of them 0.6 hours: one call's recorder keeps up"),
    ],
)
def test_how_it_scales_says_what_many_seeds_would_take_and_what_breaks_first(
    files: dict[str, bytes], record_seconds: float, told: str
) -> None:
    def grown(record_seconds: float, *sizes: int) -> dict[str, Any]:
        found: dict[str, Any] = {"growth": {"record": 1.5, "list": 2.25, "report": 3}}
        for size in sizes:  # half a second a run
            found |= {f"record_{size}": {"median": record_seconds}, f"report_{size}": {"seconds": 8 + size / 2}}
        return found

    measured = {
        "date": "2026-11-18T10:00:00+00:00",
        "machine": {"processor": "a processor", "cores": 2},
        "scaling": {
            **{"runs": [100, 1000, 10_000], "repeats": 3, "sent": 10},
            "executors": {"ray": {"speedup": 1.9, "overhead_share": 0.025, "seconds_besides_epochs": 10.0}},
            "stores": {
                "sqlite": grown(20 * record_seconds, 100, 10_000),
                "postgresql": grown(30 * record_seconds, 100, 10_000),
            },
        },
    }
    served = {"server": {"runs": [100, 1000], "stores": {"server": grown(record_seconds, 100, 1000)}}}
    read = [replace(one, row={**one.row, "fit_seconds": 50.0}) for one in results.published_records(files)]
    said = parts(STUDY, read, {"scaling": measured, "server": served})["scaling"]()
    assert "| ray | 1.90 | 2.5% |" in said and "| sqlite | 10,000 against 100 | 1.50 | 2.25 | 3.00 |" in said
    assert "| server | 1,000 against 100 | 1.50 | 2.25 | 3.00 |" in said
    assert "1,000 seeds on 100 such machines, which are 4,000 runs from 2,000 trainings" in said and told in said


def test_an_unknown_part_is_refused(made: dict[str, Callable[[], str]]) -> None:
    with pytest.raises(summary.SummaryError, match="no part 'arm'; there are: arms"):
        summary.render('<!-- [[[cog cog.outl(part("arm")) ]]] -->\n<!-- [[[end]]] -->\n', made)


def test_a_mark_that_does_not_end_is_refused(made: dict[str, Callable[[], str]]) -> None:
    with pytest.raises(summary.SummaryError, match=r"README\.md"):
        summary.render('<!-- [[[cog cog.outl(part("arms")) ]]] -->\n', made)
    with pytest.raises(summary.SummaryError, match=r"docs/results\.md"):
        summary.render('<!-- [[[cog cog.outl(part("arms")) ]]] -->\n', made, "docs/results.md")
