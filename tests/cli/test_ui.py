"""MLflow's own UI over a real server in a real browser, in an empty profile: each printed address opens right."""

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

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from experiments import STUDIES
from fashion_cnn.reports import published as results
from fashion_cnn.reports.publish import import_runs
from fashion_cnn.store.tracking import Store
from tests.support.command import Lab
from tests.support.published import ARRAYS, BASELINE, published, records
from tests.support.recorded import put, record
from tests.support.watch import stop_ui

PATIENCE = 60_000  # ms; the first page of a fresh server takes its time
STUDY = next(study for study in STUDIES if study.name == "epochs_study")
ARMS = tuple(STUDY.arms)
LAYERS = ("convolution_1", "pooling_1", "convolution_2", "pooling_2")
STEPS = (0, 1, 5)  # the last that all arms have
PLACES = {
    "all studies": ["list"],
    "baseline_study, published": ["by arm", "feature maps", "one run per arm"],
    "epochs_study, this store": ["by arm", "feature maps", "one run per arm"],
}


@dataclass(frozen=True)
class Served:
    """A store that `fashion-cnn ui` serves, and the addresses that it printed."""

    lab: Lab
    addresses: dict[str, str]
    process: subprocess.Popen[str]
    log: Path
    """What it says as errors, and its server."""

    @property
    def base(self) -> str:
        return self.addresses["all studies: list"].partition("/#")[0]


