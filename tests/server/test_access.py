"""Who may do what: devices by signed requests, people by tokens, and one-time codes; everyone else gets nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import MetaData, func, select

from facekeep.clock import ManualClock
from facekeep.merkle import leaf_hash
from facekeep.randomness import SystemRandomness
from facekeep_server.access.labels import require_label
from facekeep_server.access.rates import RateLimit
from facekeep_server.access.roles import Role
from facekeep_server.access.secrets import is_secret, issue, parse_secret
from facekeep_server.assembly import Server
from facekeep_server.errors import ServerError
from facekeep_server.log.finding import find_entries, find_incidents
from facekeep_server.store.tables import Nonce
from tests.server.conftest import served
from tests.server.devices import Follower, TestDevice, require_proved

HOUR = timedelta(hours=1)
HOSTILE = ("'; DROP TABLE devices; --", "<script>alert(1)</script>", "a\nb", "x" * 65, "", " a", "=1+1", "é", "\x00")


def fresh(number: int, clock: ManualClock) -> TestDevice:
    return TestDevice(bytes([number]) * 32, clock=clock)


def code_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["code"])


# enrolment


def test_enrolment_puts_the_key_into_the_log(server: Server, client: httpx.Client, clock: ManualClock, follower: Follower) -> None:
    device = fresh(1, clock)
    code, expires = server.codes.create("gate 1", HOUR)
    assert expires == clock.now() + HOUR
    body = device.enrol(client, code).json()
    assert body["device"] == device.id
    (found,) = find_entries(server.store, -1, 10)
    assert json.loads(found.line)["device"] == device.id
    checkpoint = follower.take(client, body["checkpoint"])
    require_proved({"proofs": [body["line"]]}, (found.line,), checkpoint)
    assert leaf_hash(found.line)


def test_a_code_lets_one_device_in_once(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    code, _ = server.codes.create("gate 1", HOUR)
    one, other = fresh(1, clock), fresh(2, clock)
    first = one.enrol(client, code)
    assert first.status_code == 201
    # The answer was lost: the same device asks again and gets it, also after the code has ended.
    clock.advance(2 * HOUR)
    assert one.enrol(client, code.lower()).json()["line"]["number"] == first.json()["line"]["number"]
    refused = other.enrol(client, code)
    assert (refused.status_code, code_of(refused)) == (403, "device.invalid_code")
    assert server.reader.head().size == 1


def test_expired_unknown_and_malformed_codes_are_refused(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    code, _ = server.codes.create("gate 1", HOUR)
    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    for text in (wrong, "fkc-00000000-000000000000000000000000", "fkt" + code[3:], "x", *filter(None, HOSTILE[:6])):
        refused = fresh(1, clock).enrol(client, text)
        assert refused.status_code in (400, 403), refused.text
        assert code_of(refused) in ("device.invalid_code", "request.malformed")
        assert len(text) < 5 or text not in refused.text
    clock.advance(HOUR)
    assert code_of(fresh(1, clock).enrol(client, code)) == "device.invalid_code"
    assert server.reader.head().size == 0
    assert server.devices.list() == []


def test_a_code_wears_out_when_guessed_at(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    code, _ = server.codes.create("gate 1", HOUR)
    wrong = code[:-4] + ("AAAA" if code[-4:] != "AAAA" else "BBBB")
    for _ in range(server.configuration.access.code_attempts):
        assert code_of(fresh(1, clock).enrol(client, wrong)) == "device.invalid_code"
    assert code_of(fresh(1, clock).enrol(client, code)) == "device.invalid_code"


def test_a_key_belongs_to_one_device(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    device = fresh(1, clock)
    device.enrol(client, server.codes.create("gate 1", HOUR)[0])
    code, _ = server.codes.create("gate 2", HOUR)
    refused = device.enrol(client, code)
    assert (refused.status_code, code_of(refused)) == (409, "device.key_in_use")
    assert [row.code for row in find_incidents(server.store, -1, 10)] == ["device.key_in_use"]
    # The code was not used up by that.
    assert fresh(2, clock).enrol(client, code).status_code == 201


def test_whoever_enrols_a_key_must_hold_it(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    victim, thief = fresh(1, clock), fresh(2, clock)
    code, _ = server.codes.create("gate 1", HOUR)
    thief.id = victim.id
    content = json.dumps({"code": code, "public_key": base64.b64encode(victim.key.public_bytes).decode()}).encode()
    assert code_of(thief.request(client, "POST", "/v1/devices", content)) == "request.unauthenticated"
    assert client.post("/v1/devices", content=content).status_code == 401
    assert server.devices.list() == []


# signed requests


def test_unsigned_forged_and_altered_requests_are_refused(client: httpx.Client, device: TestDevice, clock: ManualClock) -> None:
    stranger = fresh(9, clock)
    batch = device.write(1).to_bytes()
    good = device.headers("POST", "/v1/trail", batch)
    for headers, target, content in (
        ({}, "/v1/trail", batch),
        ({"Authorization": "Bearer x"}, "/v1/trail", batch),
        (stranger.headers("POST", "/v1/trail", batch), "/v1/trail", batch),
        (good, "/v1/trail?proofs=head", batch),
        (good, "/v1/trail", batch + b"\n"),
        (device.headers("GET", "/v1/trail", batch), "/v1/trail", batch),
        (good | {"Signature": stranger.headers("POST", "/v1/trail", batch)["Signature"]}, "/v1/trail", batch),
        ({name: value for name, value in good.items() if name != "Content-Digest"}, "/v1/trail", batch),
    ):
        answer = client.post(target, content=content, headers=headers)
        assert (answer.status_code, code_of(answer)) == (401, "request.unauthenticated")
        assert "Signature" in answer.headers["www-authenticate"]


def test_a_request_counts_once(client: httpx.Client, device: TestDevice, clock: ManualClock) -> None:
    headers = device.headers("GET", "/v1/trail")
    assert client.get("/v1/trail", headers=headers).status_code == 200
    assert code_of(client.get("/v1/trail", headers=headers)) == "request.replayed"
    clock.advance(timedelta(seconds=119))
    assert code_of(client.get("/v1/trail", headers=headers)) == "request.replayed"
    clock.advance(timedelta(seconds=2))
    assert code_of(client.get("/v1/trail", headers=headers)) == "request.clock_off"


def test_a_replay_is_found_after_a_restart(make_server: Callable[..., Server], clock: ManualClock) -> None:
    server = make_server()
    device = fresh(1, clock)
    with served(server) as client:
        device.enrol(client, server.codes.create("gate", HOUR)[0])
        headers = device.headers("GET", "/v1/trail")
        assert client.get("/v1/trail", headers=headers).status_code == 200
    with served(make_server()) as client:
        assert code_of(client.get("/v1/trail", headers=headers)) == "request.replayed"


def test_a_clock_far_off_is_told_the_time_if_the_key_is_good(client: httpx.Client, device: TestDevice, clock: ManualClock) -> None:
    for late in (timedelta(minutes=10), -timedelta(minutes=10), timedelta(days=400)):
        answer = client.get("/v1/trail", headers=device.headers("GET", "/v1/trail", late=late))
        assert (answer.status_code, code_of(answer)) == (401, "request.clock_off")
        assert answer.json()["server_time"] == "2026-11-21T12:00:00.000Z"
    stranger = fresh(9, clock)
    answer = client.get("/v1/trail", headers=stranger.headers("GET", "/v1/trail", late=timedelta(days=1)))
    assert "server_time" not in answer.json()


def test_old_nonces_are_forgotten(server: Server, client: httpx.Client, device: TestDevice, clock: ManualClock) -> None:
    def remembered() -> int:
        with server.store.reading() as connection:
            return connection.execute(select(func.count()).select_from(Nonce)).scalar_one()

    device.request(client, "GET", "/v1/trail")
    before = remembered()
    clock.advance(HOUR)
    server.requests._claims = 999
    device.request(client, "GET", "/v1/trail")
    assert before >= 2
    assert remembered() == 1


# tokens and roles

AUDITED = ("/v1/audit/entries", "/v1/audit/devices", "/v1/audit/incidents", "/v1/audit/heads", "/log/tile/entries/000.p/1")


def test_each_role_may_do_its_own_and_nothing_else(
    client: httpx.Client, device: TestDevice, auditor: dict[str, str], administrator: dict[str, str]
) -> None:
    for path in AUDITED:
        assert client.get(path, headers=auditor).status_code == 200, path
        assert code_of(client.get(path, headers=administrator)) == "request.forbidden"
        assert code_of(client.get(path)) == "request.unauthenticated"
        assert code_of(device.request(client, "GET", path)) == "request.unauthenticated"
    content = b'{"label":"gate 9"}'
    assert client.post("/v1/admin/device-codes", content=content, headers=administrator).status_code == 201
    assert client.get("/v1/admin/devices", headers=administrator).json()[0]["id"] == device.id
    for method, path in (("POST", "/v1/admin/device-codes"), ("GET", "/v1/admin/devices")):
        assert code_of(client.request(method, path, headers=auditor)) == "request.forbidden"
        assert code_of(client.request(method, path)) == "request.unauthenticated"
        assert code_of(device.request(client, method, path)) == "request.unauthenticated"
    revocation = f"/v1/admin/devices/{device.id}/revocation"
    assert code_of(client.post(revocation, headers=auditor)) == "request.forbidden"
    assert device.request(client, "GET", "/v1/trail").status_code == 200


def test_tokens_end_when_revoked_or_expired(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    token, expires = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    headers = {"Authorization": f"Bearer {token}"}
    assert expires == clock.now() + HOUR
    assert client.get("/v1/audit/devices", headers=headers).status_code == 200
    clock.advance(HOUR)
    assert code_of(client.get("/v1/audit/devices", headers=headers)) == "request.unauthenticated"
    token, _ = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/v1/audit/devices", headers=headers).status_code == 200
    server.tokens.revoke(token.split("-")[1])
    assert code_of(client.get("/v1/audit/devices", headers=headers)) == "request.unauthenticated"
    with pytest.raises(ServerError, match=r"request\.not_found"):
        server.tokens.revoke(token.split("-")[1])
    assert [row.revoked_at is None for row in server.tokens.list()].count(False) == 1
    assert all(token.split("-")[2] not in repr(row) for row in server.tokens.list())


def test_a_token_is_nothing_but_itself(server: Server, client: httpx.Client) -> None:
    token, _ = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    prefix, name, secret = token.split("-")
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert client.get("/v1/audit/devices", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    for text in (f"{prefix}-{name}-{wrong}", f"fkc-{name}-{secret}", name, secret, "x" * 5000, "'; DROP TABLE tokens; --"):
        assert code_of(client.get("/v1/audit/devices", headers={"Authorization": f"Bearer {text}"})) == "request.unauthenticated"
    assert code_of(client.get("/v1/audit/devices", headers={"Authorization": f"Basic {token}"})) == "request.unauthenticated"


def test_nothing_secret_is_stored(server: Server, client: httpx.Client, clock: ManualClock) -> None:
    token, _ = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    code, _ = server.codes.create("gate", HOUR)
    fresh(1, clock).enrol(client, code)
    held = MetaData()
    with server.store.reading() as connection:
        held.reflect(connection)
        rows = [row for table in held.tables.values() for row in connection.execute(select(table))]
    text = repr([[bytes(item) if isinstance(item, memoryview) else item for item in row] for row in rows])
    assert len(rows) > 4
    for secret in (token, token.split("-")[2], code, code.split("-")[2]):
        assert secret not in text


def test_hostile_labels_are_refused(server: Server, client: httpx.Client, administrator: dict[str, str]) -> None:
    for label in HOSTILE:
        content = json.dumps({"label": label}).encode()
        answer = client.post("/v1/admin/device-codes", content=content, headers=administrator)
        assert (answer.status_code, code_of(answer)) == (400, "request.malformed"), label
        with pytest.raises(ServerError, match=r"request\.malformed"):
            require_label(label)
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"label":1}',
        b'{"label":"a","x":1}',
        b'{"label":"a","hours":-1}',
        b'{"label":"a","hours":1e999}',
        b"\xff",
    ):
        answer = client.post("/v1/admin/device-codes", content=content, headers=administrator)
        assert (answer.status_code, code_of(answer)) == (400, "request.malformed"), content


# secrets and rates on their own


def test_secrets_are_compared_by_hash() -> None:
    issued = issue("fkt", SystemRandomness())
    presented = parse_secret("fkt", issued.text)
    assert presented is not None
    assert issued.text not in repr(issued) + repr(presented)
    assert is_secret(presented, issued.salt, issued.hash)
    assert not is_secret(presented, issued.salt, bytes(32))
    assert not is_secret(presented, bytes(16), issued.hash)
    assert not is_secret(presented, None, None)
    assert parse_secret("fkc", issued.text) is None
    assert len({issue("fkt", SystemRandomness()).text for _ in range(3)}) == 3


def test_a_bucket_empties_and_fills() -> None:
    now = [0.0]
    limit = RateLimit(2, 2, lambda: now[0])
    for _ in range(4):
        limit.take("a")
    with pytest.raises(ServerError) as caught:
        limit.take("a")
    assert (caught.value.code, caught.value.details) == ("request.too_many", {"retry_after": 1})
    limit.take("b")
    now[0] = 0.5
    limit.take("a")
    with pytest.raises(ServerError):
        limit.take("a")
    now[0] = 1000
    for _ in range(4):
        limit.take("a")
    with pytest.raises(ServerError):
        limit.take("a")


def test_devices_tokens_and_peers_are_limited(make_server: Callable[..., Server], clock: ManualClock) -> None:
    limits = {"device_requests_per_second": 1, "token_requests_per_second": 1, "burst_seconds": 5}
    server = make_server(limits=limits)
    device = fresh(1, clock)
    token, _ = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    with served(server) as client:
        device.enrol(client, server.codes.create("gate", HOUR)[0])
        answers = [device.request(client, "GET", "/v1/trail") for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert int(next(answer for answer in answers if answer.status_code == 429).headers["retry-after"]) >= 1
        answers = [client.get("/v1/audit/devices", headers={"Authorization": f"Bearer {token}"}) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200, 429}
    server = make_server(limits={"peer_requests_per_second": 1, "burst_seconds": 3})
    with served(server) as client:
        assert {client.get("/healthz").status_code for _ in range(8)} == {200, 429}
