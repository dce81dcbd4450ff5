"""The server's own log lines: JSON, from a closed list of fields. No address, no path with values, no identifier, no message."""

from __future__ import annotations

import json
import logging
import sys
from typing import Final, TextIO

from facekeep.clock import SystemClock, to_rfc3339

FIELDS: Final = ("code", "error", "jobs", "method", "milliseconds", "place", "route", "status", "version")


class JournalFormatter(logging.Formatter):
    """Writes time, level, source and event, and of the rest only `FIELDS`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON.

        The text of foreign libraries' messages is dropped: it may quote what a caller sent. Of an exception there remain its type
        and the place it was raised at.
        """
        ours = record.name.split(".", 1)[0] == "facekeep_server"
        line: dict[str, object] = {
            "time": to_rfc3339(SystemClock().now()),
            "level": record.levelname.lower(),
            "source": record.name,
            "event": record.msg if ours and isinstance(record.msg, str) and not record.args else "message",
        }
        line.update({name: value for name in FIELDS if (value := getattr(record, name, None)) is not None})
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["place"] = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
        return json.dumps(line, separators=(",", ":"))


def set_up_journal(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send every log line of the process through `JournalFormatter`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JournalFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "sqlalchemy", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(logging.WARNING)
