"""`python -m facekeep_models.federating person HOME KEY_FILE NUMBER` and `... judge CANDIDATE`: a federation's demo."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def main() -> None:
    """Run from the command line; one JSON object on standard output."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.federating", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    person = commands.add_parser("person", help="give a synthetic person to a device that has joined")
    person.add_argument("home", type=Path)
    person.add_argument("key_file", type=Path)
    person.add_argument("number", type=int)
    person.add_argument("--samples", type=int, default=8)
    visit = commands.add_parser("verify", help="let the person pass by until their template follows the model in use")
    visit.add_argument("home", type=Path)
    visit.add_argument("key_file", type=Path)
    visit.add_argument("number", type=int)
    judge = commands.add_parser("judge", help="evaluate a candidate that the coordinator made")
    judge.add_argument("candidate", type=Path)
    judge.add_argument("--in-use", type=Path, help="model file in use; the one that ships if left out")
    judge.add_argument("--cache", type=Path, required=True, help="file for the pictures it is judged on")
    shipped = commands.add_parser("shipped", help="write the model that ships, and its patch table, for the coordinator")
    shipped.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    # Imported here: --help needs no model.
    if arguments.command == "person":
        from facekeep_models.federating.people import give_person

        found: dict[str, Any] = asdict(give_person(arguments.home, arguments.key_file, arguments.number, samples=arguments.samples))
    elif arguments.command == "verify":
        from facekeep_models.federating.people import verify_person

        found = {"visits": verify_person(arguments.home, arguments.key_file, arguments.number)}
    elif arguments.command == "shipped":
        from facekeep_models.federating.shipped import write_shipped

        found = {"model": str(write_shipped(arguments.folder))}
    else:
        from facekeep_models.federating.judging import judge as judge_candidate

        found = asdict(
            judge_candidate(arguments.candidate, arguments.in_use, arguments.cache, say=lambda line: print(line, file=sys.stderr))  # noqa: T201
        )
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
