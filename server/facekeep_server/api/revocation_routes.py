"""Revocation lists: an administrator hands in what the issuer signed, devices fetch it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from facekeep.clock import to_rfc3339
from facekeep.consent.revocation import LARGEST_LIST_BYTES
from facekeep_server.api.calling import SMALL_BODY_BYTES, authenticate_device, read_body, require_administrator, server_of
from facekeep_server.api.problems import problems
from facekeep_server.api.schemas import LARGEST_NUMBER, RevocationAnswer

device = APIRouter(prefix="/v1", tags=["device"])
administrator = APIRouter(prefix="/v1/admin", tags=["administrator"], dependencies=[Depends(require_administrator)])
_TEXT = "text/plain; charset=utf-8"
_NOTE = {"type": "string", "description": "a signed note: docs/formats/revocation-list.md"}
_SIGNED: dict[str, Any] = {"security": [{"HTTPMessageSignatures": []}]}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"text/plain": {"schema": _NOTE}}}}


@device.get(
    "/revocations",
    response_class=Response,
    responses={
        200: {"content": {_TEXT: {"schema": _NOTE}}},
        204: {"description": "The device has the newest one."},
        **problems(400, 401, 403, 404),
    },
    openapi_extra=_SIGNED,
)
async def newest(
    request: Request,
    issuer: Annotated[str, Query(min_length=1, max_length=255, description="name of the issuer's key")],
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER, description="epoch of the newest list seen, 0 for none")] = 0,
) -> Response:
    """Return the newest list of an issuer, as it was signed, if it is newer than what the device has seen."""
    server = server_of(request)
    await authenticate_device(request, await read_body(request, SMALL_BODY_BYTES))
    found = await run_in_threadpool(server.revocations.newest, issuer, after)
    if found is None:
        return Response(status_code=204)
    return Response(found, media_type=_TEXT, headers={"Cache-Control": "no-store"})


@administrator.post("/revocations", status_code=201, responses=problems(400, 401, 403, 409, 413), openapi_extra=_BODY)
async def publish(request: Request) -> RevocationAnswer:
    """Publish a signed list. The same list again is no error; an older one is refused."""
    server = server_of(request)
    content = await read_body(request, LARGEST_LIST_BYTES)
    head, is_newer = await run_in_threadpool(server.revocations.publish, content)
    return RevocationAnswer(
        issuer=head.issuer,
        epoch=head.epoch,
        entries=head.entries,
        issued_at=to_rfc3339(head.issued_at),
        next_update=to_rfc3339(head.next_update),
        is_new=is_newer,
    )
