"""Many runs, many kills, a long training. `make soak` runs these and the fifty kills of test_processes.py."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from experiments import STUDIES
from tests.faults.test_processes import check_records
from tests.support.command import Lab
from tests.support.made_up import write_made_up
from tests.support.watch import GIVES_UP, ending, epochs, kill, processes, wait_until, workers

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(3600), pytest.mark.fault("days")]

SEEDS = int(os.environ.get("SOAK_SEEDS") or 10)  # of all runs each
PROCESSES = 4
PAUSE = 10.0  # seconds from kill to kill, on average
GROWTH = 32.0  # MiB that a worker may grow by in 200 epochs; a kept copy of its state each epoch would be 126


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up(tmp_path_factory.mktemp("data"), train=330, test=64)


def commands() -> list[tuple[str, ...]]:
    """The seeds, spread over the processes so that neighbours share one."""
    last = SEEDS - 1
    edges = [min(round(SEEDS * place / PROCESSES), last) for place in range(PROCESSES + 1)]
    return [
        ("run", "--smoke", "--workers", "1", "--first-seed", str(low), "--seeds", str(high - low + 1))
        for low, high in pairwise(edges)
    ]


def test_runs_of_four_processes_that_are_killed_at_random_are_all_complete_in_the_end(
    tmp_path: Path, data: Path
) -> None:
    chance = random.Random(int(os.environ["FAULT_SEED"]))
    killed, started = Counter[str](), time.monotonic()
    with ending(Lab(tmp_path, data)) as lab:
        running = [(command, lab.start(*command)) for command in commands()]
        next_kill = time.monotonic() + chance.expovariate(1 / PAUSE)
        while running:
            time.sleep(0.5)
            for command, process in list(running):
                if process.poll() is None:
                    continue
                _, errors = process.communicate()
                assert "Traceback" not in errors and "locked" not in errors, errors
                running.remove((command, process))
                assert process.returncode in (0, 1, -signal.SIGKILL), errors
                if process.returncode:
                    running.append((command, lab.start(*command)))
            if time.monotonic() > next_kill and (alive := sorted(processes(lab).items())):
                number, name = chance.choice(alive)
                kill(number)
                killed["runner" if name == "runner" else "worker"] += 1
                next_kill = time.monotonic() + chance.expovariate(1 / PAUSE)
        wait_until(lambda: not processes(lab), "no process outlives its runner", GIVES_UP)
    runs = lab.runs()
    print(f"{len(runs)} runs in {time.monotonic() - started:.0f} s; killed: {dict(killed)}")
    assert killed["runner"] and killed["worker"], "nothing was shown"
    assert len(runs) == SEEDS * sum(len(study.arms) for study in STUDIES)
    assert set(runs["status"]) == {"FINISHED"} and not runs.duplicated(["study", "arm", "seed"]).any()
    assert (runs.groupby(["trajectory_sha256", "epochs_trained"])["weights_sha256"].nunique() == 1).all()
    check_records(lab)
    # Every worker is a new process; the later ones must not need more than the first ones.
    peaks = runs.sort_values("start_time").groupby("config_sha256")["peak_memory_mib"]
    assert ((peaks.last() - peaks.first()) < GROWTH).all(), (peaks.last() - peaks.first()).describe()


def test_a_worker_that_trains_and_draws_for_long_does_not_grow(tmp_path: Path, data: Path) -> None:
    measured: dict[int, float] = {}
    with ending(Lab(tmp_path, data)) as lab:
        process = lab.start("train", "--epochs", "240", "--filters", "16")

        def measure() -> bool:
            for number in workers(lab):
                measured.setdefault(epochs(lab), resident_mib(number))
            return process.poll() is not None

        wait_until(measure, "the training", 1200)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    early = max(size for epoch, size in measured.items() if 30 <= epoch <= 40)
    late = max(size for epoch, size in measured.items() if 230 <= epoch < 240)
    print(f"a worker after 40 epochs: {early:.0f} MiB, after 240: {late:.0f} MiB")
    assert late - early < GROWTH


def resident_mib(number: int) -> float:
    """The memory that a process has now; 0 where it is gone."""
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(number)], capture_output=True, text=True, check=False)
    return int(answer.stdout or 0) / 1024
