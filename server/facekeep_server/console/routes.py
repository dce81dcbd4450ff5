"""The console's addresses. Every page is a GET that changes nothing; POST signs in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from facekeep.randomness import SystemRandomness
from facekeep_server.api.calling import SMALL_BODY_BYTES, read_body
from facekeep_server.api.schemas import LARGEST_NUMBER
from facekeep_server.assembly import Server
from facekeep_server.console import views
from facekeep_server.console.calling import (
    HEADERS,
    LARGEST_EXPORT,
    ConsoleRoute,
    Desk,
    answer_view,
    asked,
    cookie_name,
    html,
    set_session,
)
from facekeep_server.console.sessions import Sessions, require_same_origin
from facekeep_server.errors import ServerError
from facekeep_server.evidence.entries import prove_entry
from facekeep_server.evidence.logstate import Verification
from facekeep_server.evidence.sources import Evidence
from facekeep_server.pages import View, style
from facekeep_server.reports.catalogue import REPORTS, make_report
from facekeep_server.reports.names import ReportName

Form = Annotated[Literal["csv", "json"] | None, Query(alias="format")]
Key = Annotated[str | None, Query(alias="table", pattern="^[a-z_]{1,32}$")]
Before = Annotated[int | None, Query(ge=0, le=LARGEST_NUMBER)]
Start = Annotated[int, Query(ge=0, le=LARGEST_NUMBER)]
Device = Annotated[str | None, Query(pattern="^([0-9a-f]{32})?$")]
Subject = Annotated[str | None, Query(pattern="^([0-9a-f]{64})?$")]
Event = Annotated[str | None, Query(pattern="^([a-z][a-z_.]{0,63})?$")]
State = Annotated[str | None, Query(pattern="^([a-z ]{1,20})?$")]
Instant = Annotated[str | None, Query(pattern=r"^([0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9:.Z]{1,13})?)?)?)?$")]
Number = Annotated[int, Path(ge=0, le=LARGEST_NUMBER)]


def create_console(server: Server) -> APIRouter:
    """Return the pages over a server, to be included in its application."""
    desk = Desk(Evidence.of(server), Sessions(server.store, server.tokens, server.clock, SystemRandomness()), Verification())

    def require_session(request: Request) -> None:
        token_id = desk.sessions.find(request.cookies.get(cookie_name(server)))
        server.token_rate.take(token_id)

    console = APIRouter(prefix="/console", route_class=ConsoleRoute, include_in_schema=False)
    private = APIRouter(
        prefix="/console", route_class=ConsoleRoute, include_in_schema=False, dependencies=[Depends(require_session)]
    )
    _add_signing_in(console, desk)
    _add_pages(private, desk)
    _add_proofs_and_reports(private, desk)

    @private.get("/{rest:path}")
    def nothing(rest: str) -> Response:
        raise ServerError("request.not_found", "The console has no such page.")

    pages = APIRouter()
    pages.include_router(console)
    pages.include_router(private)
    return pages


def _add_signing_in(console: APIRouter, desk: Desk) -> None:
    server = desk.server

    @console.get("/static/console.css")
    def stylesheet() -> Response:
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Cross-Origin-Resource-Policy": "same-origin"}
        return Response(style()[0], 200, headers, "text/css; charset=utf-8")

    @console.get("/login")
    def ask(request: Request) -> Response:
        return html(request, "login.html", signed_in=False, error="")

    @console.post("/login")
    async def sign_in(request: Request) -> Response:
        _require_form(request, server)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            raise ServerError("request.malformed", "Sign-in is a form.")
        content = await read_body(request, SMALL_BODY_BYTES)
        try:
            fields = parse_qs(content.decode("ascii"), strict_parsing=True, max_num_fields=4)
        except ValueError:
            fields = {}
        try:
            token = fields.get("token", [""])[0].strip()
            secret, bearer = await run_in_threadpool(desk.sessions.begin, token)
            server.token_rate.take(bearer.token_id)
        except ServerError as error:
            server.metrics.refusals.labels(error.code).inc()
            return html(request, "login.html", error.status, signed_in=False, error=error.args[0])
        response = RedirectResponse("/console", 303, HEADERS)
        desk.sessions.end(request.cookies.get(cookie_name(server)))
        set_session(response, server, secret)
        return response

    @console.post("/logout")
    def sign_out(request: Request) -> Response:
        _require_form(request, server)
        desk.sessions.end(request.cookies.get(cookie_name(server)))
        response = RedirectResponse("/console/login", 303, {**HEADERS, "Clear-Site-Data": '"cache"'})
        set_session(response, server, None)
        return response


def _add_pages(private: APIRouter, desk: Desk) -> None:
    evidence = desk.evidence

    def answer(request: Request, form: str | None, key: str | None, make: Callable[[int], View]) -> Response:
        return answer_view(request, make(LARGEST_EXPORT if form else views.PAGE_ROWS), form, key)

    @private.get("")
    def overview(request: Request, form: Form = None, key: Key = None) -> Response:
        return answer(request, form, key, lambda _: views.overview(evidence))

    @private.get("/consent")
    def consent(
        request: Request, state: State = None, device: Device = None, start: Start = 0, form: Form = None, key: Key = None
    ) -> Response:
        parameters = asked(request, "start", "format", "table")
        return answer(request, form, key, lambda count: views.consent(evidence, state, device, start, count, parameters))

    @private.get("/subjects/{pseudonym}")
    def subject(
        request: Request,
        pseudonym: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
        before: Before = None,
        form: Form = None,
        key: Key = None,
    ) -> Response:
        return answer(request, form, key, lambda count: views.subject(evidence, pseudonym, before, count))

    @private.get("/retention")
    def retention(
        request: Request,
        state: State = None,
        start: Start = 0,
        before: Before = None,
        form: Form = None,
        key: Key = None,
    ) -> Response:
        parameters = asked(request, "start", "before", "format", "table")
        return answer(request, form, key, lambda count: views.retention(evidence, state, start, before, count, parameters))

    @private.get("/erasures")
    def erasures(request: Request, before: Before = None, form: Form = None, key: Key = None) -> Response:
        return answer(request, form, key, lambda count: views.erasures(evidence, before, count))

    @private.get("/identifications")
    def identifications(
        request: Request, since: Instant = None, until: Instant = None, before: Before = None, form: Form = None, key: Key = None
    ) -> Response:
        parameters = asked(request, "before", "format", "table")
        return answer(request, form, key, lambda count: views.identifications(evidence, since, until, before, count, parameters))

    @private.get("/log")
    def log(request: Request, before: Before = None, form: Form = None, key: Key = None) -> Response:
        return answer(request, form, key, lambda count: views.log(evidence, desk.verification, before, count))

    @private.get("/entries")
    def entries(
        request: Request,
        device: Device = None,
        event: Event = None,
        pseudonym: Annotated[Subject, Query(alias="subject")] = None,
        only: Annotated[Literal["failed", ""] | None, Query()] = None,
        since: Instant = None,
        until: Instant = None,
        before: Before = None,
        form: Form = None,
        key: Key = None,
    ) -> Response:
        wanted = views.Wanted(device or None, event or None, pseudonym or None, only == "failed", since or None, until or None)
        parameters = asked(request, "before", "format", "table")
        return answer(request, form, key, lambda count: views.entries(evidence, wanted, before, count, parameters))

    @private.get("/incidents")
    def incidents(request: Request, before: Before = None, form: Form = None, key: Key = None) -> Response:
        return answer(request, form, key, lambda count: views.incidents(evidence, before, count))

    @private.get("/federated")
    def federated(request: Request, start: Start = 0, form: Form = None, key: Key = None) -> Response:
        return answer(request, form, key, lambda count: views.federated(evidence, start, count))

    @private.get("/search")
    def search(request: Request, q: Annotated[str, Query(max_length=128)] = "", form: Form = None, key: Key = None) -> Response:
        view = views.search(evidence, q.strip())
        if form is None:
            return html(request, "view.html", view=view, searched=q)
        return answer_view(request, view, form, key)


def _add_proofs_and_reports(private: APIRouter, desk: Desk) -> None:
    evidence = desk.evidence

    @private.get("/entries/{number}")
    def entry(request: Request, number: Number, form: Form = None, key: Key = None) -> Response:
        return answer_view(request, views.entry(evidence, number), form, key)

    @private.get("/entries/{number}/proof")
    def proof(number: Number) -> Response:
        text = prove_entry(evidence, number).proof.to_text()
        headers = {**HEADERS, "Content-Disposition": f'attachment; filename="entry-{number}.tlog-proof"'}
        return Response(text, 200, headers, "text/plain; charset=utf-8")

    @private.get("/entries/{number}/line")
    def line(number: Number) -> Response:
        headers = {**HEADERS, "Content-Disposition": f'attachment; filename="entry-{number}.json"'}
        return Response(prove_entry(evidence, number).line.line, 200, headers, "application/octet-stream")

    @private.get("/reports")
    def reports(request: Request) -> Response:
        return html(request, "view.html", view=views.reports(REPORTS))

    @private.get("/reports/{name}")
    def report(
        name: ReportName,
        subject: Subject = None,
        since: Instant = None,
        until: Instant = None,
        form: Annotated[Literal["html", "json"], Query(alias="format")] = "html",
    ) -> Response:
        made = make_report(evidence, name, subject=subject or None, since=since or None, until=until or None)
        content, media_type = (
            (made.to_html(), "text/html; charset=utf-8") if form == "html" else (made.to_text(), "application/json")
        )
        # The page brings its style along, named by its hash in the page's own policy.
        headers = {**HEADERS, "Content-Security-Policy": made.content_security_policy}
        headers["Content-Disposition"] = f'{"inline" if form == "html" else "attachment"}; filename="{name.value}.{form}"'
        return Response(content, 200, headers, media_type)


def _require_form(request: Request, server: Server) -> None:
    found = request.headers.get
    try:
        require_same_origin(found("origin"), found("sec-fetch-site"), found("host"), server.configuration.http.public_url)
    except ValueError:
        raise ServerError("request.forbidden", "The form was sent from another site.") from None
