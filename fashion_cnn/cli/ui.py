"""Serve the store in MLflow's own UI, on this machine only, and print the addresses to open."""

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
    """What to open, as (what it shows, address), for the named studies below a server's address `base`.

    Smoke runs and unfinished ones are left out of comparisons where there are others.
    """
    views = [("all studies", f"{base}/#/experiments")]
    runs = store.runs(studies)
    for study in studies:
        of_study = runs[runs["study"] == study]
        if of_study.empty:
            continue
        experiment = of_study["experiment_id"].iloc[0]
        real = of_study[(of_study["smoke"] == "false") & (of_study["status"] == "FINISHED")]
        ids = list((of_study if real.empty else real)["run_id"].tail(NEWEST))
        for what, mode in (("charts", "CHART"), ("classes", "ARTIFACT")):
            table = f"{base}/#/experiments/{experiment}/runs?compareRunsMode={mode}&{TRAINING}"
            views.append((f"{study}: {what}", table))
        chosen = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([experiment]))}"
        views.append((f"{study}: {len(ids)} runs compared", f"{base}/#/compare-runs?{chosen}&{TRAINING}"))
    return views


def serve(store: Store, studies: Sequence[str], port: int, allowed: Sequence[str] = ()) -> int:
    """Serve until stopped; returns the exit status. Of a store behind a tracking server only addresses are printed.

    Browsers that reach it under a loopback address are answered, and under the hosts that are `allowed` besides.

    Raises a UIError where the port is taken or the server does not start.
    """
    if store.address.uri.startswith("http"):
        _print_views(addresses(store, store.address.name, studies))
        return 0
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
        except OSError as error:
            raise UIError(f"port {port} cannot be used ({error.strerror}); name another with --port") from None
    base = f"http://{HOST}:{port}"
    # Variables meant for another server could switch its checks off or move it.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    # Without its eight processes for jobs on traces, of which there are none here, it is up in half the time.
    jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    variables = {**inherited, **jobs, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # What the server says goes to standard error: standard output is for the addresses.
    with stoppable("the store stays as it is"):
        # In a session of its own, so that no signal reaches it but ours, below.
        command = _command(store, port, allowed)
        server = subprocess.Popen(command, env=variables, stdout=sys.stderr, start_new_session=True)
        try:
            _wait(server, base)
            _print_views(addresses(store, base, studies))
            print("Ctrl-C stops it.", flush=True)
            return server.wait()
        finally:
            _stop(server)


def _command(store: Store, port: int, allowed: Sequence[str]) -> list[str]:
    """MLflow's server of a store on this machine."""
    # A port that is forwarded may have another number elsewhere.
    hosts = [f"{name}{number}" for name in (HOST, "localhost") for number in ("", ":*")]
    options = {
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": store.address.uri,
        "--default-artifact-root": str(store.address.artifacts),
        # By name, because MLflow's own list lets whole private ranges in.
        "--allowed-hosts": ",".join([*hosts, *allowed]),
        "--cors-allowed-origins": ",".join(f"{scheme}://{host}" for host in allowed for scheme in ("http", "https")),
        "--uvicorn-opts": "--log-level warning",
    }
    # Else it takes uploads into a folder of its own; artifacts are read from where the store says.
    command = [sys.executable, "-m", "mlflow", "server", "--no-serve-artifacts"]
    return command + [word for option in options.items() if option[1] for word in option]


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


def _print_views(views: Sequence[tuple[str, str]]) -> None:
    for what, address in views:
        print(f"{what}:\n  {address}", flush=True)
