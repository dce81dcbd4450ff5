"""`federate status`: how the federation stands, from its state directory alone."""

from __future__ import annotations

from typing import Any

from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.fleet import read_roster
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.submitting import find_standing


def describe(state: FederationState) -> dict[str, Any]:
    """Return how things stand, as JSON."""
    policy = load_policy(state)
    try:
        devices = len(read_roster(state).roster)
    except ServerError:
        devices = 0
    standing = find_standing(state)
    return {
        "federation": state.settings.name,
        "devices": devices,
        "minimum_cohort": policy.minimum_cohort,
        "epsilon": policy.epsilon,
        "offline_keys_here": (state.root / "offline").is_dir(),
        "log": None if standing is None else {"url": standing.url, "submitted": standing.submitted},
        "rounds": [_describe_round(state, number) for number in state.round_numbers],
    }


def _describe_round(state: FederationState, number: int) -> dict[str, Any]:
    found = round_directory(state, number)
    if not found.is_planned:
        return {"round": number, "state": "planning was interrupted"}
    plan = found.plan()
    told: dict[str, Any] = {
        "round": number,
        "kind": plan.kind.value,
        "level": plan.level.value,
        "cohort": plan.cohort_size,
        "minimum": plan.minimum,
        "epsilon": plan.epsilon,
        "steps": found.steps(),
    }
    if found.is_over:
        report = found.report()
        told |= {name: report[name] for name in ("prepared", "survivors", "contributors", "refusals", "suspects", "extras")}
        return told | {"state": "completed" if report["aborted"] is None else f"aborted: {report['aborted']}"}
    running = (found.path / "checkpoint").is_file()
    return told | {"state": "running" if running else "planned"}


def as_text(value: dict[str, Any]) -> str:
    """Return what `describe` told, for people."""
    lines = [f"{value['federation']}: {value['devices']} devices, sums of at least {value['minimum_cohort']}."]
    if value["offline_keys_here"]:
        lines.append("The offline keys are still on this machine: move offline/ away.")
    for item in value["rounds"]:
        steps = item.get("steps", [])
        seconds, moved = sum(step["seconds"] for step in steps), sum(step["sent"] + step["received"] for step in steps)
        where = f"  round {item['round']}: {item['state']}"
        if "cohort" in item:
            where += f", {item['kind']} {item['level']}, {item.get('contributors', '?')} of {item['cohort']} devices"
            where += f", epsilon {item['epsilon']:.3g}"
        if steps:
            where += f", {seconds:.0f} s, {moved / 1e6:.2f} MB"
        lines.append(where)
    return "\n".join(lines)