def fill(store: Store, folder: Path) -> None:
    """Two seeds of the epochs' study recorded, with feature maps, and a smoke run; two of the baseline's published."""
    grey = np.linspace(0, 255, 300 * 300, dtype=np.uint8).reshape(300, 300)
    table = json.dumps([{"path": "per_class.json", "type": "table"}])
    for arm in ARMS:
        for seed in (0, 1):
            made = record(STUDY, arm, seed)
            run_id = put(store, made, STUDY.question, **{"mlflow.loggedArtifacts": table})
            for layer in LAYERS if seed == 0 else ():
                for step in STEPS:
                    store.client.log_image(run_id, grey, key=f"feature_maps/{layer}", step=step, synchronous=True)
    put(store, record(STUDY, ARMS[0], 0, lift=-4_000), STUDY.question, smoke="true")
    for name, content in published(records(0, 1, studies=(BASELINE,)), (BASELINE,)).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    drawn = folder / results.file_of(results.ACTIVATIONS, record(BASELINE, "cnn", 0).row)
    drawn.parent.mkdir()
    drawn.write_bytes(ARRAYS)
    import_runs(store, [BASELINE], folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kept = os.environ.get("SCREENSHOTS_STORE")  # for the README's: a folder with a store of real runs
    lab = Lab(Path(kept) if kept else tmp_path_factory.mktemp("lab"), Path())
    if not kept:
        fill(lab.store(), lab.published)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = lab.folder / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            lab.command("ui", "--port", port), env=lab.variables, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        assert lines and lines[-1].startswith("Ctrl-C"), log.read_text()[-2000:]
        addresses = {what.rstrip(":"): address for what, address in zip(lines[:-1:2], lines[1::2], strict=True)}
        yield Served(lab, addresses, process, log)
    finally:
        process.send_signal(signal.SIGINT)  # unless a test has stopped it
        process.wait(120)
        process.stdout.close()


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    yield context
    context.close()


@pytest.fixture
def page(served: Served, profile: BrowserContext) -> Iterator[Page]:
    """Of a profile that has nothing of the server but its scripts, which take a browser longer than all else."""
    opened = profile.new_page()
    opened.set_default_timeout(PATIENCE)
    profile.new_cdp_session(opened).send("Storage.clearDataForOrigin", {"origin": served.base, "storageTypes": "all"})
    yield opened
    for shown in profile.pages:
        shown.close()


@pytest.mark.fault("ui-from-elsewhere")
def test_it_listens_on_this_machine_only(served: Served) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", served.base)
    port = int(served.base.rpartition(":")[2])
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    found = re.findall(rf"^ *\d+: ([0-9A-F]+):{port:04X} 0+:0000 0A", listening, re.MULTILINE)
    assert found == ["0100007F"]


def test_few_addresses_are_printed_and_none_of_what_there_is_not(served: Served) -> None:
    assert list(served.addresses) == [f"{heading}: {what}" for heading, shown in PLACES.items() for what in shown]
    assert all(len(address) < 160 for what, address in served.addresses.items() if "one run" not in what)


def in_model_training(page: Page) -> None:
    """The page is none for language models, which has "Judges" where the other has the model registry."""
    expect(page.get_by_text("Model registry")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Judges")).to_have_count(0)


def test_all_studies_are_listed_for_model_training(served: Served, page: Page) -> None:
    page.goto(served.addresses["all studies: list"])
    for study in ("baseline_study", "epochs_study"):
        expect(page.get_by_text(study, exact=True).first).to_be_visible(timeout=PATIENCE)
    in_model_training(page)


@pytest.mark.parametrize(
    ("place", "view", "arms"),
    [
        ("epochs_study, this store: by arm", "By arm, this store", ARMS),
        ("baseline_study, published: by arm", "By arm, published", tuple(BASELINE.arms)),
    ],
)
def test_by_arm_opens_with_a_mean_and_a_band_for_each_arm(
    served: Served, page: Page, place: str, view: str, arms: tuple[str, ...]
) -> None:
    page.goto(served.addresses[place])
    expect(page.get_by_text(view).first).to_be_visible(timeout=PATIENCE)
    for metric in ("test_accuracy", "test_loss", "loss", "accuracy"):
        expect(page.get_by_role("heading", name=metric, exact=True)).to_be_visible(timeout=PATIENCE)
    for arm in arms:
        expect(page.get_by_text(f"{arm} (test_accuracy)").first).to_be_visible()  # in the legend
    # Of each of the two lines' charts on top: a line of means for each arm, and an area from the least to the most.
    drawn = "count => [...document.querySelectorAll('.js-plotly-plot')].slice(0, 2).every(plot => plot.querySelectorAll"
    page.wait_for_function(f"{drawn}('.scatterlayer .js-line').length >= count)", arg=len(arms))
    page.wait_for_function(f"{drawn}('.scatterlayer .js-fill').length >= count)", arg=len(arms))
    in_model_training(page)


@pytest.mark.parametrize(
    ("study", "source", "arms"), [("epochs_study", "this store", ARMS), ("baseline_study", "published", ("cnn",))]
)
def test_feature_maps_open_as_a_table_of_layers_and_arms_after_the_last_common_epoch(
    served: Served, page: Page, study: str, source: str, arms: tuple[str, ...]
) -> None:
    page.goto(served.addresses[f"{study}, {source}: feature maps"])
    expect(page.get_by_text(f"Feature maps, {source}").first).to_be_visible(timeout=PATIENCE)
    for layer in LAYERS:
        expect(page.get_by_text(f"feature_maps/{layer}").first).to_be_visible(timeout=PATIENCE)
    for arm in arms:
        expect(page.get_by_text(f"{arm} · seed 0").first).to_be_visible()
    loaded = "[...document.images].filter(image => image.naturalWidth >= 256).length"
    page.wait_for_function(f"{loaded} >= {len(arms) * len(LAYERS)}")
    expect(page.get_by_text("No image logged at this step")).to_have_count(0)


def test_the_compare_page_shows_one_run_of_each_arm(served: Served, page: Page) -> None:
    address = served.addresses["epochs_study, this store: one run per arm"]
    named = json.loads(re.search(r"runs=(\[.*?\])", unquote(address))[1])  # type: ignore[index]
    runs = served.lab.runs("epochs_study").set_index("run_id").loc[named]
    assert list(runs["arm"].sort_values()) == sorted(ARMS) and set(runs["seed"]) == {"0"}
    page.goto(address)
    expect(page.get_by_text("Comparing 4 Runs from 1 Experiment")).to_be_visible(timeout=PATIENCE)
    for run_id, name in runs["name"].items():
        expect(page.get_by_text(str(run_id)).first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text(name).first).to_be_attached()


@pytest.mark.parametrize("view", ["seeds-here", "cost-here"])
def test_the_other_views_open_with_a_chart_of_each_run(served: Served, page: Page, view: str) -> None:
    page.goto(served.addresses["epochs_study, this store: by arm"].replace("by-arm-here", view))
    for arm in ARMS:
        for seed in (0, 1):
            expect(page.get_by_text(f"{arm} · seed {seed}").first).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 2")


def test_the_experiments_description_has_its_arms_and_verdicts_and_links_that_open(served: Served, page: Page) -> None:
    page.goto(served.addresses["epochs_study, this store: by arm"].replace("=CHART", "=TABLE"))
    link = page.get_by_role("link", name="Feature maps, this store").first
    expect(link).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("cell", name="20 epochs").first).to_be_visible()
    expect(page.get_by_text("<!-- fashion-cnn")).to_have_count(0)
    with page.context.expect_page() as opened:  # MLflow opens what a description links to in a tab of its own
        link.click()
    expect(opened.value.get_by_text("feature_maps/convolution_1").first).to_be_visible(timeout=PATIENCE)


def test_the_table_compares_the_runs_class_by_class(served: Served, page: Page) -> None:
    runs = served.lab.runs("epochs_study")
    place = f"{served.base}/#/experiments/{runs['experiment_id'].iloc[0]}/runs"
    page.goto(f"{place}?compareRunsMode=ARTIFACT&workflowType=machine_learning")
    row = runs[(runs["seed"] == "1") & (runs["arm"] == ARMS[0])].iloc[0]
    classes = served.lab.json_artifact(row["run_id"], "per_class.json")
    for name, recall in [values[:2] for values in classes["data"]][:3]:
        expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text(f"{recall:.17g}"[:6]).first).to_be_visible(timeout=PATIENCE)


