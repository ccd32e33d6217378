"""A record is judged by the list of its own format: what came later is not asked of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import MappingProxyType

import pytest

from fashion_cnn.config import CNN, FIELDS
from fashion_cnn.evidence import record as records
from fashion_cnn.evidence.consistency import contradictions
from fashion_cnn.evidence.record import RECORD_FORMAT, RULES, SINCE, TABLE_TAGS, TAGS, Record, missing
from fashion_cnn.evidence.tables import COLUMNS, TableError, columns_of, frames, runs_from_csv, runs_to_csv
from fashion_cnn.study import Study
from tests.support.recorded import record
from tests.support.tampering import with_row

STUDY = Study("baseline_study", "Which network?", {"cnn": replace(CNN, epochs=2)})
OLD, NEW = record(STUDY, "cnn", 0, format=1), record(STUDY, "cnn", 1)
LATER = {name for name, setting in FIELDS.items() if setting.metadata["since"] > 1}  # of a config
ASKED_LATER = {
    "row.record_format",
    "row.arithmetic",
    "machine.processor",
    "artifacts.predictions.npz",
    *(f"row.{name}" for name in LATER),
}
TOO_NEW = f"row.record_format: '{RECORD_FORMAT + 1}'; wanted: at most {RECORD_FORMAT}; newer code recorded it:"


def without_param(whole: Record, name: str) -> Record:
    return replace(whole, row={key: value for key, value in whole.row.items() if key != name})


def test_what_is_recorded_now_is_of_the_present_format() -> None:
    assert (NEW.format, OLD.format) == (RECORD_FORMAT, 1)
    assert missing(NEW) == [] and contradictions(NEW) == []


def test_an_old_record_is_complete_and_consistent_by_its_own_format() -> None:
    assert not {"record_format", "arithmetic", *LATER} & set(OLD.row)
    assert missing(OLD) == [] and contradictions(OLD) == []


def test_the_same_record_that_claims_the_present_format_lacks_what_that_asks_for() -> None:
    claiming = with_row(OLD, record_format=str(RECORD_FORMAT))
    assert {lack.field for lack in missing(claiming)} == ASKED_LATER - {"row.record_format"}


def test_what_the_rules_ask_for_later_is_named_with_its_format() -> None:
    assert {rule.field for rule in RULES if rule.since > 1} == ASKED_LATER
    assert max(rule.since for rule in RULES) <= RECORD_FORMAT
    assert set(SINCE) <= set(COLUMNS) and max(SINCE.values()) <= RECORD_FORMAT
    assert {"record_format", "arithmetic"} <= set(TABLE_TAGS) & set(TAGS)


@pytest.mark.parametrize("claimed", ["", "two", "0", f"0{RECORD_FORMAT}", "-1", f"{RECORD_FORMAT}.0", "9" * 50])
def test_a_format_that_is_none_is_missed_and_excuses_nothing(claimed: str) -> None:
    (lack,) = missing(with_row(NEW, record_format=claimed))
    assert lack.field == "row.record_format"
    assert {lack.field for lack in missing(with_row(OLD, record_format=claimed))} == ASKED_LATER


def test_a_newer_format_is_refused_in_one_line_and_not_judged() -> None:
    newer = with_row(NEW, record_format=str(RECORD_FORMAT + 1), arithmetic="quantum", weights_sha256="none")
    (lack,) = missing(newer)
    assert str(lack) == f"{TOO_NEW} update this checkout (git pull) to read it"
    assert contradictions(newer) == []


@pytest.fixture
def _order_came_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `order` had been added to the config in the present format."""
    later = copy.copy(FIELDS["order"])
    later.metadata = MappingProxyType({**later.metadata, "since": RECORD_FORMAT})
    monkeypatch.setitem(FIELDS, "order", later)
    monkeypatch.setitem(SINCE, "order", RECORD_FORMAT)
    rules = [replace(rule, since=RECORD_FORMAT) if rule.field == "row.order" else rule for rule in RULES]
    monkeypatch.setattr(records, "RULES", tuple(rules))


@pytest.mark.usefixtures("_order_came_later")
class TestAFieldThatWasAddedLater:
    @pytest.fixture
    def old(self) -> Record:
        return without_param(record(STUDY, "cnn", format=1), "order")

    def test_its_default_is_meant_where_an_older_record_has_no_param_for_it(self, old: Record) -> None:
        assert old.config() == STUDY.arms["cnn"]

    def test_an_older_record_lacks_nothing_without_it(self, old: Record) -> None:
        assert missing(old, records.RULES) == [] and contradictions(old) == []

    def test_a_record_of_the_present_format_must_have_it(self) -> None:
        lacking = without_param(record(STUDY, "cnn"), "order")
        assert [lack.field for lack in missing(lacking, records.RULES)] == ["row.order"]
        assert lacking.config() is None

    def test_its_column_is_there_from_its_format_on(self, old: Record) -> None:
        assert "order" not in columns_of([old.row])
        assert "order" in columns_of([old.row, NEW.row])


def test_each_field_that_was_added_later_has_its_format_in_the_list() -> None:
    assert {name: SINCE[name] for name in LATER} == {name: FIELDS[name].metadata["since"] for name in LATER}
    assert {"training_images", "augmentation", "split"} <= LATER


class TestTables:
    def test_one_of_old_records_has_the_old_columns_and_is_written_as_it_was_read(self) -> None:
        written = runs_to_csv([OLD.row])
        assert not {"record_format", "arithmetic"} & set(written.decode().splitlines()[0].split(","))
        read = runs_from_csv(written)
        assert runs_to_csv(read) == written and Record(read[0], (), {}).format == 1

    def test_a_mixed_one_has_the_new_columns_and_the_cells_of_old_records_are_empty(self) -> None:
        written = runs_to_csv([OLD.row, NEW.row])
        old, new = runs_from_csv(written)
        assert (old["record_format"], old["arithmetic"]) == (None, None)
        assert (new["record_format"], new["arithmetic"]) == (str(RECORD_FORMAT), "portable")
        assert [Record(row, (), {}).format for row in (old, new)] == [1, RECORD_FORMAT]
        assert runs_to_csv([old, new]) == written

    def test_what_was_read_from_a_mixed_one_is_judged_as_before(self) -> None:
        runs = runs_from_csv(runs_to_csv([OLD.row, NEW.row]))
        for whole, row in zip((OLD, NEW), runs, strict=True):
            read = replace(whole, row=row)
            assert missing(read) == [] and contradictions(read) == []

    def test_a_frame_judges_as_the_records_do(self) -> None:
        runs, _ = frames([OLD, NEW])
        for whole, row in zip((OLD, NEW), runs.to_dict("records"), strict=True):
            assert replace(whole, row=row).format == whole.format

    def test_an_empty_one_has_the_present_columns(self) -> None:
        assert list(columns_of([])) == list(COLUMNS)
        assert runs_from_csv(runs_to_csv([])) == []

    def test_runs_of_a_newer_format_are_refused_in_one_line(self) -> None:
        newer = runs_to_csv([with_row(NEW, record_format=str(RECORD_FORMAT + 1)).row])
        with pytest.raises(TableError, match=f"^{TOO_NEW} upd"):
            runs_from_csv(newer)

    @pytest.mark.parametrize("content", [b"", b"a,b\r\n1,2\r\n", b"record_format\r\n2\r\n", b"\r\n\r\n"])
    def test_another_table_is_told(self, content: bytes) -> None:
        with pytest.raises(TableError, match=r"^its columns are not run_id, name, "):
            runs_from_csv(content)
