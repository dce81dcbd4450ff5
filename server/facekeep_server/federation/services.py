"""systemd units and the reverse proxy's configuration for one federation, from the templates of this package."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Final

from facekeep_server.federation.files import replace_file
from facekeep_server.federation.state import FederationState

NAMES: Final = ("facekeep-superlink.service", "facekeep-hub.service", "facekeep-node.service", "nginx.conf")

# None of them needs a right of the system, a device file, or another user's processes. `ProtectHome` hides /home and /root: what
# they run and keep lies elsewhere.
_HARDENING: Final = """\
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native"""


def render(state: FederationState, name: str) -> str:
    """Return one of the files of `NAMES` with this federation's paths and addresses."""
    host, _, port = state.settings.superlink.rpartition(":")
    template = (resources.files("facekeep_server.federation") / "templates" / name).read_text(encoding="utf-8")
    return template.format(
        state=state.root,
        bin=Path(sys.executable).parent,
        host=host,
        port=port,
        control=state.settings.control,
        hardening=_HARDENING,
    )


def write_services(state: FederationState) -> Path:
    """Write all of them into `services/`; return it."""
    folder = state.folder("services")
    for name in NAMES:
        replace_file(folder / name, render(state, name).encode(), mode=0o644)
    return folder
