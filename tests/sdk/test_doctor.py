"""The doctor: it says what is there, finds what is wrong, needs no key, writes nothing, and never falls ill itself."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest

import facekeep
from facekeep import Device, KeyFile, Notice, PackStore, Purpose
from facekeep.doctor import DoctorReport, HomeState, examine
from facekeep.packs import Manifest
from tests.sdk.demo_setting import stand_ins_only

STAGES = {"detect", "align", "quality and pose", "embed", "open template", "compare", "audit append"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DoctorReport:
    """What is said where only the packs for drawn figures are here."""
    place = tmp_path_factory.mktemp("doctor")
    return examine(packs=PackStore(place / "packs", catalogue=[stand_ins_only(place)]), runs=5)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    where = tmp_path / "home"
    with Device.open(where, key=KeyFile(tmp_path / "key")) as device:
        device.consents.grant(
            "alice", purposes={Purpose.ENROLMENT}, valid_for=timedelta(days=1), notice=Notice("A notice of a test.")
        )
    return where


def look_at(home: Path, packs: PackStore | None = None) -> tuple[HomeState, str]:
    """Return the home's state and every problem as one text; the stages are left out, they are not at issue."""
    found = examine(home, packs or PackStore(home / "packs", catalogue=[]))
    assert found.home is not None
    return found.home, "\n".join(f"{problem.what} {problem.remedy}" for problem in found.problems)


def test_the_machine_and_the_packages(report: DoctorReport) -> None:
    assert report.machine.facekeep == facekeep.__version__
    assert report.machine.cores >= 1
    assert report.machine.memory_mb > 100
    assert {name for name, _ in report.machine.tools} == {"strace", "unshare"}
    packages = {package.name: package for package in report.packages}
    for name in ("numpy", "onnxruntime", "cryptography", "typer"):
        assert packages[name].version
        assert packages[name].extras == ()
    assert packages["openvino"].extras == ("openvino",)
    assert {"keyring", "pillow", "rich", "opencv-python-headless", "ai-edge-litert"} <= packages.keys()
    # What only servers and evaluation want is no line of a device, unless it is there.
    assert all(packages[name].version for name in ("uvicorn", "tenseal", "flwr", "pyarrow") if name in packages)
    assert "pytest" not in packages
    assert [package.extras == () for package in report.packages] == sorted((p.extras == () for p in report.packages), reverse=True)


def test_the_runtimes_and_decoders(report: DoctorReport) -> None:
    runtimes = {runtime.name: runtime for runtime in report.runtimes}
    assert set(runtimes) == {"onnx", "litert", "openvino"}
    assert runtimes["onnx"].works
    assert "CPUExecutionProvider" in runtimes["onnx"].detail
    assert {decoder.name for decoder in report.decoders} == {"Pillow", "OpenCV"}


def test_the_packs_that_ship_are_verified(report: DoctorReport) -> None:
    packs = {pack.id: pack for pack in report.packs}
    for name in ("drawn-detector", "drawn-embedder"):
        assert packs[name].builds
        assert packs[name].permitted_uses == ("simulation",)
        assert packs[name].obtain == ""
    assert packs["drawn-embedder"].with_thresholds == packs["drawn-embedder"].builds
    absent = packs["yunet-s"]
    assert absent.builds == ()
    assert absent.obtain.startswith("facekeep models ")
    # Drawn people are nobody: a device with nothing else is not ready, and is told how to become so.
    assert any(
        "No pack for embedding of real faces" in problem.what and "facekeep models" in problem.remedy for problem in report.problems
    )
    assert not report.healthy


def test_the_stages_are_measured(report: DoctorReport) -> None:
    found = report.measurement
    assert found is not None
    assert "drawn" in found.note
    assert found.models == ("drawn-detector/onnx", "drawn-embedder/onnx")
    shares = {stage.name: stage.share for stage in found.stages}
    assert {name for name, share in shares.items() if share is not None} == STAGES
    assert sum(share for share in shares.values() if share is not None) == pytest.approx(1.0)
    assert shares["seal template"] is None
    assert all(stage.runs >= 5 and stage.median_ms > 0 for stage in found.stages)
    assert found.verification_ms == pytest.approx(sum(stage.median_ms for stage in found.stages if stage.share is not None))
    assert 10 < found.rss_before_mb <= found.rss_loaded_mb + 50
    assert found.rss_after_mb > 10


