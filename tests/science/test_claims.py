"""Claims are decided by what the runs of the seeds say, and wrongly no more often than is allowed."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments import STUDIES
from fashion_cnn.claims import ALPHA, Claim, ClaimError, Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.evidence.statistics import (
    Part,
    binomial,
    decide,
    equivalence,
    holm,
    one_sided,
)
from fashion_cnn.evidence.verdicts import misses, printed_values
from fashion_cnn.intervals import mean_interval, prediction_interval, share_interval

NOISE = np.array([0.3, -0.2, 0.1, 0.4, -0.5, 0.2, -0.1, -0.3, 0.0, 0.1]) / 100  # of ten seeds; their mean is 0
SIMULATIONS = 20_000


def runs(measure: str = "test_accuracy", **arms: Any) -> pd.DataFrame:
    """A row an arm and seed, from each arm's values by seed."""
    rows = [
        {"arm": arm, "seed": str(seed), "epochs_trained": 10.0, measure: value}
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=list(dict.fromkeys(["arm", "seed", "epochs_trained", measure])))


def shifted(difference: float, count: int = 10) -> pd.DataFrame:
    """Runs of two arms whose accuracies differ by that, on average."""
    return runs(a=0.9 + difference + NOISE[:count], b=[0.9] * count)


def part(claim: Claim, frame: pd.DataFrame) -> Part:
    """The one part of a claim that stands alone."""
    (sentence,) = decide([claim], frame)
    (only,) = sentence.parts
    assert sentence.verdict == only.verdict
    return only


def higher(**changes: Any) -> Higher:
    return Higher("test_accuracy", "a", **{"than": "b", "says": "a is better", **changes})


def lower(**changes: Any) -> Lower:
    return Lower("test_accuracy", "a", **{"than": "b", "says": "a is worse", **changes})


def equivalent(**changes: Any) -> Equivalent:
    return Equivalent("test_accuracy", "a", "b", **{"within": 0.005, "says": "a is as good", **changes})


@pytest.mark.parametrize(
    ("claim", "difference", "verdict"),
    [
        (higher(), 0.01, "supported"),
        (higher(), -0.01, "contradicted"),
        (higher(), 0.001, "undecided"),
        (higher(margin=0.02), 0.01, "contradicted"),
        (higher(margin=0.02), 0.03, "supported"),
        (lower(), -0.01, "supported"),
        (lower(), 0.01, "contradicted"),
        (lower(margin=0.02), -0.01, "contradicted"),
        (lower(margin=0.02), -0.03, "supported"),
        (equivalent(), 0.0, "supported"),
        (equivalent(), 0.004, "undecided"),
        (equivalent(), -0.004, "undecided"),
        (equivalent(), 0.01, "contradicted"),
        (equivalent(), -0.01, "contradicted"),
    ],
    ids=str,
)
def test_a_difference_decides(claim: Claim, difference: float, verdict: str) -> None:
    assert part(claim, shifted(difference)).verdict == verdict


@pytest.mark.parametrize(
    ("epochs", "verdict"),
    [
        ([7] * 10, "supported"),
        ([10] * 10, "contradicted"),
        ([7] * 5 + [10] * 5, "undecided"),
        ([7] * 5, "too few seeds"),
    ],
)
def test_where_runs_end_decides(epochs: list[int], verdict: str) -> None:
    found = part(Stops("a", before=10, says="it stops"), runs("epochs_trained", a=epochs))
    assert found.verdict == verdict
    assert (found.n, found.wins, found.estimate) == (len(epochs), epochs.count(7), epochs.count(7) / len(epochs))


