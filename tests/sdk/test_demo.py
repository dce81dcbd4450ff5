"""The demo, end to end, on drawn people and on real photographs; and the page it draws."""

from __future__ import annotations

import io
import json
import re
import stat
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.demo import DemoReport, run_demo, shown_progress
from facekeep.demo.output import MARKER_NAME
from facekeep.demo.page import render_page
from facekeep.demo.page.markup import Markup, join, tag
from facekeep.demo.record import Promise
from facekeep.demo.report import as_json, figures_of
from facekeep.demo.residue import Needles
from facekeep.errors import FacekeepError
from facekeep.packs import PackStore
from tests.sdk.demo_setting import Page, page_of


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    return run_demo(out=tmp_path_factory.mktemp("demo") / "out", people="drawn")


# The drawn demo


def test_drawn_demo_keeps_every_promise(drawn: DemoReport) -> None:
    assert drawn.is_kept, drawn.render_text()
    assert [promise.is_kept for promise in drawn.record.promises] == [True] * 9


def test_drawn_demo_recognises_its_people(drawn: DemoReport) -> None:
    figures = figures_of(drawn.record)
    for right, of in (figures.mated, figures.non_mated, figures.mated_searches, figures.non_mated_searches, figures.counted):
        assert right == of > 0
    assert drawn.record.enrolled == ("Ada", "Ben", "Cem", "Dara")
    assert figures.refused == 1  # the head that is cut off


def test_no_model_and_no_camera_without_consent(drawn: DemoReport) -> None:
    refusals = [*drawn.record.refusals, *drawn.record.withdrawal.refusals]
    codes = {refusal.code for refusal in refusals}
    assert codes == {"consent.none", "consent.wrong_subject", "consent.refused"}
    assert all(refusal.reading.is_nothing for refusal in refusals)
    assert drawn.record.calls.embeddings > 0  # the meter does count


def test_who_agreed_to_verification_only_is_never_found(drawn: DemoReport) -> None:
    assert any(comparison.subject == "Dara" and comparison.is_match for comparison in drawn.record.comparisons)
    assert all("Dara" not in dict(search.candidates) for search in drawn.record.searches)


def test_who_withdrew_was_found_before_and_is_not_since(drawn: DemoReport) -> None:
    left = drawn.record.withdrawal.subject
    searches = [search for search in drawn.record.searches if drawn.record.snapshots[search.picture].person == left]
    assert {search.outcome for search in searches if not search.is_after_withdrawal} == {"identified"}
    assert {search.outcome for search in searches if search.is_after_withdrawal} == {"unknown"}


def test_trail_holds_no_name(drawn: DemoReport) -> None:
    trail = json.dumps(drawn.record.proof.trail)
    assert len(drawn.record.proof.trail) > 50
    assert not [name for name in drawn.record.enrolled if name in trail]


def test_report_is_the_record(drawn: DemoReport) -> None:
    written = json.loads(drawn.report.read_bytes())
    assert written == json.loads(json.dumps(drawn.to_json()))
    assert written["is_kept"] is True
    assert len(written["comparisons"]) == len(drawn.record.comparisons)


def test_files_are_for_their_owner_only(drawn: DemoReport) -> None:
    assert stat.S_IMODE(drawn.page.parent.stat().st_mode) == 0o700
    for path in drawn.page.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {path.name for path in drawn.page.parent.iterdir()} == {"index.html", "report.json", MARKER_NAME}


# The page


def test_page_needs_nothing_from_outside(drawn: DemoReport) -> None:
    text, page = drawn.page.read_text(encoding="utf-8"), page_of(drawn)
    assert not re.search(r"https?:|@import|url\(", text, re.IGNORECASE)
    assert not {"script", "link", "iframe", "object", "embed"} & {name for name, _ in page.elements}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href"}:
                assert value is not None
                assert value.startswith(("#", "data:image/jpeg;base64,"))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_picture_is_said_in_words(drawn: DemoReport) -> None:
    page = page_of(drawn)
    drawings = [attributes for attributes in page.all("svg") if attributes.get("role") == "img"]
    assert len(drawings) > len(drawn.record.snapshots)
    assert all(attributes.get("aria-label") for attributes in drawings)
    assert all(attributes.get("alt") for attributes in page.all("img"))
    labels = " ".join(str(attributes.get("aria-label")) for attributes in drawings)
    assert all(snapshot.name in labels for snapshot in drawn.record.snapshots)


def test_page_is_structured(drawn: DemoReport) -> None:
    page = page_of(drawn)
    names = [name for name, _ in page.elements]
    assert names.count("h1") == 1
    assert names.count("caption") == names.count("table") > 4
    levels = [int(name[1]) for name in names if re.fullmatch("h[1-6]", name)]
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    anchors = {attributes.get("id") for _, attributes in page.elements}
    assert {str(attributes["href"])[1:] for attributes in page.all("a")} <= anchors
    assert page.all("html")[0]["lang"] == "en"


def test_page_says_that_drawings_are_drawings(drawn: DemoReport) -> None:
    text = page_of(drawn).text
    assert "They recognise no real face" in text
    assert "facekeep models pull yunet-s" in text
    assert "facekeep demo --photos DIR" in text
    assert "holds your pictures" not in text


def test_page_shows_the_real_codes_and_the_threshold(drawn: DemoReport) -> None:
    text, point = page_of(drawn).text, drawn.record.models.point
    assert point is not None
    assert "consent.none" in text
    assert "vault.rolled_back" in text
    assert f"threshold {point.threshold:.3f}" in text
    assert "FMR 0.1 %" in text
    assert drawn.record.withdrawal.commitment in text