def test_a_report_is_json_and_text(report: DoctorReport) -> None:
    value = json.loads(json.dumps(report.to_dict()))
    assert value["healthy"] is report.healthy
    assert [problem["what"] for problem in value["problems"]] == [problem.what for problem in report.problems]
    assert json.loads(json.dumps(asdict(report)))["machine"]["facekeep"] == facekeep.__version__
    text = report.render_text()
    for word in ("Packages:", "Runtimes:", "Model packs:", "one verification", "resident memory", "problem:"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "facekeep models pull yunet-s/onnx-dynamic" in text  # on one line, to be copied
    assert "or, offline, facekeep models import FILE" in " ".join(text.split())


def test_a_home_that_is_not_there_yet(tmp_path: Path) -> None:
    home, problems = look_at(tmp_path / "nowhere" / "home")
    assert not home.exists
    assert home.free_mb > 0
    assert "nowhere" not in problems
    assert not (tmp_path / "nowhere").exists()


def test_a_sound_home_needs_no_key_and_is_not_touched(home: Path) -> None:
    def state() -> dict[str, tuple[int, str]]:
        return {
            path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(home.iterdir())
        }

    before = state()
    found, problems = look_at(home)
    assert state() == before
    assert found.has_vault
    assert found.permissions == "0700"
    assert found.vault_format == 2
    assert found.key_provider == "key-file"
    assert found.vault_bytes > 10_000
    assert str(home) not in problems


def test_an_open_home_is_a_problem(home: Path) -> None:
    home.chmod(0o755)
    (home / "vault.db").chmod(0o644)
    found, problems = look_at(home)
    assert found.permissions == "0755"
    assert f"chmod 700 {home}" in problems
    assert f"chmod 600 {home / 'vault.db'}" in problems


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda home: (home / "vault.db").write_bytes(b"no database at all" * 100), "is no Facekeep vault"),
        (lambda home: (home / "vault.db").write_bytes(b""), "is no Facekeep vault"),
        (lambda home: (home / "keys.fkk").unlink(), "is missing; no key opens the vault"),
        (lambda home: (home / "keys.fkk").write_bytes(b"\0" * 300), "cannot be read"),
        (lambda home: (home / "keys.fkk").write_bytes(b"\0" * 300_000), "cannot be read"),
    ],
)
def test_a_broken_home_is_a_problem(home: Path, change: object, words: str) -> None:
    change(home)  # type: ignore[operator]
    assert words in look_at(home)[1]


