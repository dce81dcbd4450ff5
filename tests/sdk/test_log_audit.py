"""The auditor: a good log passes, and nothing else does."""

import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from facekeep.audit.entry import TrailEntry
from facekeep.auditor import Verdict
from facekeep.clock import to_rfc3339
from facekeep.errors import AuditError, LogError
from facekeep.logfiles import LogDirectory, LogWriter, audit_log
from facekeep.logfiles.directory import needed_files
from facekeep.logfiles.web import LogAddress
from facekeep.merkle import leaf_hash
from facekeep.tlog import LogProof, Tile, TileHashes, make_inclusion, pack_bundle, unpack_bundle
from facekeep.tlog.tiles import ENTRIES, bundles_of
from tests.sdk.log_scenes import (
    ORIGIN,
    START,
    AuditPolicy,
    Phone,
    busy_entries,
    policy,
    policy_text,
    sign,
    subject,
    write_log,
)

LATER = START + timedelta(days=2)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("thousand") / "log"
    write_log(path, busy_entries(1000), LATER)
    return path


def audit(path: Path, rules: str = "", **options: object) -> Verdict:
    return audit_log(LogDirectory(path), policy(rules), LATER + timedelta(hours=1), **options)  # type: ignore[arg-type]


def audit_entries(tmp_path: Path, lines: list[bytes], at: object = None, rules: str = "") -> Verdict:
    path = tmp_path / "made"
    shutil.rmtree(path, ignore_errors=True)
    moment = at or LATER
    write_log(path, lines, moment)  # type: ignore[arg-type]
    return audit_log(LogDirectory(path), policy(rules), moment + timedelta(hours=1))  # type: ignore[operator]


def codes(verdict: Verdict) -> set[str]:
    return set(verdict.counts)


def test_a_good_log_is_verified_and_the_page_says_what_it_holds(thousand: Path) -> None:
    seen: list[tuple[int, int]] = []
    verdict = audit_log(LogDirectory(thousand), policy(), LATER, progress=lambda done, total: seen.append((done, total)))
    assert verdict.is_verified
    assert (verdict.size, verdict.devices, verdict.subjects) == (1000, 4, 4)
    assert sum(verdict.entries.values()) == 1000
    assert verdict.signed_heads == verdict.entries["head"]
    assert seen == [(256, 1000), (512, 1000), (768, 1000), (1000, 1000)]
    page = verdict.render_text()
    assert page.startswith("VERIFIED")
    assert len(page.splitlines()) < 40
    assert json.loads(json.dumps(verdict.to_dict()))["verified"] is True


def test_the_directory_is_exactly_the_files_of_the_specification(thousand: Path) -> None:
    assert {path.relative_to(thousand).as_posix() for path in thousand.rglob("*") if path.is_file()} == set(needed_files(1000))


def damaged(log: Path, tmp_path: Path, number: int) -> Path:
    copy = tmp_path / f"copy{number}"
    shutil.copytree(log, copy)
    return copy


def test_changed_bytes_anywhere_are_found(thousand: Path, tmp_path: Path) -> None:
    chance = random.Random(5)
    copy = damaged(thousand, tmp_path, 0)
    for name in needed_files(1000):
        path, data = copy / name, (thousand / name).read_bytes()
        for place in {0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(1))}:
            changed = bytearray(data)
            changed[place] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            assert not audit(copy).is_verified, f"{name} byte {place}"
        path.write_bytes(data)
    assert audit(copy).is_verified


@pytest.mark.slow
def test_every_changed_byte_is_found(thousand: Path) -> None:
    """Byte by byte with the very steps of the audit; FACEKEEP_EXHAUSTIVE=1 takes every byte of every bundle."""
    exhaustive = bool(os.environ.get("FACEKEEP_EXHAUSTIVE"))
    note = (thousand / "checkpoint").read_bytes()
    trust = policy().trust
    for place in range(len(note)):
        for bit in range(8) if exhaustive else (0, 5):
            changed = note[:place] + bytes([note[place] ^ 1 << bit]) + note[place + 1 :]
            try:
                assert trust.verify(changed).unknown
            except LogError:
                continue
    bundles = list(bundles_of(1000))
    for bundle in bundles if exhaustive else bundles[-1:]:
        data = (thousand / bundle.path).read_bytes()
        tile = (thousand / Tile(0, bundle.index, bundle.width).path).read_bytes()
        good = unpack_bundle(data, bundle.width)
        assert b"".join(map(leaf_hash, good)) == tile
        for place in range(0, len(data), 1 if exhaustive else 29):
            try:
                found = unpack_bundle(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :], bundle.width)
            except LogError:
                continue
            wrong = [number for number, entry in enumerate(found) if entry != good[number]]
            assert wrong
            assert any(leaf_hash(found[number]) != tile[32 * number : 32 * number + 32] for number in wrong)


