"""Serve the store in MLflow's own UI, on this machine only, and tell which addresses to open."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from urllib.parse import quote

from fashion_cnn.signals import stoppable
from fashion_cnn.store.tracking import Store

HOST = "127.0.0.1"
START = 90.0  # seconds a server may take to answer
TRAINING = "workflowType=machine_learning"  # else the browser's last choice, at first the one for language models
NEWEST = 50  # runs that one comparison holds


class UIError(RuntimeError):
    """The UI cannot be served: one line that says why."""


def addresses(store: Store, base: str, studies: Sequence[str]) -> list[tuple[str, str]]:
    """What to open, as (what it shows, address).

    Args:
        store: its runs decide; smoke runs and unfinished ones are left out of comparisons where there are others.
        base: the server's address.
        studies: names.
    """
    found = [("all studies", f"{base}/#/experiments")]
    runs = store.runs(studies)
    for study in studies:
        mine = runs[runs["study"] == study]
        if mine.empty:
            continue
        experiment = mine["experiment_id"].iloc[0]
        real = mine[(mine["smoke"] == "false") & (mine["status"] == "FINISHED")]
        ids = list((mine if real.empty else real)["run_id"].tail(NEWEST))
        chosen = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([experiment]))}"
        for what, mode in (("charts", "CHART"), ("classes", "ARTIFACT")):
            place = f"{base}/#/experiments/{experiment}/runs?compareRunsMode={mode}&{TRAINING}"
            found.append((f"{study}: {what}", place))
        found.append((f"{study}: {len(ids)} runs compared", f"{base}/#/compare-runs?{chosen}&{TRAINING}"))
    return found


def serve(store: Store, studies: Sequence[str], port: int) -> int:
    """Serve until stopped; a store behind a tracking server is served already, so only its addresses are told.

    Returns:
        The exit status.

    Raises:
        UIError: the port is taken, or the server does not start.
        Stopped: by a signal; the server has ended.
    """
    if store.address.uri.startswith("http"):
        _tell(addresses(store, store.address.name, studies))
        return 0
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
        except OSError as error:
            raise UIError(f"port {port} cannot be used ({error.strerror}); name another with --port") from None
    base = f"http://{HOST}:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += [
        "--backend-store-uri",
        store.address.uri,
        "--default-artifact-root",
        str(store.address.artifacts),
        # Else it takes uploads into a folder of its own; artifacts are read from where the store says.
        "--no-serve-artifacts",
    ]
    # By name, because MLflow's own list lets whole private ranges in.
    command += ["--allowed-hosts", f"{HOST}:{port},localhost:{port}"]
    command += ["--uvicorn-opts", "--log-level warning"]
    # Variables meant for another server could switch its checks off or move it.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    # Without its eight processes for jobs on traces, of which there are none here, it is up in half the time.
    jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    variables = {**inherited, **jobs, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # What the server says goes to standard error: standard output is for the addresses.
    with stoppable("the store stays as it is"):
        # In a session of its own, so that no signal reaches it but ours, below.
        server = subprocess.Popen(command, env=variables, stdout=sys.stderr, start_new_session=True)
        try:
            _wait(server, base)
            _tell(addresses(store, base, studies))
            print("Ctrl-C stops it.", flush=True)
            return server.wait()
        finally:
            _stop(server)


def _wait(server: subprocess.Popen[bytes], base: str) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until:
        if server.poll() is not None:
            raise UIError(f"MLflow's server ended with status {server.returncode}; its lines above say why")
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise UIError(f"MLflow's server did not answer within {START:.0f} seconds")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _tell(found: Sequence[tuple[str, str]]) -> None:
    for what, address in found:
        print(f"{what}:\n  {address}", flush=True)
