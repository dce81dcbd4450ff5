"""What a server keeps and says of a fleet that enrols, recognises and erases: nothing biometric, and no name."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import numpy as np

from facekeep import Device
from facekeep.clock import ManualClock
from facekeep.consent import ConsentPolicy
from facekeep_server.access.roles import Role
from facekeep_server.assembly import assemble
from facekeep_server.evidence.sources import Evidence
from facekeep_server.journal import JournalFormatter
from facekeep_server.log.finding import find_entries
from facekeep_server.reports.catalogue import REPORTS, make_report
from facekeep_server.reports.names import ReportName
from tests.biometric_search import BiometricSearch
from tests.flows.conftest import ALL, NOTICE, CountedModels, picture
from tests.flows.log_servers import RealServer
from tests.flows.test_no_biometrics import NAMES, Recording
from tests.flows.test_sync import publish
from tests.sdk.consent_setting import ISSUER, revocation_note

PAGES = ("", "/consent", "/retention", "/erasures", "/identifications", "/log", "/entries", "/incidents", "/reports")


def test_nothing_biometric_and_no_name_in_what_a_server_keeps_and_says(
    open_device: Callable[..., Device], models: CountedModels, clock: ManualClock, tmp_path: Path
) -> None:
    journal, handler = io.StringIO(), logging.StreamHandler()
    handler = logging.StreamHandler(journal)
    handler.setFormatter(JournalFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger("facekeep_server").setLevel(logging.DEBUG)
    recording = Recording(models.counting.detector, models.counting.embedder)
    device = open_device(models=CountedModels(recording, models.contract_id, models.operating_points))
    server = RealServer(tmp_path / "server", clock, revocations={"issuers": [str(ISSUER.verifier)]})
    frames = {f"frame {person} {number}": picture(person, number) for person in (1, 2) for number in range(3)}
    said: dict[str, bytes] = {}
    try:
        with server.running():
            device.consents.set_policy(ConsentPolicy(revocation_issuer=ISSUER.verifier, revocation_max_age="P7D"))
            device.log.enrol(server.url, server.code("gate 1"), trust=server.trust())
            for person, name in enumerate(NAMES[:2], 1):
                grant = device.consents.grant(name, purposes=ALL, valid_for="P40D", notice=NOTICE)
                device.enrol(name, [frames[f"frame {person} {number}"] for number in range(2)], grant)
            device.verify(NAMES[0], frames["frame 1 2"])
            device.identify(frames["frame 2 2"])
            device.log.submit()
            principal = device.consents.records(NAMES[1])[0].principal_id
            publish(server, revocation_note(1, {principal: clock.now()}, issued_at=clock.now()))
            assert device.log.sync().log.waiting == 0
            said = _everything_served(server)
    finally:
        logging.getLogger().removeHandler(handler)
    said["journal"] = journal.getvalue().encode()
    search = BiometricSearch(
        pictures=frames | {f"crop {number}": crop for number, crop in enumerate(recording.crops)},
        vectors={f"embedding {number}": np.asarray(vector) for number, vector in enumerate(recording.vectors)},
        names=NAMES,
    )
    assert recording.vectors
    # The database holds hashes, which look like noise; what was embedded and who it was is looked for in it all the same.
    stored = frozenset({"log.sqlite3", "log.sqlite3-wal", "log.sqlite3-shm"})
    assert search.in_tree(server.folder, sealed=stored) == []
    for where, data in said.items():
        assert data, where
        assert search.in_bytes(where, data, is_text=not where.startswith("tile")) == [], where
    assert search.fault() is None


def _everything_served(server: RealServer) -> dict[str, bytes]:
    inside = assemble(server.configuration(), clock=server.clock)
    token = inside.tokens.create(Role.AUDITOR, "auditor", timedelta(hours=1))[0]
    said: dict[str, bytes] = {}
    with httpx.Client(base_url=server.url, trust_env=False, follow_redirects=True) as client:
        bearer = {"Authorization": f"Bearer {token}"}
        for path in ("/metrics", "/log/checkpoint", "/openapi.json", "/readyz", "/v1/log/keys"):
            said[path] = client.get(path).content
        reader = inside.reader
        said["tile of hashes"] = client.get(f"/log/tile/0/000.p/{reader.head().size}").content
        entries = f"/log/tile/entries/000.p/{reader.head().size}"
        for path in (entries, "/v1/audit/entries", "/v1/audit/devices", "/v1/audit/incidents"):
            said[path] = client.get(path, headers=bearer).content
        signed_in = client.post("/console/login", data={"token": token}, headers={"Origin": server.url})
        assert signed_in.status_code == 200, signed_in.text
        for page in (*PAGES, "/search?q=template"):
            answer = client.get(f"/console{page}")
            assert answer.status_code == 200, (page, answer.status_code)
            said[f"console{page}"] = answer.content
        for path in ("/nothing", f"/v1/{NAMES[0]}", "/v1/trail"):
            said[path] = client.get(path).content
    (erasure,) = find_entries(inside.store, -1, 10, event="template.erased")
    erased = json.loads(erasure.line)["entry"]["subject"]
    for name in ReportName:
        subject = erased if REPORTS[name].needs_subject else None
        if name is not ReportName.BIPA_SCHEDULE:
            said[f"report {name.value}"] = make_report(Evidence.of(inside), name, subject=subject).to_text().encode()
    inside.store.close()
    return said
