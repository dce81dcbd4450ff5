"""Tokens of auditors and administrators: made on the command line, shown once, expiring, revocable, one role each."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update

from facekeep.clock import Clock, to_rfc3339
from facekeep.randomness import Randomness
from facekeep_server.access.labels import require_label
from facekeep_server.access.roles import Role
from facekeep_server.access.secrets import Presented, is_secret, issue, parse_secret
from facekeep_server.errors import ServerError
from facekeep_server.store import Store
from facekeep_server.store.tables import Token

PREFIX = "fkt"
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who holds a token that is good now.

    Attributes:
        token_id: public part.
        role: what for.
    """

    token_id: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as it can be listed: never its secret."""

    id: str
    role: str
    label: str
    created_at: str
    expires_at: str
    revoked_at: str | None


class Tokens:
    """The tokens in the store.

    Args:
        store: where.
        clock: now.
        randomness: for new ones.
    """

    def __init__(self, store: Store, clock: Clock, randomness: Randomness) -> None:
        self._store, self._clock, self._randomness = store, clock, randomness
        # scrypt is slow on purpose; a token that was compared once is known again by SHA-256 under a key of this process.
        self._pepper = randomness.token(32)
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, role: Role, label: str, valid_for: timedelta) -> tuple[str, datetime]:
        """Return a new token, to be shown once, and when it ends."""
        label = require_label(label)
        now = self._clock.now()
        issued = issue(PREFIX, self._randomness)
        with self._store.writing() as connection:
            connection.execute(
                insert(Token).values(
                    id=issued.id,
                    salt=issued.salt,
                    hash=issued.hash,
                    role=str(role),
                    label=label,
                    created_at=to_rfc3339(now),
                    expires_at=to_rfc3339(now + valid_for),
                )
            )
        return issued.text, now + valid_for

    def revoke(self, token_id: str) -> None:
        """End a token at once.

        Raises:
            ServerError: "request.not_found".
        """
        with self._store.writing() as connection:
            done = connection.execute(
                update(Token)
                .where(Token.id == token_id, Token.revoked_at.is_(None))
                .values(revoked_at=to_rfc3339(self._clock.now()))
            )
        if done.rowcount != 1:
            raise ServerError("request.not_found", "No token in force has this identifier.")

    def list(self) -> list[TokenRow]:
        """Return every token, oldest first."""
        columns = (Token.id, Token.role, Token.label, Token.created_at, Token.expires_at, Token.revoked_at)
        with self._store.reading() as connection:
            return [TokenRow(*row) for row in connection.execute(select(*columns).order_by(Token.created_at, Token.id))]

    def authenticate(self, text: str) -> Bearer:
        """Return who holds this token.

        Raises:
            ServerError: "request.unauthenticated"; the same for unknown, wrong, expired and revoked ones.
        """
        presented = parse_secret(PREFIX, text)
        if presented is not None:
            with self._store.reading() as connection:
                row = connection.execute(
                    select(Token.salt, Token.hash, Token.role, Token.expires_at, Token.revoked_at).where(Token.id == presented.id)
                ).one_or_none()
            good = self._is_known(presented) if row else False
            if not good and is_secret(presented, row.salt if row else None, row.hash if row else None):
                self._remember(presented)
                good = True
            if good and row and row.revoked_at is None and row.expires_at > to_rfc3339(self._clock.now()):
                return Bearer(presented.id, Role(row.role))
        raise ServerError("request.unauthenticated", "The token is not one in force.")

    def _fingerprint(self, presented: Presented) -> bytes:
        return hmac.digest(self._pepper, presented.secret, hashlib.sha256)

    def _is_known(self, presented: Presented) -> bool:
        with self._lock:
            known = self._known.get(presented.id)
        return known is not None and hmac.compare_digest(known, self._fingerprint(presented))

    def _remember(self, presented: Presented) -> None:
        with self._lock:
            self._known[presented.id] = self._fingerprint(presented)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
