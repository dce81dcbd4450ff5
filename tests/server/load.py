"""A fleet that submits without pause, a server that is killed, and what has to hold afterwards."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx

from facekeep.audit.entry import TrailBatch
from facekeep.note import Checkpoint
from facekeep_server.assembly import assemble, prepare
from facekeep_server.configuration import Configuration, load_configuration
from facekeep_server.log.finding import find_entries
from tests.server.devices import Follower, TestDevice, require_proved

ORIGIN = "log.example.org/load"
PATIENCE_SECONDS = 120.0


@dataclass
class ServerProcess:
    """`facekeep-server serve` in a process of its own, on a database and a folder that outlive it."""

    database: str
    folder: Path
    port: int = 0
    settings: str = ""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.folder / "server.toml"
        self.config.write_text(
            f'[store]\ndatabase = "{self.database}"\nkeys = "{self.folder}/keys"\n'
            f'[http]\nport = {self.port}\npublic_url = "{self.url}"\n'
            f'[log]\norigin = "{ORIGIN}"\n{self.settings}\n'
            "[limits]\ndevice_requests_per_second = 1e6\npeer_requests_per_second = 1e6\n"
        )

    def configuration(self) -> Configuration:
        return load_configuration(self.config, {})

    def prepare(self, devices: Sequence[TestDevice]) -> list[str]:
        """Create the log; return a code for each device, and the log's keys are `vkeys`."""
        server = assemble(self.configuration())
        prepare(server)
        codes = [server.codes.create(f"device {number}", timedelta(days=1))[0] for number in range(len(devices))]
        self.vkeys = [row.key.to_vkey() for row in server.keys.list()]
        server.store.close()
        return codes

    def start(self) -> None:
        """Start, and return once it is ready."""
        command = [sys.executable, "-m", "facekeep_server", "--config", str(self.config), "serve"]
        with (self.folder / "journal").open("ab") as journal:
            self.process = subprocess.Popen(command, stdout=journal, stderr=journal, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start: {(self.folder / 'journal').read_text()[-2000:]}")
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)


@dataclass
class Acknowledged:
    """What a server promised."""

    batch: TrailBatch
    numbers: list[int]
    note: str
    checkpoint: Checkpoint


@dataclass
class Submitter:
    """One device that submits batch after batch, and each again until it is acknowledged."""

    device: TestDevice
    base: str
    vkeys: list[str]
    entries: int = 5
    proofs: str = "all"
    acknowledged: list[Acknowledged] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    retries: int = 0
    failure: BaseException | None = None
    check: bool = True

    def run(self, stop: threading.Event, batches: int | None = None) -> None:
        """Submit until told to stop, or so many batches; what was begun is brought to its end."""
        try:
            with httpx.Client(base_url=self.base, trust_env=False, timeout=30) as client:
                done = 0
                while (batches is None or done < batches) and not stop.is_set():
                    self.submit(client, self.device.write(self.entries))
                    done += 1
        except BaseException as error:  # noqa: BLE001 - shown by whoever joins the thread
            self.failure = error

    def submit(self, client: httpx.Client, batch: TrailBatch) -> None:
        """Submit one batch until it is acknowledged."""
        start = time.monotonic()
        body = self._until_answered(lambda: self.device.submit(client, batch, f"?proofs={self.proofs}"), 200)
        self.seconds.append(time.monotonic() - start)
        checkpoint = (
            Follower(self.vkeys).policy().verify(body["checkpoint"]).checkpoint if self.check else Checkpoint("x", 0, bytes(32))
        )
        if self.check:
            require_proved(body, batch.to_lines(), checkpoint)
        self.acknowledged.append(Acknowledged(batch, body["numbers"], body["checkpoint"], checkpoint))

    def enrol(self, client: httpx.Client, code: str) -> None:
        """Enrol, again until it is answered."""
        self._until_answered(lambda: self.device.enrol(client, code), 201)

    def _until_answered(self, send: Callable[[], httpx.Response], wanted: int) -> dict[str, object]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = send()
            except httpx.TransportError:
                status = 0
            else:
                status = answer.status_code
                if status == wanted:
                    return dict(answer.json())
                assert status in (429, 503), answer.text
            assert time.monotonic() < deadline, f"no answer for {PATIENCE_SECONDS} s, last {status}"
            self.retries += 1
            time.sleep(0.02)


def make_fleet(server: ServerProcess, size: int, *, entries: int, proofs: str = "all", check: bool = True) -> list[Submitter]:
    """Devices that are enrolled at a server that is running."""
    devices = [TestDevice(bytes([number + 1]) * 32, server.url) for number in range(size)]
    codes = server.prepare(devices)
    server.start()
    fleet = [Submitter(device, server.url, server.vkeys, entries, proofs, check=check) for device in devices]
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        for submitter, code in zip(fleet, codes, strict=True):
            submitter.enrol(client, code)
    return fleet


def run_with_faults(server: ServerProcess, fleet: list[Submitter], kills: int, fault: Callable[[], None], seed: int) -> None:
    """Let the fleet submit while `fault` strikes; then require that nothing acknowledged was lost, doubled or contradicted."""
    draw, stop = random.Random(seed), threading.Event()
    threads = [threading.Thread(target=submitter.run, args=(stop,), daemon=True) for submitter in fleet]
    for thread in threads:
        thread.start()
    for number in range(kills):
        before = [len(submitter.acknowledged) for submitter in fleet]
        time.sleep(draw.uniform(0.0, 0.5))
        fault()
        # Every device gets on between two faults: a server that is down most of the time would prove nothing.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(len(s.acknowledged) <= was and s.failure is None for s, was in zip(fleet, before, strict=True)):
            assert time.monotonic() < deadline, f"no progress after fault {number}"
            time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    for submitter in fleet:
        if submitter.failure is not None:
            raise submitter.failure
    require_everything(server, fleet)


def require_everything(server: ServerProcess, fleet: list[Submitter]) -> None:
    """The log holds every acknowledged line at its number, no line twice, and every checkpoint leads to the last one."""
    store = assemble(server.configuration())
    rows, after = [], -1
    while page := find_entries(store.store, after, 1000):
        rows += page
        after = page[-1].number
    store.check()
    store.store.close()
    assert [row.number for row in rows] == list(range(len(rows)))
    lines = [row.line for row in rows]
    assert len(set(lines)) == len(lines), "a line is in the log twice"
    expected = len(fleet)
    for submitter in fleet:
        for given in submitter.acknowledged:
            assert [lines[number] for number in given.numbers] == list(given.batch.to_lines())
            expected += len(given.numbers)
    assert len(lines) == expected, "the log holds lines that nobody submitted, or lacks some"
    follower = Follower(server.vkeys)
    notes = sorted(
        {given.note for submitter in fleet for given in submitter.acknowledged}, key=lambda note: int(note.split("\n")[1])
    )
    sizes = [int(note.split("\n")[1]) for note in notes]
    assert len(set(sizes)) == len(sizes), "two checkpoints of one size"
    with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        for note in (*notes, client.get("/log/checkpoint").text):
            follower.take(client, note)
