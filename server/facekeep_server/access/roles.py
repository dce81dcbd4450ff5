"""What a token is for. Apart from tokens: naming a role takes no database."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a token is for. Neither role includes the other."""

    AUDITOR = "auditor"  # reads entries, devices, incidents; changes nothing
    ADMINISTRATOR = "administrator"  # makes enrolment codes, revokes devices; reads no entry
