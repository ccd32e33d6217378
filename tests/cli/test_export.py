"""`export` writes tables that a spreadsheet opens and does not run."""

from __future__ import annotations

from pathlib import Path

from experiments import STUDIES
from tests.support.command import Lab
from tests.support.recorded import put, record
from tests.support.tampering import with_row


def test_the_name_that_somebody_gave_a_run_is_no_formula(tmp_path: Path) -> None:
    lab = Lab(tmp_path, tmp_path)
    put(lab.store(), with_row(record(STUDIES[0], "dense"), name="=HYPERLINK(0)"), STUDIES[0].question)
    lab.call("export", "--output", tmp_path / "out")
    header, row = (tmp_path / "out" / "runs.csv").read_text(encoding="utf-8").splitlines()
    assert row.split(",")[header.split(",").index("name")] == "'=HYPERLINK(0)"
