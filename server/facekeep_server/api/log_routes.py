"""The log for everyone: checkpoint, tiles and proofs hold hashes only. Bundles hold entries and are for auditors."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from facekeep.clock import to_rfc3339
from facekeep.errors import LogError
from facekeep.tlog import parse_tile_path
from facekeep.tlog.tiles import ENTRIES, WIDTH
from facekeep_server.api.calling import require_auditor, server_of
from facekeep_server.api.problems import problems
from facekeep_server.api.schemas import LARGEST_NUMBER, LogKeyAnswer, ProofAnswer
from facekeep_server.errors import ServerError

router = APIRouter(tags=["log"])
Number = Annotated[int, Query(ge=0, le=LARGEST_NUMBER)]


@router.get(
    "/log/checkpoint",
    response_class=Response,
    responses={200: {"content": {"text/plain; charset=utf-8": {"schema": {"type": "string"}}}}, **problems()},
)
def checkpoint(request: Request) -> Response:
    """Return the newest checkpoint, a signed note (https://c2sp.org/tlog-checkpoint), with witnesses the newest they have seen."""
    _, note = server_of(request).published()
    return Response(note, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-cache"})


@router.get(
    "/log/tile/{place:path}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        **problems(400, 401, 403, 404),
    },
)
async def tile(
    request: Request,
    place: Annotated[str, Path(description='"0/x001/234", "0/000.p/7" or "entries/000" (https://c2sp.org/tlog-tiles)')],
) -> Response:
    """Return a tile of hashes, or a bundle of entries to an auditor."""
    server = server_of(request)
    try:
        wanted = parse_tile_path(f"tile/{place}")
    except LogError:
        raise ServerError("request.not_found", "It is not the path of a tile.") from None
    if wanted.index * WIDTH > LARGEST_NUMBER:
        raise ServerError("request.not_found", "The log has no such tile.")
    if wanted.level == ENTRIES and not server.configuration.log.public_entries:
        await require_auditor(request, None)
    read = server.reader.bundle if wanted.level == ENTRIES else server.reader.tile
    data = await run_in_threadpool(read, wanted)
    scope = "public" if wanted.level != ENTRIES or server.configuration.log.public_entries else "private"
    return Response(data, media_type="application/octet-stream", headers={"Cache-Control": f"{scope}, max-age=31536000, immutable"})


@router.get("/v1/log/inclusion", responses=problems(400))
def inclusion(request: Request, number: Number, size: Number) -> ProofAnswer:
    """Return why a line is in the tree of the first `size` lines."""
    return _answer(server_of(request).reader.inclusion(number, size))


@router.get("/v1/log/consistency", responses=problems(400))
def consistency(request: Request, old: Number, new: Number) -> ProofAnswer:
    """Return why the tree of `new` lines continues that of `old` lines."""
    return _answer(server_of(request).reader.consistency(old, new))


@router.get("/v1/log/keys", responses=problems())
def keys(request: Request) -> list[LogKeyAnswer]:
    """Return the log's keys, the newest first. Trust them only if you have them from elsewhere too."""
    return [
        LogKeyAnswer(
            vkey=row.key.to_vkey(),
            created_at=to_rfc3339(row.created_at),
            retires_at=to_rfc3339(row.retires_at) if row.retires_at else None,
        )
        for row in server_of(request).keys.list()
    ]


def _answer(path: tuple[bytes, ...]) -> ProofAnswer:
    return ProofAnswer(path=[base64.b64encode(item).decode() for item in path])
