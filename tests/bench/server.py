"""The server: entries a second from eight devices at once, up to a million, and two hundred kills.

`FACEKEEP_BENCH_ENTRIES` (default 1000000) and `FACEKEEP_BENCH_KILLS` (default 200) make both shorter. PostgreSQL is measured too
where there is one (tests/server/postgres.py).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.setting import report
from tests.server.devices import TestDevice
from tests.server.load import ServerProcess, Submitter, make_fleet, run_with_faults
from tests.server.postgres import reason_to_skip, running_postgres

CLIENTS = 8
BATCH = 200


@contextlib.contextmanager
def _databases(folder: Path) -> Iterator[list[tuple[str, str]]]:
    with contextlib.ExitStack() as stack:
        found = [("SQLite", f"sqlite:///{folder}/log.sqlite3")]
        reason = reason_to_skip()
        if reason is None:
            found.append(("PostgreSQL", stack.enter_context(stack.enter_context(running_postgres(durable=True)).database())))
        else:
            print(reason)
        yield found


def log(shared: Path) -> None:
    """Durable entries a second, p99 of a submission, memory and the time of a proof, as the log grows tenfold each step."""
    del shared
    largest = int(os.environ.get("FACEKEEP_BENCH_ENTRIES", "1000000"))
    with tempfile.TemporaryDirectory() as name, _databases(Path(name)) as databases:
        for kind, database in databases:
            server = ServerProcess(database, Path(name) / kind)
            fleet = make_fleet(server, CLIENTS, entries=BATCH, proofs="head", check=False)
            try:
                _grow(kind, server, fleet, largest)
            finally:
                server.end(signal.SIGKILL)


def _grow(kind: str, server: ServerProcess, fleet: list[Submitter], largest: int) -> None:
    context = multiprocessing.get_context("spawn")
    steps = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= largest]
    barrier, orders, answers = context.Barrier(CLIENTS + 1), [context.Queue() for _ in fleet], context.Queue()
    workers = [
        context.Process(target=_client, args=(item.device.seed, server.url, barrier, order, answers), daemon=True)
        for item, order in zip(fleet, orders, strict=True)
    ]
    for worker in workers:
        worker.start()
    assert server.process is not None
    memory, size = psutil.Process(server.process.pid), CLIENTS
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for step in steps:
            # In pieces, so that the batches written ahead do not fill the clients' memory.
            rates, waits = [], []
            while size < step:
                batches = max(1, min(25, (step - size) // (CLIENTS * BATCH)))
                for order in orders:
                    order.put(batches)
                barrier.wait()
                start = time.perf_counter()
                for _ in workers:
                    waits += answers.get(timeout=600)
                rates.append((CLIENTS * batches * (BATCH + 1), time.perf_counter() - start))
                size += CLIENTS * batches * (BATCH + 1)
            lines, seconds = sum(item[0] for item in rates), sum(item[1] for item in rates)
            p99 = statistics.quantiles(waits, n=100)[98] if len(waits) > 1 else waits[0]
            proof = _proof_seconds(client, size)
            resident = memory.memory_info().rss / 2**20
            report(f"{kind}, up to {size} lines: lines a second", f"{lines / seconds:.0f}", ">= 5000")
            report(f"{kind}, up to {size} lines: p99 of a submission of {BATCH}", f"{1000 * p99:.0f} ms", "<= 250 ms")
            report(
                f"{kind}, at {size} lines: inclusion proof, median / p99 of 200", f"{proof[0]:.1f} / {proof[1]:.1f} ms", "<= 5 ms"
            )
            report(f"{kind}, at {size} lines: resident memory", f"{resident:.0f} MiB")
    for order in orders:
        order.put(0)
    for worker in workers:
        worker.join(30)


def _client(seed: bytes, url: str, barrier: Any, orders: Any, answers: Any) -> None:
    submitter = Submitter(TestDevice(seed, url), url, [], BATCH, "head", check=False)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        while count := orders.get():
            ready = [submitter.device.write(BATCH) for _ in range(count)]
            barrier.wait()
            submitter.seconds = []
            for batch in ready:
                submitter.submit(client, batch)
            answers.put(submitter.seconds)


def _proof_seconds(client: httpx.Client, size: int) -> tuple[float, float]:
    draw, found = random.Random(1), []
    for _ in range(200):
        number = draw.randrange(size)
        start = time.perf_counter()
        answer = client.get("/v1/log/inclusion", params={"number": number, "size": size})
        found.append(1000 * (time.perf_counter() - start))
        assert answer.status_code == 200, answer.text
    return statistics.median(found), statistics.quantiles(found, n=100)[98]


def faults(shared: Path) -> None:
    """Kill -9 under load, on each database; then everything acknowledged is looked for and every checkpoint checked."""
    del shared
    kills = int(os.environ.get("FACEKEEP_BENCH_KILLS", "200"))
    with tempfile.TemporaryDirectory() as name, _databases(Path(name)) as databases:
        for kind, database in databases:
            server = ServerProcess(database, Path(name) / kind)
            fleet = make_fleet(server, 4, entries=10)

            def kill(server: ServerProcess = server) -> None:
                server.end(signal.SIGKILL)
                server.start()

            try:
                run_with_faults(server, fleet, kills, kill, seed=7)
            finally:
                server.end(signal.SIGKILL)
            batches = sum(len(item.acknowledged) for item in fleet)
            retries = sum(item.retries for item in fleet)
            report(f"{kind}: {kills} kills, {batches} batches acknowledged, {retries} retries: lost or doubled", "0", "0")
