"""The interface as described and as served: OpenAPI, health, figures, log lines; nothing personal in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from facekeep.clock import ManualClock
from facekeep_server.access.roles import Role
from facekeep_server.api import create_app
from facekeep_server.assembly import Server
from facekeep_server.errors import CODES, STATUS_OF, ServerError
from facekeep_server.journal import FIELDS, JournalFormatter
from tests.server.conftest import served
from tests.server.devices import TestDevice

HOUR = timedelta(hours=1)


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: object, value: object) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


def test_health_readiness_and_figures(client: httpx.Client, server: Server, device: TestDevice) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    device.submit(client, device.write(3))
    device.submit(client, device.write(1))
    text = client.get("/metrics").text
    assert "facekeep_log_lines_appended_total 6.0" in text
    assert "facekeep_log_size 7.0" in text
    assert 'route="/v1/trail"' in text
    assert device.id not in text
    server.sequencer.stop()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "server.unavailable")
    assert client.get("/healthz").status_code == 200


def test_every_answer_has_its_headers_and_every_refusal_its_form(client: httpx.Client) -> None:
    for path in ("/healthz", "/nothing", "/v1/trail", "/log/tile/x", "/v1/audit/devices", "/<script>", "/'%20OR%201=1", "/%ff"):
        answer = client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        if answer.status_code != 200:
            problem = answer.json()
            assert problem["status"] == answer.status_code
            assert CODES[problem["code"]][0] == answer.status_code
            assert "script" not in answer.text
    assert client.put("/healthz").json()["code"] == "request.method_not_allowed"
    # No page that loads anything from elsewhere.
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404


def test_the_description_names_every_address_and_its_credential(server: Server) -> None:
    document = create_app(server).openapi()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            kind = next((name for name in ("/v1/devices", "/v1/trail", "/v1/revocations") if path == name), None)
            if kind:
                assert operation["security"] == [{"HTTPMessageSignatures": []}], (path, method)
            elif path.startswith(("/v1/audit", "/v1/admin")):
                assert operation["security"] == [{"HTTPBearer": []}], (path, method)
            else:
                assert "security" not in operation
    assert {"/v1/devices", "/v1/trail", "/log/checkpoint", "/log/tile/{place}", "/metrics"} <= set(document["paths"])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_schemathesis_finds_no_answer_that_is_not_described(make_server: Callable[..., Server], clock: ManualClock) -> None:
    server = make_server()
    auditor = server.tokens.create(Role.AUDITOR, "auditor", HOUR)[0]
    administrator = server.tokens.create(Role.ADMINISTRATOR, "admin", HOUR)[0]
    with served(server) as client:
        device = TestDevice(bytes([1]) * 32, clock=clock)
        device.enrol(client, server.codes.create("gate", HOUR)[0])
        device.submit(client, device.write(300))
        schema = schemathesis.openapi.from_dict(create_app(server).openapi())
        tried = 0
        statuses: set[int] = set()

        def examine(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            token = administrator if case.path.startswith("/v1/admin") else auditor
            request = httpx.Request(**_arguments(case, str(client.base_url)))
            request.headers["Authorization"] = f"Bearer {token}"
            if case.path in ("/v1/trail", "/v1/devices", "/v1/revocations"):
                target = request.url.raw_path.decode("ascii")
                request.headers.update(device.headers(request.method, target, request.read()))
            answer = client.send(request)
            statuses.add(answer.status_code)
            assert answer.status_code != 500, answer.text
            case.operation.validate_response(answer)
            described = case.operation.definition.raw["responses"]
            assert str(answer.status_code) in described or answer.status_code in (404, 405), (case.path, answer.text)

        for found in schema.get_all_operations():
            operation = found.ok()
            run = settings(
                max_examples=10,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            run(given(case=operation.as_strategy())(examine))()
        assert tried > 80
        assert {200, 400} <= statuses
        server.check()


def _arguments(case: schemathesis.Case, base: str) -> dict[str, object]:
    sent = case.as_transport_kwargs(base_url=base)
    prepared = requests.Request(
        sent["method"],
        sent["url"],
        params=sent.get("params"),
        headers={str(k): str(v) for k, v in (sent.get("headers") or {}).items()},
        data=sent.get("data"),
        json=sent.get("json"),
    ).prepare()
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body or b""
    headers = {name: value for name, value in prepared.headers.items() if name.lower() in ("content-type", "accept")}
    return {"method": sent["method"], "url": prepared.url, "headers": headers, "content": body}


# the server's own log lines


def lines_of(act: Callable[[logging.Logger], None], name: str = "facekeep_server.test") -> list[dict[str, object]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JournalFormatter())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        act(logger)
    finally:
        logger.removeHandler(handler)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_line_carries_listed_fields_and_no_message(caplog: pytest.LogCaptureFixture) -> None:
    def act(logger: logging.Logger) -> None:
        logger.error("request.failed", extra={"code": "server.internal", "subject": "anna"})
        logger.error("hello %s", "anna")
        try:
            raise ValueError("anna")
        except ValueError:
            logger.exception("request.failed")

    lines = lines_of(act)
    assert [line["event"] for line in lines] == ["request.failed", "message", "request.failed"]
    assert lines[0]["code"] == "server.internal"
    assert lines[2]["error"] == "ValueError"
    assert str(lines[2]["place"]).startswith("tests.server.test_interface:")
    assert "anna" not in json.dumps(lines)
    assert all(set(line) <= {"time", "level", "source", "event", *FIELDS} for line in lines)
    (foreign,) = lines_of(lambda logger: logger.error("anna"), "uvicorn.error.test")
    assert foreign["event"] == "message"
    del caplog


def test_the_journal_of_a_whole_day_names_nobody(make_server: Callable[..., Server], clock: ManualClock) -> None:
    server = make_server()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JournalFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger("facekeep_server").setLevel(logging.DEBUG)
    token, _ = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    try:
        with served(server) as client:
            device = TestDevice(bytes([1]) * 32, clock=clock)
            code, _ = server.codes.create("gate", HOUR)
            device.enrol(client, code)
            device.submit(client, device.write(2))
            device.submit(client, TestDevice(device.seed, clock=clock).write(2, salt="x"))
            client.get("/v1/audit/entries", params={"subject": "ab" * 32}, headers={"Authorization": f"Bearer {token}"})
            client.get("/v1/audit/entries", params={"subject": "anna"}, headers={"Authorization": f"Bearer {token}"})
            client.get("/anna?name=anna")
            figures = client.get("/metrics").text
        text = stream.getvalue() + figures
    finally:
        logging.getLogger().removeHandler(handler)
    assert text.count("request.answered") >= 6
    for word in (device.id, code, code.split("-")[2], token, token.split("-")[1], "anna", "ab" * 32, "127.0.0.1", "gate"):
        assert word not in text


def test_every_refusal_is_in_the_journal_with_its_code(make_server: Callable[..., Server], clock: ManualClock) -> None:
    server = make_server(limits={"body_bytes": 4096})
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JournalFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger("facekeep_server").setLevel(logging.INFO)
    token, _ = server.tokens.create(Role.AUDITOR, "auditor", HOUR)
    wanted: list[str] = []
    try:
        with served(server) as client:
            device, stranger = TestDevice(bytes([1]) * 32, clock=clock), TestDevice(bytes([2]) * 32, clock=clock)
            device.enrol(client, server.codes.create("gate", HOUR)[0])
            batch = device.write(2)
            signed = device.headers("POST", "/v1/trail", batch.to_bytes())

            def send(code: str, headers: dict[str, str], content: bytes = batch.to_bytes(), target: str = "/v1/trail") -> None:
                answer = client.post(target, content=content, headers=headers)
                assert answer.json()["code"] == code, answer.text
                wanted.append(code)

            assert client.post("/v1/trail", content=batch.to_bytes(), headers=signed).status_code == 200
            send("request.replayed", signed)
            send("request.unauthenticated", signed | {"Signature": "sig=:" + "A" * 86 + "==:"})
            send("request.unauthenticated", stranger.headers("POST", "/v1/trail", batch.to_bytes()))
            send("request.clock_off", device.headers("POST", "/v1/trail", batch.to_bytes(), late=HOUR))
            send("request.too_large", signed, b"x" * 5000)
            send("audit.invalid_entry", device.headers("POST", "/v1/trail", b"{}"), b"{}")
            foreign = stranger.write(1).to_bytes()
            send("submission.foreign", device.headers("POST", "/v1/trail", foreign), foreign)
            send("request.forbidden", {"Authorization": f"Bearer {token}"}, b"{}", "/v1/admin/device-codes")
            send("request.not_found", {}, b"", "/nothing")
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    answered = [line for line in lines if line["event"] == "request.answered"]
    assert [line["code"] for line in answered if "code" in line] == wanted
    assert all("code" not in line for line in answered if line["status"] < 400)


def test_codes_are_documented_and_errors_carry_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "server-api.md").read_text()
    for code, (status, meaning) in CODES.items():
        assert f"| `{code}` | {status} | {meaning} |" in page
    for code, status in STATUS_OF.items():
        assert f"`{code}` ({status})" in page
    error = ServerError("request.too_many", "Wait.", retry_after=3)
    assert error.to_problem()["retry_after"] == 3
    assert str(error) == "Wait. [request.too_many]"
    with pytest.raises(ValueError, match="not a code"):
        ServerError("no.such", "x")
    sources = "\n".join(
        path.read_text() for path in (Path(__file__).parents[2] / "server").rglob("*.py") if path.name != "errors.py"
    )
    assert [code for code in CODES if f'"{code}"' not in sources] == []
