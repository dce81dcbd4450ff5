"""The machine, the packages, the runtimes and the picture decoders."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import sys
from pathlib import Path
from typing import Final

import facekeep
from facekeep.doctor.report import Decoder, Machine, Package, Problem, Runtime
from facekeep.runtime import available_runtimes

# Without metadata of our own (a copied source tree) at least these are looked for.
_BASE: Final = ("numpy", "onnxruntime", "cryptography", "typer")
_DEVELOPER_EXTRAS: Final = frozenset({"dev", "build"})
# What a device may want. The others are for servers and evaluation: worth a line where they are installed only.
_DEVICE_EXTRAS: Final = frozenset({"camera", "litert", "openvino", "keyring", "demo"})
_TOOLS: Final = ("strace", "unshare")
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_MIB: Final = 1 << 20
# What the same module is sold as.
_DECODERS: Final = (
    ("Pillow", "PIL.Image", ("pillow",)),
    ("OpenCV", "cv2", ("opencv-python-headless", "opencv-python", "opencv-contrib-python")),
)


def examine_machine(problems: list[Problem]) -> Machine:
    """Return what there is to know of the machine."""
    core_dumps = resource.getrlimit(resource.RLIMIT_CORE)[0] != 0
    memory, swap = _memory_kib("MemTotal"), _memory_kib("SwapTotal")
    if core_dumps:
        problems.append(
            Problem("note", "Core dumps are on: a crash may write opened templates to a file.", "Run under `ulimit -c 0`.")
        )
    if swap:
        problems.append(
            Problem("note", "There is swap space: opened templates may be written to it.", "Encrypt it, or switch it off.")
        )
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_mb=memory // 1024 if memory else _physical_mb(),
        swap_mb=swap // 1024,
        core_dumps=core_dumps,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        facekeep=facekeep.__version__,
        tools=tuple((name, shutil.which(name) or "") for name in _TOOLS),
    )


def examine_packages(problems: list[Problem]) -> tuple[Package, ...]:
    """Return the packages that Facekeep's own metadata names, base packages first.

    Those of developers are left out, and those that no device needs where they are not installed.
    """
    wanted: dict[str, set[str]] = {}
    try:
        requirements = importlib.metadata.requires("facekeep") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = list(_BASE)
    base: set[str] = set()
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is None or found.group(1) == "facekeep":
            continue
        extras = set(_EXTRA.findall(requirement))
        if not extras:
            base.add(found.group(1))
        if not extras or extras - _DEVELOPER_EXTRAS:
            wanted.setdefault(found.group(1), set()).update(extras - _DEVELOPER_EXTRAS)
    packages = [Package(name, _version(name), () if name in base else tuple(sorted(extras))) for name, extras in wanted.items()]
    problems += [
        Problem("problem", f"{package.name} is missing, and Facekeep needs it.", f"Run: pip install {package.name}")
        for package in packages
        if not package.version and not package.extras
    ]
    shown = [each for each in packages if each.version or not each.extras or _DEVICE_EXTRAS.intersection(each.extras)]
    return tuple(sorted(shown, key=lambda package: (bool(package.extras), package.name)))


def examine_runtimes(problems: list[Problem]) -> tuple[Runtime, ...]:
    """Return how every runtime stands."""
    runtimes = []
    for status in available_runtimes():
        detail = ", ".join(_providers()) if status.works and status.name == "onnx" else status.reason
        runtimes.append(Runtime(status.name, status.works, status.distribution, status.version, detail))
        # One that nobody asked for is no problem; one that is there and does not work is.
        if not status.works and (status.version or status.name == "onnx"):
            problems.append(Problem("problem", f"The runtime {status.name} does not work.", status.reason))
    telemetry = _runtime_telemetry()
    if telemetry:
        problems.append(telemetry)
    return tuple(runtimes)


def examine_decoders(problems: list[Problem]) -> tuple[Decoder, ...]:
    """Return which picture decoders can be imported."""
    decoders = []
    for name, module, distributions in _DECODERS:
        version = next((found for each in distributions if (found := _version(each))), "")
        works = False
        if version:
            try:
                importlib.import_module(module)
                works = True
            except Exception as error:  # noqa: BLE001 - a wheel without its system libraries fails in ways of its own
                problems.append(
                    Problem("problem", f"{name} does not import ({type(error).__name__}).", f"Reinstall {distributions[0]}.")
                )
        decoders.append(Decoder(name, works, version))
    if not any(decoder.works for decoder in decoders):
        problems.append(Problem("note", "No picture decoder is installed: only arrays can be used.", "Run: pip install pillow"))
    return tuple(decoders)


def resident_mb() -> float:
    """Return the resident memory of this process in MiB; where the system does not say, the most it ever was."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return most / _MIB if sys.platform == "darwin" else most / 1024


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _memory_kib(name: str) -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _physical_mb() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB
    except (ValueError, OSError):
        return 0


def _providers() -> tuple[str, ...]:
    module = importlib.import_module("onnxruntime")
    return tuple(str(name) for name in module.get_available_providers())


def _runtime_telemetry() -> Problem | None:
    """Say so if ONNX Runtime may call home: from 1.29 it does unless told otherwise before it is imported.

    Importing facekeep tells it so. That is too late where the application imported ONNX Runtime first: then the store of its
    telemetry is among the open files of this process.
    """
    version = re.match(r"(\d+)\.(\d+)", _version("onnxruntime"))
    told = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    if version is None or (int(version[1]), int(version[2])) < (1, 29) or (told and not _telemetry_is_open()):
        return None
    return Problem(
        "problem",
        "ONNX Runtime was imported with its telemetry on: it keeps an identifier of this machine and reports to its maker.",
        "Set ORT_DISABLE_TELEMETRY=1 in the environment, or import facekeep before onnxruntime.",
    )


def _telemetry_is_open() -> bool:
    try:
        descriptors = list(Path("/proc/self/fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if "/.onnxruntime/" in str(descriptor.readlink()):
                return True
    return False
