"""Which releases a device accepts. Pure: bytes in, a verdict out. Reasons and order: docs/formats/release.md."""

from facekeep.trust.logged import published, require_logged_release
from facekeep.trust.releases import AcceptedRelease, ReleaseStanding, TrustedReleases

__all__ = ["AcceptedRelease", "ReleaseStanding", "TrustedReleases", "published", "require_logged_release"]
