"""`python -m facekeep_models.federating person HOME KEY_FILE NUMBER` and `... crops FOLDER`: a federation's demo."""

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
    crops = commands.add_parser("crops", help="write the crops that candidates are evaluated on")
    crops.add_argument("folder", type=Path)
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
        from facekeep_models.federating.crops import write_crops

        written = write_crops(arguments.folder, say=lambda line: print(line, file=sys.stderr))  # noqa: T201
        found = {"crops": [str(each) for each in written]}
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
