"""The ASGI application."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facekeep_server.api import device_routes, health_routes, log_routes, people_routes, revocation_routes
from facekeep_server.api.problems import REFUSED, add_handlers, add_problem_schema, to_response
from facekeep_server.assembly import Server
from facekeep_server.console import create_console
from facekeep_server.errors import ServerError

_LOG = logging.getLogger("facekeep_server.api")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
VERSION = "1"


def create_app(server: Server) -> FastAPI:
    """Return the application over a server, which it starts and stops."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        try:
            yield
        finally:
            server.stop()

    # The built-in documentation pages load scripts from another host; the description itself is served.
    app = FastAPI(title="Facekeep server", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = server
    for router in (
        device_routes.router,
        log_routes.router,
        people_routes.auditor,
        people_routes.administrator,
        revocation_routes.device,
        revocation_routes.administrator,
        health_routes.router,
    ):
        app.include_router(router)
    app.include_router(create_console(server))
    add_handlers(app)
    app.add_middleware(_Journal, server=server)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


def _describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        add_problem_schema(document)
        document["components"].setdefault("securitySchemes", {})["HTTPMessageSignatures"] = {
            "type": "http",
            "scheme": "signature",
            "description": "RFC 9421 with the device's Ed25519 key, the profile of docs/formats/server-api.md",
        }
        app.openapi_schema = document
    return app.openapi_schema


class _Journal:
    """Counts and times each request, limits each peer, and adds the headers every answer has."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((k, v) for k, v in _HEADERS.items() if k not in present)]
            await send(message)

        peer = scope.get("client")
        try:
            self._server.peer_rate.take(peer[0] if peer else "")
        except ServerError as error:
            self._server.metrics.refusals.labels(error.code).inc()
            scope[REFUSED] = error.code
            await to_response(error)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The pattern of the address, never the address: that may hold anything.
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self._server.metrics.requests.labels(method, route, str(status)).inc()
        self._server.metrics.seconds.labels(route).observe(seconds)
        # `code` only where the request was refused: which refusals there were is what an auditor asks first.
        extra = {
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds),
            "code": scope.get(REFUSED),
        }
        _LOG.info("request.answered", extra=extra)
