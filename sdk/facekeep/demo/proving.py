"""The end of the demo: is the trail whole, is anything left of a picture, does yesterday's copy of the vault open?"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from facekeep.consent import Purpose
from facekeep.demo.consenting import NOT_REFUSED, attempt
from facekeep.demo.record import Comparison, Grant, Promise, Proof, Refusal, Search, Withdrawal
from facekeep.demo.stage import Stage
from facekeep.demo.words import counted, people
from facekeep.device import Device
from facekeep.vault.creation import KEYSTORE_FILE

_CONTROL_BYTES: Final = 4096


def back_up(home: Path, backup: Path) -> None:
    """Copy the vault as a backup would: everything but the keys."""
    shutil.copytree(home, backup, ignore=shutil.ignore_patterns(KEYSTORE_FILE))


def prove(stage: Stage, home: Path, backup: Path, open_device: Callable[[Path], Device]) -> Proof:
    """Verify trail and vault, search the files, and put yesterday's copy of the vault beside today's keys.

    Raises:
        AuditError, VaultError: if the trail or the vault does not verify; a demo that cannot prove must not look as if it had.
    """
    device = stage.device
    trail = device.verify_trail()
    device.verify_vault()
    entries = tuple(json.loads(entry) for entry in device.trail_entries())
    note, public_key = device.trail_note(), device.info().public_key
    device.close()
    residue = stage.needles.search(home, os.urandom(_CONTROL_BYTES))
    shutil.copy2(home / KEYSTORE_FILE, backup / KEYSTORE_FILE)
    opened = attempt(stage, "Device.open(yesterday's copy of the vault, today's keys)", lambda: open_device(backup).close())
    return Proof(trail.size, trail.root, entries, note, public_key, residue, opened)


def weigh(
    refusals: Iterable[Refusal],
    grants: tuple[Grant, ...],
    enrolled: Collection[str],
    comparisons: Iterable[Comparison],
    searches: tuple[Search, ...],
    withdrawal: Withdrawal,
    proof: Proof,
) -> tuple[Promise, ...]:
    """Return what is promised, whether it held, and what was seen. Accuracy is measured, not promised."""
    promises = [_refused("Without consent nothing runs: no camera, no model.", tuple(refusals))]
    agreed = {grant.subject for grant in grants if grant.purposes}
    compared = {comparison.subject for comparison in comparisons if comparison.is_match is not None}
    promises.append(
        Promise(
            "Nobody is compared without their agreement.",
            compared <= agreed,
            f"Templates of {people(len(compared))} were compared; {_each(len(compared))} had agreed."
            if compared <= agreed
            else f"Templates of {people(len(compared - agreed))} were compared without agreement.",
        )
    )
    found = {subject for search in searches for subject, _ in search.candidates if not search.is_after_withdrawal}
    searchable = {grant.subject for grant in grants if Purpose.IDENTIFICATION in grant.purposes}
    templates = len(searchable.intersection(enrolled))
    promises.append(
        Promise(
            "A search finds only who agreed to be searched for.",
            found <= searchable,
            f"{len(searchable)} of {people(len(grants))} agreed to identification, {templates} of them "
            f"{'has' if templates == 1 else 'have'} a template; {len(found)} {'was' if len(found) == 1 else 'were'} ever named "
            "by a search.",
        )
    )
    promises.append(_refused("Withdrawal works at once, and after a restart.", withdrawal.refusals))
    named = [
        search
        for search in searches
        if search.is_after_withdrawal and withdrawal.subject in {subject for subject, _ in search.candidates}
    ]
    after = sum(search.is_after_withdrawal for search in searches)
    promises.append(
        Promise(
            "Whoever withdrew is no longer found.",
            not named,
            f"{counted(after, 'search', 'searches')} since; {len(named) or 'none'} named them.",
        )
    )
    residue = proof.residue
    promises.append(
        Promise(
            "Nothing of a picture lies in the vault unsealed.",
            residue.is_clean,
            f"{residue.needles:,} pieces of frames, samples and vectors searched for in {counted(residue.files, 'file', 'files')} "
            f"({residue.size_bytes / 1024:,.0f}\u00a0KiB): {len(residue.found) or 'none'} found. "
            f"The search works: it {'found' if residue.is_control_found else 'did not find'} a piece planted as a control.",
        )
    )
    promises.append(
        Promise(
            "An older copy of the vault stays shut.",
            proof.backup.code != NOT_REFUSED,
            f"A copy made before the withdrawal, opened with the keys of today: {proof.backup.code}.",
        )
    )
    promises.append(
        Promise(
            "The audit trail is whole and signed.",
            proof.trail_size == len(proof.trail) > 0,
            f"{counted(proof.trail_size, 'entry leads', 'entries lead')} to the signed head {proof.trail_root[:16]}…",
        )
    )
    return tuple(promises)


def _each(number: int) -> str:
    return "this person" if number == 1 else "all of them"


def _refused(text: str, refusals: tuple[Refusal, ...]) -> Promise:
    kept = all(refusal.code.startswith("consent.") and refusal.reading.is_nothing for refusal in refusals)
    calls = sum(
        refusal.reading.captures + refusal.reading.model_loads + refusal.reading.detections + refusal.reading.embeddings
        for refusal in refusals
    )
    codes = ", ".join(dict.fromkeys(refusal.code for refusal in refusals))
    asked = f"camera and models were asked {counted(calls, 'time', 'times')}" if calls else "neither camera nor model was asked"
    return Promise(text, kept, f"{counted(len(refusals), 'call', 'calls')} ended in {codes}; {asked}.")
