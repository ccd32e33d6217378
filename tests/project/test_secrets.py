"""A token in the arguments, the environment or a remote's address never reaches a store, an artifact or a folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.science.test_checkout import git
from tests.support.command import REPOSITORY, Lab
from tests.support.made_up import write_made_up
from tests.support.servers import free_port
from tests.support.watch import stop_ui

TOKEN = "s3cr3t-T0ken-" + "x7" * 8
VARIABLES = (
    "SECRET_TOKEN",
    "GITHUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "FASHION_MNIST_TOKEN",
    "TF_TOKEN",
    "XLA_TOKEN",
    "MLFLOW_TRACKING_SERVER_CERT_PATH_TOKEN",
    "ONEDNN_TOKEN",
)


def holding(folder: Path, text: str) -> list[str]:
    """The files in a folder, git's own left out, that contain a text or have it in their name."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return [str(path) for path in files if text.encode() in path.read_bytes() or text in str(path)]


@pytest.mark.parametrize("scheme", ["postgres", "ftp", "mongodb+srv"])
def test_an_address_that_is_no_stores_is_told_without_its_password(tmp_path: Path, scheme: str) -> None:
    lab = Lab(tmp_path, tmp_path)
    message = lab.call("list", "--tracking-uri", f"{scheme}://me:{TOKEN}@db/mlflow?key={TOKEN}", status=2)
    assert f"'{scheme}://db/mlflow' is no tracking store" in message and TOKEN not in message


@pytest.mark.slow
def test_a_planted_token_is_nowhere_in_what_a_run_leaves_behind(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", write_made_up(tmp_path / "data", train=330, test=64))
    lab.folder.mkdir()
    lab.store()
    checkout = tmp_path / "checkout"
    for name in ("fashion_cnn", "experiments"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(checkout, "init", "-q")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "one")
    git(checkout, "remote", "add", "origin", f"https://somebody:{TOKEN}@example.org/fashion.git?key={TOKEN}")
    git(checkout, "config", f"url.https://{TOKEN}@example.org/.insteadOf", "https://example.org/")
    with (checkout / "fashion_cnn" / "models.py").open("a") as file:
        file.write("# a change, for there to be a diff\n")
    (checkout / "fashion_cnn" / "not_tracked.py").write_text(f"TOKEN = {TOKEN!r}\n")
    port = free_port()
    address = f"http://somebody:{TOKEN}@127.0.0.1:{port}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            lab.command("ui", "--port", port),
            cwd=REPOSITORY, env=lab.variables, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert server.stdout is not None
    try:
        assert any(line.startswith("Ctrl-C") for line in server.stdout)
        trained = subprocess.run(
            lab.command("train", "--filters", 4, "--epochs", 1, "--name", "planted", "--tracking-uri", address),
            cwd=checkout,
            env={**lab.variables, **dict.fromkeys(VARIABLES, TOKEN)},
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        stop_ui(server, signal.SIGINT, port, tmp_path / "log")
        server.stdout.close()
    assert trained.returncode == 0, trained.stderr
    (run,) = lab.runs().to_dict("records")
    assert (run["status"], run["arm"], run["git_dirty"]) == ("FINISHED", "planted", "true")
    left = (lab.folder, checkout / "mlruns")
    assert all(holding(folder, run["data_sha256"]) for folder in left)  # the search finds what is there
    assert [path for folder in left for path in holding(folder, TOKEN)] == []
    stored = lab.json_artifact(run["run_id"], "environment.json")["checkout"]
    assert stored == {"commit": run["git_commit"], "dirty": True, "remote": "https://example.org/fashion.git"}
    assert "+# a change" in lab.artifact(run["run_id"], "code.diff").read_text(encoding="utf-8")
    assert TOKEN not in trained.stdout + trained.stderr
