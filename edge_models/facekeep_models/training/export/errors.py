"""What can go wrong with an export, each with a stable code."""

from __future__ import annotations

from typing import Final

from facekeep.errors import FacekeepError

CODES: Final[dict[str, str]] = {
    "export.invalid_weights": "The file is not a file of weights, or its weights are those of another network.",
    "export.unsupported_layer": "The network holds something that the exporter cannot write as ONNX.",
    "export.no_converter": "A build needs a tool that is not installed.",
    "export.differs": "A build does not answer as the trained network does.",
    "export.no_pictures": "The folder of the recipe does not hold the pictures that are needed.",
    "export.unknown_people": "The folder of the recipe and the data set do not name the same held-out people.",
    "export.unknown_build": "A build was asked for that the exporter does not make.",
}


class ExportError(FacekeepError):
    """A model could not be exported. Has codes of its own: a device never exports, so its list does not carry them."""

    def __init__(self, code: str, message: str) -> None:
        if code not in CODES:
            raise ValueError(f"{code!r} is not a code of an export")
        # Not FacekeepError.__init__, which knows the codes of a device only.
        Exception.__init__(self, message)
        self.code = code
