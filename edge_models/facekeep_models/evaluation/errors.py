"""What can go wrong with an evaluation itself, each with a stable code. Codes and meanings: docs/models/evaluation.md."""

from __future__ import annotations

from typing import Final

from facekeep.errors import FacekeepError

CODES: Final[dict[str, str]] = {
    "evaluation.malformed_pairs": "A file of pairs is not in the format of LFW's View 1 or View 2.",
    "evaluation.missing_picture": "A file of pairs names a picture that is not in the directory.",
    "evaluation.no_pictures": "The directory does not hold one folder of pictures for each person.",
    "evaluation.too_few_comparisons": "There are not enough mated or non-mated comparisons for what was asked.",
    "evaluation.too_many_comparisons": "The comparisons do not fit into memory.",
    "evaluation.different_spaces": "Reference and probe come from models whose embeddings cannot be compared.",
    "evaluation.refused_cache": "The directory of the cache cannot be used.",
    "evaluation.invalid_request": "The options do not go together.",
    "evaluation.io": "The operating system refused to read or write a file of the evaluation.",
}


class EvaluationError(FacekeepError):
    """An evaluation could not be made. Has codes of its own: a device never evaluates, so its list does not carry them."""

    def __init__(self, code: str, message: str) -> None:
        if code not in CODES:
            raise ValueError(f"{code!r} is not a code of an evaluation")
        # Not FacekeepError.__init__, which knows the codes of a device only.
        Exception.__init__(self, message)
        self.code = code
