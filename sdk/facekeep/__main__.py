"""`python -m facekeep` is the command line."""

from facekeep.cli import main

if __name__ == "__main__":
    main()