def test_dropped_cut_swapped_and_added_files_are_found(thousand: Path, tmp_path: Path) -> None:
    copy = damaged(thousand, tmp_path, 0)
    names = list(needed_files(1000))
    for number, name in enumerate(names):
        path, data = copy / name, (thousand / name).read_bytes()
        path.unlink()
        assert not audit(copy).is_verified, f"{name} dropped"
        for length in (0, len(data) - 1):
            path.write_bytes(data[:length])
            assert not audit(copy).is_verified, f"{name} cut to {length}"
        path.write_bytes(data + b"\n")
        assert not audit(copy).is_verified, f"{name} longer"
        other = names[number - 1]
        path.write_bytes((thousand / other).read_bytes())
        (copy / other).write_bytes(data)
        assert not audit(copy).is_verified, f"{name} and {other} swapped"
        path.write_bytes(data)
        (copy / other).write_bytes((thousand / other).read_bytes())
    for stranger in ("tile/0/004", "tile/entries/000.p/300", "README", "tile/0/000.p/9", "tile/7/000"):
        (copy / stranger).parent.mkdir(parents=True, exist_ok=True)
        (copy / stranger).write_bytes(b"x" * 288)
        assert codes(audit(copy)) == {"log.incomplete"}, stranger
        (copy / stranger).unlink()
    assert audit(copy).is_verified


def rebuilt(thousand: Path, tmp_path: Path, change: Callable[[list[bytes]], None], *, resign: bool = False) -> Verdict:
    """Change the entries and write all hashes anew, as an operator can; sign anew only with everybody's help."""
    entries = [entry for bundle in bundles_of(1000) for entry in unpack_bundle((thousand / bundle.path).read_bytes(), bundle.width)]
    change(entries)
    path = tmp_path / "rebuilt"
    shutil.rmtree(path, ignore_errors=True)
    write_log(path, entries, LATER)
    if not resign:
        (path / "checkpoint").write_bytes((thousand / "checkpoint").read_bytes())
    return audit(path)


def test_an_operator_who_writes_all_hashes_anew_is_found(thousand: Path, tmp_path: Path) -> None:
    chance = random.Random(6)

    # A head that a later one covers, or the order of two devices, says nothing by itself; what devices wrote does.
    def some_trail_entry(entries: list[bytes]) -> int:
        pairs = [place for place in range(999) if all(b'"entry":' in line for line in entries[place : place + 2])]
        return chance.choice(pairs)

    def drop(entries: list[bytes]) -> None:
        del entries[some_trail_entry(entries)]

    def swap(entries: list[bytes]) -> None:
        place = some_trail_entry(entries)
        entries[place], entries[place + 1] = entries[place + 1], entries[place]

    def cut(entries: list[bytes]) -> None:
        del entries[chance.randrange(1000) :]

    def flip(entries: list[bytes]) -> None:
        place = next(place for place in iter(lambda: chance.randrange(1000), -1) if b'"match":true' in entries[place])
        entries[place] = entries[place].replace(b'"match":true', b'"match":false')

    for _ in range(2):
        for change in (drop, swap, cut, flip):
            assert not rebuilt(thousand, tmp_path, change).is_verified
    # With the log's key and every witness's help the devices' own signatures remain.
    for _ in range(2):
        for change in (drop, swap, flip):
            assert codes(rebuilt(thousand, tmp_path, change, resign=True)) & {
                "audit.broken_chain",
                "audit.wrong_sequence",
                "audit.bad_signature",
                "audit.invalid_entry",
            }