def test_a_stranger_kept_apart_is_not_green(drawn: DemoReport) -> None:
    plates = [str(attributes["class"]) for attributes in page_of(drawn).all("rect") if "plate" in str(attributes.get("class"))]
    assert "plate plain" in plates  # Eve, who is in front of the camera and has no template
    assert "plate good" in plates


def test_page_explains_the_receipt_and_the_floors(drawn: DemoReport) -> None:
    text = page_of(drawn).text
    assert "Keep this text elsewhere" in text
    assert text.count("Each part has its own floor") == 1
    assert "Nobody is compared without their agreement." in text
    assert "Whoever withdrew is no longer found." in text


def test_page_begins_with_what_happened(drawn: DemoReport) -> None:
    page = page_of(drawn)
    strip = page.text.index("What happened"), page.text.index("What was promised")
    told = page.text[strip[0] : strip[1]]
    for words in (
        "Nobody was asked yet",
        "Ada agrees and is enrolled",
        "Is this Ada?",
        "Eve said no and has no template",
        "Dara agreed to be verified, not to be searched for",
        "Ada, head cut off",
        "Cem withdraws: unknown",
    ):
        assert words in told
    assert f"about one stranger in {1 / 0.001:,.0f}" in told


def test_the_strip_tells_what_went_wrong(drawn: DemoReport) -> None:
    wrong = [
        replace(each, outcome="identified", candidates=(("Ada", 0.9),)) if each.expected is None and each.is_search else each
        for each in drawn.record.searches
    ]
    text = Page(render_page(replace(drawn.record, searches=tuple(wrong)), Path("/somewhere"))).text
    assert "yet the search named somebody: a false match" in text


def test_page_hides_nothing_that_went_wrong(drawn: DemoReport) -> None:
    wrong = [replace(each, is_match=False, score=0.1) if each.is_mated else each for each in drawn.record.comparisons]
    broken = (*drawn.record.promises, Promise("Pigs fly.", False, "They did not."))
    record = replace(drawn.record, comparisons=tuple(wrong), promises=broken)
    page = Page(render_page(record, Path("/somewhere")))
    assert "1 of 10 promises did not hold" in page.text
    assert "non-match, wrong" in page.text
    assert figures_of(record).mated[0] == 0
    assert not as_json(record)["is_kept"]


@settings(deadline=None)
@given(st.text(), st.text())
def test_text_never_becomes_markup(text: str, value: str) -> None:
    # The parser normalises line ends and drops what no document may hold; neither is what this is about.
    text, value = (re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "", each) for each in (text, value))
    page = Page(tag("p", text, title=value))
    assert page.elements == [("p", {"title": value})]
    assert "".join(page.texts) == text


def test_markup_is_joined_and_text_is_escaped() -> None:
    assert join(Markup("<b>"), "<b>", None, 3) == "<b>&lt;b&gt;3"


# Parts


def test_residue_is_found_where_there_is_some(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    vector = random.normal(size=64).astype(np.float32)
    needles = Needles()
    needles.add("embedding", vector)
    noise = random.bytes(5000)
    (tmp_path / "clean").write_bytes(noise)
    assert needles.search(tmp_path, noise).is_clean
    for form in (vector, vector.astype(np.float16), vector.astype(np.float64)):
        (tmp_path / "dirty").write_bytes(noise[:777] + form.tobytes()[5:100] + noise)
        report = needles.search(tmp_path, noise)
        assert report.found == ("embedding in dirty",)
        assert not report.is_clean


def test_a_search_without_needles_is_not_clean(tmp_path: Path) -> None:
    assert not Needles().search(tmp_path, b"x" * 4096).is_clean


def test_progress_in_lines_and_as_a_bar() -> None:
    plain = io.StringIO()
    with shown_progress(plain) as progress:
        for done in range(25):
            progress(done, 25, "recognising <b>" if done else "opening")
    lines = plain.getvalue().splitlines()
    assert lines[:2] == ["[0/25] opening", "[1/25] recognising <b>"]
    assert len(lines) == 4

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    pytest.importorskip("rich")
    terminal = Terminal()
    with shown_progress(terminal) as progress:
        progress(1, 2, "recognising [bold]")
        time.sleep(0.15)
    assert "recognising [bold]" in terminal.getvalue()


# Real photographs


@pytest.fixture(scope="module")
def real_packs(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> PackStore:
    store = PackStore(tmp_path_factory.mktemp("packs"))
    store.import_file(shared_dir / "models" / "detectors" / "yunet_s_dynamic.onnx")
    store.import_file(shared_dir / "models" / "embedders" / "face_reid_retail_0095.onnx")
    return store


@pytest.mark.shared
def test_real_photographs(shared_dir: Path, real_packs: PackStore, tmp_path: Path) -> None:
    report = run_demo(out=tmp_path / "out", photos=shared_dir / "data" / "photos", packs=real_packs)
    assert report.is_kept, report.render_text()
    figures = figures_of(report.record)
    assert figures.counted == (9, 9)
    assert figures.mated == (4, 4)
    assert figures.non_mated[0] == figures.non_mated[1] >= 10
    assert figures.mated_searches[0] == figures.mated_searches[1]
    assert figures.non_mated_searches[0] == figures.non_mated_searches[1]
    assert report.record.enrolled == ("A", "B", "C")
    page = page_of(report)
    assert "They recognise no real face" not in page.text
    assert "This page holds your pictures" in page.text


@pytest.mark.shared
def test_the_device_errors_that_end_a_demo_are_typed(shared_dir: Path, real_packs: PackStore, tmp_path: Path) -> None:
    with pytest.raises(FacekeepError) as caught:
        run_demo(out=tmp_path / "out", photos=shared_dir / "data" / "photos", packs=real_packs, embedder="yunet-s")
    assert caught.value.code == "model.wrong_task"
