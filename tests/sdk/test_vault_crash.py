"""Processes that die, share a vault, or run out of disk or permission: no acknowledged write is lost, no half write is left."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError, VaultError
from facekeep.keys import KeyFile
from facekeep.vault import SQLiteVault
from tests.sdk.vault_scenes import START, content, enrol, erased, log_use
from tests.sdk.vault_worker import open_vault

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.sdk.vault_worker", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def names_in(vault: SQLiteVault) -> set[str]:
    with vault.transaction(durable=False) as transaction:
        return {handle.name for handle in transaction.subjects()}


def kill_while_it_works(home: Path, prefix: str, delay_seconds: float) -> list[tuple[str, ...]]:
    """Run a worker, kill it `delay_seconds` after it is ready, and return what it acknowledged."""
    process = start("work", home, prefix, 10_000)
    assert process.stdout is not None
    lines: list[str] = []
    try:
        lines.append(process.stdout.readline())
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        time.sleep(delay_seconds)
        os.kill(process.pid, signal.SIGKILL)
        reader.join()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # Only whole lines: an acknowledgement cut in two was not heard.
    return [tuple(line.split()) for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("runs", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_loses_nothing_it_acknowledged(tmp_path: Path, runs: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw, home = random.Random(seed), tmp_path / "home"
    enrolled, gone = set[str](), set[str]()
    for run in range(runs):
        acknowledged = kill_while_it_works(home, f"run{run}", draw.uniform(0.0, 0.25))
        enrolled |= {words[1] for words in acknowledged if words[0] == "enrolled"}
        gone |= {words[1] for words in acknowledged if words[0] == "erased"}
        with open_vault(home) as vault:
            vault.verify()
            assert vault.is_anchored
            found = names_in(vault)
        assert gone.isdisjoint(found), seed
        # At most one operation of each run was under way: done or not, but not acknowledged.
        assert len(enrolled - gone - found) <= run + 1, seed
        lost = {name for name in enrolled - gone - found if not _was_next_to_be_erased(name, enrolled)}
        assert lost == set(), seed
    assert len(enrolled) > runs, "the worker was killed before it had done anything: this test would show nothing"


def _was_next_to_be_erased(name: str, enrolled: set[str]) -> bool:
    prefix, number = name.split("-")
    return int(number) % 3 == 1 and f"{prefix}-{int(number) + 1}" in enrolled and f"{prefix}-{int(number) + 2}" not in enrolled


@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_while_creating_it_leaves_a_vault_or_none(tmp_path: Path, runs: int) -> None:
    whole = 0
    # The key file is made by itself: one that was cut short is for whoever holds the key to remove.
    KeyFile(tmp_path / "key").create()
    for run in range(runs):
        home = tmp_path / f"home{run}"
        process = start("work", home, "a", 1)
        deadline = time.monotonic() + 20
        # From the moment the directory is there, creation is under way; it takes about a hundredth of a second.
        while not home.exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        whole += SQLiteVault.exists(home)
        with open_vault(home) as vault:
            vault.verify()
            enrol(vault, "after", 1)
        assert sorted(path.name for path in home.iterdir()) == ["keys.fkk", "vault.db"]
    assert whole <= runs


def test_two_processes_share_a_vault(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with open_vault(home) as vault:
        enrol(vault, "mine", 1)
        revision = vault.revision
        workers = [start("work", home, prefix, 12) for prefix in ("left", "right")]
        seen = set[str]()
        while any(worker.poll() is None for worker in workers):
            seen |= names_in(vault)
            log_use(vault)
        for worker in workers:
            assert worker.stdout is not None
            lines = worker.stdout.read().split("\n")
            worker.stdout.close()
            assert worker.returncode == 0
            assert sum(line.startswith("enrolled") for line in lines) == 12
        expected = {f"{side}-{n}" for side in ("left", "right") for n in range(12) if n % 3 != 1}
        assert names_in(vault) == expected | {"mine"}
        assert len(seen) > 1
        assert vault.revision != revision
        vault.verify()
        assert vault.is_anchored
        vault.erase("left-0", erased)
    with open_vault(home) as vault:
        vault.verify()
        assert names_in(vault) == expected - {"left-0"} | {"mine"}


def test_two_openings_in_one_process_see_each_other(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with open_vault(home) as one, open_vault(home) as two:
        for number in range(4):
            handle = enrol(one, f"one {number}", number)
            enrol(two, f"two {number}", number)
            assert names_in(one) == names_in(two)
            assert one.revision == two.revision
            one.erase(f"two {number}", erased)
            two.rotate_keys()
            with two.transaction() as transaction:
                assert transaction.find_subject(f"one {number}") == handle
                assert transaction.find_subject(f"two {number}") is None
        assert content(one) == content(two)
        one.verify()
        two.verify()


def fill(vault: SQLiteVault) -> tuple[set[str], str]:
    """Enrol until it is refused; return who was acknowledged and the code of the refusal."""
    done = set[str]()
    for number in range(5000):
        try:
            enrol(vault, f"person {number}", number, dimension=256)
        except FacekeepError as error:
            return done, error.code
        done.add(f"person {number}")
    pytest.fail("it never filled up")


def test_a_full_database_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    with open_vault(tmp_path / "home") as vault:
        vault._store.run("PRAGMA max_page_count = 40")
        done, code = fill(vault)
        assert code == "vault.disk_full"
        assert len(done) > 3
        assert names_in(vault) == done
        vault.verify()
        vault._store.run("PRAGMA max_page_count = 100000")
        enrol(vault, "later", 1)
        assert vault.erase("person 0", erased) is not None
        vault.verify()
    with open_vault(tmp_path / "home") as vault:
        assert names_in(vault) == done - {"person 0"} | {"later"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine does not let the tests mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_refuses_and_keeps_what_it_has(small_disk: Path) -> None:
    home, filler = small_disk / "home", small_disk / "filler"
    filler.write_bytes(bytes(100_000))
    with open_vault(home) as vault:
        done, code = fill(vault)
        assert code == "vault.disk_full"
        assert len(done) > 3
        vault.verify()
        assert names_in(vault) == done
        for refused in (lambda: vault.erase("person 0", erased), vault.rotate_keys, lambda: enrol(vault, "late", 1)):
            with pytest.raises(VaultError) as caught:
                refused()
            assert caught.value.code == "vault.disk_full"
        vault.verify()
    # Closing empties the log into the file, or keeps both: opening again finds everything.
    filler.unlink()
    with open_vault(home) as vault:
        vault.verify()
        assert names_in(vault) - {"person 0"} == done - {"person 0"}
        vault.erase("person 1", erased)
        assert "person 1" not in names_in(vault)
        assert vault.is_anchored


def test_a_full_disk_has_no_room_for_a_new_vault_and_keeps_no_part_of_one(small_disk: Path) -> None:
    (small_disk / "key").touch()
    (small_disk / "key").unlink()
    KeyFile(small_disk / "key").create()
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 8192))
    with pytest.raises(VaultError) as caught:
        open_vault(small_disk / "home")
    assert caught.value.code == "vault.disk_full"
    assert list((small_disk / "home").iterdir()) == []
    (small_disk / "filler").unlink()
    open_vault(small_disk / "home").close()


def outcomes_without_permission(home: Path) -> dict[str, str]:
    """What a process without the rights of root finds."""
    process = start("codes", home, NOBODY)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return dict(line.split() for line in output.splitlines())  # type: ignore[misc]


@pytest.fixture
def public_place() -> Iterator[Path]:
    # Not tmp_path, whose parents only root may enter.
    place = Path(tempfile.mkdtemp(prefix="facekeep-test-"))
    yield place
    for path in [place, *place.rglob("*")]:
        path.chmod(0o700)
    shutil.rmtree(place)


@pytest.mark.parametrize("what", ["directory", "files", "vault", "nothing"])
def test_without_permission_to_write_it_is_refused_and_nothing_changes(public_place: Path, what: str) -> None:
    home = public_place / "home"
    with open_vault(home) as vault:
        enrol(vault, "alice", 1)
        before = content(vault)
    for path in [public_place, *public_place.rglob("*")]:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    forbidden = {"directory": [home], "files": list(home.iterdir()), "vault": [home / "vault.db"], "nothing": []}[what]
    for path in forbidden:
        path.chmod(0o500 if path.is_dir() else 0o400)
    found = outcomes_without_permission(home)
    assert found["use"] == ("ok" if what == "nothing" else "vault.read_only")
    assert found["create"] == ("vault.read_only" if what == "directory" else "ok")
    for path in forbidden:
        path.chmod(0o700)
    for path in [public_place, *public_place.rglob("*")]:
        if os.geteuid() == 0:
            os.chown(path, 0, 0)
    with SQLiteVault.open(home, KeyFile(public_place / "key"), clock=ManualClock(START)) as vault:
        vault.verify()
        assert what == "nothing" or content(vault) == before
