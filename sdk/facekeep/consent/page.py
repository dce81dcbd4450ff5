"""A receipt that a person can read: one HTML page without scripts, with the signed JSON in it."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from facekeep.clock import to_rfc3339
from facekeep.consent.purposes import PURPOSE_TERMS, Purpose
from facekeep.consent.receipt import ConsentReceipt
from facekeep.consent.record import ConsentRecord, Lifecycle

_OPEN: Final = '<script type="application/json" id="receipt">'
_CLOSE: Final = "</script>"

_HAPPENED: Final = {
    Lifecycle.REQUESTED: "Consent was asked for",
    Lifecycle.GIVEN: "Consent was given",
    Lifecycle.RENEWED: "Consent was given again",
    Lifecycle.REFUSED: "Consent was refused",
    Lifecycle.WITHDRAWN: "Consent was withdrawn",
    Lifecycle.EXPIRED: "Consent came to its end",
    Lifecycle.ERASED: "What was stored was erased",
}
_MEANS: Final = {
    Purpose.ENROLMENT: "keep a sealed template of the face on the device",
    Purpose.VERIFICATION: "check whether the face is that of the person claimed",
    Purpose.IDENTIFICATION: "find out who, among those enrolled, the face belongs to",
    Purpose.FEDERATED_TRAINING: "improve the model by updates made on the device",
    Purpose.CALIBRATION_STATISTICS: "measure error rates by noised statistics",
    Purpose.REDACTION: "blur the face in pictures",
}
_WHO: Final = {
    "principal": "the person",
    "guardian": "a guardian of the person",
    "controller": "the controller, by a revocation list",
    "device": "the device",
}
_LEAVES: Final = {"never": "nothing of it leaves the device", "noised-and-masked": "leaves the device noised and masked only"}
_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:48rem;padding:0 1rem;color:#111;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #bbb}
code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}pre{white-space:pre-wrap;background:#f3f3f3;padding:.8rem}
"""


def receipt_page(receipt: ConsentReceipt, data: bytes) -> str:
    """Return the page of a receipt.

    Args:
        receipt: what `open_receipt` returned for `data`.
        data: its canonical bytes, which go into the page unchanged but for the spelling of <, > and &.
    """
    rows = "".join(
        f"<tr><th scope='row'>{escape(purpose.value)}</th><td>to {escape(_MEANS[purpose])}; "
        f"{escape(_LEAVES[PURPOSE_TERMS[purpose].leaves_device])}</td><td>{escape(status.value.replace('_', ' '))}</td></tr>"
        for purpose, status in receipt.state.status
    )
    # Inside a script element HTML knows no entities, JSON does: neither the element's end nor a comment can be spelled.
    text = data.decode("utf-8").replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>Consent receipt</title><style>{_STYLE}</style></head><body><main>"
        "<h1>Consent receipt</h1>"
        f"<p>Made on {escape(to_rfc3339(receipt.issued_at))}. What happened later is not in it.</p>"
        f"<h2>Where consent stands</h2><table><thead><tr><th scope='col'>Purpose</th><th scope='col'>Your face is used</th>"
        f"<th scope='col'>Consent</th></tr></thead><tbody>{rows}</tbody></table>"
        f"{_terms(receipt)}{_history(receipt)}{_notices(receipt)}"
        "<h2>How to check it</h2><p>The signed record is inside this page. With the public key of the device, which you should "
        "have from the controller and not from this page:</p>"
        "<pre>facekeep consent verify THIS-PAGE.html --device-key KEY</pre>"
        f"<p>Receipt <code>{escape(receipt.receipt_id)}</code>, pseudonym <code>{escape(receipt.principal_id)}</code>, "
        f"device <code>{escape(str(receipt.device_key))}</code>.</p></main>\n{_OPEN}{text}{_CLOSE}\n</body></html>\n"
    )


def embedded_receipt(page: str) -> str:
    """Return the JSON inside a page.

    Raises:
        ValueError: if there is none, or more than one.
    """
    found = re.findall(re.escape(_OPEN) + "(.*?)" + re.escape(_CLOSE), page, re.DOTALL)
    if len(found) != 1:
        raise ValueError("a page holds exactly one receipt")
    return str(found[0])


def _terms(receipt: ConsentReceipt) -> str:
    record = receipt.state.in_force or receipt.records[-1]
    terms = record.processing
    lines = [
        ("Valid", f"{to_rfc3339(record.valid_from)} until {to_rfc3339(record.valid_until)}"),
        ("To withdraw", terms.withdrawal),
        ("Kept at most", terms.maximum + (f", or {terms.inactivity} after the last use" if terms.inactivity else "")),
        ("Your rights", ", ".join(terms.rights)),
        ("Laws", ", ".join(terms.jurisdictions) or "not stated"),
        ("Given to", ", ".join(terms.recipients) or "nobody"),
        ("Decided without a person", "yes" if terms.automated_decision else "no"),
    ]
    lines += [
        (party.role.replace("-", " "), f"{party.name}, {party.address}, {party.country}; {party.contact}")
        for party in terms.parties
    ]
    if not terms.names_a_controller:
        lines.append(("controller", "not stated in this record"))
    if record.release is not None:
        signed = f"signed, for {record.release.term}; statement {record.release.statement_sha256}"
        lines.append(("Written release (BIPA)", signed))
    if record.dependence is not None:
        depends = f"{record.dependence.issuer}, at most {record.dependence.max_age} old"
        lines.append(("Depends on revocation lists of", depends))
    rows = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in lines)
    return f"<h2>Terms</h2><table><tbody>{rows}</tbody></table>"


def _history(receipt: ConsentReceipt) -> str:
    rows = "".join(_row(record) for record in receipt.records)
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("When", "What", "For", "By"))
    return f"<h2>What happened</h2><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(record: ConsentRecord) -> str:
    cells = (
        to_rfc3339(record.recorded_at),
        _HAPPENED[record.state],
        ", ".join(sorted(record.purposes)),
        _WHO[record.actor.kind],
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _notices(receipt: ConsentReceipt) -> str:
    parts = []
    for record in {record.notice_sha256: record for record in receipt.records}.values():
        named = f"version {record.notice_version}, language {record.notice_language}"
        where = f", published at {record.notice_url}" if record.notice_url else ""
        text = receipt.notices.get(record.notice_sha256)
        body = f"<pre lang='{escape(record.notice_language, quote=True)}'>{escape(text)}</pre>" if text is not None else ""
        digest = f"<code>{escape(record.notice_sha256)}</code>"
        parts.append(f"<p>{escape(named + where)}; SHA-256 {digest}</p>{body}")
    return f"<h2>The notice that was shown</h2>{''.join(parts)}"