@pytest.mark.parametrize("claim", [higher(), lower(), equivalent()], ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_below_six_seeds_nothing_is_decided_though_what_there_is_is_told(claim: Claim, count: int) -> None:
    found = part(claim, shifted(0.1, count))
    assert found.verdict == "too few seeds"
    assert found.n == count
    assert found.p_for is found.p_against is found.p_for_holm is found.p_against_holm is None
    assert (found.estimate is None) == (count < 1)
    assert (found.low is None) == (found.sd is None) == (count < 2)


def test_six_seeds_are_enough() -> None:
    assert part(higher(), shifted(0.1, 6)).verdict == "supported"


def test_only_seeds_that_have_both_runs_count_and_the_others_are_told() -> None:
    frame = shifted(0.01).query("not (arm == 'a' and seed == '3')")
    frame.loc[(frame["arm"] == "b") & (frame["seed"] == "4"), "test_accuracy"] = math.nan
    found = part(higher(), frame)
    assert (found.n, found.unpaired) == (8, 2)
    assert found.estimate == pytest.approx(0.01 + np.delete(NOISE, [3, 4]).mean())


def test_runs_are_paired_by_seed_wherever_they_stand_and_whatever_type_the_seed_has() -> None:
    both = runs(a=0.9 + 10 * NOISE, b=0.899 + 9.9 * NOISE)  # what the seeds share is much more than the difference
    expected = part(higher(), both)
    assert expected.verdict == "supported"
    numbered = both.sample(frac=1, random_state=0).astype({"seed": int})
    assert part(higher(), numbered) == expected


def test_ten_seeds_are_ordered_as_numbers_so_that_the_last_digit_is_the_same() -> None:
    rng = np.random.default_rng(1)
    both = runs(a=rng.random(120), b=rng.random(120))
    assert part(higher(), both.sort_values("seed")) == part(higher(), both.astype({"seed": int}))


@pytest.mark.parametrize(
    ("claim", "difference", "verdict"),
    [
        (higher(), 0.01, "supported"),
        (higher(), 0.0, "contradicted"),
        (higher(margin=0.01), 0.01, "contradicted"),
        (lower(), 0.0, "contradicted"),
        (lower(), -0.01, "supported"),
        (equivalent(), 0.0, "supported"),
        (equivalent(), 0.005, "supported"),
        (equivalent(), 0.0051, "contradicted"),
        (equivalent(), -0.0051, "contradicted"),
    ],
    ids=str,
)
def test_without_variance_the_constant_difference_decides_and_is_flagged(
    claim: Claim, difference: float, verdict: str
) -> None:
    # Subtracting rounds: the differences are equal, but not to the last bit.
    base = np.linspace(0.85, 0.93, 7)
    found = part(claim, runs(a=base + difference, b=base))
    assert found.constant
    assert found.verdict == verdict
    assert sorted((found.p_for, found.p_against)) == [0, 1]  # type: ignore[type-var]


def test_differences_that_vary_are_not_flagged() -> None:
    assert not part(higher(), shifted(0.01)).constant


def test_ties_are_told_apart_from_wins() -> None:
    both = runs(a=[0.9, 0.8, 0.7, 0.9, 0.9, 0.9], b=[0.8, 0.8, 0.8, 0.8, 0.8, 0.8])
    assert [(one.wins, one.ties) for one in (part(higher(), both), part(lower(), both))] == [(4, 1), (1, 1)]


def two_parts(first: float, second: float, seeds: int = 10) -> str:
    """The verdict on a sentence that says of two arms that they are above a third."""
    parts = [higher(), higher(than="c")]
    frame = runs(a=0.9 + NOISE, b=0.9 - first + 0 * NOISE, c=(0.9 - second + 0 * NOISE)[:seeds])
    (sentence,) = decide(parts, frame)
    assert len(sentence.parts) == 2
    return sentence.verdict


def test_a_sentence_is_supported_when_all_parts_are() -> None:
    assert two_parts(0.01, 0.01) == "supported"


def test_a_sentence_is_contradicted_when_one_part_is_though_another_is_supported_or_has_too_few_seeds() -> None:
    assert two_parts(0.01, -0.01) == "contradicted"
    assert two_parts(-0.01, 0.01, seeds=3) == "contradicted"


def test_a_sentence_has_too_few_seeds_when_one_part_has() -> None:
    assert two_parts(0.01, 0.01, seeds=3) == "too few seeds"
    assert two_parts(0.0, 0.01, seeds=3) == "too few seeds"


def test_a_sentence_is_undecided_otherwise() -> None:
    assert two_parts(0.01, 0.0) == "undecided"


def test_sentences_keep_their_order_and_their_notes_once() -> None:
    claims: list[Claim] = [
        higher(says="one", note="look"),
        NotTested("two", why="no data"),
        lower(says="one", note="look", margin=0.1),
        equivalent(says="three", source="ours"),
    ]
    found = decide(claims, shifted(0.01))
    assert [(one.says, one.source, one.notes, len(one.parts)) for one in found] == [
        ("one", "post", ("look",), 2),
        ("two", "post", ("no data",), 0),
        ("three", "ours", (), 1),
    ]
    assert found[1].verdict == "not tested"


def test_holm_goes_over_all_parts_of_a_study_that_can_be_tested() -> None:
    claims: list[Claim] = [
        higher(says="one"),
        equivalent(says="two"),
        lower(says="three"),
        higher(says="four", than="c"),
    ]
    frame = pd.concat([shifted(0.002), runs(c=[0.8] * 3)])
    parts = [one.parts[0] for one in decide(claims, frame)]
    assert [one.p_for is None for one in parts] == [False, False, False, True]
    for raw, adjusted in (("p_for", "p_for_holm"), ("p_against", "p_against_holm")):
        values = [getattr(one, raw) for one in parts[:3]]
        assert [getattr(one, adjusted) for one in parts[:3]] == list(holm(np.array(values)))
    assert parts[0].p_for_holm == pytest.approx(2 * parts[0].p_for, abs=0)  # type: ignore[operator]  # of three the second


def test_results_are_json_and_the_same_each_time() -> None:
    claims: list[Claim] = [
        higher(),
        equivalent(),
        Stops("a", before=5, says="stops"),
        NotTested("nothing", why="no runs"),
    ]
    first, second = (json.dumps([one.as_dict() for one in decide(claims, shifted(0.01, 4))]) for _ in range(2))
    assert first == second
    (told, *_) = json.loads(first)
    assert told["verdict"] == "too few seeds"
    stated = {"claim": "Higher", "measure": "test_accuracy", "arm": "a", "than": "b", "margin": 0.0}
    assert (stated | {"n": 4, "p_for": None}).items() <= told["parts"][0].items()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            lambda: Higher("test_acuracy", "a", than="b", says="x"),
            "no measure 'test_acuracy'; there are: test_accuracy",
        ),
        (lambda: higher(than="a"), "compared with itself"),
        (lambda: higher(margin=-0.1), "the margin is -0.1"),
        (lambda: higher(margin=math.nan), "the margin is nan"),
        (lambda: equivalent(within=0), "within is 0"),
        (lambda: equivalent(within=math.inf), "within is inf"),
        (lambda: Stops("a", before=1, says="x"), "before is 1"),
        (lambda: higher(says=" "), "must say something"),
        (lambda: NotTested("", why="x"), "must say something"),
        (lambda: higher(source="them"), "'them'; allowed: post or ours"),
        (lambda: decide([higher()], pd.DataFrame({"arm": [], "seed": []})), "no column 'test_accuracy'"),
        (lambda: decide([higher()], pd.concat([shifted(0.1)] * 2)), "'a' has a seed twice"),
        (lambda: decide([higher(), lower(says="a is better", source="ours")], shifted(0)), "of one source"),
        (lambda: decide([higher(), NotTested("a is better", why="?")], shifted(0)), "all tested or none"),
    ],
)
def test_what_cannot_be_claimed_or_decided_is_told(made: Any, told: str) -> None:
    with pytest.raises(ClaimError) as error:
        made()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_p_values_are_those_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal([[0.906], [0.905]], 0.003, (2, 10))
    found = part(higher(), runs(a=a, b=b))
    assert found.p_for == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue, rel=1e-12)
    assert found.p_against == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue, rel=1e-12)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    beyond = part(lower(margin=0.002), runs(a=a, b=b))
    assert beyond.p_for == pytest.approx(stats.ttest_1samp(a - b, -0.002, alternative="less").pvalue, rel=1e-12)


