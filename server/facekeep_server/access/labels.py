"""Labels: what an operator calls a device or a token. Never a person's name."""

from __future__ import annotations

import re

from facekeep_server.errors import ServerError

# Plain characters only: nothing that means something to SQL, HTML, a shell, a spreadsheet or a log.
PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"
_FORM = re.compile(PATTERN.removesuffix("$") + r"\Z")


def require_label(text: str) -> str:
    """Return `text` if it can be a label: 1 to 64 letters, digits, spaces, dots, hyphens and underscores.

    Raises:
        ServerError: "request.malformed".
    """
    if not _FORM.match(text):
        raise ServerError(
            "request.malformed",
            "A label is 1 to 64 letters, digits, spaces, dots, hyphens or underscores, beginning with a letter.",
        )
    return text
