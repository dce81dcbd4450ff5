"""The command line. Every command has `--json`; exit codes are documented in docs/cli.md."""

from facekeep.cli.app import main

__all__ = ["main"]
