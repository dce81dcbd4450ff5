"""Log servers for devices under test: the real one, a witness, and one that says whatever it is told to."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from facekeep.clock import Clock
from facekeep.signing import DeviceKey
from facekeep.tlog import TrustPolicy
from facekeep.tlog.witness import witness_vkey
from facekeep_server.api import create_app
from facekeep_server.assembly import assemble, prepare
from facekeep_server.configuration import Configuration
from facekeep_server.witness import Witness, WitnessStore, create_witness_app, logs_of

ORIGIN = "log.example.org/fleet"


# Below those that the system gives to whoever asks for any, and each worker has its own: a port stays free until it is used.
_PORTS = itertools.count(20_000 + 500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))


def free_port() -> int:
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("ports do not end")


@contextlib.contextmanager
def listening(app: Any, port: int, tls: dict[str, str] | None = None) -> Iterator[None]:
    settings = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, ws="none", **(tls or {}))
    http = uvicorn.Server(settings)
    thread = threading.Thread(target=http.run, daemon=True)
    thread.start()
    try:
        while not http.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        yield
    finally:
        http.should_exit = True
        thread.join(30)


class RealServer:
    """The server of this repository on SQLite, at one address that outlives it."""

    def __init__(self, folder: Path, clock: Clock, port: int | None = None, **sections: dict[str, Any]) -> None:
        self.folder, self.clock, self.port, self.sections = folder, clock, port or free_port(), sections
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(exist_ok=True)
        server = assemble(self.configuration(), clock=clock)
        prepare(server)
        self.vkey = server.keys.list()[0].key.to_vkey()
        server.store.close()

    def configuration(self) -> Configuration:
        much = {f"{who}_requests_per_second": 1e6 for who in ("device", "token", "peer")}
        return Configuration.model_validate(
            {
                "store": {"database": f"sqlite:///{self.folder}/log.sqlite3", "keys": str(self.folder / "keys")},
                "http": {"public_url": self.url},
                "log": {"origin": ORIGIN, "commit_interval_ms": 1},
                "limits": much,
                **self.sections,
            }
        )

    def trust(self, rest: str = "quorum none\n") -> str:
        return f"log {self.vkey}\n{rest}"

    def code(self, label: str = "a device") -> str:
        server = assemble(self.configuration(), clock=self.clock)
        try:
            return server.codes.create(label, timedelta(hours=1))[0]
        finally:
            server.store.close()

    def copy(self, folder: Path) -> RealServer:
        """The same log, keys and all, at the same address: what an operator needs in order to show two histories."""
        shutil.copytree(self.folder, folder)
        return RealServer(folder, self.clock, self.port)

    @contextlib.contextmanager
    def running(self, tls: dict[str, str] | None = None) -> Iterator[RealServer]:
        with listening(create_app(assemble(self.configuration(), clock=self.clock)), self.port, tls):
            yield self


def make_certificate(folder: Path, host: str) -> dict[str, str]:
    """A self-signed certificate, as uvicorn takes it."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names: list[x509.GeneralName] = [x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"ssl_certfile": str(folder / "certificate.pem"), "ssl_keyfile": str(folder / "key.pem")}


@contextlib.contextmanager
def running_witness(folder: Path, name: str, key: DeviceKey, policy: str, port: int) -> Iterator[str]:
    """A witness; gives its line of a policy."""
    store = WitnessStore(folder)
    try:
        with listening(create_witness_app(Witness(name, key, logs_of(TrustPolicy.parse(policy)), store)), port):
            yield witness_line(name, key, port)
    finally:
        store.close()


def witness_line(name: str, key: DeviceKey, port: int) -> str:
    return f"witness {name} {witness_vkey(name, key.public_bytes)} http://127.0.0.1:{port}\n"


class Liar:
    """Answers each connection with the next of the given bytes, and counts; what it is asked does not matter."""

    def __init__(self, *answers: bytes | Callable[[socket.socket], None]) -> None:
        self.answers, self.asked = list(answers), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Liar:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            answer = self.answers[min(self.asked, len(self.answers) - 1)]
            self.asked += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                _read_request(connection)
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)


def _read_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            return
        body += more


def http(status: int, body: bytes, *fields: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body
