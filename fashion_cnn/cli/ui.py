"""Serve the store in MLflow's own UI, on this machine only, and print the addresses to open."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fashion_cnn.signals import stoppable
from fashion_cnn.store import views
from fashion_cnn.store.tracking import Store
from fashion_cnn.terminal import complain, knows_links, link

if TYPE_CHECKING:
    import pandas as pd

HOST = "127.0.0.1"
START = 90.0  # seconds a server may take to answer
TRAINING = "workflowType=machine_learning"  # else the browser's last choice, at first the one for language models


class UIError(RuntimeError):
    """The UI cannot be served: one line that says why."""


@dataclass(frozen=True)
class Place:
    """What there is to open of a study, or of all."""

    heading: str
    """The study, and which of its runs."""
    addresses: Mapping[str, str]
    """By what each shows, in order."""


def places(store: Store, base: str, studies: Sequence[str]) -> list[Place]:
    """What to open of the named studies below a server's address `base`, none of which is empty.

    Of a study it is what its own runs show, where none of them counts, what the published ones do, and else a table.
    """
    runs, there = store.runs(studies, (views.COUNTS,)), views.there(store)
    found = [Place("all studies", {"list": f"{base}/#/experiments?{TRAINING}"})]
    for study in (name for name in studies if name in there):
        of_study = runs[runs["study"] == study]
        if not of_study.empty:
            found.append(_of_study(base, study, of_study, *there[study]))
    return found


def _of_study(base: str, study: str, runs: pd.DataFrame, experiment: str, keys: Sequence[str]) -> Place:
    for source in views.SOURCES:
        counted = runs[runs[views.COUNTS] == source.counts]
        known = (("by arm", f"by-arm-{source.key}"), ("feature maps", f"feature-maps-{source.key}"))
        shown = {what: f"{base}/{views.address(experiment, key)}" for what, key in known if key in keys}
        lowest = counted.sort_values("seed", key=lambda seeds: seeds.astype(int)).drop_duplicates("arm")
        if len(lowest) > 1:
            ids = quote(json.dumps(list(lowest["run_id"]), separators=(",", ":")))
            compared = f"runs={ids}&experiments={quote(json.dumps([experiment]))}"
            shown["one run per arm"] = f"{base}/#/compare-runs?{compared}&{TRAINING}"
        if len(counted) and shown:
            return Place(f"{study}, {source.counts}", shown)
    return Place(f"{study}, where no run counts", {"runs": f"{base}/#/experiments/{experiment}/runs?{TRAINING}"})


def serve(
    store: Store,
    studies: Sequence[str],
    port: int,
    allowed: Sequence[str] = (),
    *,
    prepare: Callable[[], Any] = lambda: None,
    browse: bool = False,
) -> int:
    """Serve until stopped; returns the exit status. Of a store behind a tracking server only addresses are printed.

    Browsers that reach it under a loopback address are answered, and under the hosts that are `allowed` besides. The
    store is prepared while the server starts. With `browse` a browser opens the first study's first address.

    Raises a UIError where the port is taken or the server does not start.
    """
    if store.address.is_server:
        prepare()
        _show(places(store, store.address.name, studies), browse)
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
            prepare()
            found = places(store, base, studies)
            _wait(server, base)
            _show(found, browse)
            print("Ctrl-C stops it.", flush=True)
            raise UIError(f"MLflow's server ended with status {server.wait()}; its lines above say why")
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


def _show(found: Sequence[Place], browse: bool) -> None:
    """Print what to open: as links where the terminal knows them, else with the addresses."""
    links = knows_links(sys.stdout)
    for place in found:
        if links:
            words = " · ".join(link(what, address) for what, address in place.addresses.items())
            print(f"{place.heading}: {words}", flush=True)
            continue
        for what, address in place.addresses.items():
            print(f"{place.heading}: {what}:\n  {address}", flush=True)
    if browse:
        first = found[min(1, len(found) - 1)]
        if not webbrowser.open(next(iter(first.addresses.values()))):
            complain("no browser could be started here; open one of the addresses above")
