"""The parts of a team's set-up as real processes: PostgreSQL, an MLflow server with accounts, a Ray cluster.

Each listens on 127.0.0.1 only and is ended by its id. `python -m tests.servers` holds the cluster.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
NAME = "mlflow.example.org"  # what the tracking server is called besides, as README's is
ADMINISTRATOR = "admin"
MEMBER = "member"  # has an account like everybody in the team, and no rights but those that each account has
GUEST = "guest"
START = 240.0  # seconds that a server may take to answer
# What every process of the cluster and its clients has. Ray turns 127.0.0.1 into the machine's own address unless it
# takes itself for a system without clusters.
RAY_VARIABLES = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def postgresql_binaries() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them out of PATH."""
    found = shutil.which("postgres")
    folders = [*([Path(found).parent] if found else []), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    return folders[-1] if folders else None


@contextmanager
def postgresql(binaries: Path) -> Iterator[str]:
    """A database server with a password; gives the address of its database."""
    password, port = secrets.token_hex(8), free_port()
    # It does not run as root.
    user = pwd.getpwnam("postgres" if _exists("postgres") else "nobody") if os.geteuid() == 0 else None
    who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        (folder / "password").write_text(password)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        options = ("--username=mlflow", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
        subprocess.run(
            [binaries / "initdb", *options, f"--pwfile={folder / 'password'}", folder / "data"],
            check=True, capture_output=True, cwd=folder, **who,
        )  # fmt: skip
        settings = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=", "fsync=off")
        process = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", *(word for one in settings for word in ("-c", one))],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who,
        )  # fmt: skip
        try:
            status = folder / "data" / "postmaster.pid"
            _until(lambda: status.exists() and status.read_text().rstrip().endswith("ready"), process)
            yield f"postgresql://mlflow:{password}@{HOST}:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # its fast way to end
            process.wait(120)


@dataclass(frozen=True)
class TrackingServer:
    """An MLflow server, and who may use it."""

    uri: str
    passwords: Mapping[str, str]
    command: Sequence[str]
    """How it was started."""

    def variables(self, user: str = MEMBER, password: str | None = None) -> dict[str, str]:
        """What a client's process needs to be this user."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": password or self.passwords[user],
        }


@contextmanager
def tracking_server(database: str, folder: Path) -> Iterator[TrackingServer]:
    """An MLflow server with accounts on a database; it keeps the artifacts in a folder and hands them out itself.

    Args:
        database: its address.
        folder: for artifacts and settings.
    """
    port = free_port()
    passwords = {name: secrets.token_urlsafe(12) for name in (ADMINISTRATOR, MEMBER, GUEST)}
    settings = {
        "default_permission": "READ",  # the stricter of the two that docs/server.md names
        "database_uri": database,
        "admin_username": ADMINISTRATOR,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",
    }
    accounts = folder / "accounts.ini"
    accounts.write_text("\n".join(["[mlflow]", *(f"{name} = {value}" for name, value in settings.items())]))
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--host", HOST, "--port", str(port), "--allowed-hosts", f"{HOST}:{port},{NAME}:{port}"]
    command += ["--cors-allowed-origins", f"https://{NAME}:{port}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--uvicorn-opts", "--log-level warning"]
    variables = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for features that nothing here uses
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
        "MLFLOW_AUTH_ADMIN_PASSWORD": passwords[ADMINISTRATOR],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    server = TrackingServer(f"http://{HOST}:{port}", passwords, command)
    try:
        _until(lambda: _answers(f"{server.uri}/health"), process, folder / "server.log")
        for name in (MEMBER, GUEST):
            _add_user(server, name)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # it and the processes that it started
        process.wait(120)


def _add_user(server: TrackingServer, name: str) -> None:
    body = json.dumps({"username": name, "password": server.passwords[name]}).encode()
    request = urllib.request.Request(f"{server.uri}/api/2.0/mlflow/users/create", body)
    request.add_header("Content-Type", "application/json")
    manager = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    manager.add_password(None, server.uri, ADMINISTRATOR, server.passwords[ADMINISTRATOR])
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    with opener.open(request, timeout=30):
        pass


@dataclass(frozen=True)
class Node:
    """A node of a Ray cluster."""

    id: str
    raylet: int
    """The process that started all others of the node."""

    def workers(self) -> list[int]:
        """The processes that train on the node now."""
        return [number for number in descendants(self.raylet) if "fashion_cnn.running.worker" in command_line(number)]

    def kill(self) -> None:
        """End all of its processes at once, as if its machine went down."""
        for number in [*descendants(self.raylet), self.raylet]:
            with _gone_is_fine():
                os.kill(number, signal.SIGKILL)


@dataclass
class Cluster:
    """A Ray cluster; each of its nodes has one CPU."""

    holder: subprocess.Popen[str]
    address: str = ""
    nodes: list[Node] = field(default_factory=list)
    """The head is the first."""

    def add_node(self, **variables: str) -> None:
        """Start a node in whose processes these variables are set besides."""
        assert self.holder.stdin and self.holder.stdout
        self.holder.stdin.write(json.dumps(variables) + "\n")
        self.holder.stdin.flush()
        told = json.loads(self.holder.stdout.readline())
        self.address = told.pop("address")
        self.nodes.append(Node(**told))


@contextmanager
def ray_cluster(folder: Path, nodes: int) -> Iterator[Cluster]:
    """A Ray cluster on loopback. The paths of its sockets must be short, and so must the folder's."""
    with (folder / "cluster.log").open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "tests.support.servers", str(folder)],
            cwd=ROOT, env={**os.environ, **RAY_VARIABLES, "RAY_TMPDIR": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    cluster = Cluster(holder)
    try:
        for _ in range(nodes):
            cluster.add_node()
        yield cluster
    finally:
        started = descendants(holder.pid)
        holder.communicate(timeout=600)  # it ends when nobody can ask it any more
        until = time.monotonic() + 20
        while left := [number for number in started if is_alive(number)]:
            assert time.monotonic() < until, f"Ray left processes behind: {left}"
            time.sleep(0.1)


def hold_cluster() -> None:
    """Start a node for each line of standard input, and tell of it; end all of them with it."""
    from ray.cluster_utils import Cluster as RayCluster

    told = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Ray prints, too
    ours = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": HOST, "include_log_monitor": False}
    cluster = RayCluster()
    for line in sys.stdin:
        variables = json.loads(line)
        head = {} if cluster.head_node else {"include_dashboard": False}
        node = cluster.add_node(**ours, **head, env_vars=variables)
        (raylet,) = node.all_processes["raylet"]
        started = {"address": cluster.address, "id": node.node_id, "raylet": raylet.process.pid}
        os.write(told, (json.dumps(started) + "\n").encode())
    cluster.shutdown()


def descendants(number: int) -> list[int]:
    """The processes that a process started, and those that these started, and so on."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with _gone_is_fine():
            parents.setdefault(int(path.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(path.parent.name))
    found, left = [], [number]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def command_line(number: int) -> str:
    """The words that a process was started with, or nothing where it is gone."""
    with _gone_is_fine():
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def is_alive(number: int) -> bool:
    with _gone_is_fine():
        return "Z" not in Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return False


def listening(number: int) -> set[str]:
    """The addresses at which a process takes connections; none where it is gone."""
    held, found = set[str](), set[str]()
    with _gone_is_fine():
        for file in Path(f"/proc/{number}/fd").iterdir():
            with _gone_is_fine():
                held.add(os.readlink(file))
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{number}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == "0A" and f"socket:[{inode}]" in held:
                    words = bytes.fromhex(local.partition(":")[0])  # of 32 bits each, their bytes reversed
                    address = ip_address(b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4)))
                    found.add(str(getattr(address, "ipv4_mapped", None) or address))
    return found


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    with suppress(FileNotFoundError, ProcessLookupError):
        yield


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    until = time.monotonic() + START
    while not ready():
        said = log.read_text()[-2000:] if log else ""
        assert process.poll() is None and time.monotonic() < until, f"it did not start: {process.args!r} {said}"
        time.sleep(0.1)


if __name__ == "__main__":
    hold_cluster()