def test_equivalence_is_the_larger_of_two_one_sided_tests_and_against_is_twice_the_smaller_of_the_outer_two() -> None:
    differences = 0.002 + NOISE
    for_, against = equivalence(differences, 0.005)
    tests = {
        (bound, side): stats.ttest_1samp(differences, bound, alternative=side).pvalue
        for bound in (-0.005, 0.005)
        for side in ("greater", "less")
    }
    assert for_ == pytest.approx(max(tests[-0.005, "greater"], tests[0.005, "less"]))
    assert against == pytest.approx(min(1, 2 * min(tests[0.005, "greater"], tests[-0.005, "less"])))


def test_the_interval_of_an_equivalence_lies_within_the_margin_just_where_its_test_says_so() -> None:
    for difference in np.linspace(0, 0.005, 40):
        found = part(equivalent(), shifted(float(difference)))
        assert found.low is not None and found.high is not None and found.p_for is not None
        assert (found.low >= -0.005 and found.high <= 0.005) == (found.p_for <= 0.05)
        assert found.confidence == pytest.approx(0.9)


def test_the_mean_interval_is_that_of_the_textbook() -> None:
    half = 4.302653 * 1 / math.sqrt(3)  # t(0.975, 2) from a printed table
    assert mean_interval(np.array([1.0, 2.0, 3.0]), 0.95) == pytest.approx((2 - half, 2 + half), abs=1e-6)