def test_a_log_shown_as_it_was_needs_a_kept_checkpoint_or_an_age(thousand: Path, tmp_path: Path) -> None:
    note = (thousand / "checkpoint").read_bytes()
    assert audit(thousand, kept=[note]).proofs == 1
    earlier = tmp_path / "earlier"
    write_log(earlier, list(busy_entries(1000))[:212], LATER - timedelta(days=1))
    shown = audit(earlier, kept=[note])
    assert codes(shown) & {"log.fork"}
    assert codes(audit(earlier, '[checkpoint]\nmax_age = "PT24H"\n')) >= {"log.stale"}
    forked = tmp_path / "forked"
    other = write_log(forked, [Phone(9).enrolment(), *Phone(9).log("vault.created").submit()] * 100, LATER)
    assert codes(audit(thousand, kept=[other.encode()])) == {"log.fork"}


def test_proofs_kept_beside_the_log_are_checked(thousand: Path) -> None:
    note = (thousand / "checkpoint").read_text()
    path = make_inclusion(TileHashes(1000, LogDirectory(thousand).read_tile), 700, 1000)
    good = LogProof(700, path, note).to_text().encode()
    assert audit(thousand, proofs=[good]).proofs == 1
    assert codes(audit(thousand, proofs=[LogProof(701, path, note).to_text().encode()])) == {"log.bad_proof"}
    assert codes(audit(thousand, proofs=[LogProof(1700, path, note).to_text().encode()])) == {"log.bad_proof"}
    assert codes(audit(thousand, proofs=[b"no"])) == {"log.malformed"}


def test_fewer_witnesses_than_the_quorum_are_too_few(tmp_path: Path) -> None:
    write_log(tmp_path / "log", busy_entries(300), LATER, witnesses=["w1.example"])
    assert codes(audit(tmp_path / "log")) == {"log.no_quorum"}
    assert audit_log(LogDirectory(tmp_path / "log"), policy(quorum="any"), LATER).is_verified


def test_entries_dated_after_the_checkpoint_are_found(tmp_path: Path) -> None:
    phone = Phone(1)
    lines = [phone.enrolment(), *phone.log("vault.created").wait(hours=2).log("key.rotated").submit()]
    assert codes(audit_entries(tmp_path, lines, START + timedelta(hours=1))) == {"audit.from_the_future"}
    assert audit_entries(tmp_path, lines, START + timedelta(hours=2)).is_verified
    write_log(tmp_path / "ahead", lines, START + timedelta(days=3))
    assert codes(audit_log(LogDirectory(tmp_path / "ahead"), policy(), START + timedelta(days=1))) == {"audit.from_the_future"}


def test_devices_have_to_be_enrolled_listed_heard_of_and_signed(tmp_path: Path) -> None:
    phone = Phone(1)
    lines = [*phone.log("vault.created").submit()]
    assert codes(audit_entries(tmp_path, lines)) == {"audit.invalid_entry"}
    assert codes(audit_entries(tmp_path, [phone.enrolment(), phone.enrolment(), *lines])) == {"audit.invalid_entry"}
    good = [phone.enrolment(), *lines]
    assert codes(audit_entries(tmp_path, good, rules=f'[devices]\nlisted = ["{Phone(2).id}"]\n')) == {"audit.violation"}
    assert audit_entries(tmp_path, good, rules=f'[devices]\nlisted = ["{phone.id}"]\n').is_verified
    assert codes(audit_entries(tmp_path, good, rules='[devices]\nsilent_after = "P1D"\n')) == {"audit.violation"}
    assert codes(audit_entries(tmp_path, good[:-1])) == {"audit.bad_signature"}
    assert codes(audit_entries(tmp_path, [*good, good[-1]])) == set()
    assert codes(audit_entries(tmp_path, [*good, b"nonsense"])) == {"audit.invalid_entry"}
    assert codes(audit_entries(tmp_path, [phone.enrolment(), TrailEntry(phone.id, b"{}").to_bytes()])) == {"audit.broken_chain"}


