"""What the doctor found. Every value is plain, so that `dataclasses.asdict` of a report is JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

_WIDTH: Final = 100
_UNBROKEN: Final = "\u00a0"
_COMMAND: Final = re.compile(r"facekeep models \S+ \S+|(pip|chmod) \S+ \S+")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to know or to mend.

    Attributes:
        severity: "problem" when something does not work or is unsafe, "note" when it is worth knowing.
        what: what is the matter.
        remedy: what to do.
    """

    severity: Literal["problem", "note"]
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine.

    Attributes:
        system: operating system and its version.
        architecture: such as "x86_64" or "aarch64".
        cores: processor cores this process may use.
        memory_mb: physical memory in MiB, 0 where unknown.
        swap_mb: swap space in MiB, 0 where there is none or it is unknown.
        core_dumps: whether a crash would write memory to a file.
        python: version and implementation of Python.
        facekeep: version of Facekeep.
        tools: name of a program that the selftest or the keys can use -> where it is, empty where it is not.
    """

    system: str
    architecture: str
    cores: int
    memory_mb: int
    swap_mb: int
    core_dumps: bool
    python: str
    facekeep: str
    tools: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A Python distribution that Facekeep can use.

    Attributes:
        name: name of the distribution.
        version: installed version, empty where it is not installed.
        extras: extras that ask for it; empty for one of the base install.
    """

    name: str
    version: str
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime of models.

    Attributes:
        name: "onnx", "litert" or "openvino".
        works: whether it can be imported here.
        distribution: package that provides it.
        version: installed version, or empty.
        detail: execution providers, or why it does not work.
    """

    name: str
    works: bool
    distribution: str
    version: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder of picture files.

    Attributes:
        name: "Pillow" or "OpenCV".
        works: whether it can be imported here.
        version: its version, or empty.
    """

    name: str
    works: bool
    version: str


@dataclass(frozen=True, slots=True)
class PackState:
    """A model pack.

    Attributes:
        id: name of the pack.
        task: "detection", "embedding" or "pad".
        title: one line about it.
        builds: installed builds whose files have the hash that the manifest pins.
        damaged: files that are here and are not what the manifest pins.
        permitted_uses: what the licence of the weights allows.
        licence: SPDX identifier of the weights.
        consented: whether the people in the training data agreed.
        with_thresholds: installed builds of an embedder that have operating points.
        obtain: the command that brings it here, empty once it is.
    """

    id: str
    task: str
    title: str
    builds: tuple[str, ...]
    damaged: tuple[str, ...]
    permitted_uses: tuple[str, ...]
    licence: str
    consented: bool
    with_thresholds: tuple[str, ...]
    obtain: str