def test_a_vault_of_a_newer_version(home: Path) -> None:
    data = bytearray((home / "vault.db").read_bytes())
    data[60:64] = (9).to_bytes(4, "big")
    (home / "vault.db").write_bytes(data)
    found, problems = look_at(home)
    assert found.vault_format == 9
    assert "newer than this Facekeep reads" in problems


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    assert "is no directory" in look_at(tmp_path / "home")[1]


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A catalogue of its own, with the drawn packs, that a test may damage."""
    source = Path(__file__).resolve().parents[2] / "edge_models" / "facekeep_models"
    for name in ("drawn-detector", "drawn-embedder"):
        (tmp_path / "catalogue" / "manifests").mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "manifests" / f"{name}.json", tmp_path / "catalogue" / "manifests")
        shutil.copytree(source / "weights" / name, tmp_path / "catalogue" / "weights" / name)
    return tmp_path / "catalogue"


def test_a_home_that_cannot_be_written_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs = os.statvfs

    def read_only(path: Path) -> os.statvfs_result:
        fields = list(statvfs(path))
        fields[8] |= os.ST_RDONLY
        return os.statvfs_result(fields)

    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", read_only)
        for where in (home, home / "not" / "there"):
            assert f"{where} is on a read-only file system; nothing can be recorded, so nothing runs." in look_at(where)[1]
    assert "nothing runs" not in look_at(home)[1]
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "vault.db")
    assert f"{home / 'vault.db'} cannot be written by this user" in look_at(home)[1]


@pytest.mark.shared
def test_a_damaged_build_is_brought_back_alone(shared_dir: Path, tmp_path: Path) -> None:
    store, weights = PackStore(tmp_path / "packs"), shared_dir / "models" / "detectors"
    for name in ("yunet_s_dynamic.onnx", "face_detection_yunet_2023mar.onnx"):
        store.import_file(weights / name)
    path = tmp_path / "packs" / "yunet-s" / "onnx-dynamic" / "yunet_s_dynamic.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    problem = next(problem for problem in examine(None, store).problems if "is damaged" in problem.what)
    assert "facekeep models pull yunet-s/onnx-dynamic or, offline, facekeep models import FILE" in problem.remedy
    assert "remove" not in problem.remedy
    store.import_file(weights / "yunet_s_dynamic.onnx")
    assert {check.state for check in store.verify("yunet-s")} == {"ok"}


def test_a_damaged_pack_is_found(shipped: Path, tmp_path: Path) -> None:
    weights = next((shipped / "weights" / "drawn-embedder").rglob("*.onnx"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    found = examine(None, PackStore(tmp_path / "packs", catalogue=[shipped]))
    pack = next(pack for pack in found.packs if pack.id == "drawn-embedder")
    assert pack.damaged
    assert pack.builds == ()
    assert "DAMAGED" in found.render_text()
    assert any("drawn-embedder is damaged" in problem.what for problem in found.problems)
    assert found.measurement is None


def test_a_manifest_that_is_none(shipped: Path, tmp_path: Path) -> None:
    (shipped / "manifests" / "drawn-embedder.json").write_text("{")
    found = examine(None, PackStore(tmp_path / "packs", catalogue=[shipped]))
    assert any("drawn-embedder" in problem.what for problem in found.problems)
    assert not found.healthy


def test_no_packs_at_all(tmp_path: Path) -> None:
    found = examine(None, PackStore(tmp_path / "packs", catalogue=[]))
    assert found.packs == ()
    assert found.measurement is None
    assert "no models to run" in found.render_text()


@pytest.mark.parametrize(
    "named", [{"embedder": "no-such-pack"}, {"detector": "drawn-embedder"}, {"embedder": "drawn-embedder/no-such-build"}]
)
def test_named_packs_that_cannot_be_used_are_a_problem(named: dict[str, str]) -> None:
    found = examine(**named)  # type: ignore[arg-type]
    assert found.measurement is None
    assert any("models named cannot be used" in problem.what for problem in found.problems)


class SickStore(PackStore):
    """A store that fails in ways nobody thought of."""

    def manifests(self) -> tuple[Manifest, ...]:
        raise RuntimeError("secret detail")


def test_the_doctor_does_not_fall_ill(tmp_path: Path) -> None:
    found = examine(tmp_path, SickStore(tmp_path / "packs"))
    text = found.render_text()
    assert any("could not be examined (RuntimeError)" in problem.what for problem in found.problems)
    assert "secret detail" not in text
    assert found.machine.cores >= 1


@pytest.mark.slow
def test_the_doctor_uses_no_network_and_leaves_nothing(tmp_path: Path) -> None:
    scratch, home = tmp_path / "tmp", tmp_path / "home"
    scratch.mkdir()
    home.mkdir(mode=0o700)
    code = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event in {'socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'urllib.Request'}:\n"
        "        print('NETWORK', event, file=sys.stderr)\n"
        "sys.addaudithook(hook)\n"
        "from pathlib import Path\n"
        "from facekeep.doctor import examine\n"
        f"print(examine(Path({str(home)!r})).render_text())\n"
    )
    environment = {**os.environ, "TMPDIR": str(scratch), "HOME": str(tmp_path / "user")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    assert "one verification" in done.stdout
    assert list(home.iterdir()) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", ["onnxruntime", "facekeep"])
def test_a_runtime_that_calls_home_is_a_problem(first: str, tmp_path: Path) -> None:
    code = f"import {first}, onnxruntime\nfrom facekeep.doctor import examine\nprint(examine().render_text())\n"
    # A CI variable switches the telemetry off as well: this is about everybody else's machine.
    kept = {name: value for name, value in os.environ.items() if name not in {"ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS"}}
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    wrote = [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
    assert ("telemetry on" in done.stdout) == bool(wrote)
    if first == "facekeep":
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.shared
def test_real_models_are_measured(shared_dir: Path, tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs")
    names = ("detectors/yunet_s_dynamic.onnx", "embedders/mobilefacenet_foamliu.onnx", "liveness/2.7_80x80_MiniFASNetV2.onnx")
    for name in names:
        store.import_file(shared_dir / "models" / name)
    found = examine(None, store, pads=("minifas-v2",), embedder="mobilefacenet-foamliu")
    assert found.measurement is not None
    assert found.measurement.note == ""
    stages = {stage.name for stage in found.measurement.stages}
    assert stages >= STAGES | {"presentation attack"}
    assert not any("real faces" in problem.what for problem in found.problems)