def test_the_sign_test_counts_heads() -> None:
    assert binomial(6, 6) == (1 / 64, 1)
    assert binomial(9, 10) == pytest.approx((11 / 1024, 1023 / 1024))


def test_the_interval_of_a_share_is_scipys_and_that_of_the_printed_tables() -> None:
    assert share_interval(9, 10, 0.95) == pytest.approx((0.5550, 0.9975), abs=5e-5)
    assert share_interval(0, 10, 0.95)[0] == 0 and share_interval(10, 10, 0.95)[1] == 1
    for k in range(11):
        expected = stats.binomtest(k, 10).proportion_ci(0.95, method="exact")
        assert share_interval(k, 10, 0.95) == pytest.approx((expected.low, expected.high))


def test_holms_procedure_on_paper() -> None:
    assert list(holm(np.array([0.01, 0.04, 0.03, 0.005]))) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(holm(np.array([0.9, 0.8]))) == [1, 1]
    assert list(holm(np.array([0.03]))) == [0.03]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_an_adjusted_p_is_never_smaller_and_keeps_the_order(values: list[float]) -> None:
    raw = np.array(values)
    adjusted = holm(raw)
    assert (adjusted >= raw).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
    assert adjusted.min() == min(1, raw.min() * len(raw))
    assert list(holm(raw[::-1])) == list(adjusted[::-1])


@given(st.lists(st.floats(-1, 1).map(lambda one: round(one, 4)), min_size=6, max_size=12), st.floats(0, 0.5))
def test_the_two_sides_of_a_test_are_one_and_its_mirror_is_the_other_claim(values: list[float], margin: float) -> None:
    differences = np.array(values)
    above, below = one_sided(differences, margin)
    assert above + below == pytest.approx(1)
    frame = runs(a=differences, b=np.zeros(len(values)))
    turned = part(Lower("test_accuracy", "b", than="a", margin=margin, says="x"), frame)
    assert turned.p_for == pytest.approx(float(above))
    one, other = (
        part(Equivalent("test_accuracy", *arms, within=margin + 0.01, says="x"), frame)
        for arms in (("a", "b"), ("b", "a"))
    )
    assert (one.p_for, one.p_against) == pytest.approx((other.p_for, other.p_against))


def simulated(differences: float, n: int = 10, parts: int = 1, shared: float = 0.0, sd: float = 0.0025) -> Any:
    """Differences (SIMULATIONS, parts, n) of that mean; a share of their variance is common to all parts."""
    rng = np.random.default_rng(20240229)
    own, common = rng.normal(size=(SIMULATIONS, parts, n)), rng.normal(size=(SIMULATIONS, 1, n))
    return differences + sd * (math.sqrt(1 - shared) * own + math.sqrt(shared) * common)


def share(verdicts: Any) -> float:
    """How many of the studies."""
    return float(verdicts.mean())


ERROR = 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)  # what a rate of 0.05 stays under, but for one time in 700


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("shared", [0.0, 0.8])
@pytest.mark.parametrize("parts", [1, 5])
def test_a_study_of_false_claims_at_their_margins_calls_any_supported_at_most_one_time_in_twenty(
    n: int, shared: float, parts: int
) -> None:
    directed, _ = one_sided(simulated(0.003, n, parts, shared), 0.003)
    ranged, _ = equivalence(simulated(0.005, n, parts, shared), 0.005)
    rates = [share((holm(p) <= ALPHA).any(axis=-1)) for p in (directed, ranged)]
    print(f"n = {n}, {parts} parts, {shared:.0%} shared: directed {rates[0]:.4f}, equivalent {rates[1]:.4f}")
    assert max(rates) <= ERROR
    assert shared or rates[0] >= 0.04  # nor is anything given away


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("within", [0.005, 0.00005])
def test_a_study_of_true_claims_at_their_margins_calls_any_contradicted_at_most_one_time_in_twenty(
    parts: int, within: float
) -> None:
    _, directed = one_sided(simulated(0.003, parts=parts), 0.003)
    _, ranged = equivalence(simulated(within, parts=parts), within)
    rates = [share((holm(p) <= ALPHA).any(axis=-1)) for p in (directed, ranged)]
    print(f"{parts} parts, within {within}: directed {rates[0]:.4f}, equivalent {rates[1]:.4f}")
    assert max(rates) <= ERROR


