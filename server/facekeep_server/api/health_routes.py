"""Whether the server lives, whether it can work, and its figures. Nothing personal."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from facekeep.errors import FacekeepError
from facekeep_server.api.calling import server_of
from facekeep_server.api.problems import problems
from facekeep_server.api.schemas import Health
from facekeep_server.errors import ServerError
from facekeep_server.store import require_current_schema

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> Health:
    """Say that the process answers."""
    return Health(status="ok")


@router.get("/readyz", responses=problems(503))
def readyz(request: Request) -> Health:
    """Say whether the database answers with the right schema, checkpoints can be signed and entries appended."""
    server = server_of(request)
    try:
        require_current_schema(server.store)
        server.reader.checkpoint()
    except FacekeepError as error:
        raise ServerError("server.unavailable", f"Not ready: {error.code}.") from None
    if not server.sequencer.is_alive:
        raise ServerError("server.unavailable", "Not ready: nothing can be appended.")
    return Health(status="ready")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain; version=0.0.4; charset=utf-8": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Return figures for Prometheus."""
    server = server_of(request)
    server.metrics.pending.set(server.sequencer.pending)
    return Response(server.metrics.to_text(), media_type="text/plain; version=0.0.4; charset=utf-8")
