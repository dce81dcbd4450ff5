"""The configuration: one TOML file, then the environment, all of it checked before anything starts."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from facekeep.consent import VerifierKey
from facekeep.errors import LogError, TrustError
from facekeep.tlog import TrustPolicy
from facekeep_server.compliance import ComplianceSection
from facekeep_server.errors import ServerError

ENVIRONMENT_PREFIX: Final = "FACEKEEP_SERVER_"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StoreSection(_Section):
    """[store]: where everything is kept."""

    database: str
    keys: Path


class HttpSection(_Section):
    """[http]: where the server listens, and what the world calls it."""

    listen: str = "127.0.0.1"
    port: int = Field(default=8417, ge=1, le=65535)
    public_url: str
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: str = "127.0.0.1"

    @field_validator("public_url")
    @classmethod
    def _plain_base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or parts.username:
            raise ValueError("an address such as https://log.example.org")
        return value.rstrip("/")


class LogSection(_Section):
    """[log]: the transparency log."""

    origin: str = Field(pattern=r"^[!-*,-~]{1,128}$")  # visible ASCII without "+": c2sp.org/signed-note
    commit_interval_ms: int = Field(default=50, ge=1, le=1000)
    commit_entries: int = Field(default=5_000, ge=1_000, le=50_000)
    pending_entries: int = Field(default=50_000, ge=1_000, le=1_000_000)
    public_entries: bool = False


class WitnessSection(_Section):
    """[witnesses]: who cosigns the log's checkpoints, and how often they are asked."""

    policy: Path | None = None
    every_seconds: float = Field(default=2, ge=0.1, le=3600)
    refresh_hours: float = Field(default=6, gt=0, le=24 * 30)
    timeout_seconds: float = Field(default=10, gt=0, le=120)

    def load_policy(self) -> TrustPolicy | None:
        """Return the tlog-policy named, or None.

        Raises:
            ServerError: "server.invalid_configuration".
        """
        if self.policy is None:
            return None
        try:
            policy = TrustPolicy.parse(self.policy.expanduser().read_bytes())
        except OSError as error:
            raise _invalid(f"witnesses.policy cannot be read: {error.strerror}") from None
        except LogError as error:
            raise _invalid(f"witnesses.policy: {error.args[0]}") from None
        if not policy.urls:
            raise _invalid("witnesses.policy names no witness with an address to ask it at")
        return policy


class RevocationSection(_Section):
    """[revocations]: whose revocation lists are passed on to devices."""

    issuers: tuple[str, ...] = Field(default=(), max_length=64)

    def load_issuers(self) -> tuple[VerifierKey, ...]:
        """Return the issuers' keys.

        Raises:
            ServerError: "server.invalid_configuration".
        """
        try:
            return tuple(VerifierKey.parse(text) for text in self.issuers)
        except TrustError as error:
            raise _invalid(f"revocations.issuers: {error.args[0]}") from None


class AccessSection(_Section):
    """[access]: credentials."""

    clock_window_seconds: int = Field(default=120, ge=5, le=3600)
    entry_clock_window_seconds: int = Field(default=300, ge=0, le=86400)
    enrolment_code_hours: float = Field(default=24, gt=0, le=24 * 30)
    token_days: float = Field(default=90, gt=0, le=366)
    code_attempts: int = Field(default=10, ge=1, le=100)


class LimitsSection(_Section):
    """[limits]: what one caller may ask for."""

    body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=128 * 1024 * 1024)
    body_seconds: float = Field(default=30, gt=0, le=600)
    device_requests_per_second: float = Field(default=50, gt=0)
    token_requests_per_second: float = Field(default=20, gt=0)
    peer_requests_per_second: float = Field(default=100, gt=0)
    burst_seconds: float = Field(default=4, ge=1, le=60)


class Configuration(_Section):
    """Everything that `facekeep-server serve` needs to know."""

    store: StoreSection
    http: HttpSection
    log: LogSection
    witnesses: WitnessSection = WitnessSection()
    revocations: RevocationSection = RevocationSection()
    access: AccessSection = AccessSection()
    limits: LimitsSection = LimitsSection()
    compliance: ComplianceSection = ComplianceSection()


def load_configuration(path: Path | None, environment: Mapping[str, str] | None = None) -> Configuration:
    """Return the configuration of a TOML file, with the environment laid over it.

    `FACEKEEP_SERVER_STORE_DATABASE` is `database` of `[store]`, and so on.

    Raises:
        ServerError: "server.invalid_configuration" naming each key at fault, never a value.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    except OSError as error:
        raise _invalid(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise _invalid(f"{path} is not TOML in UTF-8") from None
    for name, text in (os.environ if environment is None else environment).items():
        if name.startswith(ENVIRONMENT_PREFIX) and name != f"{ENVIRONMENT_PREFIX}CONFIG":
            section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
            values[section] = {**values.get(section, {}), key: text}
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
        raise _invalid(found) from None


def _invalid(what: str) -> ServerError:
    return ServerError("server.invalid_configuration", f"The configuration is not valid: {what}.")
