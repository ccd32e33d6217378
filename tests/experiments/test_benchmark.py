"""The benchmark measures what it says and divides rightly. No time is asserted."""

from __future__ import annotations

import errno
import json
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from experiments import RESULTS, STUDIES
from experiments.benchmark import page as measured_page
from experiments.benchmark import parts, scaling, suite
from experiments.benchmark.__main__ import PARTS, USUAL, main
from experiments.benchmark.asked import requests_of
from experiments.benchmark.filling import Filler
from experiments.benchmark.page import page, ratios, sections
from experiments.benchmark.parts import epoch_operations
from experiments.benchmark.suite import post_studies
from experiments.benchmark.task import Task, run_side, run_timed_side
from fashion_cnn.config import CNN, DENSE, RunConfig
from fashion_cnn.evidence.selection import select
from fashion_cnn.reports.publish import BENCHMARKS
from fashion_cnn.reports.stored import recorded
from fashion_cnn.store.address import resolve
from fashion_cnn.store.files import Unwritable
from fashion_cnn.store.tracking import Store
from tests.support.made_up import write_made_up

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 250


def way(seconds: float, clocks: tuple[float, float], memory: float) -> dict[str, Any]:
    """What a way of the suite gives, whose every epoch takes so long by the wall's and the processor's clock."""
    wall, cpu = clocks
    runs = {
        f"{study.name}: {arm}": {
            "epochs": config.epochs,
            "seconds": wall * config.epochs,
            "cpu_seconds": cpu * config.epochs,
        }
        for study in STUDIES
        for arm, config in study.arms.items()
    }
    return {"runs": runs, "process_seconds": seconds, "peak_memory_mib": memory, "workers": 2}


FAKES: dict[str, dict[str, Any]] = {
    "fit": {"cpu_seconds": 4.0, "seconds": 8.0},
    "tuned": {"cpu_seconds": 3.5, "seconds": 7.0},
    "ours": {"cpu_seconds": 3.0, "seconds": 2.0},
    "native": {"cpu_seconds": 2.5, "seconds": 1.5},
    "torch": {"cpu_seconds": 5.0, "seconds": 6.0},
    "limit": {"flops_per_second": 1e9},
    "post": way(1000, (2, 3), 2000),
    "suite": way(300, (1, 1.5), 900),
    "native_suite": way(250, (0.75, 1.25), 950),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_made_up(tmp_path_factory.mktemp("made-up"), train=IMAGES))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `measured` is written into; not there before."""
    return tmp_path_factory.mktemp("benchmark") / "a" / "results"


@pytest.fixture(scope="module")
def measured(folder: str, written: Path) -> dict[str, Any]:
    """What the script prints, run as a user does."""
    options = ["--only", "startup,epoch", "--repeats", "1", "--images", "64", "--data-dir", folder, "--json"]
    command = [sys.executable, "-m", "experiments.benchmark", *options, "--output", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.fixture
def all_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch is found, installed or not."""
    monkeypatch.setattr(parts, "find_spec", lambda name: object())


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Task]]:
    """No side is run: each gives its fake figures. Returns the calls."""
    calls: list[tuple[str, Task]] = []

    def fake(side: str, task: Task) -> dict[str, Any]:
        calls.append((side, task))
        return FAKES[side]

    monkeypatch.setattr(parts, "run_timed_side", fake)
    monkeypatch.setattr(suite, "run_timed_side", fake)
    return calls


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def test_every_figure_is_a_finite_number_above_zero(measured: dict[str, Any]) -> None:
    figures = [*numbers(measured["epoch"]), *numbers(measured["startup"])]
    assert len(figures) > 15
    assert all(math.isfinite(figure) and figure > 0 for figure in figures)


def test_only_the_parts_asked_for_are_measured(measured: dict[str, Any]) -> None:
    assert set(measured) == {"date", "machine", "settings", "epoch", "startup", "ratios"}
    assert measured["epoch"]["images"] == measured["settings"]["images"] == 64
    assert measured["settings"]["all_images"] == IMAGES


@pytest.mark.parametrize("clock", ["cpu_seconds", "seconds"])
def test_the_ratio_is_the_quotient_of_the_medians(measured: dict[str, Any], clock: str) -> None:
    sides = measured["epoch"]["sides"]
    quotient = sides["ours"][clock]["median"] / sides["fit"][clock]["median"]
    assert sides["ours"]["ratio_to_fit"][clock] == pytest.approx(quotient)


