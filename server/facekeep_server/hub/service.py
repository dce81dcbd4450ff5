"""The hub: two addresses that Flower's SuperLink asks instead of the maker's. It holds no key and signs nothing.

POST /v1/hub/fetch-fab   {"app_id", "app_version", "flwr_version"} -> {"fab_url", "verifications"}
GET  /v1/hub/fabs/SHA256 the bundle
Named by FLWR_SUPERGRID_API_URL=http://127.0.0.1:8419/v1 on the SuperLink (flwr 1.41, `superlink/servicer/control`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from facekeep_server.hub.bundle import APP_ID, SignedApp


def create_hub(app: SignedApp) -> FastAPI:
    """Return the application that serves one signed app."""
    hub = FastAPI(title="Facekeep hub", openapi_url=None, docs_url=None, redoc_url=None)

    @hub.post("/v1/hub/fetch-fab")
    def fetch(
        request: Request,
        app_id: Annotated[str, Body(max_length=200)],
        app_version: Annotated[str | None, Body(max_length=50)] = None,
    ) -> Response:
        if app_id != APP_ID:
            return JSONResponse({"detail": "no such app"}, status_code=404)
        if app_version not in (None, app.version):
            return JSONResponse({"detail": {"available_app_versions": [app.version]}}, status_code=404)
        address = str(request.base_url).rstrip("/")
        return JSONResponse({"fab_url": f"{address}/v1/hub/fabs/{app.sha256}", "verifications": [app.to_verification()]})

    @hub.get("/v1/hub/fabs/{sha256}")
    def bundle(sha256: str) -> Response:
        if sha256 != app.sha256:
            return JSONResponse({"detail": "no such bundle"}, status_code=404)
        return Response(app.fab, media_type="application/zip")

    return hub
