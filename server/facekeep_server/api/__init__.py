"""The HTTP interface: devices, the public log, auditors, administrators, health."""

from facekeep_server.api.app import create_app

__all__ = ["create_app"]
