"""The state directory of a coordinator: what lies where.

    federation.toml    name, addresses, how many release keys have to sign
    offline/           authority.key release-N.key app.key ca.key: signed with by hand, to be kept on another machine
    keys/              planner.key coordinator.key
    tls/               ca.pem superlink.pem superlink.key
    device/            policy.toml trusted-entities.yaml ca.pem: what every device gets
    kits/NAME/         what one device gets besides: its Flower node key
    roster/            roster (entries) and head (signed note)
    app/               app.fab and app.json, the signed app
    model/             the model file that shipped and its patch table
    rounds/NNNNN/      one round each (`facekeep_server.federation.rounds`)
    candidates/NNNNN/  what may become a release (`facekeep_server.federation.candidates`)
    releases/NNNNN/    one release each (`facekeep_server.releases.rollout`)
    trail/             the coordinator's own trail
    superlink/         Flower's database and home
    services/          systemd units and the reverse proxy's configuration

Every directory is for its owner only. `offline/` is made here because something has to make it; `federate init` says to move it
away, and every command that needs one of its keys takes `--keys DIR`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facekeep.protocol.values import NAME
from facekeep_server.errors import ServerError
from facekeep_server.federation.files import make_directory, read_file

VERSION: Final = 1
ENVIRONMENT: Final = "FACEKEEP_FEDERATION"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")
_HUB = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):[0-9]{1,5}")
_KIT = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What `federation.toml` says.

    Attributes:
        name: of the federation.
        superlink: host and port at which devices reach the SuperLink (the reverse proxy).
        control: host and port at which this machine reaches it; only on loopback, for its Control interface asks nobody who he is.
        hub: address of the hub, on loopback.
        release_keys: number of release keys.
        release_quorum: how many of them have to sign.
    """

    name: str
    superlink: str
    control: str
    hub: str
    release_keys: int
    release_quorum: int

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise _invalid("name is lower-case letters, digits, dots and hyphens, at most 63")
        if not _ADDRESS.fullmatch(self.superlink) or not _ADDRESS.fullmatch(self.control):
            raise _invalid("superlink and control are HOST:PORT")
        if not _HUB.fullmatch(self.hub):
            # The hub answers whoever asks, and Flower asks it without TLS.
            raise _invalid("hub is an address on this machine, such as http://127.0.0.1:8419")
        if not 1 <= self.release_quorum <= self.release_keys <= 9:
            raise _invalid("release_quorum is at least 1 and at most release_keys, which are at most 9")

    def to_toml(self) -> bytes:
        """Return the file."""
        return (
            f'version = {VERSION}\nname = "{self.name}"\nsuperlink = "{self.superlink}"  # as devices reach it\n'
            f'control = "{self.control}"  # as this machine reaches it; never open this port to others\nhub = "{self.hub}"\n'
            f"release_keys = {self.release_keys}\nrelease_quorum = {self.release_quorum}\n"
        ).encode()

    @classmethod
    def parse(cls, data: bytes) -> Settings:
        """Return the settings of a file.

        Raises:
            ServerError: "server.invalid_configuration".
        """
        try:
            fields = tomllib.loads(data.decode("utf-8"))
            if fields.pop("version") != VERSION:
                raise ValueError
            return cls(**fields)
        except (ValueError, KeyError, TypeError):
            raise _invalid("federation.toml is not of the form that `federate init` writes") from None


@dataclass(frozen=True, slots=True)
class FederationState:
    """A state directory that exists.

    Attributes:
        root: where it is.
        settings: what `federation.toml` says.
    """

    root: Path
    settings: Settings

    @classmethod
    def open(cls, root: Path) -> FederationState:
        """Return the state directory at `root`.

        Raises:
            ServerError: "server.invalid_configuration" if there is none, or others may look into it.
        """
        root = root.expanduser().absolute()
        if not (root / "federation.toml").is_file():
            raise _invalid(f"there is no federation at {root}; run `facekeep-server federate init`")
        if root.stat().st_mode & 0o077:
            raise _invalid(f"others may look into {root}: chmod 700")
        return cls(root, Settings.parse(read_file(root / "federation.toml")))

    def folder(self, name: str) -> Path:
        """Return a directory of this state, made if absent."""
        path = self.root / name
        make_directory(path)
        return path

    def key_path(self, name: str, keys: Path | None = None) -> Path:
        """Return where a private key lies: in `keys` if it is given, else in `keys/` or `offline/`."""
        places = [keys] if keys is not None else [self.root / "keys", self.root / "offline"]
        for place in places:
            if (place / f"{name}.key").is_file():
                return place / f"{name}.key"
        return places[-1] / f"{name}.key"

    @property
    def certificate_authority(self) -> Path:
        """Certificate that devices believe."""
        return self.root / "tls" / "ca.pem"

    @property
    def round_numbers(self) -> tuple[int, ...]:
        """Numbers of the rounds that were planned, in order."""
        folder = self.root / "rounds"
        return tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())) if folder.is_dir() else ()

    def round_folder(self, number: int) -> Path:
        """Return the directory of a round."""
        return self.root / "rounds" / f"{number:05d}"

    def kit_folder(self, name: str) -> Path:
        """Return the directory of a device's node kit.

        Raises:
            ServerError: "server.invalid_request" for a name that cannot be one.
        """
        if not _KIT.fullmatch(name):
            raise ServerError("server.invalid_request", "A kit's name is lower-case letters, digits, dots and hyphens.")
        return self.root / "kits" / name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state directory: two drivers of one round, or two writers of one trail, would fork it.

        Raises:
            ServerError: "server.unavailable" if another process holds it.
        """
        handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ServerError("server.unavailable", "Another process works on this federation; try again later.") from None
            yield
        finally:
            os.close(handle)


def _invalid(what: str) -> ServerError:
    return ServerError("server.invalid_configuration", f"The federation is not usable: {what}.")
