"""What a replay answers, on made-up states: no process, no store."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fashion_cnn.evidence.record import Contradiction
from fashion_cnn.review.comparison import (
    QUANTITIES,
    Change,
    Comparison,
    Difference,
    Result,
    Terms,
    changes,
    differences,
    results,
)

EPOCHS = [
    {"loss": 0.5, "accuracy": 0.8, "test_loss": 0.4, "test_accuracy": 0.85, "weights_sha256": "a" * 64},
    {"loss": 0.3, "accuracy": 0.9, "test_loss": 0.35, "test_accuracy": 0.9, "weights_sha256": "b" * 64},
]
CONTRADICTION = Contradiction("loss", 1, "0.6", "trajectory.json says 0.5")
DIFFERENCE = Difference(2, "test_loss", 0.35, 0.375)
THREADS = Change("threads", 1, 2)
BYTE = Change("train-images-idx3-ubyte", "a" * 64, "b" * 64)


def compared(**known: Any) -> Comparison:
    return Comparison("1" * 32, "baseline_study", "cnn", "0", 2, 2, **{"replayed": tuple(EPOCHS), **known})


def told(**known: Any) -> str:
    return "\n".join(compared(**known).lines())


class TestDifferences:
    def test_the_same_states_have_none(self) -> None:
        assert differences(EPOCHS, [dict(epoch) for epoch in EPOCHS]) == []

    def test_no_states_have_none(self) -> None:
        assert differences([], []) == differences(EPOCHS, []) == []

    @pytest.mark.parametrize("quantity", QUANTITIES)
    def test_each_quantity_counts(self, quantity: str) -> None:
        other = [EPOCHS[0], {**EPOCHS[1], quantity: "c" * 64 if quantity == "weights_sha256" else 0.123}]
        (found,) = differences(EPOCHS, other)
        assert (found.epoch, found.quantity, found.recorded) == (2, quantity, EPOCHS[1][quantity])

    def test_the_last_bit_counts(self) -> None:
        (found,) = differences(EPOCHS, [{**EPOCHS[0], "loss": 0.5000000000000001}])
        assert found.by == pytest.approx(1.1e-16, rel=0.01)
        assert str(found) == "epoch 1, loss: recorded 0.5, replayed 0.5000000000000001 (+1.11e-16)"

    def test_of_the_first_epoch_that_differs_all_quantities_are_told_and_of_later_ones_none(self) -> None:
        other = [{**EPOCHS[0], "loss": 0.6, "weights_sha256": "c" * 64}, {**EPOCHS[1], "accuracy": 0.1}]
        assert [(one.epoch, one.quantity) for one in differences(EPOCHS, other)] == [
            (1, "loss"),
            (1, "weights_sha256"),
        ]

    def test_a_hash_differs_by_no_number(self) -> None:
        assert Difference(1, "weights_sha256", "a", "b").by is None


class TestChanges:
    def test_an_equal_environment_has_none(self) -> None:
        assert changes({"threads": 1, "variables": {"A": "1"}}, {"variables": {"A": "1"}, "threads": 1}) == []

    def test_each_field_is_named_also_within_the_variables_and_where_only_one_side_has_it(self) -> None:
        recorded = {"tensorflow": "2.20", "variables": {"A": "1", "B": "1"}, "device": "cpu"}
        here = {"tensorflow": "2.21", "variables": {"A": "0", "C": "1"}, "device": "cpu", "driver": "5"}
        assert [str(one) for one in changes(recorded, here)] == [
            "tensorflow: recorded 2.20, here 2.21",
            "variables.A: recorded 1, here 0",
            "variables.B: recorded 1, here nothing",
            "variables.C: recorded nothing, here 1",
            "driver: recorded nothing, here 5",
        ]

    def test_of_vector_flags_only_those_that_come_or_go_are_told(self) -> None:
        (one,) = changes({"vector_flags": ["avx", "avx2", "fma"]}, {"vector_flags": ["avx", "fma", "sse4_2"]})
        assert str(one) == "vector_flags: here without avx2, besides sse4_2"

    def test_a_hash_is_told_short(self) -> None:
        assert str(BYTE) == f"train-images-idx3-ubyte: recorded SHA-256 {'a' * 16}…, here SHA-256 {'b' * 16}…"


class TestAnswers:
    def test_the_same_bits_are_exact_whatever_the_environment_the_data_and_the_code(self) -> None:
        assert compared().answer == "EXACT"
        assert compared(environment=(THREADS,), data=(BYTE,), code=(BYTE,)).answer == "EXACT"

    def test_a_record_that_contradicts_itself_is_inconsistent_before_all_else(self) -> None:
        found = compared(contradictions=(CONTRADICTION,), differences=(DIFFERENCE,), environment=(THREADS,))
        assert found.answer == "INCONSISTENT"
        assert "loss, epoch 1: 0.6, but trajectory.json says 0.5" in "\n".join(found.lines())

    def test_other_bits_in_another_environment_are_not_comparable_whatever_else_differs(self) -> None:
        known = {"differences": (DIFFERENCE,), "environment": (THREADS,)}
        assert compared(**known).answer == compared(**known, data=(BYTE,), code=(BYTE,)).answer == "NOT COMPARABLE"
        said = told(**known, data=(BYTE,), code=(Change("training.py", "1", "2"),))
        for cause in ("another environment: threads", "another data: train-images", "another code: training.py"):
            assert cause in said

    def test_other_bits_in_the_same_environment_are_different(self) -> None:
        assert compared(differences=(DIFFERENCE,)).answer == "DIFFERENT"
        assert "first difference: epoch 2, test_loss: recorded 0.35, replayed 0.375 (+0.025)" in told(
            differences=(DIFFERENCE,)
        )

    def test_the_cause_is_unknown_only_where_data_and_code_are_the_same(self) -> None:
        assert "cause: unknown" in told(differences=(DIFFERENCE,))
        assert "cause: unknown" not in told(differences=(DIFFERENCE,), data=(BYTE,))
        assert "cause: unknown" not in told(differences=(DIFFERENCE,), code=(BYTE,))

    def test_a_worker_that_failed_gives_no_answer_unless_it_differed_before(self) -> None:
        assert compared(error="out of memory").answer == "FAILED"
        assert compared(error="out of memory", differences=(DIFFERENCE,)).answer == "DIFFERENT"
        assert "out of memory" in told(error="out of memory")

    def test_a_part_of_the_epochs_is_told_as_a_part(self) -> None:
        assert "1 of 2 epochs replayed" in told(replayed=(EPOCHS[0],))

    def test_json_holds_the_answer_and_what_differs_by_how_much(self) -> None:
        values = json.loads(json.dumps(compared(differences=(DIFFERENCE,), environment=(THREADS,)).as_dict()))
        assert values["answer"] == "NOT COMPARABLE" and values["replayed"] == EPOCHS
        assert values["differences"][0]["by"] == pytest.approx(0.025)
        assert values["environment"] == [{"part": "threads", "recorded": 1, "here": 2}]


class TestResults:
    OTHERS = tuple({"test_accuracy": 0.9 + 0.001 * k, "test_loss": 0.3} for k in (-2, -1, 0, 0, 1, 2))
    HALF = 2.570581835636314 * (0.00001 / 5) ** 0.5 * (7 / 6) ** 0.5  # t(0.975, 5); s² = 10e-6 / 5
    WHERE = "the other seeds' 95 % prediction interval (0.8961 to 0.9039, n = 6)"

    def of(self, recorded: float, replayed: float, others: int = 6) -> list[Result]:
        ends = [{"test_accuracy": value, "test_loss": 0.3} for value in (recorded, replayed)]
        return results(ends[0], ends[1], self.OTHERS[:others])

    def test_the_interval_is_the_mean_and_t_standard_deviations_of_one_more_run(self) -> None:
        accuracy, _ = self.of(0.9, 0.9)
        assert (accuracy.low, accuracy.high) == pytest.approx((0.9 - self.HALF, 0.9 + self.HALF), abs=1e-12)
        assert accuracy.seeds == 6 and accuracy.inside(0.9) and not accuracy.inside(0.89)

    @pytest.mark.parametrize(
        ("recorded", "replayed", "where"),
        [
            (0.9898, 0.9, "the recorded one lies outside of"),
            (0.9, 0.8743, "the replayed one lies outside of"),
            (0.9, 0.901, "both lie inside"),
            (0.9898, 0.8743, "both lie outside of"),
        ],
    )
    def test_recorded_and_replayed_are_put_side_by_side_and_both_are_judged(
        self, recorded: float, replayed: float, where: str
    ) -> None:
        (accuracy,) = [one for one in self.of(recorded, replayed) if one.score == "test_accuracy"]
        told = f"recorded test accuracy {recorded:.4f}, replayed {replayed:.4f}; {where} {self.WHERE}"
        assert str(accuracy) == told

    def test_a_recorded_result_beyond_the_interval_comes_first_whichever_it_is(self) -> None:
        names = [one.score for one in results({"test_accuracy": 0.9, "test_loss": -3}, EPOCHS[1], self.OTHERS)]
        assert names == ["test_loss", "test_accuracy"]
        assert [one.score for one in self.of(0.9, 0.1)] == ["test_accuracy", "test_loss"]

    def test_five_seeds_are_too_few(self) -> None:
        found = self.of(0.9898, 0.8743, others=5)
        assert [(one.low, one.high, one.inside(0.5)) for one in found] == [(None, None, None)] * 2
        said = told(differences=(DIFFERENCE,), environment=(THREADS,), results=tuple(found))
        assert ": recorded test accuracy 0.9898, replayed 0.8743\n" in said
        assert "5 other seeds of this arm" in said and "needs 6" in said

    def test_a_forged_record_whose_bits_cannot_be_had_again_is_the_headline(self) -> None:
        known = {"differences": (DIFFERENCE,), "environment": (THREADS,)}
        first, second, third, *_ = told(**known, results=tuple(self.of(0.9898, 0.9))).splitlines()
        assert first == (
            "NOT COMPARABLE: baseline_study: cnn · seed 0: recorded test accuracy 0.9898, replayed 0.9000; "
            f"the recorded one lies outside of {self.WHERE}"
        )
        assert second.startswith("  recorded test loss 0.3000, replayed 0.3000; both lie inside")
        assert third == "  other bits in another environment, from epoch 2 of 2 on"

    def test_a_part_of_the_epochs_is_told_as_a_part(self) -> None:
        known = {"differences": (DIFFERENCE,), "environment": (THREADS,), "results": tuple(self.of(0.9, 0.9))}
        first, second, *_ = replace(compared(**known), epochs=1).lines()
        assert "after epoch 1, recorded test accuracy 0.9000" in first
        assert second.startswith("  after epoch 1, recorded test loss 0.3000")

    def test_json_says_of_both_whether_they_are_inside(self) -> None:
        known = {"differences": (DIFFERENCE,), "environment": (THREADS,), "results": tuple(self.of(0.9898, 0.9))}
        accuracy, _ = json.loads(json.dumps(compared(**known).as_dict()))["results"]
        assert (accuracy["recorded"], accuracy["replayed"], accuracy["seeds"]) == (0.9898, 0.9, 6)
        assert (accuracy["recorded_inside"], accuracy["replayed_inside"]) == (False, True)


class TestTerms:
    HERE = Terms("portable", "c" * 64, "", "a made-up processor", "a made-up processor")
    ELSEWHERE = replace(HERE, replayed_on="another", commit="d" * 40)

    def test_the_exact_answer_names_arithmetic_code_and_another_processor(self) -> None:
        said = told(terms=self.HERE)
        assert said.endswith("to the last bit; portable arithmetic, code cccccccccccc of this checkout")
        said = told(terms=self.ELSEWHERE)
        assert "portable arithmetic, code cccccccccccc of commit dddddddddd; on another processor: " in said
        assert said.endswith("recorded on a made-up processor, replayed on another") and "\n" not in said

    def test_so_do_the_others_below_their_first_line(self) -> None:
        said = told(differences=(DIFFERENCE,), environment=(THREADS,), terms=self.ELSEWHERE)
        assert "  replayed in the portable arithmetic, code cccccccccccc of commit dddddddddd" in said
        assert "  another processor: recorded on a made-up processor, replayed on another" in said

    def test_a_processor_that_is_part_of_the_environment_is_named_once(self) -> None:
        change = Change("processor", "a made-up processor", "another")
        said = told(differences=(DIFFERENCE,), environment=(change,), terms=self.ELSEWHERE)
        assert said.count("a made-up processor") == 1

    def test_only_what_was_compared_is_called_the_same(self) -> None:
        assert told(differences=(DIFFERENCE,)).endswith("cause: unknown")
        said = told(differences=(DIFFERENCE,), terms=self.HERE)
        assert "cause: unknown; compared with the record, and the same: data, code, environment\n" in said
        said = told(differences=(DIFFERENCE,), terms=replace(self.HERE, recorded_on=None))
        assert "environment; not compared: the processor, which the record does not name\n" in said
        assert "the same:" not in told(differences=(DIFFERENCE,), environment=(THREADS,), terms=self.HERE)