def test_imported_runs_say_what_they_are_where_they_come_from_and_how_to_make_them_again(
    served: Served, page: Page
) -> None:
    runs = served.lab.runs("baseline_study")
    row = runs[(runs["arm"] == "cnn") & (runs["seed"] == "1")].iloc[0]
    page.goto(f"{served.base}/#/experiments/{row['experiment_id']}/runs/{row['run_id']}")
    told = page.get_by_text(f"Imported from {row['imported']}, not recorded here; there it is run {row['published']}.")
    expect(told).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(f"test accuracy {row['test_accuracy']:.4f}")).to_be_visible()
    expect(page.get_by_text(f"fashion-cnn replay {row['published'][:8]}")).to_be_visible()
    for tag in ("published", "imported"):
        expect(page.get_by_text(tag, exact=True).first).to_be_visible(timeout=PATIENCE)


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="SCREENSHOTS=FOLDER makes the documents' screenshots")
def test_screenshots_for_the_documents(served: Served, page: Page) -> None:
    """SCREENSHOTS names the folder for the README's, SCREENSHOTS_STORE the folder of the store that they show."""
    folder = Path(os.environ["SCREENSHOTS"])
    for what in ("by arm", "feature maps"):
        page.goto(served.addresses[f"filter_study, this store: {what}"])
        page.wait_for_timeout(15_000)
        assistant = page.get_by_role("button", name="Close").first
        if assistant.is_visible():  # it takes a quarter of the page until it was closed once
            assistant.click()
            page.wait_for_timeout(2000)
        path = folder / f"{what.replace(' ', '-')}.jpg"
        page.screenshot(path=path, type="jpeg", quality=60)
        assert 10_000 < path.stat().st_size < 300_000


@pytest.mark.fault("signal", note="SIGHUP")
def test_a_ui_whose_terminal_is_closed_leaves_no_server_behind(served: Served) -> None:  # after all that ask it
    stop_ui(served.process, signal.SIGHUP, int(served.base.rpartition(":")[2]), served.log)
