"""The auditors' console: pages that only read, behind a session that begins with a token."""

from facekeep_server.console.routes import create_console

__all__ = ["create_console"]
