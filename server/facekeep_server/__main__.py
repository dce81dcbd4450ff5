"""`python -m facekeep_server` is `facekeep-server`."""

from facekeep_server.cli import main

main()
