"""Batches of a device's trail: in the log once, in order, proved; everything else refused, with nothing appended."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx

from facekeep.audit.entry import HeadEntry, TrailBatch, TrailEntry
from facekeep.canonical import to_canonical
from facekeep.clock import ManualClock
from facekeep_server.assembly import Server
from facekeep_server.log.finding import find_entries, find_incidents
from tests.server.conftest import served
from tests.server.devices import Follower, TestDevice, require_proved

NewDevice = Callable[[int], TestDevice]


def test_a_batch_is_in_the_log_with_proofs_and_a_checkpoint(
    client: httpx.Client, device: TestDevice, follower: Follower, server: Server
) -> None:
    follower.take(client, client.get("/log/checkpoint").text)
    for size in (1, 3, 300):
        batch = device.write(size)
        answer = device.submit(client, batch)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["expected"] == device.trail.size
        assert body["first"] == device.trail.size - size
        assert len(body["numbers"]) == size + 1
        require_proved(body, batch.to_lines(), follower.take(client, body["checkpoint"]))
        lines = find_entries(server.store, body["numbers"][0] - 1, size + 1)
        assert [row.line for row in lines] == list(batch.to_lines())


def test_the_head_alone_can_be_proved(client: httpx.Client, device: TestDevice, follower: Follower) -> None:
    batch = device.write(20)
    body = device.submit(client, batch, "?proofs=head").json()
    assert len(body["proofs"]) == 1
    require_proved(body, batch.to_lines(), follower.take(client, body["checkpoint"]))


def test_sent_again_it_gives_the_same_numbers_and_appends_nothing(
    client: httpx.Client, device: TestDevice, follower: Follower
) -> None:
    first, second = device.write(3), device.write(2)
    answers = [device.submit(client, batch).json() for batch in (first, second)]
    size = follower.take(client, client.get("/log/checkpoint").text).size
    for batch, before in zip((first, second), answers, strict=True):
        again = device.submit(client, batch).json()
        assert again["numbers"] == before["numbers"]
        assert again["expected"] == 5
        require_proved(again, batch.to_lines(), follower.take(client, again["checkpoint"]))
    assert follower.take(client, client.get("/log/checkpoint").text).size == size


def test_a_longer_batch_over_lines_that_are_in_adds_only_the_rest(
    client: httpx.Client, device: TestDevice, follower: Follower
) -> None:
    first = device.write(3)
    answer = device.submit(client, first).json()
    second = device.write(2)
    both = TrailBatch(device.id, (*first.bodies, *second.bodies), second.note)
    body = device.submit(client, both).json()
    assert body["numbers"][:3] == answer["numbers"][:3]
    assert body["numbers"][3:] == [answer["numbers"][3] + step for step in (1, 2, 3)]
    require_proved(body, both.to_lines(), follower.take(client, body["checkpoint"]))


def test_a_device_asks_where_to_go_on(client: httpx.Client, device: TestDevice) -> None:
    assert device.request(client, "GET", "/v1/trail").json() == {"device": device.id, "expected": 0}
    device.submit(client, device.write(4))
    assert device.request(client, "GET", "/v1/trail").json()["expected"] == 4


def refused(client: httpx.Client, server: Server, device: TestDevice, content: bytes, code: str, status: int) -> dict[str, object]:
    before = server.reader.head()
    answer = device.request(client, "POST", "/v1/trail", content)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert server.reader.head() == before
    return dict(answer.json())


def test_gaps_reordering_and_broken_chains_are_refused(client: httpx.Client, server: Server, device: TestDevice) -> None:
    first, second = device.write(3), device.write(3)
    body = refused(client, server, device, second.to_bytes(), "audit.wrong_sequence", 409)
    assert body["expected"] == 0
    swapped = TrailBatch(device.id, (first.bodies[1], first.bodies[0], first.bodies[2]), first.note)
    refused(client, server, device, swapped.to_bytes(), "audit.wrong_sequence", 409)
    dropped = TrailBatch(device.id, (first.bodies[0], first.bodies[2]), first.note)
    refused(client, server, device, dropped.to_bytes(), "audit.wrong_sequence", 409)
    short = TrailBatch(device.id, first.bodies[:2], first.note)
    refused(client, server, device, short.to_bytes(), "audit.broken_chain", 409)
    changed = first.bodies[2].replace(b'"references":1', b'"references":2')
    assert changed != first.bodies[2]
    refused(
        client,
        server,
        device,
        TrailBatch(device.id, (*first.bodies[:2], changed), first.note).to_bytes(),
        "audit.broken_chain",
        409,
    )
    assert device.submit(client, first).status_code == 200
    assert device.submit(client, second).status_code == 200


def test_a_forged_head_is_refused(client: httpx.Client, server: Server, device: TestDevice) -> None:
    batch = device.write(2)
    impostor = TestDevice(bytes([9]) * 32, clock=device.clock)
    forged = impostor.write(2)
    refused(client, server, device, TrailBatch(device.id, batch.bodies, forged.note).to_bytes(), "audit.bad_signature", 403)


def test_one_device_cannot_submit_for_another(client: httpx.Client, server: Server, new_device: NewDevice) -> None:
    one, other = new_device(1), new_device(2)
    refused(client, server, one, other.write(2).to_bytes(), "submission.foreign", 403)


def test_an_equivocating_device_is_refused_and_its_two_histories_are_kept(
    client: httpx.Client, server: Server, device: TestDevice, auditor: dict[str, str]
) -> None:
    twin = TestDevice(device.seed, clock=device.clock)
    assert device.submit(client, device.write(5)).status_code == 200
    other = twin.write(5, salt="other")
    for _ in range(3):
        body = refused(client, server, device, other.to_bytes(), "submission.equivocation", 409)
        assert body["expected"] == 0
    found = [row for row in find_incidents(server.store, -1, 100) if row.code == "submission.equivocation"]
    assert [row.device for row in found] == [device.id] * 3
    # One is proof enough; the rest would only fill the disk.
    assert [row.evidence for row in found] == [True, False, False]
    for row, content in zip(found, (other.to_bytes(), None, None), strict=True):
        answer = client.get(f"/v1/audit/incidents/{row.id}/evidence", headers=auditor)
        assert (answer.content if answer.status_code == 200 else None) == content
    assert device.submit(client, device.write(1)).status_code == 200


def test_nobody_is_accused_of_what_they_did_not_sign(client: httpx.Client, server: Server, device: TestDevice) -> None:
    twin = TestDevice(device.seed, clock=device.clock)
    device.submit(client, device.write(5))
    other = twin.write(5, salt="other")
    unsigned = TrailBatch(device.id, other.bodies, other.note.replace("— facekeep.device/", "— facekeep.device/0", 1))
    refused(client, server, device, unsigned.to_bytes(), "audit.bad_signature", 403)
    assert [row for row in find_incidents(server.store, -1, 100) if row.code == "submission.equivocation"] == []


def test_lines_that_are_in_under_a_later_head_are_not_taken_again(client: httpx.Client, server: Server, device: TestDevice) -> None:
    short = device.write(2)
    rest = device.write(2)
    assert device.submit(client, TrailBatch(device.id, (*short.bodies, *rest.bodies), rest.note)).status_code == 200
    body = refused(client, server, device, short.to_bytes(), "audit.wrong_sequence", 409)
    assert body["expected"] == 4


def test_entries_from_the_future_are_refused(client: httpx.Client, server: Server, device: TestDevice, clock: ManualClock) -> None:
    batch = device.write(2, at=clock.now() + timedelta(hours=1))
    refused(client, server, device, batch.to_bytes(), "audit.from_the_future", 400)
    clock.advance(timedelta(hours=1))
    assert device.submit(client, batch).status_code == 200


MALFORMED = {
    "empty": b"",
    "a newline": b"\n",
    "not JSON": b"{\n",
    "no head": TrailEntry("0" * 32, b"{}").to_bytes() + b"\n",
    "head only": HeadEntry("0" * 32, "x").to_bytes() + b"\n",
    "SQL": b"'; DROP TABLE entries; --\n",
    "HTML": b"<script>alert(1)</script>\n",
    "binary": bytes(range(256)) * 8,
    "nested": b"[" * 100_000 + b"\n",
    "lone surrogate": b'{"device":"\\ud800"}\n',
}


def test_malformed_batches_are_refused(client: httpx.Client, server: Server, device: TestDevice) -> None:
    for content in MALFORMED.values():
        refused(client, server, device, content, "audit.invalid_entry", 400)


HOSTILE = ("'; DROP TABLE entries; --", "<script>alert(1)</script>", "../../etc/passwd", "\x00", "é" * 60_000)


def test_hostile_text_in_an_entry_is_refused(client: httpx.Client, server: Server, device: TestDevice) -> None:
    batch = device.write(1)
    for hostile, name in itertools.product(HOSTILE, ("event", "outcome", "subject", "time")):
        fields = json.loads(batch.bodies[0])
        fields[name] = hostile
        body = to_canonical(fields)
        answer = device.submit(client, TrailBatch(device.id, (body,), batch.note))
        assert answer.status_code in (400, 409), answer.text
        assert hostile not in answer.text
    assert server.reader.head().size == 1
    assert device.submit(client, batch).status_code == 200


def test_too_large_a_batch_is_refused_before_it_is_read(make_server: Callable[..., Server], clock: ManualClock) -> None:
    server = make_server(limits={"body_bytes": 4096})
    with served(server) as client:
        device = TestDevice(bytes([3]) * 32, clock=clock)
        device.enrol(client, server.codes.create("small", timedelta(hours=1))[0])
        refused(client, server, device, b"x" * 4097, "request.too_large", 413)

        # A length that lies, and none at all.
        def chunks() -> Iterator[bytes]:
            for _ in range(5):
                yield b"x" * 1024

        answer = client.post("/v1/trail", content=chunks())
        assert answer.status_code == 413
        # Refused by the number alone: none of the content was ever sent.
        with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as raw:
            raw.sendall(b"POST /v1/trail HTTP/1.1\r\nHost: testserver\r\nContent-Length: 999999999999\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_revoked_device_is_refused(
    client: httpx.Client, server: Server, device: TestDevice, administrator: dict[str, str]
) -> None:
    assert client.post(f"/v1/admin/devices/{device.id}/revocation", headers=administrator).status_code == 204
    refused(client, server, device, device.write(1).to_bytes(), "device.revoked", 403)
    code, _ = server.codes.create("again", timedelta(hours=1))
    assert device.enrol(client, code).json()["code"] == "device.key_in_use"
