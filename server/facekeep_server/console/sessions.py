"""Sessions of auditors in a browser: begun by a token, in memory, gone when the token is or the process ends."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import select

from facekeep.clock import Clock, to_rfc3339
from facekeep.randomness import Randomness
from facekeep_server.access.roles import Role
from facekeep_server.access.tokens import Bearer, Tokens
from facekeep_server.errors import ServerError
from facekeep_server.store import Store
from facekeep_server.store.tables import Token

LONGEST: Final = timedelta(hours=8)
IDLE: Final = timedelta(minutes=30)
_MOST: Final = 1_000


@dataclass(slots=True)
class _Session:
    token_id: str
    began: datetime
    seen: datetime


class Sessions:
    """The sessions of one process. A cookie holds 256 random bits; only their hash is kept here.

    Args:
        store: whether the token is still in force.
        tokens: who a token belongs to.
        clock: now.
        randomness: for new sessions.
    """

    def __init__(self, store: Store, tokens: Tokens, clock: Clock, randomness: Randomness) -> None:
        self._store, self._tokens, self._clock, self._randomness = store, tokens, clock, randomness
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, token: str) -> tuple[str, Bearer]:
        """Return the secret of a new session and who it belongs to.

        Raises:
            ServerError: "request.unauthenticated"; "request.forbidden" for a token that is not an auditor's.
        """
        bearer = self._tokens.authenticate(token)
        if bearer.role is not Role.AUDITOR:
            raise ServerError("request.forbidden", "This token is not an auditor's. The console is for auditors only.")
        secret = self._randomness.token(32).hex()
        now = self._clock.now()
        with self._lock:
            self._sessions[_key(secret)] = _Session(bearer.token_id, now, now)
            while len(self._sessions) > _MOST:
                self._sessions.popitem(last=False)
        return secret, bearer

    def find(self, secret: str | None) -> str:
        """Return the identifier of the token behind a session.

        Raises:
            ServerError: "request.unauthenticated": no session, one that is over, or one whose token was revoked or has expired.
        """
        now = self._clock.now()
        key = _key(secret or "")
        with self._lock:
            session = self._sessions.get(key)
            if session is not None and (now - session.began >= LONGEST or now - session.seen >= IDLE or now < session.began):
                session = None
                del self._sessions[key]
            if session is not None:
                session.seen = now
        if session is None:
            raise ServerError("request.unauthenticated", "Sign in first.")
        if not self._is_in_force(session.token_id, now):
            self.end(secret)
            raise ServerError("request.unauthenticated", "The token of this session is no longer in force.")
        return session.token_id

    def end(self, secret: str | None) -> None:
        """End a session, if there is one."""
        with self._lock:
            self._sessions.pop(_key(secret or ""), None)

    def _is_in_force(self, token_id: str, now: datetime) -> bool:
        query = select(Token.role, Token.expires_at, Token.revoked_at).where(Token.id == token_id)
        with self._store.reading() as connection:
            row = connection.execute(query).one_or_none()
        return row is not None and row.role == Role.AUDITOR and row.revoked_at is None and row.expires_at > to_rfc3339(now)


def require_same_origin(origin: str | None, fetch_site: str | None, host: str | None, public_url: str) -> None:
    """Return unless a browser says that another site made it send this.

    Args:
        origin: header Origin, or None.
        fetch_site: header Sec-Fetch-Site, or None.
        host: header Host, or None.
        public_url: what the server is called.

    Raises:
        ServerError: "request.forbidden".
    """
    allowed = {host, urlsplit(public_url).netloc} - {None}
    if fetch_site not in (None, "same-origin", "none") or (origin is not None and urlsplit(origin).netloc not in allowed):
        raise ServerError("request.forbidden", "The form was sent from another site.")


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
