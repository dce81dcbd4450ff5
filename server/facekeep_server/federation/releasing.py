"""A candidate evaluated and released in one step, where the release keys lie on this machine: for demos and tests.

A federation with somebody's faces in it keeps them elsewhere: `federate release make`, `sign`, `publish`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from facekeep.audit import AuditEvent
from facekeep.privacy.accounting import spent
from facekeep.protocol import Account
from facekeep_server.federation.candidates import Candidate
from facekeep_server.federation.creation import key_name, load_policy
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.gate import GateLimits
from facekeep_server.releases.making import TERM, Evaluating, make_release
from facekeep_server.releases.publishing import publish_release
from facekeep_server.releases.signing import sign_text


def publish(
    state: FederationState,
    candidate: Candidate,
    now: datetime,
    record: Callable[[AuditEvent], None],
    *,
    evaluating: Evaluating | None = None,
    limits: GateLimits | None = None,
    keys: Path | None = None,
    term: timedelta = TERM,
    account: Account = spent,
) -> Path:
    """Have the gate judge a candidate, and sign it as the next release; return its directory, which holds the bundle for devices.

    Raises:
        ReleaseError: "release.gate" if it does not pass the gate; "release.wrong_parent" if another release came between.
        ServerError: "server.no_key", "server.invalid_request".
    """
    made = make_release(state, candidate, now, record, evaluating=evaluating, limits=limits, term=term, account=account)
    text = made.to_text().encode()
    lines = []
    for number in range(1, load_policy(state).release_quorum + 1):
        name = f"release-{number}"
        lines.append(sign_text(text, key_name(state.settings, name), load_signing_key(state.key_path(name, keys))))
    return publish_release(state, candidate, lines, now, record)
