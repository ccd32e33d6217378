"""`make check` asks for known holes where that can be asked, and says so where not."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.project.test_setup import LOCK, locked
from tests.support.command import REPOSITORY

pytestmark = pytest.mark.fault("known-hole")

audit = SimpleNamespace(**runpy.run_path(str(REPOSITORY / ".ci/audit.py")))

TWO = """\
keras==3.11.0 \\
    --hash=sha256:00
    # via x
mlflow[a]==3.17.2 ; python_version < '4' \\
    --hash=sha256:00
"""


@contextmanager
def service(answer: bytes, status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """The address of a service that always answers so, and what it is asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/querybatch", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text(TWO)
    return tmp_path / "requirements.lock"


def test_every_locked_package_is_asked_for() -> None:
    assert audit.locked(TWO) == [("keras", "3.11.0"), ("mlflow", "3.17.2")]
    assert audit.locked(LOCK) == [(one.name, str(one.specifier).removeprefix("==")) for one, _ in locked()]


def test_no_known_hole_is_told(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with service(b'{"results": [{}, {}]}') as (address, asked):
        assert audit.main(address, [lock]) == 0
    assert capsys.readouterr().out == "audit: no known hole in 2 locked packages\n"
    assert asked[0]["queries"][1] == {"package": {"name": "mlflow", "ecosystem": "PyPI"}, "version": "3.17.2"}


def test_a_known_hole_fails_and_is_named(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = b'{"results": [{"vulns": [{"id": "GHSA-b"}, {"id": "GHSA-a"}]}, {}]}'
    with service(answer) as (address, _):
        assert audit.main(address, [lock]) == 1
        assert audit.main(address, [lock], {"GHSA-a": "not used", "GHSA-b": "not used either"}) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        f"audit: keras 3.11.0 has a known hole: https://osv.dev/vulnerability/{hole}" for hole in ("GHSA-a", "GHSA-b")
    ]
    assert said[2:4] == [
        "audit: keras 3.11.0: GHSA-a is accepted: not used",
        "audit: keras 3.11.0: GHSA-b is accepted: not used either",
    ]


@pytest.mark.parametrize("answer", [b"", b"<html>Log in</html>", b"[]", b'{"results": []}', b'{"results": [1, 2]}'])
def test_an_answer_that_is_none_is_told_and_passes(
    lock: Path, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(answer) as (address, _):
        assert audit.main(address, [lock]) == 0
    assert capsys.readouterr().out.startswith(f"audit: skipped: {address} cannot be asked for known holes (")


def test_a_service_that_cannot_be_reached_is_told_and_passes(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with service(b"", status=503) as (address, _):
        assert audit.main(address, [lock]) == 0
    assert audit.main(address, [lock]) == 0  # it is gone now
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith(f"audit: skipped: {address} cannot be asked for known holes (") for line in said)
    assert "503" in said[0] and "refused" in said[1]