@pytest.mark.usefixtures("all_sides")
def test_the_sides_take_turns(faked: list[tuple[str, Task]], folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "epoch", "--repeats", "2", "--data-dir", folder]) == 0
    assert [side for side, _ in faked] == ["fit", "tuned", "ours", "native", "torch", "limit"] * 2
    assert {(task.images[0], task.threads) for _, task in faked} == {(IMAGES, 1)}
    assert "skipped" not in capsys.readouterr().out


def test_a_missing_torch_is_told(
    faked: list[tuple[str, Task]], folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    assert main(["--only", "epoch", "--repeats", "1", "--data-dir", folder]) == 0
    assert [side for side, _ in faked] == ["fit", "tuned", "ours", "native", "limit"]
    printed = capsys.readouterr().out
    assert "torch: skipped" in printed
    assert "0.75" in printed  # ours, 3 CPU seconds, to fit's 4


@pytest.mark.parametrize(
    ("config", "operations"),
    [
        # Forward 676 results of 9 weights and 121 of 9 x 32, for 32 filters; then 800 x 128 and 128 x 10. Each weight
        # used takes 2 operations forward, 2 back to the weights, and 2 back to the input but for the first layer.
        (CNN, 6 * (676 * 9 * 32 + 121 * 9 * 32 * 32 + 102_400 + 1_280) - 2 * 676 * 9 * 32),
        (DENSE, 6 * (100_352 + 1_280) - 2 * 100_352),
        (replace(CNN, filters=4, additional_convolutions=0, padding="same"), 6 * (28_224 + 101_632) - 2 * 28_224),
        # 28-26-13-11-5-3-1
        (replace(CNN, filters=2, additional_convolutions=2), 6 * (12_168 + 4_356 + 324 + 256 + 1_280) - 2 * 12_168),
    ],
)
def test_an_epochs_operations_are_those_counted_by_hand(config: RunConfig, operations: int) -> None:
    assert epoch_operations(config, 1) == operations
    assert epoch_operations(config, 60_000) == 60_000 * operations


def test_the_default_networks_operations_are_8_million_an_image() -> None:
    assert epoch_operations(CNN, 1) == 8_091_648


def test_more_operations_a_second_than_the_limit_are_not_reached(measured: dict[str, Any]) -> None:
    epoch = measured["epoch"]
    assert epoch["operations"] == 64 * 8_091_648
    for one in epoch["sides"].values():
        reached = one["flops_per_second"]["median"] / epoch["limit"]["flops_per_second"]["median"]
        assert one["share_of_limit"] == pytest.approx(reached)
        assert one["share_of_limit"] < 1


@pytest.mark.usefixtures("faked", "all_sides")
def test_the_ratios_are_quotients_of_what_was_measured(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "epoch,suite", "--data-dir", folder, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    second = 250 * 8_091_648 / 1e9  # of an epoch at the limit
    assert figures["ratios"] == pytest.approx(
        {
            "epoch_cpu_ours_to_fit": 3 / 4,
            "epoch_cpu_ours_to_native": 3 / 2.5,
            "epoch_cpu_ours_to_torch": 3 / 5,
            "epoch_cpu_ours_to_tuned": 3 / 3.5,
            "limit_share_fit": second / 4,
            "limit_share_native": second / 2.5,
            "limit_share_ours": second / 3,
            "limit_share_torch": second / 5,
            "limit_share_tuned": second / 3.5,
            "suite_post_to_native": 1000 / 250,
            "suite_post_to_portable": 1000 / 300,
        }
    )


def test_what_was_not_measured_has_no_ratio() -> None:
    assert ratios({}) == {}
    assert ratios({"recording": {"share": 0.05}}) == {"recording_share": 0.05}


@pytest.mark.usefixtures("faked")
def test_the_suite_is_every_run_of_the_posts_studies_each_way_whole(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "suite", "--data-dir", folder, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    part, networks = figures["suite"], {row["network"]: row for row in figures["suite"]["networks"]}
    assert len(networks) == 8
    assert part["runs"] == sum(len(row["runs"]) for row in networks.values()) == 16
    default = networks["default cnn"]
    assert sorted(default["epochs"]["post"]) == [5, 5, 10, 10, 10, 10, 15, 20, 100]
    # Of the post's way a network takes the sum of its runs, of ours the longest.
    assert default["post"] == {"seconds": 2 * 185, "cpu_seconds": 3 * 185}
    assert default["portable"] == {"seconds": 100, "cpu_seconds": 150}
    # What is divided are whole processes, in which there is more than training.
    assert part["ratios"] == {"portable": 1000 / 300, "native": 1000 / 250}
    assert figures["ratios"] == {"suite_post_to_portable": 1000 / 300, "suite_post_to_native": 4}


@pytest.mark.usefixtures("faked")
def test_the_suites_page_names_the_ratios(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "suite", "--data-dir", folder]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "16 runs of one seed, whole: 250 images, n = 1" in printed
    assert "post to portable: 3.33" in printed and "In all, post: 16 min 40 s, 2000 MiB" in printed


@pytest.mark.thorough
@pytest.mark.parametrize("side", ["post", "suite"])
def test_a_way_trains_every_run(side: str, folder: str) -> None:
    figures = run_timed_side(side, Task(folder, (64, 32)))
    planned = {f"{study.name}: {arm}": config for study in post_studies() for arm, config in study.arms.items()}
    assert set(figures["runs"]) == set(planned)
    for name, run in figures["runs"].items():
        assert run["epochs"] == planned[name].epochs or planned[name].callback_loss
        assert run["seconds"] > 0 and run["cpu_seconds"] > 0
    assert figures["process_seconds"] > max(run["seconds"] for run in figures["runs"].values())


class TestOutput:
    def test_the_file_holds_what_is_printed(self, measured: dict[str, Any], written: Path) -> None:
        assert sorted(path.name for path in written.iterdir()) == ["benchmark.json", "benchmark.md"]
        assert json.loads((written / "benchmark.json").read_text()) == measured
        assert set(measured["ratios"]) >= {"epoch_cpu_ours_to_fit", "epoch_cpu_ours_to_tuned", "limit_share_ours"}

    def test_the_page_is_made_of_the_file_alone(self, measured: dict[str, Any], written: Path) -> None:
        assert page(measured) == (written / "benchmark.md").read_text()

    def test_machine_and_date_are_told_and_no_path(self, measured: dict[str, Any], written: Path, folder: str) -> None:
        assert measured["date"].endswith("+00:00")
        assert {"processor", "cores", "python", "tensorflow", "keras", "numpy"} <= set(measured["machine"])
        text = (written / "benchmark.md").read_text()
        assert measured["date"] in text and measured["machine"]["processor"] in text
        for path in written.iterdir():
            assert not any(place in path.read_text() for place in (folder, str(ROOT), str(written)))

    @pytest.mark.usefixtures("faked", "all_sides")
    def test_the_page_has_every_cell_and_note_of_the_console(
        self, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "benchmark.md").write_text("an older one")
        assert main(["--only", "epoch,suite", "--data-dir", folder, "--output", str(tmp_path)]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        text = (tmp_path / "benchmark.md").read_text()
        epochs, runs = sections(json.loads((tmp_path / "benchmark.json").read_text()))
        assert [len(epochs.rows), len(runs.rows)] == [5, 8]
        for section in (epochs, runs):
            assert section.title in printed and f"## {section.title}\n" in text
            for note in section.notes:
                assert note in printed and f"- {note}\n" in text
            for row in section.rows:
                assert len(row) == len(section.left) + len(section.right)
                assert f"| {' | '.join(row)} |\n" in text
                assert " │ ".join(row) in printed or section is runs  # whose cells of text may be folded
        assert "| ours | 3.00 (3.00 to 3.00) | 2.00 (2.00 to 2.00) | 125 | 0.75 | 0.25 | 0.7 | 67.4% |" in text
        assert "median of n = 3" in text

    def test_each_part_has_its_section(self) -> None:
        command = {"seconds": 4.0, "peak_memory_mib": 500.0}
        recording = {"epochs": 2, "share": 0.025, "cpu_seconds": 0.5, "training_cpu_seconds": 20.0}
        recording |= {"first_cpu_seconds": 9.0, "peak_memory_mib": 900.0}
        figures = {
            "date": "2026-11-24T01:02:03+00:00",
            "machine": {"processor": "One", "cores": 2},
            "settings": {"images": 600, "all_images": 60_000, "data": "Fashion-MNIST", "commit": "0" * 40},
            "store": {
                "runs": [100, 1000],
                **dict.fromkeys(("list_100", "report_100"), command),
                **dict.fromkeys(("list_1000", "report_1000"), command | {"seconds": 6.0}),
                "growth": {"list": 1.5, "report": 1.5},
                "import": {"runs": 660, "process_seconds": 21.25, "cpu_seconds": 18.0, "peak_memory_mib": 700.0},
            },
            "startup": {
                "calls": 5,
                "seconds": {"median": 0.25, "least": 0.125, "most": 0.5},
                "starts": 3,
                "forked_cpu_seconds": {"median": 2.0, "least": 1.5, "most": 2.5},
                "fresh_cpu_seconds": {"median": 8.0, "least": 7.5, "most": 8.5},
            },
            "recording": recording | {"run_bytes": 3 * 2**20, "run_bytes_after_gc": 2**20},
        }
        lines = page(figures).splitlines()
        assert [line for line in lines if line.startswith("## ")] == [
            "## Recording a run of 2 epochs, n = 1",
            "## Start-up",
            "## A growing store, n = 1",
        ]
        assert {
            "- date: 2026-11-24T01:02:03+00:00",
            "- processor: One",
            "- data: Fashion-MNIST, 600 of 60,000 training images",
            "- Disk: 3.00 MiB, after gc 1.00 MiB",
            "- fashion-cnn --help: 0.25 (0.12 to 0.50) s, median of n = 5",
            "- A worker until its first epoch begins, forked: 2.00 (1.50 to 2.50) CPU s, median of n = 3",
            "| command | runs | wall s | peak MiB |",
            "| --- | --- | ---: | ---: |",
            "| report | 1,000 | 6.0 | 500 |",
            "| list | growth | 1.5x |  |",
            "| import | 660 | 21.2 | 700 |",
        } <= set(lines)

    @pytest.mark.parametrize(
        ("output", "told"),
        [
            ("FILE", "it is no folder"),
            ("FILE/below", "Not a directory"),
            ("", "--output is empty"),
            ("TAKEN", "benchmark.md in it is a folder"),
            ("FULL", "No space left on device"),
        ],
    )
    def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
        self,
        output: str,
        told: str,
        faked: list[tuple[str, Task]],
        folder: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def full(**_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        (tmp_path / "FILE").touch()
        (tmp_path / "TAKEN" / "benchmark.md").mkdir(parents=True)
        if output == "FULL":
            monkeypatch.setattr(tempfile, "TemporaryFile", full)
        with pytest.raises(SystemExit) as stop:
            main(["--only", "epoch", "--data-dir", folder, "--output", str(tmp_path / output) if output else ""])
        printed = capsys.readouterr()
        assert stop.value.code == 2
        assert printed.out == "" and printed.err.count("\n") == 1
        assert told in printed.err and "name a folder" in printed.err
        assert faked == []

    @pytest.mark.usefixtures("faked")
    def test_what_was_measured_is_printed_even_where_it_cannot_be_written_in_the_end(
        self, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def full(path: Path, content: bytes) -> None:
            raise Unwritable(errno.ENOSPC, "No space left on device", str(path))

        monkeypatch.setattr(measured_page, "write_bytes", full)
        assert main(["--only", "epoch", "--data-dir", folder, "--output", str(tmp_path), "--json"]) == 1
        printed = capsys.readouterr()
        assert json.loads(printed.out)["epoch"]["images"] == IMAGES
        assert printed.err.splitlines()[-1].endswith("benchmark.json cannot be written (No space left on device)")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--only epok", "did you mean 'epoch'?"),
        ("--repeats 0", "--repeats is 0"),
        ("--repeats two", "invalid int value"),
        ("--images -5", "--images is -5"),
        ("--images 251 --data-dir FOLDER", "which has 250"),
        ("--images 9 --quick", "not allowed with"),
        ("--data-dir /nowhere", "'/nowhere', cannot be read"),
        ("--fast", "unrecognized arguments"),
    ],
)
def test_bad_input_is_told_in_one_line(
    options: str, told: str, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(options.replace("FOLDER", folder).split())
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert told in printed.err


def test_a_side_that_fails_ends_the_benchmark_with_its_last_line(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('KeyError: it broke')"]
    monkeypatch.setattr(
        parts, "run_timed_side", lambda *_: subprocess.run(command, capture_output=True, text=True, check=True)
    )
    assert main(["--only", "epoch", "--data-dir", folder]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("ended with status 1: KeyError: it broke")


@pytest.mark.thorough
def test_recording_is_measured_on_a_run_in_a_store_of_its_own(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "recording", "--data-dir", folder, "--json"]) == 0
    recording = json.loads(capsys.readouterr().out)["recording"]
    assert all(math.isfinite(figure) and figure > 0 for figure in numbers(recording))
    assert recording["share"] == pytest.approx(recording["cpu_seconds"] / recording["training_cpu_seconds"])
    assert recording["run_bytes_after_gc"] < recording["run_bytes"]


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if (RESULTS / f"{name}.json").exists()])
def test_the_published_page_tells_the_published_figures(name: str) -> None:
    told = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert told == page(json.loads((RESULTS / f"{name}.json").read_bytes()))


# Wall seconds of two trainings, and those of their epochs, by executor and workers: Ray adds two a task, and one to
# its epochs.
TRAINED = {("local", 1): (100, 90), ("local", 2): (55, 96), ("ray", 1): (106, 92), ("ray", 2): (58, 96)}
LUCK = (0, 30, -1)  # seconds that come to it in one round and another
SIZES = (100, 1000, 10_000)


class TestScaling:
    @pytest.fixture
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Task]]:
        """Nothing is measured: each measurement gives its fake figures. Returns the calls."""
        calls: list[tuple[str, Task]] = []

        def fake(name: str, task: Task) -> dict[str, Any]:
            calls.append((name, task))
            if name == "look":
                return {"version": "1.2.3"}
            if name == "train":
                assert task.workers is not None
                seconds, trained = TRAINED[task.executor, task.workers]
                return {"seconds": seconds + LUCK[calls.count((name, task)) - 1], "trained_seconds": trained}
            command = {"seconds": 4.0, "peak_memory_mib": 500.0}
            found: dict[str, Any] = {}
            for place, size in enumerate(SIZES, start=1):
                found |= {f"record_{size}": {"median": 0.5 * place}, f"list_{size}": command, f"report_{size}": command}
            asked = {"PUT /files/ID": {"count": 65.0, "seconds": 1.3}}
            return {**found, "requests": asked} if task.uri.startswith("http") else found

        monkeypatch.setattr(scaling, "run_side", fake)
        monkeypatch.setattr(scaling, "find_spec", lambda name: object())
        return calls

    def test_speedup_and_overhead_are_those_of_the_median_wall_times(
        self, measured: list[tuple[str, Task]], folder: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--scaling", "--quick", "--data-dir", folder, "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert set(figures) == {"date", "machine", "settings", "scaling", "ratios"}
        ray = figures["scaling"]["executors"]["ray"]
        assert ray["speedup"] == pytest.approx(106 / 58)
        assert ray["seconds"]["1"] == {"median": 106, "least": 105, "most": 136}
        assert ray["seconds_besides_epochs"] == pytest.approx(7)
        assert ray["to_local"] == {"1": pytest.approx(106 / 100), "2": pytest.approx(58 / 55)}
        assert ray["overhead_seconds"] == pytest.approx(3)
        # On all images the epochs take ten times as long, and so does what Ray adds to them.
        assert ray["overhead_share"] == pytest.approx((106 + 9 * 92) / (100 + 9 * 90) - 1)
        assert figures["scaling"]["executors"]["local"]["overhead_share"] == 0
        assert figures["scaling"]["stores"]["sqlite"]["growth"] == {"record": 3, "list": 1, "report": 1}

    def test_all_trainings_are_done_in_turn_as_often_as_asked(
        self, measured: list[tuple[str, Task]], folder: str
    ) -> None:
        assert main(["--scaling", "--repeats", "2", "--data-dir", folder]) == 0
        turn = [("local", 1), ("local", 2), ("ray", 1), ("ray", 2)]
        assert [(task.executor, task.workers) for name, task in measured if name == "train"] == [*turn, *turn]

    def test_a_database_that_does_not_answer_ends_it_before_anything_is_measured(
        self, measured: list[tuple[str, Task]], folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(name: str, task: Task) -> dict[str, Any]:
            measured.append((name, task))
            if task.uri:
                raise subprocess.CalledProcessError(1, "look", stderr="StoreError: it does not answer\n")
            return {"version": "1.2.3"}

        monkeypatch.setattr(scaling, "run_side", fail)
        assert main(["--scaling", "--postgres", "postgresql://me@127.0.0.1/x", "--data-dir", folder]) == 1
        assert {name for name, _ in measured} == {"look"}

    def test_a_database_is_measured_besides_where_one_is_given(
        self, measured: list[tuple[str, Task]], folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = ["--postgres", "postgresql://me:s3cret@127.0.0.1/x", "--output", str(tmp_path)]
        assert main(["--scaling", "--data-dir", folder, *given]) == 0
        assert [task.uri for name, task in measured if name == "grow"] == ["", "postgresql://me:s3cret@127.0.0.1/x"]
        printed = capsys.readouterr()
        assert "postgresql" in printed.out and "10,000" in printed.out and "3.0x" in printed.out
        written = "".join(path.read_text() for path in tmp_path.iterdir())
        assert "PostgreSQL 1.2.3" in written and "list and report: n = 1" in written
        assert "| postgresql | growth | 3.0x | 1.0x |  | 1.0x |  |" in written
        assert "s3cret" not in printed.out + printed.err + written

    def test_it_is_no_part_of_a_usual_call(self) -> None:
        assert set(USUAL) == set(PARTS) - {"scaling", "server"}

    def test_a_server_is_measured_alone_and_its_password_told_nowhere(
        self, measured: list[tuple[str, Task]], folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server = "http://me:s3cret@127.0.0.1:1"
        assert main(["--server", server, "--data-dir", folder, "--output", str(tmp_path)]) == 0
        assert [(name, task.uri, task.runs) for name, task in measured] == [("grow", server, (100, 1000))]
        printed = capsys.readouterr()
        written = (tmp_path / "server.md").read_text() + (tmp_path / "server.json").read_text()
        assert "| server | growth | 2.0x | 1.0x |  | 1.0x |  |" in written and "MLflow" in written
        assert "| PUT /files/ID | 65 | 1.30 | 20 |" in written
        assert "s3cret" not in printed.out + printed.err + written

    def test_what_a_server_is_asked_for_is_counted_by_kind(self) -> None:
        class Server(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        with HTTPServer(("127.0.0.1", 0), Server) as server, requests.Session() as session:
            Thread(target=server.serve_forever, daemon=True).start()
            base = f"http://127.0.0.1:{server.server_port}"
            with requests_of(2) as asked:
                for place in (f"runs/{'a' * 32}?x=1", f"runs/{'b' * 32}", "mlflow-artifacts/artifacts/1/a.png"):
                    session.put(f"{base}/{place}", timeout=10)
            session.put(f"{base}/later", timeout=10)
            server.shutdown()
        counts = {name: found["count"] for name, found in asked.items()}
        assert counts == {"PUT /runs/ID": 1.0, "PUT /mlflow-artifacts/artifacts/FILE": 0.5}
        assert all(found["seconds"] > 0 for found in asked.values())

    @pytest.mark.thorough
    def test_the_report_takes_every_run_that_is_made_up(self, tmp_path: Path) -> None:
        store = Store(resolve(f"sqlite:///{tmp_path}/mlflow.db", ROOT))
        arms = sum(len(study.arms) for study in STUDIES)
        Filler(store).fill(range(2 * arms))
        found = recorded(store, STUDIES)
        assert found.incomplete == {}
        taken = [select(found.runs[found.runs["study"] == study.name], study)[0] for study in STUDIES]
        assert sum(map(len, taken)) == len(found.runs) == 2 * arms

    @pytest.mark.thorough
    def test_a_database_is_asked_what_it_is(self, folder: str) -> None:
        figures = run_side("look", Task(folder, (64, 32)))
        assert figures == {"version": sqlite3.sqlite_version}

    @pytest.mark.thorough
    def test_the_import_is_of_all_published_runs(self, folder: str) -> None:
        with open(RESULTS / "runs.csv", encoding="utf-8") as file:
            published = len(file.readlines()) - 1
        assert run_side("import", Task(folder, (64, 32)))["runs"] == published

    @pytest.mark.thorough
    def test_a_store_is_measured_while_it_grows(self, folder: str) -> None:
        figures = run_side("grow", Task(folder, (64, 32), runs=(12, 24)))
        assert all(math.isfinite(figure) and figure > 0 for figure in numbers(figures))
        assert {name for name in figures if name.endswith("_24")} == {"made_up_24", "record_24", "list_24", "report_24"}

    @pytest.mark.thorough
    def test_a_call_with_more_workers_is_measured(self, folder: str) -> None:
        figures = run_side("train", Task(folder, (64, 32), workers=2))
        assert 0 < figures["trained_seconds"] < figures["seconds"]
