"""Clusters and tracking servers that cannot be used: told at once, in one line."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.command import SMOKE, Lab


@contextmanager
def answering(version: str | None, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that says it is healthy and of a version, or asks for a user before that; gives its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/health" or version is not None
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write((version or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ours")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, secret


class TestWhatIsRefusedAtOnce:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (
                ("--executor", "ray", "--address", "ray://127.0.0.1:10001"),
                "start the command on a machine of the cluster",
            ),
            (("--executor", "ray", "--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1"),
            (("--executor", "ray", "--address", "here"), "allowed: HOST:PORT, or auto"),
            (("--executor", "ray", "--device", "gpu"), "only cpu is allowed"),
            (("--address", "127.0.0.1:6379"), "--executor ray"),
        ],
    )
    def test_an_address_that_cannot_be_used(
        self, lab: Lab, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fashion_cnn.running.cluster.connection.find_spec", lambda name: object())
        assert told in lab.complaint(*SMOKE, *words)

    def test_ray_where_it_is_not_installed(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fashion_cnn.running.cluster.connection.find_spec", lambda name: None)
        assert "make extras" in lab.complaint(*SMOKE, "--executor", "ray")

    @pytest.mark.parametrize(
        ("version", "told"),
        [("2.22.0", "runs MLflow 2.22.0"), ("<html>", "no MLflow tracking server"), (None, "a user that it knows")],
    )
    def test_a_server_that_is_another(self, lab: Lab, version: str | None, told: str) -> None:
        with answering(version) as port:
            said = lab.complaint(*SMOKE, "--tracking-uri", f"http://me:s3cret@127.0.0.1:{port}")
        assert told in said and "s3cret" not in said

    def test_a_servers_certificate_that_nobody_vouches_for_unless_the_user_does(
        self, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate, key = own_certificate(tmp_path)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        with answering("2.22.0", tls) as port:
            asked = (*SMOKE, "--tracking-uri", f"https://127.0.0.1:{port}")
            said = lab.complaint(*asked)
            assert "does not answer" in said and "CERTIFICATE_VERIFY_FAILED" in said
            monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
            assert "runs MLflow 2.22.0" in lab.complaint(*asked)

    def test_a_server_whose_name_nobody_knows(self, lab: Lab) -> None:
        assert "does not answer" in lab.complaint(*SMOKE, "--tracking-uri", "http://no-such-host.invalid:5000")
