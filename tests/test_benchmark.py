"""The benchmark measures what it says and divides rightly. No time is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import benchmark, scaling
from experiments.benchmark import Task, main, makespan, run_side
from experiments.scaling import Trial
from fashion_cnn.config import CNN
from tests.made_up import write_made_up

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 250
WORKER = {"trained_seconds": 1.5, "epoch_seconds": 0.5, "evaluate_seconds": 0.25, "cut_seconds": 1.0}
FAKES: dict[str, dict[str, float]] = {
    "fit": {"cpu_seconds": 4.0, "seconds": 8.0},
    "tuned": {"cpu_seconds": 3.5, "seconds": 7.0},
    "ours": {"cpu_seconds": 3.0, "seconds": 2.0},
    "torch": {"cpu_seconds": 5.0, "seconds": 6.0},
    "worker": WORKER | {"process_seconds": 10.0, "peak_memory_mib": 900.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_made_up(tmp_path_factory.mktemp("made-up"), train=IMAGES))


@pytest.fixture(scope="module")
def measured(folder: str) -> dict[str, Any]:
    """What the script prints, run as a user does."""
    options = ["--only", "startup,epoch", "--repeats", "1", "--images", "64", "--data-dir", folder, "--json"]
    command = [sys.executable, "experiments/benchmark.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Task]]:
    """No side is run: each gives its fake figures. Returns the calls."""
    calls: list[tuple[str, Task]] = []

    def fake(side: str, task: Task) -> dict[str, float]:
        calls.append((side, task))
        return FAKES[side]

    monkeypatch.setattr(benchmark, "run_side", fake)
    monkeypatch.setattr("fashion_cnn.executor.default_workers", lambda threads: 2)
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
    assert set(measured) == {"date", "machine", "epoch", "startup"}
    assert measured["epoch"]["images"] == 64


@pytest.mark.parametrize("clock", ["cpu_seconds", "seconds"])
def test_the_ratio_is_the_quotient_of_the_medians(measured: dict[str, Any], clock: str) -> None:
    sides = measured["epoch"]["sides"]
    quotient = sides["ours"][clock]["median"] / sides["fit"][clock]["median"]
    assert sides["ours"]["ratio_to_fit"][clock] == pytest.approx(quotient)


def test_the_sides_take_turns(
    faked: list[tuple[str, Task]], folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: object())
    assert main(["--only", "epoch", "--repeats", "2", "--data-dir", folder]) == 0
    assert [side for side, _ in faked] == ["fit", "tuned", "ours", "torch"] * 2
    assert {(task.images[0], task.threads) for _, task in faked} == {(IMAGES, 1)}
    assert "skipped" not in capsys.readouterr().out


def test_a_missing_torch_is_told(
    faked: list[tuple[str, Task]], folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert main(["--only", "epoch", "--repeats", "1", "--data-dir", folder]) == 0
    assert [side for side, _ in faked] == ["fit", "tuned", "ours"]
    printed = capsys.readouterr().out
    assert "torch: skipped" in printed
    assert "0.75" in printed  # ours, 3 CPU seconds, to fit's 4


def test_the_suite_adds_up_every_run_of_every_network(
    faked: list[tuple[str, Task]], folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "suite", "--quick", "--data-dir", folder, "--json"]) == 0
    suite = json.loads(capsys.readouterr().out)["suite"]
    networks = {row["network"]: row for row in suite["networks"]}
    assert len(networks) == 8
    assert sum(len(row["run_epochs"]) for row in networks.values()) == 16
    default = networks["default cnn"]
    assert sorted(default["run_epochs"]) == [5, 5, 7, 10, 10, 10, 10, 15, 20]
    # A tenth of the images: an epoch takes ten times as long on all of them; a test, a cut, or a start does not.
    once = 10.0 - 1.5 - 2 * (0.25 + 1.0)
    assert default["fit_seconds"] == pytest.approx(92 * 10 * 8.0)
    assert default["our_seconds"] == pytest.approx(once + 20 * (10 * 0.5 + 0.25) + 5 * 1.0)
    assert suite["fit_seconds"] == pytest.approx(sum(row["fit_seconds"] for row in networks.values()))
    assert suite["our_seconds"] == pytest.approx(makespan([row["our_seconds"] for row in suite["networks"]], 2))
    assert suite["ratio"] == pytest.approx(suite["fit_seconds"] / suite["our_seconds"])
    assert {task.threads for side, task in faked if side == "fit"} == {None}


def test_a_real_runs_seconds_take_the_place_of_the_simulated_ones(
    faked: list[tuple[str, Task]], folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "suite", "--suite-seconds", "152.8", "--data-dir", folder]) == 0
    assert {side for side, _ in faked} == {"fit"}
    printed = capsys.readouterr().out
    assert "a real run's wall time, as given" in printed
    assert f"Ratio: {8 * (92 + 7 * 10) / 152.8:.2f}" in printed


@pytest.mark.parametrize(
    ("seconds", "workers", "end"),
    [([], 2, 0), ([5], 3, 5), ([5, 4, 3], 1, 12), ([5, 4, 3], 2, 7), ([5, 4, 3], 3, 5), ([4, 4, 4], 2, 8)],
)
def test_a_trajectory_goes_to_the_worker_that_is_free_first(seconds: list[float], workers: int, end: float) -> None:
    assert makespan(seconds, workers) == end


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--only epok", "did you mean 'epoch'?"),
        ("--repeats 0", "--repeats is 0"),
        ("--repeats two", "invalid int value"),
        ("--images -5", "--images is -5"),
        ("--images 251 --data-dir FOLDER", "which has 250"),
        ("--suite-seconds nan", "--suite-seconds is nan"),
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
        benchmark, "run_side", lambda *_: subprocess.run(command, capture_output=True, text=True, check=True)
    )
    assert main(["--only", "epoch", "--data-dir", folder]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("ended with status 1: KeyError: it broke")


def test_a_worker_is_measured_in_its_parts(folder: str) -> None:
    figures = run_side("worker", Task(folder, (64, 32), CNN.canonical()))
    assert set(figures) == set(FAKES["worker"])
    assert all(math.isfinite(figure) and figure > 0 for figure in figures.values())
    assert figures["process_seconds"] > figures["trained_seconds"] > figures["epoch_seconds"]


@pytest.mark.slow
def test_recording_is_measured_on_a_run_in_a_store_of_its_own(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "recording", "--data-dir", folder, "--json"]) == 0
    recording = json.loads(capsys.readouterr().out)["recording"]
    assert all(math.isfinite(figure) and figure > 0 for figure in numbers(recording))
    assert recording["share"] == pytest.approx(recording["cpu_seconds"] / recording["training_cpu_seconds"])
    assert recording["run_bytes_after_gc"] < recording["run_bytes"]


# Wall seconds of two trainings, and those of their epochs, by executor and workers: Ray adds three a task.
TRAINED = {("local", 1): (100, 90), ("local", 2): (55, 96), ("ray", 1): (106, 90), ("ray", 2): (58, 96)}
SIZES = (100, 1000, 10_000)


class TestScaling:
    @pytest.fixture
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Trial]]:
        """Nothing is measured: each measurement gives its fake figures. Returns the calls."""
        calls: list[tuple[str, Trial]] = []

        def fake(name: str, trial: Trial) -> dict[str, Any]:
            calls.append((name, trial))
            if name == "train":
                seconds, trained = TRAINED[trial.executor, trial.workers]
                return {"seconds": seconds, "trained_seconds": trained}
            command = {"seconds": 4.0, "peak_memory_mib": 500.0}
            found: dict[str, Any] = {}
            for place, size in enumerate(SIZES, start=1):
                found |= {f"record_{size}": {"median": 0.5 * place}, f"list_{size}": command, f"report_{size}": command}
            return found

        monkeypatch.setattr(scaling, "run_measurement", fake)
        monkeypatch.setattr(scaling, "find_spec", lambda name: object())
        return calls

    def test_efficiency_and_overhead_are_those_of_the_wall_times(
        self, measured: list[tuple[str, Trial]], folder: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--scaling", "--quick", "--data-dir", folder, "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert set(figures) == {"date", "machine", "scaling"}
        ray = figures["scaling"]["executors"]["ray"]
        assert ray["speedup"] == pytest.approx(106 / 58)
        assert ray["overhead_seconds"] == pytest.approx(3)
        # On all images the epochs of a task take ten times 45 seconds.
        assert ray["overhead_share"] == pytest.approx(3 / (8 + 450))
        assert figures["scaling"]["executors"]["local"]["overhead_share"] == 0
        assert figures["scaling"]["stores"]["sqlite"]["growth"] == {"record": 3, "list": 1, "report": 1}

    def test_a_database_is_measured_besides_where_one_is_given(
        self, measured: list[tuple[str, Trial]], folder: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--scaling", "--data-dir", folder, "--postgres", "postgresql://me:s3cret@127.0.0.1/x"]) == 0
        assert [trial.uri for name, trial in measured if name == "grow"] == ["", "postgresql://me:s3cret@127.0.0.1/x"]
        printed = capsys.readouterr()
        assert "postgresql" in printed.out and "10,000" in printed.out and "3.0x" in printed.out
        assert "s3cret" not in printed.out + printed.err

    def test_it_is_no_part_of_a_usual_call(self) -> None:
        assert "scaling" not in benchmark.USUAL and set(benchmark.USUAL) == set(benchmark.PARTS) - {"scaling"}

    @pytest.mark.cluster
    def test_a_store_is_measured_while_it_grows(self, folder: str) -> None:
        figures = scaling.run_measurement("grow", Trial(folder, (64, 32), runs=(12, 24)))
        assert all(math.isfinite(figure) and figure > 0 for figure in numbers(figures))
        assert {name for name in figures if name.endswith("_24")} == {"made_up_24", "record_24", "list_24", "report_24"}

    @pytest.mark.cluster
    def test_a_call_with_more_workers_is_measured(self, folder: str) -> None:
        figures = scaling.run_measurement("train", Trial(folder, (64, 32), workers=2))
        assert 0 < figures["trained_seconds"] < figures["seconds"]
