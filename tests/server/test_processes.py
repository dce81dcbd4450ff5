"""Nothing that a demo or a test started outlives it, also where it detached itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from facekeep.flower.node import Launch
from facekeep_server.errors import ServerError
from facekeep_server.federation.processes import Processes

# Starts a process in a session of its own, as Flower does, and says which.
DETACHING = (
    "import subprocess, time; p = subprocess.Popen(['sleep', '300'], start_new_session=True); "
    "print(p.pid, flush=True); time.sleep(300)"
)


def started(processes: Processes, name: str) -> int:
    processes.start(name, Launch((sys.executable, "-c", DETACHING), {}))
    processes.wait_until(lambda: processes.log_text(name).strip().isdigit(), 60, "the process")
    return int(processes.log_text(name))


def is_alive(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_for_death(process: int) -> None:
    end = time.monotonic() + 10
    while is_alive(process):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_everything_ends_with_the_context(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        detached = [started(processes, name) for name in ("one", "other")]
        processes.kill("one")
        wait_for_death(detached[0])
        assert is_alive(detached[1])
        assert processes.is_running("other")
    wait_for_death(detached[1])


def test_a_process_that_ends_is_noticed_while_something_is_waited_for(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start("brief", Launch((sys.executable, "-c", "print('gone')"), {}))
        with pytest.raises(ServerError, match="brief ended"):
            processes.wait_until(lambda: False, 60, "what never comes")


def test_who_is_told_to_end_takes_everything_along(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom tests.server.test_processes import started\n"
        "from facekeep_server.federation.processes import Processes\n"
        f"with Processes(Path({str(tmp_path)!r})) as processes:\n"
        "    print(started(processes, 'one'), flush=True)\n    time.sleep(300)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as told:
        assert told.stdout is not None
        detached = int(told.stdout.readline())
        os.kill(told.pid, signal.SIGTERM)
    wait_for_death(detached)
