"""Signed requests of devices: who sent this, just now, and only once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError

from facekeep.clock import Clock, to_rfc3339
from facekeep.errors import TrustError
from facekeep.message_signatures import RequestSignature, parse_signature, verify_request
from facekeep_server.access.enrolment import Devices
from facekeep_server.errors import ServerError
from facekeep_server.store import Store
from facekeep_server.store.tables import Nonce

_CLEANED_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came.

    Attributes:
        method: such as "POST".
        target_uri: the server's public address, path and query, as sent.
        headers: by lower-case name.
        content: body.
    """

    method: str
    target_uri: str
    headers: Mapping[str, str]
    content: bytes


class Requests:
    """Judges signed requests.

    Args:
        store: keeps the nonces, so that a replay is found by every process and after a restart.
        devices: whose keys count.
        clock: now.
        window: how far the time of a signature may lie from now, either way.
    """

    def __init__(self, store: Store, devices: Devices, clock: Clock, window: timedelta) -> None:
        self._store, self._devices, self._clock, self._window = store, devices, clock, window
        self._claims = 0
        self._lock = threading.Lock()

    def authenticate(self, request: SignedRequest) -> tuple[str, bytes]:
        """Return the device that sent this and its public key.

        Raises:
            ServerError: "request.unauthenticated", "device.revoked", "request.clock_off", "request.replayed".
        """
        stated = _parse(request)
        found = self._devices.find(stated.key_id)
        if found is None:
            raise _unauthenticated()
        key, revoked = found
        self._accept(request, stated, key)
        if revoked:
            raise ServerError("device.revoked", "This device was revoked. Ask the operator.")
        return stated.key_id, key

    def authenticate_key(self, request: SignedRequest, device: str, public_key: bytes) -> None:
        """Return if the holder of this key, not enrolled yet, sent this.

        Raises:
            ServerError: as `authenticate`.
        """
        stated = _parse(request)
        if stated.key_id != device:
            raise _unauthenticated()
        self._accept(request, stated, public_key)

    def _accept(self, request: SignedRequest, stated: RequestSignature, public_key: bytes) -> None:
        try:
            verify_request(stated, public_key, request.method, request.target_uri, request.headers, request.content)
        except TrustError as error:
            raise ServerError("request.unauthenticated", error.args[0]) from None
        # Only now: nobody else learns what time it is here, or uses up another's nonces.
        now = self._clock.now()
        if abs(now - stated.created) > self._window:
            raise ServerError(
                "request.clock_off",
                f"The request was signed more than {self._window.total_seconds():.0f} s from now. Set the device's clock.",
                server_time=now,
            )
        self._claim(stated)

    def _claim(self, stated: RequestSignature) -> None:
        expires = to_rfc3339(stated.created + self._window + timedelta(seconds=1))
        try:
            with self._store.writing(durable=False) as connection:
                connection.execute(insert(Nonce).values(device=stated.key_id, nonce=stated.nonce, expires_at=expires))
                if self._is_time_to_clean():
                    connection.execute(delete(Nonce).where(Nonce.expires_at < to_rfc3339(self._clock.now())))
        except IntegrityError:
            raise ServerError("request.replayed", "This very request was made before. Sign each one anew.") from None

    def _is_time_to_clean(self) -> bool:
        with self._lock:
            self._claims += 1
            return self._claims % _CLEANED_EVERY == 0


def _parse(request: SignedRequest) -> RequestSignature:
    try:
        return parse_signature(request.headers)
    except TrustError as error:
        raise ServerError("request.unauthenticated", error.args[0]) from None


def _unauthenticated() -> ServerError:
    # The same words whether the device is unknown or its signature is wrong.
    return ServerError("request.unauthenticated", "The signature does not verify under the key of an enrolled device.")
