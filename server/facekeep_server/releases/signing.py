"""Signing on another machine: the text of a release and a key file, no state directory, no network."""

from __future__ import annotations

from typing import Final

from facekeep.errors import ReleaseError
from facekeep.privacy.accounting import spelled
from facekeep.protocol.release import ModelRelease
from facekeep.signing import DeviceKey
from facekeep.tlog.notes import LARGEST_NOTE_BYTES
from facekeep_server.errors import ServerError

_DASH: Final = "\u2014 "  # C2SP signed note: a signature line begins with an em dash and a space


def parse_text(data: bytes) -> ModelRelease:
    """Return the release of the file that `federate release make` wrote.

    Raises:
        ReleaseError: "release.malformed".
    """
    if len(data) > LARGEST_NOTE_BYTES:
        raise ReleaseError("release.malformed", "The text of a release is not that long.")
    return ModelRelease.parse(data.decode("utf-8", "replace"))


def sign_text(data: bytes, name: str, key: DeviceKey) -> str:
    """Return the signature line of one key over the text of a release.

    Raises:
        ReleaseError: "release.malformed": nothing but a release is signed with a release key.
    """
    return parse_text(data).sign(name, key).rpartition("\n\n")[2]


def join_signatures(data: bytes, lines: list[str]) -> str:
    """Return the note of a text and signature lines of different files.

    Raises:
        ReleaseError: "release.malformed". ServerError: "server.invalid_request" for a file that is no signature line.
    """
    text = parse_text(data).to_text()
    found = [line for each in lines for line in each.splitlines() if line]
    if not found or not all(line.startswith(_DASH) for line in found):
        raise ServerError("server.invalid_request", "A signature is the file that `federate release sign` writes.")
    return text + "\n" + "".join(f"{line}\n" for line in dict.fromkeys(found))


def describe(release: ModelRelease) -> str:
    """Return what a signer puts a name to, in words."""
    points = "\n".join(
        f"  FMR {point.fmr:g} ({point.fmr_interval[0]:g} to {point.fmr_interval[1]:g}) at {point.threshold:.4f}, "
        f"FNMR {point.fnmr:g} ({point.fnmr_interval[0]:g} to {point.fnmr_interval[1]:g}); {point.dataset}"
        for point in release.operating_points
    )
    privacy, parent = release.privacy, release.parent or "the model that shipped"
    return (
        f"{release.federation}, release {release.version} ({release.level}), digest {release.digest}\n"
        f"continues {parent}; rounds {', '.join(map(str, release.rounds)) or 'none'}\n"
        f"epsilon {spelled(privacy.epsilon)} at delta {privacy.delta:g} for each device, sums of at least "
        f"{privacy.cohort} of {privacy.fleet} devices\nmodel {release.model}\ncontract {release.contract}\n{points}\n"
        f"made {release.created:%Y-%m-%d %H:%M} UTC, may be adopted before {release.expires:%Y-%m-%d}"
    )