@dataclass(frozen=True, slots=True)
class HomeState:
    """The directory of a device, seen from outside: no key is asked for.

    Attributes:
        path: where.
        exists: whether there is such a directory.
        has_vault: whether a vault lies in it.
        permissions: of the directory, octal, such as "0700".
        vault_format: version of the vault's format, or None.
        key_provider: who guards the key, as the keystore says, or empty.
        vault_bytes: size of the vault, its log and its keystore.
        pack_bytes: size of the model packs in it.
        free_mb: free space of the disk in MiB.
    """

    path: str
    exists: bool
    has_vault: bool
    permissions: str
    vault_format: int | None
    key_provider: str
    vault_bytes: int
    pack_bytes: int
    free_mb: int


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long one stage takes.

    Attributes:
        name: the stage.
        median_ms: median of `runs` runs, in milliseconds.
        share: of a whole verification, 0 to 1; None for a stage that verification does not have.
        runs: how often it was measured.
    """

    name: str
    median_ms: float
    share: float | None
    runs: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Time and memory of one set of models.

    Attributes:
        models: packs and builds.
        threads: of each inference session.
        frame_px: width and height of the frame.
        stages: every stage.
        verification_ms: sum of the stages of one verification.
        load_ms: reading, hashing and loading the models.
        rss_before_mb: resident memory before the models were loaded, in MiB.
        rss_loaded_mb: after they were loaded.
        rss_after_mb: after every stage ran.
        note: what else there is to know, may be empty.
    """

    models: tuple[str, ...]
    threads: int
    frame_px: tuple[int, int]
    stages: tuple[StageTime, ...]
    verification_ms: float
    load_ms: float
    rss_before_mb: float
    rss_loaded_mb: float
    rss_after_mb: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Everything the doctor found.

    Attributes:
        machine: the machine.
        packages: base packages first.
        runtimes: every runtime.
        decoders: picture decoders.
        packs: every known pack.
        home: the directory of the device, or None if none was named.
        measurement: time and memory, or None if no models could be run.
        problems: problems first, then notes.
        healthy: whether there is no problem; notes do not count.
    """

    machine: Machine
    packages: tuple[Package, ...]
    runtimes: tuple[Runtime, ...]
    decoders: tuple[Decoder, ...]
    packs: tuple[PackState, ...]
    home: HomeState | None
    measurement: Measurement | None
    problems: tuple[Problem, ...]
    healthy: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def render_text(self) -> str:
        """Return the report for people."""
        return "\n".join(
            [
                *_machine_lines(self.machine),
                *_section("Packages", _package_rows(self.packages)),
                *_section("Runtimes", [(r.name, "works" if r.works else "no", r.version, r.detail) for r in self.runtimes]),
                *_section("Picture decoders", [(d.name, "works" if d.works else "no", d.version) for d in self.decoders]),
                *_pack_lines(self.packs),
                *(_home_lines(self.home) if self.home else ()),
                *(_measurement_lines(self.measurement) if self.measurement else ("", "Measured time: no models to run")),
                *_problem_lines(self.problems),
            ]
        )


def _machine_lines(machine: Machine) -> list[str]:
    tools = ", ".join(f"{name} {'yes' if path else 'no'}" for name, path in machine.tools)
    memory = f"{machine.memory_mb:,} MiB memory, {machine.swap_mb:,} MiB swap"
    return [
        f"Facekeep {machine.facekeep}, {machine.python}",
        f"{machine.system}, {machine.architecture}, {machine.cores} cores, {memory}",
        f"tools: {tools}; core dumps {'on' if machine.core_dumps else 'off'}",
    ]


def _package_rows(packages: Iterable[Package]) -> list[tuple[str, str, str]]:
    return [(p.name, p.version or "not installed", f"extra {', '.join(p.extras)}" if p.extras else "base") for p in packages]


def _pack_lines(packs: Sequence[PackState]) -> list[str]:
    """Return two lines for each pack: how it stands, and on what terms it may be used."""
    if not packs:
        return ["", "Model packs: none"]
    width = max(len(pack.id) for pack in packs)
    task_width = max(len(pack.task) for pack in packs)
    indent = " " * (width + 4)
    lines = ["", "Model packs:"]
    for pack in packs:
        consent = "consented" if pack.consented else "no documented consent"
        lines += _wrapped(f"  {pack.id:{width}}  {pack.task:{task_width}}  {_pack_state(pack)}", indent)
        lines += _wrapped(f"{indent}{pack.licence}; {', '.join(pack.permitted_uses)}; {consent}", indent)
    return lines


def _pack_state(pack: PackState) -> str:
    if pack.damaged:
        return f"DAMAGED: {', '.join(pack.damaged)}"
    return f"verified: {', '.join(pack.builds)}" if pack.builds else f"not here: {pack.obtain}"


def _home_lines(home: HomeState) -> list[str]:
    if not home.exists:
        return ["", f"Home {home.path}: not there yet; `facekeep init` makes it"]
    what = f"vault format {home.vault_format}, key: {home.key_provider or 'unknown'}" if home.has_vault else "no vault yet"
    sizes = f"{home.vault_bytes:,} bytes of vault, {home.pack_bytes:,} bytes of packs, {home.free_mb:,} MiB free"
    return ["", *_wrapped(f"Home {home.path}: permissions {home.permissions}, {what}, {sizes}", "  ")]


def _measurement_lines(found: Measurement) -> list[str]:
    width, height = found.frame_px
    rows = [
        (
            stage.name,
            f"{stage.median_ms:10.3f} ms",
            f"{100 * stage.share:5.1f} %" if stage.share is not None else "",
            f"{stage.runs} runs",
        )
        for stage in found.stages
    ]
    rows.append(("one verification", f"{found.verification_ms:10.3f} ms", "100.0 %", ""))
    memory = f"{found.rss_before_mb:.0f} MiB before, {found.rss_loaded_mb:.0f} loaded, {found.rss_after_mb:.0f} after"
    head = (
        f"Measured time, {' and '.join(found.models)}, {width}x{height}, {found.threads} thread{'s' if found.threads > 1 else ''}"
    )
    lines = [*_section(head, rows), f"  loading {found.load_ms:.0f} ms; resident memory {memory}"]
    return [*lines, f"  {found.note}"] if found.note else lines


def _problem_lines(problems: Sequence[Problem]) -> list[str]:
    if not problems:
        return ["", "No problems."]
    lines = [""]
    for problem in problems:
        lines += _wrapped(f"{problem.severity}: {problem.what} {problem.remedy}".rstrip(), "    ")
    return lines


def _section(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["", f"{title}: none"]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    cells = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    # What is too long is the last cell: why a runtime does not work.
    indent = " " * (2 + sum(width + 2 for width in widths[:-1]))
    return ["", f"{title}:", *(line for each in cells for line in _wrapped(f"  {each}", indent))]


def _wrapped(text: str, indent: str) -> list[str]:
    """Return a text in lines of at most `_WIDTH` where words allow it, all but the first indented; its own spaces stay."""
    if len(text) <= _WIDTH:
        return [text]
    # A command that is to be copied stays in one line: textwrap breaks at no other space than the plain one.
    kept = _COMMAND.sub(lambda found: found[0].replace(" ", _UNBROKEN), text)
    lines = textwrap.wrap(kept, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return [line.replace(_UNBROKEN, " ") for line in lines]
