"""What a spreadsheet or a browser would run is known, and nothing that we hand on has it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from experiments import RESULTS, STUDIES
from fashion_cnn.evidence.inert import PAGE_HEAD, active_parts, inert_cell
from fashion_cnn.evidence.tables import COLUMNS, TableError, from_csv, runs_to_csv, to_csv
from fashion_cnn.study import Study, StudyError
from tests.support.recorded import record
from tests.support.tampering import with_row

RUN = record(STUDIES[0], "dense").row
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


@pytest.mark.parametrize("text", [*FORMULAS, "'=1", "''-", "'", "it's"])
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_is_read_as_it_was(text: str) -> None:
    assert inert_cell(text) == (text if text in ("'", "it's") else f"'{text}")
    assert from_csv(to_csv([{"name": text}], {"name": "text"}), {"name": "text"}) == [{"name": text}]


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)"])
def test_a_table_with_a_formula_is_no_table_of_ours(text: str) -> None:
    with pytest.raises(TableError, match="row 2: name is "):
        from_csv(f"name\r\n{text}\r\n".encode(), {"name": "text"})


@pytest.mark.parametrize("column", [name for name, kind in COLUMNS.items() if kind == "text" and name in RUN])
def test_no_text_of_a_run_stands_in_its_table_as_a_formula(column: str) -> None:
    table = runs_to_csv([{**RUN, column: "=HYPERLINK(0)"}]).decode()
    assert "'=HYPERLINK(0)" in table and ",=HYPERLINK" not in table and not table.startswith("=HYPERLINK")


def test_numbers_below_0_stay_numbers() -> None:
    assert to_csv([{"loss": -1.5, "end_time": -2}], {"loss": "real", "end_time": "whole"}).endswith(b"-1.5,-2\r\n")


def test_an_arm_cannot_be_named_like_a_formula() -> None:
    with pytest.raises(StudyError, match="'=1' cannot be an arm's name: a spreadsheet would run it"):
        Study("one", "?", {"=1": STUDIES[0].arms["dense"]})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("<svg><script>x()</script></svg>", "it would run '<script'"),
        ("<SVG><SCRIPT/></SVG>", "it would run '<SCRIPT'"),
        ('<svg xmlns:s="http://www.w3.org/2000/svg"><s:script/></svg>', "it has a <s:script>"),
        ("<svg onload=alert(1)>", "<svg> has onload"),
        ("<svg/onload=alert(1)>", "<svg> has onload"),
        ("<a href='javascript:x()'>", "it would run 'javascript:'"),
        ("<a href='java&#115;cript:x()'>", "<a> leads to"),
        ("<image xlink:href='https://example.org/a.png'/>", "<image> leads to"),
        ("<use href='data:image/svg+xml;base64,AAAA'/>", "<use> leads to"),
        ("<iframe srcdoc='x'>", "it would run '<iframe'"),
        ("<foreignObject/>", "it would run '<foreignObject'"),
        ("<meta http-equiv=refresh content='0;url=https://example.org'>", "<meta> has http-equiv='refresh'"),
        ("<style>@import 'https://example.org/a.css'</style>", "it would load or define '@import'"),
        ("<rect style='fill: url(https://example.org/a)'/>", "it would load or define 'url('"),
        ("<!DOCTYPE svg [<!ENTITY x '1'>]><svg/>", "it would load or define '<!ENTITY'"),
        ("<?xml-stylesheet href='a.xsl'?><svg/>", "it would load or define '<?'"),
        ("<svg><animate attributeName='href'/></svg>", "it has a <animate>"),
        ("<svg>\0</svg>", "it is no text"),
    ],
)
def test_a_page_or_picture_that_would_run_or_load_is_told(content: str, told: str) -> None:
    assert any(part.startswith(told) for part in active_parts("x.svg", content.encode()))


def test_other_encodings_and_other_kinds_are_told() -> None:
    assert list(active_parts("x.svg", "<svg/>".encode("utf-16"))) == ["it is no UTF-8"]
    assert list(active_parts("x.png", b"<script>")) == ["it is no PNG"]


def test_arrays_of_objects_and_what_is_no_array_are_told() -> None:
    numbers, objects = io.BytesIO(), io.BytesIO()
    np.savez_compressed(numbers, layer=np.zeros((2, 3), np.float32))
    np.savez(objects, layer=np.array([{}]))
    assert list(active_parts("x.npz", numbers.getvalue())) == []
    for content in (objects.getvalue(), b"#!/bin/sh\n" + numbers.getvalue(), b"<script>"):
        assert list(active_parts("x.npz", content)) == ["it holds something else than arrays of numbers"]


@pytest.mark.parametrize(
    "content",
    [
        "<svg><use xlink:href='#a' style='fill: url(#b)'/></svg>",
        "<p class=note>versions = 3, one = 1</p>",
        "<img src='data:image/png;base64,iVBORw0KGgo=' alt='x'><link rel=icon href='data:,'>",
        "<style>p { background: url('data:image/png;base64,iVBO') }</style>",
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">",
    ],
)
def test_what_only_shows_something_is_left_alone(content: str) -> None:
    assert list(active_parts("x.html", (PAGE_HEAD + content).encode())) == []


@pytest.mark.parametrize(
    "hidden",
    [
        "<!--><img src='data:,' onerror=x()>-->",
        "<!-- --!><img src='data:,' onerror=x()> -->",
        "<style></style x><img src='data:,' onerror=x()></style>",
        "<p style='background: image-set(\"https://example.org/a\" 1x)'>",
    ],
)
def test_a_page_needs_the_policy_first_because_browsers_read_otherwise(hidden: str) -> None:
    for page in (hidden, f"<p>{PAGE_HEAD}{hidden}", PAGE_HEAD.replace("'none'", "*") + hidden):
        told = active_parts("x.html", page.encode())
        assert "it does not begin with the policy by which a browser runs and loads nothing" in told


@pytest.mark.parametrize(
    "piece", ["<!-- a -->", "<![x", "<", "< p>", "<a b='", '<a b="c"d>', "<a <b>", "</", "<!DOCTYPE html>"]
)
def test_a_tag_in_another_form_than_ours_is_told_once_however_often_it_comes(piece: str) -> None:
    (told,) = active_parts("x.html", (PAGE_HEAD + piece * 100_000).encode())  # by a parser's own rules it took minutes
    assert told.startswith(("it has '<", 'it has "<')) and told.endswith("which is no plain tag")


def test_the_published_pictures_run_and_load_nothing() -> None:
    pictures = [path for path in RESULTS.rglob("*") if path.suffix in (".svg", ".png")]
    assert len(pictures) > 20
    assert {path.name: found for path in pictures if (found := list(active_parts(path.name, path.read_bytes())))} == {}


def test_the_made_up_record_has_no_formula_of_its_own() -> None:
    assert with_row(record(STUDIES[0], "dense")).row == RUN and b",'" not in runs_to_csv([RUN])
