"""Consent: from a withdrawal to the refusal, what the gate costs, and what a revocation list costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from facekeep import ConsentError, Device, KeyFile
from facekeep.clock import SystemClock
from facekeep.consent import (
    ConsentPolicy,
    ControllerKey,
    new_revocation_list,
    open_revocation_list,
    sign_revocation_list,
)
from tests.bench.setting import ALL, NOTICE, interleaved, report, temporary_folder
from tests.flows.log_servers import RealServer
from tests.flows.test_sync import publish

ISSUER = ControllerKey("bench.example/revocations", bytes(32))
_PURPOSE = "verification"


@contextmanager
def _device() -> Iterator[Device]:
    folder = temporary_folder()
    with Device.open(folder / "home", key=KeyFile(folder / "key")) as device:
        yield device


def _list(principal: str, epoch: int) -> bytes:
    now = SystemClock().now()
    made = new_revocation_list(
        issuer=ISSUER.verifier.name,
        epoch=epoch,
        issued_at=now,
        next_update=now + timedelta(days=7),
        salt=bytes([epoch]) * 32,
        revoked=[(principal, now, None)],
    )
    return sign_revocation_list(made, ISSUER).encode()


def _until_refused(device: Device, principal: str, epoch: int) -> tuple[int, float]:
    """Import a list; return the calls made until one was refused, and the seconds that those took."""
    device.revocations.import_list(_list(principal, epoch))
    start = time.perf_counter()
    for calls in range(1, 100):
        try:
            device.consents.require("subject", _PURPOSE)
        except ConsentError:
            return calls, time.perf_counter() - start
    raise AssertionError("a revoked consent was accepted a hundred times")


def _over_the_server(policy: ConsentPolicy) -> None:
    """A withdrawal published at a server, and how often a device has to meet it until it refuses."""
    server = RealServer(temporary_folder() / "server", SystemClock(), revocations={"issuers": [str(ISSUER.verifier)]})
    idle, busy, syncs = [], [], []
    with server.running(), _device() as device:
        device.consents.set_policy(policy)
        device.log.enrol(server.url, server.code(), trust=server.trust())
        for epoch in range(1, 11):
            device.consents.grant("subject", purposes=ALL, valid_for="P1D", notice=NOTICE)
            device.log.sync()
            start = time.perf_counter()
            device.log.sync()
            idle.append(time.perf_counter() - start)
            principal = device.consents.records("subject")[-1].principal_id
            publish(server, _list(principal, epoch))
            for count in range(1, 100):
                start = time.perf_counter()
                device.log.sync()
                busy.append(time.perf_counter() - start)
                try:
                    device.consents.require("subject", _PURPOSE)
                except ConsentError:
                    syncs.append(count)
                    break
    report("syncs from a list published at the server to the refusal, the most of 10", str(max(syncs)))
    report("such a sync, erasure and submission in it, over one with nothing to do", f"{sorted(busy)[5] / sorted(idle)[5]:.1f} x")


def consent(shared: Path) -> None:
    """The gate against the bare Ed25519 verification in it; refusals after a withdrawal; lists of many."""
    del shared
    policy = ConsentPolicy(revocation_issuer=ISSUER.verifier, revocation_max_age="P7D")
    private = Ed25519PrivateKey.generate()
    signature, public = private.sign(bytes(1600)), private.public_key()
    with _device() as device:
        device.consents.grant("subject", purposes=ALL, valid_for="P1D", notice=NOTICE)

        def bare() -> None:
            public.verify(signature, bytes(1600))

        def gate() -> None:
            device.consents.require("subject", _PURPOSE)

        verification, plain = interleaved(300, bare, gate)
        device.consents.set_policy(policy)
        verification, asked = interleaved(300, bare, gate)
        report("gate without a policy over the one signature it verifies", f"{plain / verification:.1f} x")
        report("gate with a policy that asks for fresh lists, over the same", f"{asked / verification:.1f} x")
        times = []
        for epoch in range(1, 21):
            device.consents.grant("subject", purposes=ALL, valid_for="P1D", notice=NOTICE)
            times.append(_until_refused(device, device.consents.records("subject")[-1].principal_id, epoch))
        refusals = sorted(after for _, after in times)
        report("calls from a list's import to the refusal, the most of 20", str(max(calls for calls, _ in times)))
        report("that refusal over an accepted gate", f"{refusals[len(refusals) // 2] / asked:.2f} x")
    _over_the_server(policy)
    now = SystemClock().now()
    many = [(f"{number:064x}", now, None) for number in range(100_000)]
    made = new_revocation_list(
        issuer=ISSUER.verifier.name, epoch=1, issued_at=now, next_update=now + timedelta(days=7), salt=bytes(32), revoked=many
    )
    note = sign_revocation_list(made, ISSUER).encode()
    start = time.process_time()
    open_revocation_list(note, ISSUER.verifier)
    report("entries of a list of 100,000 checked a second", f"{len(many) / (time.process_time() - start):,.0f}")
