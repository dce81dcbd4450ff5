"""From what was seen to checks: each rule, whether it held, and what was looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from facekeep.residue.search import Searcher
from facekeep.selftest.process import Evidence, Watchers
from facekeep.selftest.reference import Reference
from facekeep.selftest.report import Check, CheckState, Finding
from facekeep.selftest.strace import Trace

_MOST_LISTED = 8
_LONGEST_LINE = 160


@dataclass(slots=True)
class Judgement:
    """Checks and findings, gathered."""

    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def flow(self, name: str, passed: bool, detail: str) -> None:
        """Add a check of the device itself."""
        self.checks.append(Check(f"flow.{name}", "flow", _state(passed), detail))

    def watch(self, name: str, fault: str | None, detail: str) -> None:
        """Add a check of the watch; it fails if there is a fault."""
        self.checks.append(Check(f"watch.{name}", "watch", _state(fault is None), fault or detail))

    def leak(self, name: str, found: Iterable[Finding], detail: str) -> None:
        """Add a check of what may not leave; it fails if anything was found."""
        listed = list(found)
        self.findings += listed[:_MOST_LISTED]
        text = detail if not listed else f"{len(listed)} found: {listed[0].what} ({listed[0].where})"
        self.checks.append(Check(name, "leak", _state(not listed), text))

    def not_possible(self, name: str, reason: str) -> None:
        """Add a check that could not be made."""
        self.checks.append(Check(name, "watch", CheckState.NOT_POSSIBLE, reason))


def judge_flows(judgement: Judgement, evidence: Evidence, expected: Iterable[str]) -> None:
    """Judge whether the device did what it should, every step of it."""
    done = {message["name"]: message for message in evidence.said("step")}
    for name in expected:
        message = done.get(name)
        if message is None:
            judgement.flow(name, False, "did not run")
        else:
            judgement.flow(name, bool(message["passed"]), f"{message['detail']} ({1000 * message['seconds']:.0f} ms)")


def judge_hook(judgement: Judgement, evidence: Evidence, watchers: Watchers) -> int:
    """Judge what the audit hook refused; return how many events it judged."""
    if not watchers.audit_hook:
        judgement.not_possible("hook.events", "switched off")
        return 0
    said = evidence.said("watch")
    events = int(said[0]["events"]) if said else 0
    refused = [(str(event), str(reason)) for event, reason in said[0]["refused"]] if said else []
    kinds = {
        "network": ("hook.network", "no socket, no name lookup, no HTTP"),
        "process": ("hook.processes", "no other process"),
        "library": ("hook.libraries", "no library out of a writable directory, no SQLite extension"),
        "write outside the home": ("hook.files", "nothing opened for writing outside the home"),
    }
    for kind, (name, detail) in kinds.items():
        found = [Finding("audit hook", event, reason) for event, reason in refused if reason.startswith(kind)]
        judgement.leak(name, found, f"{detail} ({events:,} events)")
    return events


def judge_trace(judgement: Judgement, evidence: Evidence, watchers: Watchers, home: Path, root: Path) -> None:
    """Judge the system calls."""
    if evidence.trace is None:
        reason = watchers.missing.get("strace", "switched off")
        judgement.not_possible("strace", f"{reason}: only what Python itself does was watched, not what native code does")
        return
    trace = evidence.trace.run
    judgement.leak("strace.network", [Finding("strace", call, "network") for call in trace.network], "no network call")
    judgement.leak("strace.processes", [Finding("strace", call, "process") for call in trace.processes], "no other process")
    outside = sorted(path for path in trace.opened | trace.mapped if not _inside(path, home))
    judgement.leak(
        "strace.files",
        [Finding("strace", "opened or mapped for writing", _short(path, root)) for path in outside],
        f"{len(trace.opened)} files opened for writing, all in the home",
    )
    opaque = [Finding("strace", call, "system call") for call in trace.opaque]
    judgement.leak("strace.channels", opaque, "no way out that a trace does not show")


def judge_writes(judgement: Judgement, trace: Trace | None, searcher: Searcher, root: Path) -> None:
    """Search every byte that was handed to the kernel."""
    if trace is None:
        return
    found = []
    for target, data in trace.streams.items():
        what = searcher.search(bytes(data))
        if what:
            found.append(Finding("strace", what, _short(target, root)))
    judgement.leak("search.writes", found, f"{trace.writes:,} writes of {trace.size:,} bytes hold nothing of a picture")


def judge_output(judgement: Judgement, evidence: Evidence, searcher: Searcher) -> None:
    """Search standard output and standard error."""
    found = []
    for name, data in (("standard output", evidence.output), ("standard error", evidence.errors)):
        what = searcher.search(bytes(data))
        if what:
            found.append(Finding("output", what, name))
    if evidence.stray:
        found.append(Finding("output", f"{evidence.stray} lines that nobody asked for", "standard output"))
    sizes = f"{len(evidence.output):,} bytes of standard output and {len(evidence.errors):,} of standard error"
    judgement.leak("search.output", found, f"{sizes} hold nothing of a picture")


def judge_watch(
    judgement: Judgement, evidence: Evidence, watchers: Watchers, reference: Reference, mark: str, searcher: Searcher
) -> None:
    """Judge the watch itself: did it see what was done to be seen, and was the search for the right bytes?"""
    held = evidence.said("held")
    judgement.watch("same_values", _difference(held[0], reference) if held else "the process did not say", _same(reference))
    violations = evidence.said("violations")
    if not violations:
        judgement.watch(
            "awake", f"the process did not come to its end (exit {evidence.ended}){_last_words(evidence, searcher)}", ""
        )
        return
    outcome = violations[0]
    if watchers.audit_hook:
        missed = [name for name in ("socket", "outside") if outcome[name]]
        refused = {event for event, _ in outcome["refused"]}
        fault = f"a deliberate violation was let through: {', '.join(missed)}" if missed or len(refused) < 2 else None
        judgement.watch("hook_awake", fault, "a deliberate socket and a file outside the home were refused")
    if evidence.trace is not None:
        control = evidence.trace.control
        seen = any(mark.encode("ascii") in data for target, data in control.streams.items() if "violation" in target)
        fault = None if seen else "a file that was written and deleted was not seen"
        if not any(call.startswith("socket (INET") for call in control.network):
            fault = "a deliberate socket was not seen"
        judgement.watch("strace_awake", fault, "a deliberate socket and the content of a deleted file were seen")
    if watchers.namespace:
        said = evidence.said("watch")
        own = _own_namespace()
        inside = said[0]["network_namespace"] if said else None
        fault = "the process shares the network of this one" if inside == own else None
        if outcome["route"]:
            fault = "there is a route out of the namespace"
        judgement.watch("namespace_empty", fault, "an empty network namespace: no route to anywhere")
    else:
        judgement.not_possible("network namespace", watchers.missing.get("network namespace", "switched off"))


def _last_words(evidence: Evidence, searcher: Searcher) -> str:
    """Return the last line of standard error, unless it is itself a leak."""
    lines = bytes(evidence.errors).strip().splitlines()
    if not lines or searcher.search(bytes(evidence.errors)):
        return ""
    return f": {lines[-1].decode('utf-8', 'replace')[:_LONGEST_LINE]}"


def _difference(held: dict[str, list[str]], reference: Reference) -> str | None:
    pairs = (("crops", reference.crops), ("vectors", reference.embeddings), ("templates", reference.templates))
    for name, wanted in pairs:
        if not held[name]:
            return f"the process made no {name}"
        if set(held[name]) != wanted:
            return f"the process held other {name} than were searched for"
    return None


def _same(reference: Reference) -> str:
    counts = (len(reference.crops), len(reference.embeddings), len(reference.templates))
    return "the process held exactly the {} crops, {} embeddings and {} templates that were searched for".format(*counts)


def _own_namespace() -> int | None:
    try:
        return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116
    except OSError:
        return None


def _inside(path: str, home: Path) -> bool:
    return path == os.devnull or path == str(home) or path.startswith(f"{home}{os.sep}")


def _short(path: str, root: Path) -> str:
    return path.replace(str(root), "SANDBOX")


def _state(passed: bool) -> CheckState:
    return CheckState.PASSED if passed else CheckState.FAILED
