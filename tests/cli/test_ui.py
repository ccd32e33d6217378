"""MLflow's own UI over a real server in a real browser: it shows the right runs and pictures without clicks."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Page, expect

from fashion_cnn.evidence.selection import Selection
from fashion_cnn.reports import page as drawn
from tests.support.bundles import packed
from tests.support.command import Lab
from tests.support.made_up import write_made_up
from tests.support.published import BASELINE, records

PATIENCE = 240_000  # ms; the first page of a fresh server takes its time
RUNS = ("16 filters · seed 0", "32 filters · seed 0", "64 filters · seed 0")


@dataclass(frozen=True)
class Served:
    """A store that `fashion-cnn ui` serves, and the addresses that it printed."""

    lab: Lab
    addresses: dict[str, str]

    @property
    def base(self) -> str:
        return self.addresses["all studies"].partition("/#")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)
    kept = os.environ.get("SCREENSHOTS_STORE")  # for the README's: a folder with a store of real runs
    lab = Lab(Path(kept) if kept else tmp_path_factory.mktemp("lab"), data)
    if not kept:
        lab.call("run", "filter_study", "--smoke")
        bundle = lab.folder / "bundle.zip"
        with pytest.MonkeyPatch.context() as undrawn:  # no test looks at the bundle's own report and figures
            undrawn.setattr(drawn, "render_report", lambda *_, **__: "")
            undrawn.setattr(drawn, "study_figures", lambda *_: {})
            bundle.write_bytes(packed(Selection(BASELINE, records(0, 1, studies=(BASELINE,)), [])))
        lab.call("import", bundle)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = lab.folder / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            lab.command("ui", "filter_study", "--port", port),
            env=lab.variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        assert len(lines) == 9, log.read_text()[-2000:]
        yield Served(lab, {what.rstrip(":"): address for what, address in zip(lines[0:8:2], lines[1:8:2], strict=True)})
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        process.stdout.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


@pytest.mark.fault("ui-from-elsewhere")
def test_it_listens_on_this_machine_only(served: Served) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", served.base)
    port = int(served.base.rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    found = re.findall(rf"^ *\d+: ([0-9A-F]+):{port:04X} 0+:0000 0A", listening, re.MULTILINE)
    assert found == ["0100007F"]


def test_the_printed_comparison_names_each_run_of_the_study(served: Served) -> None:
    address = unquote(served.addresses["filter_study: 3 runs compared"])
    named = json.loads(re.search(r"runs=(\[.*?\])", address)[1])  # type: ignore[index]
    assert set(named) == set(served.lab.runs("filter_study")["run_id"])


def test_the_charts_show_each_run_and_its_feature_maps(served: Served, page: Page) -> None:
    page.goto(served.addresses["filter_study: charts"])
    for name in RUNS:
        expect(page.get_by_text(name).first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("feature_maps", exact=False).first).to_be_visible(timeout=PATIENCE)
    thumbnail = "image => Math.max(image.naturalWidth, image.naturalHeight) === 256"
    page.wait_for_function(f"[...document.images].filter({thumbnail}).length > 2")


def test_the_charts_stand_in_the_model_training_view(served: Served, page: Page) -> None:
    page.goto(served.addresses["filter_study: charts"])
    expect(page.get_by_text("Model registry")).to_be_visible(timeout=PATIENCE)  # the other view has "Judges" there
    expect(page.get_by_text("Judges")).to_have_count(0)


def test_the_compare_page_shows_exactly_the_studys_runs(served: Served, page: Page) -> None:
    page.goto(served.addresses["filter_study: 3 runs compared"])
    expect(page.get_by_text("Comparing 3 Runs from 1 Experiment")).to_be_visible(timeout=PATIENCE)
    for row in served.lab.runs("filter_study").to_dict("records"):
        expect(page.get_by_text(row["run_id"]).first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text(row["name"]).first).to_be_attached()


def test_the_table_compares_the_runs_class_by_class(served: Served, page: Page) -> None:
    page.goto(served.addresses["filter_study: classes"])
    for row in served.lab.runs("filter_study").to_dict("records"):
        expect(page.get_by_text(row["name"]).first).to_be_visible(timeout=PATIENCE)
        classes = served.lab.json_artifact(row["run_id"], "per_class.json")
        for name, recall in [values[:2] for values in classes["data"]][:3]:
            expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
            expect(page.get_by_text(f"{recall:.17g}"[:6]).first).to_be_visible(timeout=PATIENCE)


def test_the_artifact_view_shows_the_feature_maps(served: Served, page: Page) -> None:
    row = served.lab.runs("filter_study").iloc[0]
    place = f"{served.base}/#/experiments/{row['experiment_id']}/runs/{row['run_id']}/artifacts"
    page.goto(f"{place}/figures/feature_maps.png")
    page.wait_for_function("[...document.images].some(image => image.naturalWidth > 600 && image.naturalHeight > 600)")


def test_imported_runs_are_named_and_say_where_they_come_from(served: Served, page: Page) -> None:
    runs = served.lab.runs("baseline_study")
    place = f"{served.base}/#/experiments/{runs['experiment_id'].iloc[0]}/runs"
    page.goto(f"{place}?compareRunsMode=TABLE&workflowType=machine_learning")
    for name in ("cnn · seed 0", "cnn · seed 1", "dense · seed 0", "dense · seed 1"):
        expect(page.get_by_text(name).first).to_be_visible(timeout=PATIENCE)
    row = runs[(runs["arm"] == "cnn") & (runs["seed"] == "1")].iloc[0]
    page.goto(f"{place}/{row['run_id']}")
    told = page.get_by_text(f"Imported from {row['imported']}, not recorded here; there it is run {row['published']}.")
    expect(told).to_be_visible(timeout=PATIENCE)
    for tag in ("published", "imported"):
        expect(page.get_by_text(tag, exact=True).first).to_be_visible(timeout=PATIENCE)


def test_the_runs_page_tells_question_arm_result_and_how_to_make_it_again(served: Served, page: Page) -> None:
    row = served.lab.runs("filter_study").iloc[0]
    page.goto(f"{served.base}/#/experiments/{row['experiment_id']}/runs/{row['run_id']}")
    expect(page.get_by_text("What do 16 or 64 filters change against 32?")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(f"test accuracy {row['test_accuracy']:.4f}")).to_be_visible()
    expect(page.get_by_text("fashion-cnn run filter_study --arms").first).to_be_visible()


def test_screenshots_for_the_readme(served: Served, page: Page) -> None:
    """SCREENSHOTS names the folder for the README's, SCREENSHOTS_STORE the folder of the store that they show."""
    folder = Path(os.environ.get("SCREENSHOTS") or served.lab.folder)
    for name in ("charts", "compared"):
        page.goto(next(address for what, address in served.addresses.items() if what.endswith(name)))
        page.wait_for_timeout(5000)
        assistant = page.get_by_role("button", name="Close").first
        if assistant.is_visible():  # it takes a quarter of the page until it was closed once
            assistant.click()
            page.wait_for_timeout(2000)
        path = folder / f"{name}.jpg"
        page.screenshot(path=path, type="jpeg", quality=60)
        assert 10_000 < path.stat().st_size < 300_000
