"""`federate init` and `federate kit`: every key, certificate and file of a federation, made once and in one place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from facekeep.audit.entry import device_id
from facekeep.protocol.policy import FederationPolicy
from facekeep.tlog import NoteKey, NoteKind
from facekeep_server.errors import ServerError
from facekeep_server.federation.certificates import make_authority, make_server_certificate
from facekeep_server.federation.files import create_file, make_directory, read_file, read_private, replace_file
from facekeep_server.federation.keys import create_node_key, create_signing_key, load_signing_key
from facekeep_server.federation.services import write_services
from facekeep_server.federation.state import FederationState, Settings
from facekeep_server.hub.bundle import trusted_entities

AUTHORITY: Final = "authority"
PLANNER: Final = "planner"
COORDINATOR: Final = "coordinator"
APP: Final = "app"
CERTIFICATE_AUTHORITY: Final = "ca"
_PORT: Final = 9094
_LITERAL: Final = "'''"


def create_federation(
    root: Path,
    settings: Settings,
    now: datetime,
    *,
    minimum_cohort: int,
    epsilon: float,
    hosts: Sequence[str] = (),
    log_policy: str | None = None,
) -> FederationState:
    """Make the state directory of a federation at `root`, with all its keys.

    Args:
        root: an empty or absent directory.
        settings: of the federation.
        now: when the certificates begin.
        minimum_cohort: written into the policy for devices.
        epsilon: likewise.
        hosts: further names or addresses of the SuperLink, for its certificate.
        log_policy: tlog-policy of the log that has to hold every release, or None.

    Raises:
        ServerError: "server.invalid_request" if the directory is not empty; "server.invalid_configuration".
        FederationError: "federation.invalid_policy" for numbers, or a log policy, that no policy can have.
    """
    root = root.expanduser().absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ServerError("server.invalid_request", "The directory of a new federation has to be empty or absent.")
    make_directory(root)
    state = FederationState(root, settings)
    offline, keys, tls, device = (state.folder(name) for name in ("offline", "keys", "tls", "device"))
    authority = create_signing_key(offline / f"{AUTHORITY}.key")
    releases = [create_signing_key(offline / f"release-{n}.key") for n in range(1, settings.release_keys + 1)]
    app = create_signing_key(offline / f"{APP}.key")
    planner = create_signing_key(keys / f"{PLANNER}.key")
    coordinator = create_signing_key(keys / f"{COORDINATOR}.key")
    certificate, private = make_authority(settings.name, now)
    create_file(offline / f"{CERTIFICATE_AUTHORITY}.key", private)
    create_file(tls / "ca.pem", certificate, mode=0o644)
    names = [settings.superlink.rpartition(":")[0], settings.control.rpartition(":")[0], *hosts]
    _write_server_certificate(state, certificate, private, [name.strip("[]") for name in names], now)
    policy = FederationPolicy(
        name=settings.name,
        authority_keys=(note_key(settings, AUTHORITY, authority.public_bytes),),
        planner_keys=(note_key(settings, PLANNER, planner.public_bytes),),
        release_keys=tuple(note_key(settings, f"release-{n}", key.public_bytes) for n, key in enumerate(releases, 1)),
        release_quorum=settings.release_quorum,
        minimum_cohort=minimum_cohort,
        epsilon=epsilon,
        log_policy=log_policy,
        coordinator=None if log_policy is None else device_id(coordinator.public_bytes),
    )
    create_file(device / "policy.toml", policy_toml(policy), mode=0o644)
    create_file(device / "trusted-entities.yaml", trusted_entities(app.public_bytes).encode(), mode=0o644)
    create_file(device / "ca.pem", certificate, mode=0o644)
    write_services(state)
    # Last: a directory without it is not a federation, so an interrupted init is seen as one.
    create_file(root / "federation.toml", settings.to_toml())
    return state


def create_kit(state: FederationState, name: str, *, port: int = _PORT) -> Path:
    """Make the node kit of one device: what its SuperNode needs (`facekeep.flower.node`), and the policy to join by.

    Raises:
        ServerError: "server.invalid_request" if there is a kit of this name.
    """
    folder = state.kit_folder(name)
    if folder.exists():
        raise ServerError("server.invalid_request", "There is a kit of this name already; a node key belongs to one device.")
    make_directory(folder)
    create_node_key(folder / "node.key")
    for shared in ("policy.toml", "trusted-entities.yaml", "ca.pem"):
        create_file(folder / shared, read_file(state.root / "device" / shared), mode=0o644)
    text = f'version = 1\nsuperlink = "{state.settings.superlink}"\nport = {port}\n'
    create_file(folder / "node.toml", text.encode(), mode=0o644)
    return folder


def renew_certificate(state: FederationState, hosts: Sequence[str], now: datetime, keys: Path | None = None) -> None:
    """Give the SuperLink a new certificate and key; devices go on believing the same authority.

    Raises:
        ServerError: "server.no_key".
    """
    certificate = read_file(state.certificate_authority)
    private = read_private(state.key_path(CERTIFICATE_AUTHORITY, keys))
    names = [state.settings.superlink.rpartition(":")[0], state.settings.control.rpartition(":")[0], *hosts]
    _write_server_certificate(state, certificate, private, [name.strip("[]") for name in names], now)


def note_key(settings: Settings, role: str, public_key: bytes) -> NoteKey:
    """Return the key by which notes of this role are known to devices."""
    return NoteKey(key_name(settings, role), NoteKind.ED25519, public_key)


def key_name(settings: Settings, role: str) -> str:
    """Return the name in the signature lines of this role."""
    return f"{settings.name}/{role}"


def load_policy(state: FederationState) -> FederationPolicy:
    """Return the policy that devices of this federation are given: what the coordinator plans within.

    Raises:
        FederationError: "federation.invalid_policy".
    """
    return FederationPolicy.parse_toml(read_file(state.root / "device" / "policy.toml").decode("utf-8", "replace"))


def write_policy(state: FederationState, policy: FederationPolicy) -> None:
    """Give a policy to every device of which the kit is still here; one that joined before has to join again to follow it."""
    kits = state.root / "kits"
    for place in (state.root / "device", *(sorted(kits.iterdir()) if kits.is_dir() else ())):
        replace_file(place / "policy.toml", policy_toml(policy), mode=0o644)


def require_log(state: FederationState, log_policy: str) -> FederationPolicy:
    """Have devices adopt only releases that this coordinator logged, from now on; return the policy.

    Raises:
        FederationError: "federation.invalid_policy" for what is no tlog-policy. ServerError: "server.no_key".
    """
    key = load_signing_key(state.key_path(COORDINATOR))
    policy = replace(load_policy(state), log_policy=log_policy, coordinator=device_id(key.public_bytes))
    write_policy(state, policy)
    return policy


def policy_toml(policy: FederationPolicy) -> bytes:
    """Return the policy as the TOML file that an operator reads, edits and gives to a device."""
    lines = [
        "# What a device takes part in. Give it to each device by hand; change it before, if you want to allow less.",
        "v = 1",
        f'name = "{policy.name}"',
        *(f"{label} = [{_quoted(keys)}]" for label, keys in _keys_of(policy)),
        f"release_quorum = {policy.release_quorum}",
        *_log_of(policy),
        f"minimum_cohort = {policy.minimum_cohort}  # fewest devices whose sum may be opened",
        f"epsilon = {policy.epsilon}  # most privacy one device spends in all",
        f"delta = {policy.delta}",
        f"most_rounds = {policy.most_rounds}",
        f"kinds = [{', '.join(f'{chr(34)}{kind}{chr(34)}' for kind in sorted(policy.kinds))}]",
        f"levels = [{', '.join(f'{chr(34)}{level}{chr(34)}' for level in sorted(policy.levels))}]",
        f"colluding_percent = {policy.colluding_percent}",
        f"most_samples = {policy.most_samples}",
        f'samples_age = "{policy.samples_age}"',
        f"most_parameters = {policy.most_parameters}",
        *([f'training_kit = "{policy.training_kit}"'] if policy.training_kit else []),
    ]
    return ("\n".join(lines) + "\n").encode()


def _keys_of(policy: FederationPolicy) -> tuple[tuple[str, tuple[NoteKey, ...]], ...]:
    return (
        ("authority_keys", policy.authority_keys),
        ("planner_keys", policy.planner_keys),
        ("release_keys", policy.release_keys),
    )


def _log_of(policy: FederationPolicy) -> tuple[str, ...]:
    if policy.log_policy is None:
        return ()
    # Lines as they are, where TOML can hold them so: an operator compares keys by eye.
    plain = _LITERAL not in policy.log_policy
    text = f"{_LITERAL}\n{policy.log_policy}{_LITERAL}" if plain else json.dumps(policy.log_policy, ensure_ascii=False)
    return (
        f"log_policy = {text}  # the log that has to hold every release",
        f'coordinator = "{policy.coordinator}"  # name in that log of who publishes them',
    )


def _quoted(keys: Sequence[NoteKey]) -> str:
    return ", ".join(f'"{key.to_vkey()}"' for key in keys)


def _write_server_certificate(
    state: FederationState, authority: bytes, private: bytes, hosts: Sequence[str], now: datetime
) -> None:
    unique = list(dict.fromkeys([*hosts, "localhost", "127.0.0.1"]))
    certificate, key = make_server_certificate(authority, private, unique, now)
    replace_file(state.root / "tls" / "superlink.pem", certificate, mode=0o644)
    replace_file(state.root / "tls" / "superlink.key", key)
