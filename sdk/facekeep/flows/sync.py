"""One meeting with the server: withdrawals made elsewhere come here first, then the trail goes there.

Steps:
    0 read which issuer the consent policy names, and the newest list seen of it
    1 fetch a newer list; none where there is none
    2 apply it: withdraw and erase whom it names; from here on the next call refuses them
    3 submit the trail, with what 2 wrote
"""

from __future__ import annotations

from dataclasses import dataclass

from facekeep.errors import FacekeepError
from facekeep.flows.context import FlowContext
from facekeep.flows.log import DeviceLog, LogStatus
from facekeep.flows.revocations import RevocationReport, import_list
from facekeep.flows.standing import Standing
from facekeep.submission import Patience


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        revocations: what a newer list did, or None if there was none.
        log: where the device stands with its log.
    """

    revocations: RevocationReport | None
    log: LogStatus


def sync(context: FlowContext, patience: Patience | None = None) -> SyncReport:
    """Return the report of one meeting. The trail is submitted even if the list cannot be used; then that is what is raised.

    Raises:
        LogError: as `DeviceLog.submit`.
        ConsentError: "consent.revocation_older", "consent.revocation_fork". TrustError: "trust.malformed", "trust.bad_signature".
        VaultError: with a stable code.
    """
    log, report, refusal = DeviceLog(context), None, None
    # 0 read
    with context.vault.transaction(durable=False) as transaction:
        standing = Standing(transaction)
        issuer = standing.policy.revocation_issuer
        head = None if issuer is None else standing.head_of(issuer.name)
    if issuer is not None:
        try:
            # 1 fetch
            data = log.fetch_revocations(issuer.name, 0 if head is None else head.epoch, patience)
            # 2 apply
            report = None if data is None else import_list(context, data)
        except FacekeepError as error:
            refusal = error
    # 3 submit
    status = log.submit(patience=patience)
    if refusal is not None:
        raise refusal
    return SyncReport(report, status)