Story = Callable[[Phone], object]
ENROL: Story = lambda phone: phone.consent(subject(1)).log("template.created", subject(1), reference="r")  # noqa: E731
GOOD: dict[str, Story] = {
    "used": lambda p: p.log("verification", subject(1), match=True),
    "withdrawn and erased": lambda p: p.log("consent.withdrawn", subject(1), purposes="enrolment,verification").log(
        "template.erased", subject(1), references=1, epoch=2
    ),
    "refused after erasure": lambda p: p.log("template.erased", subject(1), references=1, epoch=2).log(
        "verification", None, "consent.none"
    ),
    "renewed in time": lambda p: p.wait(hours=1).consent(subject(1), code="consent.renewed").log("verification", subject(1)),
    "a failed use is no use": lambda p: p.log("identification", subject(1), "consent.wrong_purpose"),
}
BAD: dict[str, Story] = {
    "use after erasure": lambda p: p.log("template.erased", subject(1), references=1).log("verification", subject(1)),
    "consent after erasure": lambda p: p.log("template.erased", subject(1), references=1).consent(subject(1)),
    "use after withdrawal": lambda p: p.log("consent.withdrawn", subject(1), purposes="verification").log(
        "verification", subject(1)
    ),
    "another purpose": lambda p: p.log("identification", subject(1)),
    "use of nobody": lambda p: p.log("verification", subject(2)),
    "template without consent": lambda p: p.log("template.created", subject(2)),
    "use after the end": lambda p: p.consent(subject(1), days=1).wait(days=1).log("verification", subject(1)),
    "withdrawn, never erased": lambda p: (
        p.log("consent.withdrawn", subject(1), purposes="enrolment").wait(days=2).log("key.rotated")
    ),
    "expired, never erased": lambda p: p.consent(subject(1), days=1).wait(days=3).log("key.rotated"),
    "erased too late": lambda p: (
        p.log("consent.withdrawn", subject(1), purposes="enrolment").wait(days=2).log("template.erased", subject(1), references=1)
    ),
    "more expired than there were": lambda p: p.log(
        "template.expired", subject(1), references=2, reason="inactivity", due=to_rfc3339(p.now), subject_erased=True
    ),
    "expired without a reason": lambda p: p.log("template.expired", subject(1), references=1, subject_erased=True),
    "a made-up certificate": lambda p: p.log(
        "retention.run", policy="p", trigger="daily", as_of=to_rfc3339(p.now), first=0, certificate="ab" * 32
    ),
    "consent without an end": lambda p: p.log("consent.given", subject(2), purposes="enrolment"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_the_policy_allows_passes(name: str, tmp_path: Path) -> None:
    phone = Phone(1)
    ENROL(phone)
    GOOD[name](phone)
    verdict = audit_entries(tmp_path, [phone.enrolment(), *phone.submit()])
    assert verdict.is_verified, verdict.render_text()


@pytest.mark.parametrize("name", BAD)
def test_what_the_policy_forbids_is_found(name: str, tmp_path: Path) -> None:
    phone = Phone(1)
    ENROL(phone)
    BAD[name](phone)
    verdict = audit_entries(tmp_path, [phone.enrolment(), *phone.submit()], phone.now + timedelta(days=1))
    assert codes(verdict) == {"audit.violation"}, verdict.render_text()


def test_terms_of_templates_are_kept_by_runs(tmp_path: Path) -> None:
    rules = '[retention]\ninactivity = "P10D"\nmaximum = "P1M"\nrun_every = "P2D"\n'

    def verdict(days: int, *, used: bool, runs: bool) -> Verdict:
        phone = Phone(1)
        ENROL(phone)
        lines = [phone.enrolment(), *phone.submit()]
        for _ in range(days):
            phone.wait(days=1)
            if used:
                phone.log("verification", subject(1))
            phone.log("retention.run" if runs else "key.rotated", outcome="ok")
            lines += phone.submit()
        return audit_entries(tmp_path, lines, phone.now + timedelta(minutes=1), rules)

    def messages(found: Verdict) -> str:
        return " ".join(item.message for item in found.findings if "certificate" not in item.message)

    assert messages(verdict(9, used=False, runs=True)) == ""
    assert "P10D after last use" in messages(verdict(13, used=False, runs=True))
    assert messages(verdict(25, used=True, runs=True)) == ""
    assert "P1M after enrolment" in messages(verdict(35, used=True, runs=True))
    assert "no retention run" in messages(verdict(5, used=True, runs=False))


def test_a_ruined_log_is_judged_in_bounded_memory_and_one_page(tmp_path: Path) -> None:
    verdict = audit_entries(tmp_path, [b"x%d" % number for number in range(3000)])
    assert verdict.counts == {"audit.invalid_entry": 3000}
    assert len(verdict.findings) == 100
    assert len(verdict.render_text().splitlines()) < 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no toml",
        "facekeep_audit_policy = 2",
        "facekeep_audit_policy = 1\ntrust = 'quorum x'",
        policy_text("[retention]\ninactivty = 'P1D'\n"),
        policy_text("[retention]\ninactivity = 'P0D'\n"),
        policy_text("[retention]\ninactivity = 7\n"),
        policy_text("[devices]\nlisted = ['x']\n"),
        policy_text("[checkpoint]\nunknown_signatures = 'maybe'\n"),
        policy_text("retention = 3\n"),
        policy_text("other = 3\n"),
    ],
)
def test_bad_policies_are_refused(text: str) -> None:
    with pytest.raises(AuditError) as caught:
        AuditPolicy.parse(text)
    assert caught.value.code == "audit.invalid_policy"


