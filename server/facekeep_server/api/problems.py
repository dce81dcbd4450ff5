"""Refusals as HTTP: one form (RFC 9457), one place where exceptions become answers."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from facekeep.errors import FacekeepError
from facekeep_server.api.schemas import Problem
from facekeep_server.errors import STATUS_OF, OutOfSequenceError, ServerError

_LOG = logging.getLogger("facekeep_server.api")
MEDIA_TYPE = "application/problem+json"
REFUSED = "facekeep.refused"
_TITLES = {
    400: "Malformed",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    409: "In conflict with the log",
    413: "Too large",
    429: "Too many requests",
    500: "Failed",
    503: "Not available",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of refusals for OpenAPI."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _TITLES[status], "content": content} for status in (*statuses, 429, 500, 503)}


def to_response(error: FacekeepError) -> JSONResponse:
    """Return the answer to a refusal."""
    if isinstance(error, ServerError):
        problem, status = error.to_problem(), error.status
    else:
        status = STATUS_OF.get(error.code, 500)
        problem = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": error.args[0], "code": error.code}
        problem |= error.details if isinstance(error, OutOfSequenceError) else {}
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Signature, Bearer realm="facekeep"'
    if "retry_after" in problem:
        headers["Retry-After"] = str(problem["retry_after"])
    return JSONResponse(problem, status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Make every exception one of our refusals."""

    def answer(request: Request, error: FacekeepError) -> JSONResponse:
        request.app.state.server.metrics.refusals.labels(error.code).inc()
        # For the journal, which writes one line when the request is over.
        request.scope[REFUSED] = error.code
        return to_response(error)

    async def typed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, FacekeepError)  # noqa: S101 - registered for these
        return answer(request, error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for these
        # Names of parameters are ours; what was sent in them is not repeated.
        names = ", ".join(
            sorted({str(item["loc"][-1]) for item in error.errors() if item["loc"] and item["loc"][0] in ("query", "path")})
        )
        return answer(request, ServerError("request.malformed", f"The request is not as described: {names or 'its content'}."))

    async def plain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for these
        code = {404: "request.not_found", 405: "request.method_not_allowed"}.get(error.status_code, "request.malformed")
        response = answer(request, ServerError(code, "There is nothing of this kind here."))
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("request.failed", exc_info=error, extra={"code": "server.internal"})
        return answer(request, ServerError("server.internal", "The server failed. Nothing was acknowledged."))

    app.add_exception_handler(FacekeepError, typed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unforeseen)


def add_problem_schema(document: dict[str, Any]) -> None:
    """Put the form of a refusal into an OpenAPI document."""
    document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
