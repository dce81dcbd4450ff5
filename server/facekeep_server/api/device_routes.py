"""What a device may do: enrol once, submit its trail, ask where the log stands with it. Every request is signed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from facekeep.audit.entry import TrailBatch, device_id
from facekeep_server.access.enrolment import Enrolment
from facekeep_server.api.calling import (
    SMALL_BODY_BYTES,
    authenticate_device,
    parse_key,
    parse_model,
    read_body,
    server_of,
    signed_request,
)
from facekeep_server.api.problems import problems
from facekeep_server.api.schemas import EnrolmentAnswer, EnrolmentRequest, LineProof, SubmissionAnswer, TrailState
from facekeep_server.assembly import Server
from facekeep_server.errors import ServerError
from facekeep_server.log.submission import Submission

router = APIRouter(prefix="/v1", tags=["device"])
_SIGNED: dict[str, Any] = {"security": [{"HTTPMessageSignatures": []}]}


def _described(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    # The body is read by us, size first; this only describes it.
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}, **_SIGNED}


_LINES = {"type": "string", "description": "lines of canonical JSON, each ended by a newline: docs/formats/log-entry.md"}


@router.post(
    "/devices",
    status_code=201,
    responses=problems(400, 401, 403, 409, 413),
    openapi_extra=_described("application/json", EnrolmentRequest.model_json_schema()),
)
async def enrol(request: Request) -> EnrolmentAnswer:
    """Enrol the key that signed this request, by a one-time code. Asked again, it gives the same answer."""
    server = server_of(request)
    content = await read_body(request, SMALL_BODY_BYTES)
    asked = parse_model(EnrolmentRequest, content)
    key = parse_key(asked.public_key)
    device = device_id(key)
    await run_in_threadpool(server.requests.authenticate_key, signed_request(request, content), device, key)
    server.device_rate.take(device)
    code = await run_in_threadpool(server.codes.check, asked.code, server.configuration.access.code_attempts)
    done = await asyncio.wrap_future(server.sequencer.submit(Enrolment(code, key)))
    proofs, checkpoint = await run_in_threadpool(_prove, server, [done.number])
    return EnrolmentAnswer(device=done.device, line=proofs[0], checkpoint=checkpoint)


@router.get("/trail", responses=problems(401, 403), openapi_extra=_SIGNED)
async def trail(request: Request) -> TrailState:
    """Say which entry of its trail the device submits next."""
    server = server_of(request)
    device, _ = await authenticate_device(request, await read_body(request, SMALL_BODY_BYTES))
    return TrailState(device=device, expected=(await run_in_threadpool(server.devices.trail, device)).size)


@router.post(
    "/trail",
    responses=problems(400, 401, 403, 409, 413),
    openapi_extra=_described("application/x-ndjson", _LINES),
)
async def submit(request: Request, proofs: Annotated[Literal["all", "head"], Query()] = "all") -> SubmissionAnswer:
    """Append a batch to the log and answer once it is on the disk. Sent again, it gives the same numbers."""
    server = server_of(request)
    content = await read_body(request, server.configuration.limits.body_bytes)
    device, key = await authenticate_device(request, content)
    job = await run_in_threadpool(_examine, server, content, device, key)
    done = await asyncio.wrap_future(server.sequencer.submit(job))
    server.metrics.appended.inc(done.fresh)
    server.metrics.found.inc(job.lines - done.fresh)
    wanted = done.numbers if proofs == "all" else done.numbers[-1:]
    found, checkpoint = await run_in_threadpool(_prove, server, wanted)
    return SubmissionAnswer.model_construct(
        first=done.first, numbers=list(done.numbers), expected=done.expected, proofs=found, checkpoint=checkpoint
    )


def _examine(server: Server, content: bytes, device: str, key: bytes) -> Submission:
    batch = TrailBatch.parse(content)
    if batch.device != device:
        raise ServerError("submission.foreign", "A device submits its own trail.")
    job = Submission(batch, timedelta(seconds=server.configuration.access.entry_clock_window_seconds))
    job.verify_ahead(key, server.devices.trail(device))
    return job


def _prove(server: Server, numbers: Sequence[int]) -> tuple[list[LineProof], str]:
    head, note = server.reader.checkpoint()
    paths = server.reader.inclusions(numbers, head.size)
    server.metrics.size.set(head.size)
    made = [
        # Not checked again: made here, of the types stated.
        LineProof.model_construct(number=number, path=[base64.b64encode(item).decode() for item in path])
        for number, path in zip(numbers, paths, strict=True)
    ]
    return made, note
