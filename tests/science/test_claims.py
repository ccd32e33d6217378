"""Claims are decided by what the runs of the seeds say, and wrongly no more often than is allowed."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments import STUDIES
from fashion_cnn.claims import ALPHA, Between, Claim, ClaimError, Equivalent, Higher, Lower, NotTested, Stops
from fashion_cnn.evidence.statistics import Part, binomial, decide, is_constant, one_sided
from fashion_cnn.evidence.verdicts import misses, printed_values
from fashion_cnn.intervals import half_width, mean_interval, prediction_interval, share_interval

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


def between(**changes: Any) -> Between:
    return Between("test_accuracy", "a", **{"least": 0.905, "most": 0.915, "says": "a is 91 %", **changes})


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
        (between(), 0.01, "supported"),
        (between(), 0.014, "undecided"),
        (between(), 0.02, "contradicted"),
        (between(), 0.0, "contradicted"),
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
    assert found.p is found.p_for is found.p_against is found.seeds_needed is None and found.needs == ""
    assert (found.estimate is None) == (count < 1)
    assert (found.low is None) == (found.sd is None) == (count < 2)


def test_six_seeds_are_enough() -> None:
    assert part(higher(), shifted(0.1, 6)).verdict == "supported"


def test_only_seeds_that_have_both_runs_count_and_the_others_are_told() -> None:
    frame = shifted(0.01).query("not (arm == 'a' and seed == '3')")
    frame.loc[(frame["arm"] == "b") & (frame["seed"] == "4"), "test_accuracy"] = math.nan
    frame.loc[frame["seed"] == "5", "test_accuracy"] = math.nan  # which neither arm has
    found = part(higher(), frame)
    assert (found.n, found.unpaired) == (7, 3)
    assert found.estimate == pytest.approx(0.01 + np.delete(NOISE, [3, 4, 5]).mean())


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
    assert (found.p_for, found.p_against) == ((0, 1) if verdict == "supported" else (1, 0))
    assert found.low == pytest.approx(found.high)


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


def test_the_more_margins_a_study_has_the_wider_its_intervals() -> None:
    several: list[list[Claim]] = [
        [higher()],
        [higher(), equivalent()],
        [higher(), lower(says="two"), between(says="three")],
    ]
    alone, three, four = (decide(claims, shifted(0.002))[0].parts[0] for claims in several)
    assert [one.confidence for one in (alone, three, four)] == pytest.approx([1 - 0.1, 1 - 0.1 / 3, 1 - 0.1 / 4])
    assert [one.p_for / alone.p_for for one in (three, four)] == pytest.approx([3, 4])  # type: ignore[operator]


CLAIMS = [
    *(kind("test_accuracy", "a", than="b", margin=margin, says=f"{kind}{margin}") for kind in (Higher, Lower)
      for margin in (0.0, 0.004)),
    *(equivalent(within=within, says=f"within{within}") for within in (0.0005, 0.005)),
    between(least=0.9, most=0.905), between(least=0.8995, most=0.9005, says="between"),
    *(kind("fit_cpu_seconds", "a", than="b", margin=0.1, says=f"{kind}") for kind in (Higher, Lower)),
    Equivalent("fit_cpu_seconds", "a", "b", within=0.2, says="as fast"),
    Stops("a", before=10, says="stops"),
]  # fmt: skip


@settings(max_examples=40)
@given(
    st.integers(6, 30),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.0002, 0.001, 0.004, 0.01]),
    st.sampled_from([-1.0, 1.0]),
    st.sampled_from([0.0, 1 / 6]),
)
def test_an_interval_its_p_value_and_its_verdict_never_contradict_each_other(
    n: int, seed: int, shift: float, sign: float, overlap: float
) -> None:
    rng = np.random.default_rng(seed)
    frame = runs(a=0.9 + sign * shift + rng.normal(0, 0.002, n), b=0.9 + rng.normal(0, 0.002, n))
    first = frame["arm"] == "a"
    frame["fit_cpu_seconds"] = np.where(first, 100 * (1 + sign * 40 * shift), 100) * rng.lognormal(0, 0.05, 2 * n)
    frame["epochs_trained"] = rng.choice([7.0, 10.0], 2 * n, p=[0.7, 0.3])
    for sentence in decide(CLAIMS, frame, overlap):
        (one,) = sentence.parts
        assert one.low is not None and one.high is not None and one.p_for is not None and one.p_against is not None
        least, most = one.claim.holds
        assert (one.verdict == "supported") == (least < one.low and one.high < most) == (one.p_for <= ALPHA)
        assert (one.verdict == "contradicted") == (one.high < least or most < one.low) == (one.p_against <= ALPHA)
        assert one.low <= one.estimate <= one.high  # type: ignore[operator]
        # And as it is printed, a reader comes to the same verdict.
        low, high = (
            float(text.removesuffix(" %")) / (100 if "%" in text else 1) for text in one.interval_text.split(" to ")
        )
        assert (one.verdict == "supported") == (least < low and high < most)
        assert (one.verdict == "contradicted") == (high < least or most < low)
        assert (one.needs != "") == (one.verdict == "undecided")


@pytest.mark.parametrize(("end", "printed"), [(0.00004, "+0.00004"), (0.0048, "+0.0048"), (-0.00000034, "-0.0000003")])
def test_an_interval_is_printed_with_so_many_decimals_that_its_end_is_not_rounded_to_a_margin(
    end: float, printed: str
) -> None:
    made = Part(higher(), 10, 0, 0.01, end, 0.0123456, 0.95)
    assert made.interval_text.split(" to ")[0] == printed


def test_an_undecided_part_says_how_many_seeds_would_decide() -> None:
    found = part(higher(), shifted(0.001))
    assert found.seeds_needed is not None and found.sd is not None
    halves = [half_width(found.sd, n, found.confidence) for n in (found.seeds_needed - 1, found.seeds_needed)]
    assert halves[0] >= 0.001 > halves[1]  # which is when the interval leaves 0 out
    assert found.needs == f"about {found.seeds_needed} seeds would decide at this estimate and spread"
    of_times = Part(
        Lower("fit_cpu_seconds", "a", than="b", says="x"), 8, 0, 0.0, -1, 1, 0.95, seeds_needed=14, verdict="undecided"
    )
    assert of_times.needs == "about 14 seeds whose times count would decide at this estimate and spread"
    nearly = part(equivalent(), shifted(0.004))  # 0.001 from the margin, and inside of it
    assert nearly.seeds_needed is not None and nearly.seeds_needed > found.seeds_needed


def test_where_no_number_of_seeds_would_decide_that_is_said() -> None:
    for found in (part(higher(), shifted(0.0)), decide([higher()], shifted(0.0015), overlap=1.0)[0].parts[0]):
        assert (found.verdict, found.seeds_needed) == ("undecided", None)
        assert found.needs == "no number of seeds would decide at this estimate and spread"


def test_times_are_compared_as_shares_whatever_the_machine() -> None:
    claim = Lower("fit_cpu_seconds", "a", than="b", margin=0.25, says="a is faster")
    seconds = 100 + 1000 * NOISE
    found, slower = (
        part(claim, runs("fit_cpu_seconds", a=0.7 * times * seconds, b=times * seconds + NOISE)) for times in (1, 3)
    )
    assert found.verdict == "supported" and found.estimate == pytest.approx(-0.3, abs=1e-4)
    assert found.estimate_text == "-30.0 %" and found.estimate == pytest.approx(slower.estimate, abs=1e-4)
    assert found.margins == (-0.25,)


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
        (lambda: between(least=0.915), "least and most are 0.915 and 0.915"),
        (lambda: Lower("fit_cpu_seconds", "a", than="b", margin=1, says="x"), "a share below 1"),
        (lambda: Equivalent("epochs_trained", "a", "b", within=1, says="x"), "a share below 1"),
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
    expected = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    beyond = part(lower(margin=0.002), runs(a=a, b=b))
    assert beyond.p_for == pytest.approx(stats.ttest_1samp(a - b, -0.002, alternative="less").pvalue, rel=1e-12)


def test_a_range_is_tested_at_both_of_its_ends() -> None:
    found, differences = part(equivalent(), shifted(0.002)), 0.002 + NOISE
    tests = {
        (bound, side): stats.ttest_1samp(differences, bound, alternative=side).pvalue
        for bound in (-0.005, 0.005)
        for side in ("greater", "less")
    }
    assert found.p_for == pytest.approx(2 * max(tests[-0.005, "greater"], tests[0.005, "less"]))
    assert found.p_against == pytest.approx(min(1, 2 * min(tests[0.005, "greater"], tests[-0.005, "less"])))


def test_where_splits_overlap_the_interval_is_nadeau_and_bengios() -> None:
    (plain, wide) = (decide([higher()], shifted(0.01), overlap)[0].parts[0] for overlap in (0.0, 1 / 6))
    assert plain.low is not None and plain.high is not None and wide.low is not None and wide.high is not None
    assert (wide.high - wide.low) / (plain.high - plain.low) == pytest.approx(math.sqrt((1 / 10 + 1 / 6) / (1 / 10)))


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


@given(st.lists(st.floats(-1, 1).map(lambda one: round(one, 4)), min_size=6, max_size=12), st.floats(0, 0.5))
def test_the_two_sides_of_a_test_are_one_and_its_mirror_is_the_other_claim(values: list[float], margin: float) -> None:
    differences = np.array(values)
    assume(not is_constant(differences))
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


def share(verdicts: Any) -> float:
    """How many of them."""
    return float(verdicts.mean())


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
    ("value", "strictly", "inside"),
    [
        (0.91, True, True),
        (0.899, False, True),
        (0.8951, False, True),
        (0.8949, False, False),
        (0.9249, False, True),
        (0.9251, False, False),
    ],
)
def test_a_printed_number_is_inside_as_printed_or_give_or_take_half_its_last_digit(
    value: float, strictly: bool, inside: bool
) -> None:
    low, high = 0.9, 0.92
    sd = (high - low) / 2 / 2.5705818 / math.sqrt(1 + 1 / 6)  # t(0.975, 5) from a printed table
    around = sd * math.sqrt(5 / 6)
    runs_c, epochs_c = ours(*[0.91 - around] * 3, *[0.91 + around] * 3)
    frame = printed_values(printed(test_accuracy=[math.nan, value]), {("s", "a"): "c"}, runs_c, epochs_c)
    row = frame[frame["measure"] == "test_accuracy"].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["strictly"], row["inside"]) == (strictly, inside)


@pytest.mark.parametrize("sd", [0.0025, 0.1])
def test_chance_is_how_often_one_more_run_of_ours_that_is_printed_so_would_miss(sd: float) -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=20)
    values = 0.912 + sd * (noise - noise.mean()) / noise.std(ddof=1)
    missed = []
    for others in rng.normal(0.912, sd, (4_000, 21)):
        shown = float(f"{others[20]:.2f}")
        low, high = prediction_interval(others[:20].mean(), others[:20].std(ddof=1), 20)
        missed.append((not low - 0.005 <= shown <= high + 0.005, not low <= shown <= high))
    frame = printed_values(printed(), {("s", "a"): "c"}, *ours(*values))
    row = frame[frame["measure"] == "test_accuracy"].iloc[0]
    assert (row["chance"], row["chance_strictly"]) == pytest.approx(tuple(np.mean(missed, axis=0)), abs=0.02)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_below_six_runs_a_printed_number_is_in_or_out_of_nothing(count: int) -> None:
    frame = printed_values(printed(), {("s", "a"): "c"}, *ours(*[0.9] * count))
    assert len(frame) == 6
    assert set(frame["n"]) == {count}
    assert frame[["sd", "low", "high"]].isna().all(axis=None) == (count < 2)
    assert all(one is None for name in ("inside", "strictly") for one in frame[name])
    counts = ("compared", "outside", "by_chance", "outside_strictly", "by_chance_strictly")
    assert misses(frame) == dict.fromkeys(counts, 0)


def test_runs_that_ended_before_an_epoch_are_not_counted_for_it() -> None:
    runs_c, epochs_c = ours(0.90, 0.91, 0.92)
    short = epochs_c[(epochs_c["epoch"] == 1) | (epochs_c["run_id"] != "c0")]
    frame = printed_values(printed(), {("s", "a"): "c"}, runs_c, short)
    assert frame.set_index(["measure", "epoch"])["n"].loc["loss"].to_dict() == {1: 3, 2: 2}


def test_an_arm_without_a_config_is_left_out() -> None:
    assert printed_values(printed(), {("s", "b"): "c"}, *ours(0.9, 0.91)).empty


def test_misses_are_counted_beside_what_chance_alone_would_give() -> None:
    frame = printed_values(printed(), {("s", "a"): "c"}, *ours(*np.linspace(0.9, 0.92, 6)))
    # Of the accuracies, which are all 0.9, only the printed 0.8 is another; the first loss is 0.5 to our 0.91.
    found = misses(frame)
    assert (found["compared"], found["outside"], found["outside_strictly"]) == (6, 3, 3)
    assert found["by_chance"] == pytest.approx(frame["chance"].astype(float).sum())


def test_every_study_claims_something_and_nothing_is_decided_before_it_runs() -> None:
    for study in STUDIES:
        found = decide(study.claims, pd.DataFrame(columns=["arm", "seed", *(name for name in MEASURED)]))
        assert found
        assert {one.verdict for one in found} <= {"too few seeds", "not tested"}


MEASURED = ("test_accuracy", "test_loss", "accuracy", "loss", "epochs_trained", "fit_cpu_seconds")


def test_the_sentences_that_disagree_with_the_numbers_beside_them_have_a_note() -> None:
    notes = " ".join(claim.note for study in STUDIES for claim in study.claims)
    notes += " ".join(claim.why for study in STUDIES for claim in study.claims if isinstance(claim, NotTested))
    for told in ("0.87 and 0.89", "32 filters and 800 cells", "0.34 and 0.45", "Once again", "epoch 6, counted from 0"):
        assert told in notes


def test_the_posts_numbers_decide_its_sentence_on_20_epochs_against_it() -> None:
    epochs_study = next(study for study in STUDIES if study.name == "epochs_study")
    made = {"5 epochs": (0.28, 0.89), "10 epochs": (0.26, 0.91), "15 epochs": (0.34, 0.91), "20 epochs": (0.45, 0.91)}
    rows = [
        {"arm": arm, "seed": seed, "epochs_trained": 5.0, "loss": 1 / int(arm[:2]) + noise, "accuracy": 0.9 - noise}
        | {"test_loss": loss + noise, "test_accuracy": accuracy + noise * seed / 100}
        for arm, (loss, accuracy) in made.items()
        for seed, noise in enumerate(NOISE)
    ]
    verdicts = {one.says[:15]: one.verdict for one in decide(epochs_study.claims, pd.DataFrame(rows))}
    assert verdicts["After 15 epochs"] == verdicts["After 20 epochs"] == "supported"
    assert verdicts["From 15 to 20 e"] == "contradicted"
