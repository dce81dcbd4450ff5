"""The selftest from start to end."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.assembly import Inference, ModelChoice, choose_models, load_models
from facekeep.calibration import loosest_point
from facekeep.contract import InputContract
from facekeep.errors import SelftestError
from facekeep.flows.context import Settings
from facekeep.packs import LoadPolicy, PackStore, split_name
from facekeep.residue.search import Searcher
from facekeep.selftest.judge import Judgement, judge_flows, judge_hook, judge_output, judge_trace, judge_watch, judge_writes
from facekeep.selftest.pictures import Pictures, drawn_pictures, pictures_from
from facekeep.selftest.process import Evidence, Watchers, find_watchers, run_watched
from facekeep.selftest.reference import Reference, compute_reference, embed_picture
from facekeep.selftest.report import Finding, SelftestReport, Watched
from facekeep.selftest.sandbox import Sandbox
from facekeep.selftest.scenario import STEPS

ALL_WATCHERS: Final = frozenset({"audit hook", "network namespace", "strace"})
Progress = Callable[[str], None]
_NAME_A_FOLDER: Final = "Name a folder of pictures (--pictures); packs are chosen if you do not name them."


def run_selftest(
    *,
    embedder: str | None = None,
    detector: str | None = None,
    pads: Sequence[str] = (),
    packs: PackStore | None = None,
    pictures: Path | None = None,
    keep: Path | None = None,
    progress: Progress | None = None,
    timeout_seconds: float = 180.0,
    _watchers: frozenset[str] = ALL_WATCHERS,
    _sabotage: Path | None = None,
) -> SelftestReport:
    """Run enrol, verify, identify and withdraw under watch and return what was seen. Needs no network and no device.

    Args:
        embedder: embedding pack, or "pack/build"; the one that ships for drawn people if left out.
        detector: detection pack, likewise.
        pads: packs for presentation attack detection; none if left out.
        packs: where packs lie that did not ship; needed only to name one of them.
        pictures: folder with a subfolder for each of two people; needed for packs that see real faces, which drawn people
            are not. Each is reduced to at most 640 pixels on its longest side.
        keep: directory to leave the sandbox in, to look at it; it is removed if left out.
        progress: is told in a few words what happens.
        timeout_seconds: longest time that one flow may take.
        _watchers: for the tests of the selftest: which watchers to use.
        _sabotage: for the tests of the selftest: a Python file whose `sabotage(models, home)` makes the models leak.

    Returns:
        The report. A leak does not raise: `report.require_passed()` does.

    Raises:
        SelftestError: "selftest.failed" if it cannot be run at all.
        ModelError: if the packs cannot be used.
    """
    start, say = time.perf_counter(), progress or _silent
    # 0 prepare
    store, choice, contract = _choose(embedder, detector, tuple(pads), packs, has_pictures=pictures is not None)
    settings = Settings()
    models = load_models(
        store, choice, policy=LoadPolicy(), inference=Inference(settings.threads, settings.providers, settings.longest_side)
    )

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return embed_picture(pixels, models, settings)

    if pictures is None:
        say("preparing the pictures and what to search for...")
        shown = drawn_pictures(embed, apart=loosest_point(models.operating_points).threshold)
    else:
        shown = pictures_from(pictures, embed, say)
    say(f"models {choice.detector} and {choice.embedder}, {shown.origin}")

    # 1 what will be held
    reference = compute_reference(shown, models, contract, settings)
    searcher = Searcher(reference.forms, reference.vectors)
    say(f"searching for {searcher.windows:,} windows of {reference.secrets} pictures, crops, embeddings and templates")
    watchers = find_watchers(_watchers)
    say(f"watched by {', '.join(watchers.names) or 'nothing'}")

    sandbox = Sandbox(keep)
    try:
        run = _Run(sandbox, watchers, searcher, say)
        # 2 and 3 run, and search the files after each step
        run.go(store, choice, shown, settings.threads, timeout_seconds, _sabotage)
        # 4 and 5 search the writes, examine the watch
        report = run.judge(reference, tuple(name for name in (choice.detector, choice.embedder, *choice.pads) if name), start)
        if keep is not None:
            run.save(report)
        return report
    finally:
        # 6 remove
        sandbox.remove()


class _Run:
    """One run and what is gathered of it."""

    def __init__(self, sandbox: Sandbox, watchers: Watchers, searcher: Searcher, say: Progress) -> None:
        self._sandbox, self._watchers, self._searcher, self._say = sandbox, watchers, searcher, say
        self._mark = secrets.token_hex(16)
        self._evidence = Evidence()
        self._in_files: dict[str, Finding] = {}
        self._watched = Watched()

    def go(
        self, store: PackStore, choice: ModelChoice, shown: Pictures, threads: int, timeout_seconds: float, sabotage: Path | None
    ) -> None:
        told = {
            "home": str(self._sandbox.home),
            "packs": str(store.directory.absolute()),
            "detector": choice.detector,
            "embedder": choice.embedder,
            "pads": list(choice.pads),
            "threads": threads,
            "mark": self._mark,
            "audit_hook": self._watchers.audit_hook,
            "native": self._watchers.strace or bool(self._watchers.namespace),
            "sabotage": str(sabotage.absolute()) if sabotage else None,
        }
        self._evidence = run_watched(
            self._sandbox, told, shown.arrays, self._watchers, on_message=self._on_message, timeout_seconds=timeout_seconds
        )
        self._search_files("after the end")

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["event"] == "step":
            self._say(f"{message['name']}: {message['detail']}")
            self._search_files(f"after {message['name']}")

    def _search_files(self, when: str) -> None:
        """Search every file of the sandbox. The vault is open then, so its log and its shared memory are there to be read."""
        files = size = 0
        for name, content in self._sandbox.files():
            files, size = files + 1, size + len(content)
            what = self._searcher.search(content) or self._searcher.search(name.encode("utf-8", "surrogateescape"))
            if what and name not in self._in_files:
                self._in_files[name] = Finding("files", what, f"SANDBOX/{name}, {when}")
        for name in self._sandbox.strays():
            self._in_files.setdefault(f"{name} exists", Finding("files", "a file outside the home", f"SANDBOX/{name}, {when}"))
        self._watched = replace(self._watched, files=self._watched.files + files, file_bytes=self._watched.file_bytes + size)

    def judge(self, reference: Reference, models: tuple[str, ...], start: float) -> SelftestReport:
        judgement, evidence = Judgement(), self._evidence
        self._say("searching what was written")
        judge_flows(judgement, evidence, STEPS)
        events = judge_hook(judgement, evidence, self._watchers)
        judge_trace(judgement, evidence, self._watchers, self._sandbox.home, self._sandbox.root)
        trace = evidence.trace.run if evidence.trace is not None else None
        judge_writes(judgement, trace, self._searcher, self._sandbox.root)
        reads = f"{self._watched.files:,} file reads of {self._watched.file_bytes:,} bytes"
        judgement.leak("search.files", self._in_files.values(), f"{reads} hold nothing of a picture; none outside the home")
        judge_output(judgement, evidence, self._searcher)
        judge_watch(judgement, evidence, self._watchers, reference, self._mark, self._searcher)
        planted = "planted secrets were found plain, in hexadecimal, in Base64, compressed and as numbers"
        judgement.watch("search_awake", self._searcher.fault(), planted)
        watched = replace(
            self._watched,
            secrets=reference.secrets,
            windows=self._searcher.windows,
            writes=trace.writes if trace else 0,
            write_bytes=trace.size if trace else 0,
            targets=len(trace.streams) if trace else 0,
            output_bytes=len(evidence.output) + len(evidence.errors),
            audit_events=events,
        )
        return SelftestReport(
            tuple(judgement.checks), tuple(judgement.findings), watched, self._watchers.names, models, time.perf_counter() - start
        )

    def save(self, report: SelftestReport) -> None:
        """Leave report and output beside the home. What the process printed may itself be a leak: the directory is private."""
        with contextlib.suppress(OSError):
            root = self._sandbox.root
            (root / "report.json").write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
            (root / "stdout").write_bytes(self._evidence.output)
            (root / "stderr").write_bytes(self._evidence.errors)


def _choose(
    embedder: str | None, detector: str | None, pads: tuple[str, ...], packs: PackStore | None, *, has_pictures: bool
) -> tuple[PackStore, ModelChoice, InputContract]:
    # Without a store of the caller's, an empty one: what ships is known to every store.
    store = packs or PackStore(Path("/nonexistent") / "facekeep")
    if embedder is None and detector is None and not has_pictures:
        drawn = {pack.task: pack.id for pack in store.manifests() if pack.is_simulation}
        if not {"detection", "embedding"} <= drawn.keys():
            raise SelftestError("selftest.failed", f"The packs for drawn people are not installed. {_NAME_A_FOLDER}")
        detector, embedder = drawn["detection"], drawn["embedding"]
    choice = choose_models(store, ModelChoice(detector, embedder, pads), policy=LoadPolicy())
    found = [split_name(name) for name in (choice.detector, choice.embedder) if name]
    drawn_only = [store.manifest(pack_id).is_simulation for pack_id, _ in found]
    if any(drawn_only) != all(drawn_only) or all(drawn_only) == has_pictures:
        raise SelftestError(
            "selftest.failed",
            f"Packs for drawn people see drawn people only, every other pack sees real faces. {_NAME_A_FOLDER}",
        )
    embedder_id, build_id = found[1]
    manifest = store.manifest(embedder_id)
    return store, choice, manifest.input_of(manifest.build(build_id or manifest.builds[0].id))


def _silent(_: str) -> None:
    """Say nothing."""
