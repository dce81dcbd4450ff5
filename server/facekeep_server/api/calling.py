"""Who calls, and what was sent: size first, then the credential, only then the content."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from facekeep_server.access.requests import SignedRequest
from facekeep_server.access.roles import Role
from facekeep_server.access.tokens import Bearer
from facekeep_server.assembly import Server
from facekeep_server.errors import ServerError

bearer_scheme = HTTPBearer(auto_error=False, description="Token of an auditor or administrator.")
SMALL_BODY_BYTES = 4096


def server_of(request: Request) -> Server:
    """Return the server behind the application."""
    server = request.app.state.server
    assert isinstance(server, Server)  # noqa: S101 - set where the application is made
    return server


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes, as soon as it is here.

    Raises:
        ServerError: "request.too_large" before more than that is read; "request.malformed" when it does not come.
    """
    stated = request.headers.get("content-length")
    if stated is not None and (not stated.isascii() or not stated.isdigit() or len(stated) > 15 or int(stated) > limit):
        raise _too_large(limit)
    parts, size = [], 0
    try:
        async with asyncio.timeout(server_of(request).configuration.limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except (TimeoutError, ClientDisconnect):
        raise ServerError("request.malformed", "The content did not come in time.") from None
    return b"".join(parts)


def signed_request(request: Request, content: bytes) -> SignedRequest:
    """Return the request as the signature sees it."""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope["query_string"]
    try:
        target = (path + (b"?" + query if query else b"")).decode("ascii")
    except UnicodeDecodeError:
        raise ServerError("request.malformed", "The address is not ASCII.") from None
    # The public address is configured, not taken from Host: that would be the caller's word.
    uri = server_of(request).configuration.http.public_url + target
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return SignedRequest(request.method, uri, headers, content)


async def authenticate_device(request: Request, content: bytes) -> tuple[str, bytes]:
    """Return the device that signed this request and its key.

    Raises:
        ServerError: what `Requests.authenticate` finds, "request.too_many".
    """
    server = server_of(request)
    device, key = await run_in_threadpool(server.requests.authenticate, signed_request(request, content))
    server.device_rate.take(device)
    return device, key


async def _bearer(request: Request, role: Role) -> Bearer:
    server = server_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ServerError("request.unauthenticated", "This address needs a token: Authorization: Bearer ...")
    bearer = await run_in_threadpool(server.tokens.authenticate, token)
    server.token_rate.take(bearer.token_id)
    if bearer.role is not role:
        raise ServerError("request.forbidden", f"This address is for the role {role}.")
    return bearer


async def require_auditor(request: Request, _scheme: Annotated[object, Depends(bearer_scheme)]) -> Bearer:
    """Return the auditor who calls."""
    return await _bearer(request, Role.AUDITOR)


async def require_administrator(request: Request, _scheme: Annotated[object, Depends(bearer_scheme)]) -> Bearer:
    """Return the administrator who calls."""
    return await _bearer(request, Role.ADMINISTRATOR)


_Model = TypeVar("_Model", bound=BaseModel)


def parse_model(model: type[_Model], content: bytes) -> _Model:
    """Return the JSON body as `model`.

    Raises:
        ServerError: "request.malformed", naming the members at fault, not their values.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        # Only names of ours: an unknown member's name is the caller's text.
        names = {
            str(item["loc"][0]) if item["loc"] and item["loc"][0] in model.model_fields else "content" for item in error.errors()
        }
        raise ServerError("request.malformed", f"The content is not as described: {', '.join(sorted(names))}.") from None


def parse_key(text: str) -> bytes:
    """Return the 32 bytes of a public key; the schema has seen its form."""
    return base64.b64decode(text)


def _too_large(limit: int) -> ServerError:
    return ServerError("request.too_large", f"The content may have {limit} bytes at most.", limit=limit)
