"""What people may do: auditors read, administrators let devices in and put them out. Neither may do the other's."""

from __future__ import annotations

import base64
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from facekeep.clock import to_rfc3339
from facekeep_server.api.calling import SMALL_BODY_BYTES, parse_model, read_body, require_administrator, require_auditor, server_of
from facekeep_server.api.problems import problems
from facekeep_server.api.schemas import (
    LARGEST_NUMBER,
    CodeAnswer,
    CodeRequest,
    DeviceAnswer,
    EntryAnswer,
    HeadAnswer,
    IncidentAnswer,
)
from facekeep_server.errors import ServerError
from facekeep_server.log.finding import find_entries, find_incidents, read_evidence

auditor = APIRouter(prefix="/v1/audit", tags=["auditor"], dependencies=[Depends(require_auditor)])
administrator = APIRouter(prefix="/v1/admin", tags=["administrator"], dependencies=[Depends(require_administrator)])
Count = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[int, Query(ge=-1, le=LARGEST_NUMBER)]
DeviceName = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
AfterDevice = Annotated[str, Query(pattern="^[0-9a-f]{0,32}$")]
_READ = problems(400, 401, 403)
_CODE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": CodeRequest.model_json_schema()}}}
}


@auditor.get("/entries", responses=_READ)
def entries(
    request: Request,
    after: After = -1,
    count: Count = 100,
    device: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
    event: Annotated[str | None, Query(pattern="^[a-z][a-z_.]{0,63}$")] = None,
    subject: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
) -> list[EntryAnswer]:
    """Return lines of the log by number, all or those of a device, an event or a pseudonym."""
    found = find_entries(server_of(request).store, after, count, device, event, subject)
    return [EntryAnswer(number=row.number, device=row.device, line=row.line.decode()) for row in found]


@auditor.get("/devices", responses=_READ)
def audited_devices(request: Request, after: AfterDevice = "", count: Count = 100) -> list[DeviceAnswer]:
    """Return the fleet."""
    return _devices(request, after, count)


@auditor.get("/incidents", responses=_READ)
def incidents(request: Request, after: After = -1, count: Count = 100) -> list[IncidentAnswer]:
    """Return what was refused or changed."""
    return [IncidentAnswer(**asdict(row)) for row in find_incidents(server_of(request).store, after, count)]


@auditor.get(
    "/incidents/{incident}/evidence",
    response_class=Response,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}, **problems(400, 401, 403, 404)},
)
def evidence(request: Request, incident: Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]) -> Response:
    """Return the batch that contradicts what the same device submitted before, as it was signed."""
    found = read_evidence(server_of(request).store, incident)
    if found is None:
        raise ServerError("request.not_found", "This incident has no evidence.")
    return Response(found, media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


@auditor.get("/heads", responses=_READ)
def heads(
    request: Request, before: Annotated[int | None, Query(ge=0, le=LARGEST_NUMBER)] = None, count: Count = 100
) -> list[HeadAnswer]:
    """Return heads that were committed, the newest first."""
    found = server_of(request).reader.heads(before, count)
    return [HeadAnswer(size=size, root=base64.b64encode(root).decode(), committed_at=at) for size, root, at in found]


@administrator.post("/device-codes", status_code=201, responses=problems(400, 401, 403, 413), openapi_extra=_CODE)
async def create_code(request: Request) -> CodeAnswer:
    """Make a one-time code for a device. It is shown this once."""
    server = server_of(request)
    asked = parse_model(CodeRequest, await read_body(request, SMALL_BODY_BYTES))
    hours = asked.hours or server.configuration.access.enrolment_code_hours
    code, expires = await run_in_threadpool(server.codes.create, asked.label, timedelta(hours=hours))
    return CodeAnswer(code=code, expires_at=to_rfc3339(expires))


@administrator.get("/devices", responses=_READ)
def administered_devices(request: Request, after: AfterDevice = "", count: Count = 100) -> list[DeviceAnswer]:
    """Return the fleet."""
    return _devices(request, after, count)


@administrator.post("/devices/{device}/revocation", status_code=204, responses=problems(400, 401, 403, 404))
def revoke(request: Request, device: DeviceName) -> None:
    """Refuse everything this device says from now on."""
    server_of(request).devices.revoke(device)


def _devices(request: Request, after: str, count: int) -> list[DeviceAnswer]:
    return [DeviceAnswer(**asdict(row)) for row in server_of(request).devices.list(after, count)]