def test_without_holm_five_false_claims_would_err_more_than_four_times_as_often() -> None:
    above, _ = one_sided(simulated(0.0, parts=5))
    assert share((above <= ALPHA).any(axis=-1)) > 0.2


@pytest.mark.parametrize("n", range(6, 31))
def test_a_callback_that_stops_half_the_time_is_called_stopping_at_most_one_time_in_twenty(n: int) -> None:
    counts = np.arange(n + 1)
    called = np.array([binomial(int(count), n)[0] <= ALPHA for count in counts])
    assert stats.binom.pmf(counts, n, 0.5)[called].sum() <= ALPHA


def test_a_difference_of_half_a_point_is_found_in_ten_seeds_nine_times_in_ten_among_five_claims() -> None:
    # Either run has a standard deviation of 0.25 points, so their difference has √2 of that.
    above, _ = one_sided(simulated(0.005, parts=5, sd=0.0025 * math.sqrt(2)))
    within, _ = equivalence(simulated(0.0, parts=5, sd=0.0025), 0.005)
    power = [share(holm(p) <= ALPHA) for p in (above, within)]
    print(f"power: a difference {power[0]:.4f}, an equivalence {power[1]:.4f}")
    assert min(power) > 0.9


def printed(**changes: Any) -> pd.DataFrame:
    made = {"study": "s", "arm": "a", "epoch": [1, 2], "loss": [0.5, 0.4], "accuracy": [0.8, 0.9]}
    made |= {"test_loss": [math.nan, 0.3], "test_accuracy": [math.nan, 0.91]}
    return pd.DataFrame(made | changes)