def test_a_directory_that_is_none_is_a_verdict(tmp_path: Path) -> None:
    assert codes(audit(tmp_path)) == {"log.incomplete"}
    (tmp_path / "checkpoint").symlink_to("/etc/hostname")
    assert codes(audit(tmp_path)) == {"log.incomplete"}
    (tmp_path / "checkpoint").unlink()
    os.mkfifo(tmp_path / "checkpoint")
    assert codes(audit(tmp_path)) == {"log.incomplete"}


def test_a_writer_goes_on_where_it_stopped_and_keeps_no_rest(tmp_path: Path) -> None:
    entries = list(busy_entries(1000))
    path = tmp_path / "log"
    for start, end in ((0, 100), (100, 256), (256, 700), (700, 1000)):
        # Killed while writing: appended, drafted, never published.
        with LogWriter(path) as writer:
            writer.append(entries[start:end][:50])
        (path / ".writing").mkdir()
        (path / ".writing" / "file").write_bytes(b"half")
        with LogWriter(path) as writer:
            assert writer.size == start
            writer.append(entries[start:end])
            writer.publish(sign(writer.checkpoint(ORIGIN).to_text(), LATER))
    assert audit(path).is_verified
    assert {item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file()} == set(needed_files(1000))


def test_a_partial_tile_of_an_earlier_checkpoint_may_stay(thousand: Path, tmp_path: Path) -> None:
    copy = damaged(thousand, tmp_path, 0)
    hashes, entries = (copy / "tile/0/001").read_bytes(), unpack_bundle((copy / "tile/entries/001").read_bytes(), 256)
    for tile, data in ((Tile(0, 1, 7), hashes[: 7 * 32]), (Tile(ENTRIES, 1, 7), pack_bundle(entries[:7]))):
        (copy / tile.path).parent.mkdir(parents=True)
        (copy / tile.path).write_bytes(data)
    assert audit(copy).is_verified
    (copy / Tile(0, 1, 7).path).write_bytes(hashes[32 : 8 * 32])
    assert codes(audit(copy)) == {"log.incomplete"}


def test_two_writers_are_one_too_many(tmp_path: Path) -> None:
    with LogWriter(tmp_path), pytest.raises(LogError) as caught:
        LogWriter(tmp_path)
    assert caught.value.code == "log.io"


def test_a_writer_publishes_only_what_was_signed_over_its_entries(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        writer.append([b"one"])
        note = sign(writer.checkpoint(ORIGIN).to_text(), LATER)
        writer.append([b"two"])
        with pytest.raises(LogError) as caught:
            writer.publish(note)
        with pytest.raises(LogError):
            writer.append([b"x" * 65_536])
    assert caught.value.code == "log.malformed"
    assert not (tmp_path / "checkpoint").exists()


@pytest.fixture
def served(thousand: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(thousand))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path.startswith("/away/"):
                self.send_response(302)
                self.send_header("Location", "/" + self.path.removeprefix("/away/"))
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_log_is_audited_at_its_address_and_no_redirect_is_followed(served: str) -> None:
    now = LATER + timedelta(hours=1)
    assert audit_log(LogAddress(served), policy(), now).is_verified
    assert codes(audit_log(LogAddress(f"{served}/away"), policy(), now)) == {"log.unreachable"}
    assert codes(audit_log(LogAddress(f"{served}/tile"), policy(), now)) == {"log.incomplete"}
    # A partial tile that was replaced by its full one is cut from that.
    assert LogAddress(served).read_tile(Tile(0, 1, 5)) == LogAddress(served).read_tile(Tile(0, 1))[:160]
    for address in ("http://example.com/log", "ftp://127.0.0.1/", "https://u:p@example.com/", "https://example.com/?q"):
        with pytest.raises(LogError) as caught:
            LogAddress(address)
        assert caught.value.code == "log.unreachable"
