"""Make `store-before-rooms.tar.xz` anew, with the code of another checkout; README.md in this folder says how.

The folder is the same on every machine, because MLflow's database names artifacts by absolute paths.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.samples.study import SAMPLE
from tests.support.made_up import write_made_up

SAMPLES = Path(__file__).resolve().parent
FOLDER = Path("/var/tmp/sample")
ARCHIVE = SAMPLES / "store-before-rooms.tar.xz"
KEPT = ("mlflow.db", "artifacts", "trajectories")
COMMAND = """
import importlib, sys
from pathlib import Path
from fashion_cnn.study import Study
sys.path.append(sys.argv[1])
from study import SAMPLE
from fashion_cnn.cli import console
raise SystemExit(console([SAMPLE], Path("post.csv"), Path("results"), sys.argv[2:]))
"""
PATIENCE = 120.0  # seconds


def main(checkout: Path) -> None:
    """Run the sample study with a checkout's code and pack what it leaves.

    Args:
        checkout: of the older commit, with its own virtual environment in `.venv`.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    variables = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{FOLDER}/mlflow.db"}
    variables["FASHION_MNIST_DIR"] = str(write_made_up(FOLDER / "data", train=250))
    variables["LOGNAME"] = "sample"  # MLflow notes who made a run

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [str(checkout / ".venv/bin/python"), "-c", COMMAND, str(SAMPLES), "run", SAMPLE.name, *words]
        return subprocess.Popen(command, cwd=checkout, env=variables, start_new_session=True)

    assert start("--arms", "dense", "cnn").wait() == 0  # both are finished, and sent
    runner = start("--arms", "dense", "long cnn", "--first-seed", "1", "--workers", "2")
    _wait_until(lambda: _runs() == 4)
    with closing(sqlite3.connect(FOLDER / "mlflow.db", timeout=PATIENCE, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")  # so that what ends now cannot be sent
        _wait_until(lambda: _finished() == 3 and _longest() > 3)
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
        time.sleep(15)  # for the workers to notice that nobody listens
    with tarfile.open(ARCHIVE, "w:xz") as archive:
        for name in KEPT:
            archive.add(FOLDER / name, name, filter=_plain)
    shutil.rmtree(FOLDER)


def _runs() -> int:
    with closing(sqlite3.connect(FOLDER / "mlflow.db", timeout=PATIENCE)) as connection:
        return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


def _finished() -> int:
    records = (path for path in FOLDER.glob("trajectories/*/runs/*.json") if not path.name.endswith(".sent.json"))
    return sum('"finished"' in path.read_text(encoding="utf-8") for path in records)


def _longest() -> int:
    files = FOLDER.glob("trajectories/*/epochs.jsonl")
    return max(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def _wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A member without its owner; logs and locks are left out."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return None if member.name.endswith((".log", "/lock")) else member


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