def ours(*accuracies: float, config: str = "c") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs with these test accuracies, and their two epochs."""
    rows: list[dict[str, Any]] = [
        {"run_id": f"{config}{seed}", "config_sha256": config, "test_accuracy": value, "test_loss": 0.3}
        for seed, value in enumerate(accuracies)
    ]
    epochs = [
        {"run_id": row["run_id"], "epoch": epoch, "loss": row["test_accuracy"] / epoch, "accuracy": 0.9}
        for row in rows
        for epoch in (1, 2)
    ]
    columns = ["run_id", "config_sha256", "test_accuracy", "test_loss"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(epochs, columns=["run_id", "epoch", "loss", "accuracy"])


def test_the_prediction_interval_is_that_of_the_textbook() -> None:
    half = 2.776445 * math.sqrt(2.5) * math.sqrt(1.2)  # t(0.975, 4) from a printed table, of 1, 2, 3, 4, 5
    assert prediction_interval(3, math.sqrt(2.5), 5) == pytest.approx((3 - half, 3 + half), abs=1e-5)


def test_the_prediction_interval_holds_the_next_run_nineteen_times_in_twenty() -> None:
    values = np.random.default_rng(3).normal(0.9, 0.0025, (SIMULATIONS, 11))
    mean, sd = values[:, :10].mean(axis=1), values[:, :10].std(axis=1, ddof=1)
    low, high = zip(*(prediction_interval(*one, 10) for one in zip(mean, sd, strict=True)), strict=True)
    inside = share((values[:, 10] >= low) & (values[:, 10] <= high))
    assert inside == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / SIMULATIONS))


def test_each_printed_number_stands_among_our_runs_of_its_config() -> None:
    runs_c, epochs_c = ours(0.90, 0.91, 0.92)
    runs_d, epochs_d = ours(0.1, 0.2, config="d")
    frame = printed_values(printed(), {("s", "a"): "c"}, pd.concat([runs_c, runs_d]), pd.concat([epochs_c, epochs_d]))
    assert list(zip(frame["measure"], frame["epoch"], frame["printed"], frame["give"], strict=True)) == [
        ("accuracy", 1, 0.8, 0.00005),
        ("loss", 1, 0.5, 0.00005),
        ("test_accuracy", 2, 0.91, 0.005),
        ("test_loss", 2, 0.3, 0.005),
        ("accuracy", 2, 0.9, 0.00005),
        ("loss", 2, 0.4, 0.00005),
    ]
    row = frame.set_index(["measure", "epoch"]).loc["test_accuracy", 2]
    assert (row["n"], row["mean"], row["sd"]) == pytest.approx((3, 0.91, 0.01))
    assert (row["low"], row["high"]) == pytest.approx(prediction_interval(0.91, 0.01, 3))
    assert frame.set_index(["measure", "epoch"]).loc["loss", 2]["mean"] == pytest.approx(0.455)


@pytest.mark.parametrize(
    ("value", "inside"), [(0.91, True), (0.8951, True), (0.8949, False), (0.9249, True), (0.9251, False)]
)
def test_a_printed_number_is_inside_give_or_take_half_its_last_digit(value: float, inside: bool) -> None:
    low, high = 0.9, 0.92
    middle, sd = 0.91, (high - low) / 2 / 12.7062047 / math.sqrt(1.5)  # t(0.975, 1) from a printed table
    around = sd / math.sqrt(2)
    runs_c, epochs_c = ours(middle - around, middle + around)
    frame = printed_values(printed(test_accuracy=[math.nan, value]), {("s", "a"): "c"}, runs_c, epochs_c)
    row = frame[frame["measure"] == "test_accuracy"].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["inside"] is inside


@pytest.mark.parametrize("count", [0, 1])
def test_below_two_runs_a_printed_number_is_compared_with_nothing(count: int) -> None:
    frame = printed_values(printed(), {("s", "a"): "c"}, *ours(*[0.9] * count))
    assert len(frame) == 6
    assert set(frame["n"]) == {count}
    assert frame[["sd", "low", "high"]].isna().all(axis=None)
    assert all(one is None for one in frame["inside"])
    assert misses(frame) == {"compared": 0, "outside": 0, "by_chance": 0}


def test_runs_that_ended_before_an_epoch_are_not_counted_for_it() -> None:
    runs_c, epochs_c = ours(0.90, 0.91, 0.92)
    short = epochs_c[(epochs_c["epoch"] == 1) | (epochs_c["run_id"] != "c0")]
    frame = printed_values(printed(), {("s", "a"): "c"}, runs_c, short)
    assert frame.set_index(["measure", "epoch"])["n"].loc["loss"].to_dict() == {1: 3, 2: 2}


def test_an_arm_without_a_config_is_left_out() -> None:
    assert printed_values(printed(), {("s", "b"): "c"}, *ours(0.9, 0.91)).empty


def test_misses_are_counted_beside_what_chance_alone_would_give() -> None:
    frame = printed_values(printed(), {("s", "a"): "c"}, *ours(0.90, 0.91, 0.92))
    # Of the accuracies, which are all 0.9, only the printed 0.8 is another; the first loss is 0.5 to our 0.91.
    assert misses(frame) == {"compared": 6, "outside": 3, "by_chance": pytest.approx(0.3)}


def test_every_study_claims_something_and_nothing_is_decided_before_it_runs() -> None:
    for study in STUDIES:
        found = decide(study.claims, pd.DataFrame(columns=["arm", "seed", *(name for name in MEASURED)]))
        assert found
        assert {one.verdict for one in found} <= {"too few seeds", "not tested"}


MEASURED = ("test_accuracy", "test_loss", "accuracy", "loss", "epochs_trained", "fit_cpu_seconds")


def test_the_sentences_that_disagree_with_the_numbers_beside_them_have_a_note() -> None:
    notes = " ".join(claim.note for study in STUDIES for claim in study.claims)
    notes += " ".join(claim.why for study in STUDIES for claim in study.claims if isinstance(claim, NotTested))
    for told in ("0.87 and 0.89", "32 filters and 800 cells", "0.34 to 0.45", "once again", "epoch 6, counted from 0"):
        assert told in notes


def test_the_posts_numbers_decide_its_sentence_on_20_epochs_against_it() -> None:
    epochs_study = next(study for study in STUDIES if study.name == "epochs_study")
    made = {"5 epochs": (0.28, 0.89), "10 epochs": (0.26, 0.91), "15 epochs": (0.34, 0.91), "20 epochs": (0.45, 0.91)}
    rows = [
        {"arm": arm, "seed": seed, "epochs_trained": 5.0, "loss": 0.1, "accuracy": 0.9}
        | {"test_loss": loss + noise, "test_accuracy": accuracy + noise * seed / 100}
        for arm, (loss, accuracy) in made.items()
        for seed, noise in enumerate(NOISE)
    ]
    verdicts = {one.says[:15]: one.verdict for one in decide(epochs_study.claims, pd.DataFrame(rows))}
    assert verdicts["After 10 epochs"] == "supported"
    assert verdicts["After 15 epochs"] == "supported"
    assert verdicts["After 20 epochs"] == "contradicted"
