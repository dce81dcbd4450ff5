"""The signed app in the state directory: built and signed by hand, served by the hub."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import APP
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.state import FederationState
from facekeep_server.hub.bundle import SignedApp, build_app, sign_app


def write_signed_app(state: FederationState, now: datetime, keys: Path | None = None) -> SignedApp:
    """Build the app of this version, sign it with the key that SuperNodes trust, and keep both.

    Raises:
        ServerError: "server.no_key", "server.invalid_configuration".
    """
    app = sign_app(build_app(), load_signing_key(state.key_path(APP, keys)), now)
    folder = state.folder("app")
    replace_file(folder / "app.fab", app.fab)
    # After the bundle: a statement never names bytes that are not there yet.
    replace_file(folder / "app.json", app.to_bytes())
    return app


def read_signed_app(state: FederationState) -> SignedApp:
    """Return the signed app.

    Raises:
        ServerError: "server.invalid_configuration" if none was signed. TrustError: "trust.malformed".
    """
    folder = state.root / "app"
    if not (folder / "app.json").is_file():
        raise ServerError("server.invalid_configuration", "No app was signed yet: run `facekeep-server federate sign-app`.")
    return SignedApp.parse(read_file(folder / "app.json"), read_file(folder / "app.fab"))
