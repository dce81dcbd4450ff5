"""How fast a whole log is audited, and in how much memory: demo logs of growing size, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.setting import report, temporary_folder

SIZES = (1_000, 10_000, 100_000, 1_000_000)

_AUDIT = """
import json, resource, sys, time
from datetime import UTC, datetime
from pathlib import Path
from facekeep.auditor import AuditPolicy
from facekeep.logfiles import LogDirectory, audit_log
folder = Path(sys.argv[1])
policy = AuditPolicy.parse((folder / "policy.toml").read_bytes())
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
verdict = audit_log(LogDirectory(folder / "log"), policy, datetime.now(UTC))
spent, after = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"verified": verdict.is_verified, "spent": spent, "grown_kib": after - before, "heads": verdict.signed_heads}))
"""
_PROVE = """
import json, random, sys, time
from pathlib import Path
from facekeep.logfiles import LogDirectory
from facekeep.tlog import TileHashes, make_inclusion
log, size = LogDirectory(Path(sys.argv[1]) / "log"), int(sys.argv[2])
chance, start = random.Random(1), time.process_time()
for _ in range(200):
    make_inclusion(TileHashes(size, log.read_tile), chance.randrange(size), size)
print(json.dumps((time.process_time() - start) / 200))
"""


def audit(_: Path) -> None:
    """Entries audited per second of processor time, memory taken beyond the empty process, one inclusion proof from cold tiles."""
    for size in SIZES:
        folder = temporary_folder() / "demo"
        write = "import sys; from facekeep_server.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", write, "demo-log", str(folder), "--entries", str(size), "--json"],
            check=True,
            capture_output=True,
        )
        found = _json(_AUDIT, str(folder))
        if not found["verified"]:
            raise AssertionError("the demo log is not verified")
        report(
            f"audit of {size} entries, {found['heads']} signatures",
            f"{size / found['spent']:,.0f} entries/s",
            f"{found['spent']:.1f} s of processor time, {found['grown_kib'] / 1024:.1f} MiB",
        )
        report(
            f"one inclusion proof at {size} entries, tiles read from disk", f"{1000 * _json(_PROVE, str(folder), str(size)):.2f} ms"
        )


def _json(code: str, *arguments: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)
