"""The command line of the server."""

from facekeep_server.cli.app import main

__all__ = ["main"]
