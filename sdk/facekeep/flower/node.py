"""Starting Flower's SuperNode as this package wants it: which flags, which environment. Starts nothing itself.

A node kit is the folder that the coordinator makes for one device (`facekeep-server federate kit NAME`):
    node.toml               {version, superlink, port}: where the SuperLink is
    node.key, node.key.pub  ECDSA P-384: the SuperLink knows the device's Flower node by it; it signs nothing of a round
    ca.pem                  the federation's own certification authority, the only one believed
    trusted-entities.yaml   who may sign apps; without it the server could run any code here
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facekeep.errors import FederationError

# Neither calls home. Both are needed: one is for events, the other asks for newer versions.
QUIET: Final[Mapping[str, str]] = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "ORT_DISABLE_TELEMETRY": "1"}
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")
_PORT: Final = 9094
_FILES: Final = ("node.toml", "node.key", "ca.pem", "trusted-entities.yaml")


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start.

    Attributes:
        arguments: the program, an absolute path, and its arguments; no secret among them.
        environment: what is laid over the present environment.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    def over(self, present: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment. Flower starts its own programs by name, so they have to be on the path."""
        beside = str(Path(self.arguments[0]).parent)
        return {**present, **self.environment, "PATH": f"{beside}{os.pathsep}{present.get('PATH', os.defpath)}"}


def program(name: str) -> str:
    """Return the path of a program that lies beside this Python."""
    return str(Path(sys.executable).with_name(name))


def supernode_launch(kit: Path, home: Path, *, port: int | None = None) -> Launch:
    """Return how the SuperNode of a device is started.

    Who guards the device's key is read by each ClientApp from the environment (`opening`), which the service of the device sets.

    Args:
        kit: folder of the node kit.
        home: of the device.
        port: of the SuperNode's own interface on 127.0.0.1; left out: as the kit says.

    Raises:
        FederationError: "federation.invalid_policy" if the kit is not whole, or its key is readable by others.
    """
    missing = [name for name in _FILES if not (kit / name).is_file()]
    if missing:
        raise _refused(f"The node kit lacks {', '.join(missing)}")
    if (kit / "node.key").stat().st_mode & 0o077:
        raise _refused("Others may read node.key: chmod 600")
    if not (kit / "trusted-entities.yaml").read_text(encoding="utf-8").strip():
        # Flower takes an empty file for "trust everybody".
        raise _refused("trusted-entities.yaml names nobody, so any code would be run")
    try:
        stated = tomllib.loads((kit / "node.toml").read_text(encoding="utf-8"))
        superlink = stated["superlink"]
        own_port = stated.get("port", _PORT) if port is None else port
        if stated["version"] != 1 or not _ADDRESS.fullmatch(superlink) or own_port not in range(1, 65_536):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise _refused("node.toml states version = 1 and superlink = 'host:port'") from None
    arguments = (
        program("flower-supernode"),
        *("--superlink", superlink),
        *("--root-certificates", str(kit / "ca.pem")),
        *("--auth-supernode-private-key", str(kit / "node.key")),
        *("--trusted-entities", str(kit / "trusted-entities.yaml")),
        *("--host", "127.0.0.1", "--port", str(own_port)),
    )
    return Launch(arguments, {**QUIET, "FLWR_HOME": str(kit / "flower"), "FACEKEEP_HOME": str(home)})


def _refused(what: str) -> FederationError:
    return FederationError("federation.invalid_policy", f"{what}.")
