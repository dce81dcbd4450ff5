"""`facekeep-server witness`: cosigns checkpoints of the logs it is told to follow, over HTTP.

The rules are `facekeep.tlog.witness`; here are the two things that are not pure: the memory of what was cosigned, on the disk
before any answer leaves, and the interface of https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from facekeep.clock import Clock, SystemClock
from facekeep.errors import LogError
from facekeep.signing import DeviceKey
from facekeep.tlog.keys import NoteKey
from facekeep.tlog.policy import TrustPolicy
from facekeep.tlog.witness import (
    LARGEST_REQUEST_BYTES,
    WitnessedHead,
    WitnessRefusal,
    answer,
    consider,
    parse_request,
)

_LOG = logging.getLogger("facekeep_server.witness")
_STATE_VERSION: Final = 1
_LARGEST_STATE: Final = 1 << 20


class WitnessStore:
    """What was cosigned last, one small file for each log, replaced whole and on the disk before `put` returns.

    Args:
        folder: made if absent; one process at a time.

    Raises:
        LogError: "log.io".
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Two processes with one memory each could cosign two histories.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _refused(error, "open its folder, or another witness holds it") from None

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    def get(self, origin: str) -> WitnessedHead:
        """Return what was cosigned last of a log; an empty head if nothing ever was.

        Raises:
            LogError: "log.io", or "log.malformed" for a damaged file: a witness that forgot would cosign anything.
        """
        path = self._path(origin)
        try:
            data = path.read_bytes() if path.stat().st_size <= _LARGEST_STATE else b""
        except FileNotFoundError:
            return WitnessedHead()
        except OSError as error:
            raise _refused(error, "read what it cosigned") from None
        try:
            fields = json.loads(data)
            body = {key: fields[key] for key in ("v", "origin", "size", "root", "seconds", "note")}
            if fields["check"] != _check(body) or body["v"] != _STATE_VERSION or body["origin"] != origin:
                raise ValueError
            return WitnessedHead(int(body["size"]), bytes.fromhex(body["root"]), int(body["seconds"]), str(body["note"]))
        except (ValueError, KeyError, TypeError):
            raise LogError("log.malformed", "The witness's record of a log is damaged. Restore it; do not delete it.") from None

    def put(self, origin: str, head: WitnessedHead) -> None:
        """Store what is about to be cosigned.

        Raises:
            LogError: "log.io"; then what was stored before still is.
        """
        body: dict[str, Any] = {
            "v": _STATE_VERSION,
            "origin": origin,
            "size": head.size,
            "root": head.root.hex(),
            "seconds": head.seconds,
            "note": head.note,
        }
        path = self._path(origin)
        draft = path.with_suffix(".new")
        try:
            with draft.open("w", encoding="utf-8") as stream:
                json.dump({**body, "check": _check(body)}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
            os.fsync(self._lock)
        except OSError as error:
            raise _refused(error, "store what it would cosign") from None

    def keep_evidence(self, origin: str, notes: Sequence[str]) -> Path:
        """Store the signed notes that convict a log, the first pair only: more say no more. Return where.

        Raises:
            LogError: "log.io".
        """
        path = self._path(origin).with_suffix(".fork.json")
        try:
            # "x": the first evidence is never replaced, whatever is sent later.
            with path.open("x", encoding="utf-8") as stream:
                json.dump({"v": _STATE_VERSION, "origin": origin, "notes": list(notes)}, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            pass
        except OSError as error:
            raise _refused(error, "store the evidence of a fork") from None
        return path

    def _path(self, origin: str) -> Path:
        # An origin is whatever a log calls itself; as a file name it is a hash.
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.json"


class Witness:
    """Answers requests, one after the other: what is compared is what is stored.

    Args:
        name: of the witness, in its signatures.
        key: Ed25519; used for nothing else, for cosignatures do not say who made them.
        logs: origin -> keys of that log.
        store: what was cosigned.
        clock: tells the time.
    """

    def __init__(
        self, name: str, key: DeviceKey, logs: Mapping[str, Sequence[NoteKey]], store: WitnessStore, clock: Clock | None = None
    ) -> None:
        self.name = name
        self._key = key
        self._logs = logs
        self._store = store
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()

    def add_checkpoint(self, body: bytes) -> str:
        """Return the signature line that answers an add-checkpoint request; stored first.

        Raises:
            WitnessRefusal: with the status the specification demands.
            LogError: "log.io" or "log.malformed": nothing was cosigned.
        """
        request = parse_request(body)
        origin = request.checkpoint.origin
        with self._lock:
            last = self._store.get(origin) if origin in self._logs else WitnessedHead()
            try:
                head = consider(request, self._logs, last, self._clock.now())
            except WitnessRefusal as refusal:
                if refusal.evidence:
                    self._store.keep_evidence(origin, refusal.evidence)
                raise
            self._store.put(origin, head)
        return answer(request, head, self.name, self._key)

    def latest(self) -> dict[str, int]:
        """Return the size cosigned last of each log."""
        with self._lock:
            return {origin: self._store.get(origin).size for origin in self._logs}


def logs_of(policy: TrustPolicy) -> dict[str, list[NoteKey]]:
    """Return the logs a witness follows: those that a tlog-policy names."""
    found: dict[str, list[NoteKey]] = {}
    for key in policy.logs:
        found.setdefault(key.name, []).append(key)
    return found


def create_witness_app(witness: Witness) -> FastAPI:
    """Return the HTTP interface: POST /add-checkpoint, and GET /health."""
    app = FastAPI(title="Facekeep witness", docs_url=None, redoc_url=None, openapi_url=None)

    async def add_checkpoint(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_REQUEST_BYTES:
                return Response("The request is too large.\n", 413, media_type="text/plain")
        try:
            line = await run_in_threadpool(witness.add_checkpoint, bytes(body))
        except WitnessRefusal as refusal:
            # Evidence is the only refusal that somebody has to be woken for: the log has signed two trees of one size.
            _LOG.log(logging.ERROR if refusal.evidence else logging.INFO, "checkpoint.refused", extra={"status": refusal.status})
            return Response(refusal.body, refusal.status, headers={"Content-Type": refusal.content_type})
        except LogError as error:
            _LOG.error("checkpoint.failed", extra={"code": error.code, "status": 503})
            return Response(f"{error.code}\n", 503, media_type="text/plain")
        _LOG.info("checkpoint.cosigned", extra={"status": 200})
        return Response(line, 200, media_type="text/plain; charset=utf-8")

    async def health() -> Response:
        try:
            sizes = await run_in_threadpool(witness.latest)
        except LogError as error:
            return JSONResponse({"status": error.code}, 503)
        return JSONResponse({"status": "ok", "witness": witness.name, "cosigned": sizes})

    app.add_api_route("/add-checkpoint", add_checkpoint, methods=["POST"], response_model=None)
    app.add_api_route("/health", health, methods=["GET"], response_model=None)
    return app


def _check(body: Mapping[str, Any]) -> str:
    # Against decay, not against attackers: who can write here can also delete.
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _refused(error: OSError, what: str) -> LogError:
    reason = errno.errorcode.get(error.errno or 0, "unknown")
    return LogError("log.io", f"The witness could not {what} ({reason}). Nothing was cosigned.")


__all__ = ["Witness", "WitnessStore", "create_witness_app", "logs_of"]
