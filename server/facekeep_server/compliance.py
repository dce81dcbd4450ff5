"""[compliance] of the configuration: what the operator states, for the console and the reports. The server cannot know it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from facekeep.auditor import AuditPolicy
from facekeep.consent.purposes import Purpose
from facekeep.errors import AuditError, RetentionError
from facekeep.retention import RetentionPolicy
from facekeep_server.errors import ServerError

_LARGEST_FILE = 1 << 20


class ComplianceSection(BaseModel):
    """[compliance]: statements of the controller, and the policies the fleet is meant to follow.

    Everything may be left out; what is left out is reported as not stated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    controller: str = Field(default="", max_length=500)
    controller_contact: str = Field(default="", max_length=500)
    representative: str = Field(default="", max_length=500)
    protection_officer: str = Field(default="", max_length=500)
    recipients: tuple[str, ...] = ()
    third_countries: tuple[str, ...] = ()
    subjects: str = Field(default="", max_length=2000)
    security_measures: tuple[str, ...] = ()
    legal_bases: dict[Purpose, str] = Field(default_factory=dict)
    retention_policy: Path | None = None
    audit_policy: Path | None = None

    def load_retention_policy(self) -> RetentionPolicy | None:
        """Return the retention policy named, or None.

        Raises:
            ServerError: "server.invalid_configuration".
        """
        if self.retention_policy is None:
            return None
        try:
            return RetentionPolicy.parse_toml(_read(self.retention_policy).decode("utf-8"))
        except RetentionError as error:
            raise _invalid(f"compliance.retention_policy: {error.args[0]}") from None
        except UnicodeDecodeError:
            raise _invalid("compliance.retention_policy is not UTF-8") from None

    def load_audit_policy(self) -> AuditPolicy | None:
        """Return the audit policy named, or None.

        Raises:
            ServerError: "server.invalid_configuration".
        """
        if self.audit_policy is None:
            return None
        try:
            return AuditPolicy.parse(_read(self.audit_policy))
        except AuditError as error:
            raise _invalid(f"compliance.audit_policy: {error.args[0]}") from None


def _read(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as stream:
            data = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise _invalid(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST_FILE:
        raise _invalid(f"{path} has more than {_LARGEST_FILE} bytes")
    return data


def _invalid(what: str) -> ServerError:
    return ServerError("server.invalid_configuration", f"The configuration is not valid: {what}.")
