"""Between the browser and the pages: who calls, what is answered, and refusals as pages instead of problem documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from facekeep.errors import FacekeepError
from facekeep_server.api.calling import server_of
from facekeep_server.assembly import Server
from facekeep_server.console.sessions import LONGEST, Sessions
from facekeep_server.errors import STATUS_OF, ServerError
from facekeep_server.evidence.logstate import Verification
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Table
from facekeep_server.pages import View, render

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    # Not no-referrer: under that a browser hides from us where a form was sent from, and sign-in asks for it.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Frame-Options": "DENY",
}
PAGES: Final = (
    ("/console", "Overview"),
    ("/console/consent", "Consent"),
    ("/console/retention", "Retention"),
    ("/console/erasures", "Erasures"),
    ("/console/identifications", "Identifications"),
    ("/console/log", "Log"),
    ("/console/entries", "Entries"),
    ("/console/incidents", "Incidents"),
    ("/console/federated", "Federated"),
    ("/console/reports", "Reports"),
)
LARGEST_EXPORT: Final = 10_000
_TITLES: Final = {400: "Not understood", 403: "Not allowed", 404: "Not found", 429: "Too many requests", 503: "Not available"}


@dataclass(frozen=True, slots=True)
class Desk:
    """What the console keeps for one server.

    Attributes:
        evidence: where the tables come from.
        sessions: who is signed in.
        verification: the last verdict on the log.
    """

    evidence: Evidence
    sessions: Sessions
    verification: Verification

    @property
    def server(self) -> Server:
        """The server."""
        return self.evidence.server


class ConsoleRoute(APIRoute):
    """A route whose refusals are pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with refusals made pages."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError:
                return refuse(request, ServerError("request.malformed", "The address has a part that is not of the form expected."))
            except FacekeepError as error:
                return refuse(request, error)

        return answer


def cookie_name(server: Server) -> str:
    """Return the name of the session cookie; the prefix makes browsers hold it to https and this very host."""
    return "__Host-facekeep" if is_https(server) else "facekeep-console"


def is_https(server: Server) -> bool:
    """Return whether browsers reach the server by https."""
    return server.configuration.http.public_url.startswith("https:")


def set_session(response: Response, server: Server, secret: str | None) -> None:
    """Give the browser a session, or take it away."""
    response.set_cookie(
        cookie_name(server),
        secret or "",
        max_age=int(LONGEST.total_seconds()) if secret else 0,
        path="/",
        secure=is_https(server),
        httponly=True,
        samesite="strict",
    )


def html(request: Request, template: str, status: int = 200, *, signed_in: bool = True, **values: Any) -> HTMLResponse:
    """Return a page with the headers every page has."""
    path = request.url.path
    frame = {
        "origin": server_of(request).configuration.log.origin,
        "pages": PAGES,
        "here": _current(path),
        "path": path,
        "searched": "",
        "signed_in": signed_in,
    }
    return HTMLResponse(render(template, **{**frame, **values}), status, HEADERS)


def _current(path: str) -> str:
    # The overview is above all others, and a person is a line of the ledger.
    under = path.replace("/console/subjects/", "/console/consent/")
    pages = [address for address, _ in PAGES]
    return next((page for page in pages if path == page or (page != pages[0] and under.startswith(f"{page}/"))), "")


def answer_view(request: Request, view: View, form: str | None, key: str | None) -> Response:
    """Return a view as a page, or one of its tables as CSV or JSON."""
    if form is None:
        return html(request, "view.html", view=view)
    table = view.table(key)
    if table is None:
        raise ServerError("request.not_found", "This page has no such table.")
    return export(table, form)


def export(table: Table, form: str) -> Response:
    """Return a table as a file."""
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="facekeep-{table.key}.{form}"'}
    if table.following:
        headers["X-Facekeep-Following"] = json.dumps(dict(table.following))
    if form == "csv":
        return Response(table.to_csv(), 200, headers, "text/csv; charset=utf-8; header=present")
    return Response(json.dumps(table.to_json(), indent=1), 200, headers, "application/json")


def refuse(request: Request, error: FacekeepError) -> Response:
    """Return the page of a refusal; who is not signed in is led to where that is done."""
    server_of(request).metrics.refusals.labels(error.code).inc()
    if error.code == "request.unauthenticated":
        return RedirectResponse("/console/login", 303, HEADERS)
    status = error.status if isinstance(error, ServerError) else STATUS_OF.get(error.code, 500)
    title = _TITLES.get(status, "Failed")
    page = html(request, "error.html", status, signed_in=False, title=title, message=error.args[0], code=error.code)
    if isinstance(error, ServerError) and "retry_after" in error.details:
        page.headers["Retry-After"] = str(error.details["retry_after"])
    return page


def asked(request: Request, *dropped: str) -> Mapping[str, str]:
    """Return the parameters of this request but for those named."""
    return {key: value for key, value in request.query_params.items() if key not in dropped}
