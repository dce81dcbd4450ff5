"""What the tests of the demo share: a page taken apart, and folders of drawings."""

from __future__ import annotations

import importlib.util
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from facekeep.clock import SystemClock
from facekeep.demo import DemoReport, run_demo
from facekeep.demo.drawn import DETECTOR, EMBEDDER, drawn_album

_VOID = {"meta", "br", "hr", "img"}


class Page(HTMLParser):
    """A page taken apart: every element with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(report: DemoReport) -> Page:
    return Page(report.page.read_text(encoding="utf-8"))


def save_drawings(directory: Path, names: dict[str, tuple[str, int]]) -> Path:
    """Write drawings as PNG: file name -> drawn person and which picture of them."""
    image = pytest.importorskip("PIL.Image")
    people = {person.label: person for person in drawn_album(SystemClock()).people}
    for name, (label, number) in names.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(people[label].pictures[number].load().pixels).save(path, "PNG")
    return directory


def run_on(directory: Path, out: Path, **options: Any) -> DemoReport:
    return run_demo(out=out, photos=directory, detector=DETECTOR, embedder=EMBEDDER, _are_drawings=True, **options)


def stand_ins_only(tmp_path: Path) -> Path:
    """Return a catalogue with the packs for drawn figures and the manifests of all others, but none of their weights."""
    shipped, root = _shipped(), tmp_path / "catalogue"
    (root / "weights").mkdir(parents=True)
    (root / "manifests").symlink_to(shipped / "manifests")
    for pack in ("drawn-detector", "drawn-embedder"):
        (root / "weights" / pack).symlink_to(shipped / "weights" / pack)
    return root


def with_ours(tmp_path: Path) -> Path:
    """Return a catalogue in which our own packs ship, for research and evaluation only. Their weights are zeros: never loaded."""
    shipped, root = _shipped(), tmp_path / "with ours"
    (root / "manifests").mkdir(parents=True)
    (root / "weights").mkdir()
    for path in (shipped / "manifests").glob("*.json"):
        (root / "manifests" / path.name).write_bytes(path.read_bytes())
    for pack in ("drawn-detector", "drawn-embedder"):
        (root / "weights" / pack).symlink_to(shipped / "weights" / pack)
    for ours, like in (("facekeep-detector", "yunet-n"), ("facekeep-embedder", "sface")):
        manifest = json.loads((shipped / "manifests" / f"{like}.json").read_bytes())
        build = next(each for each in manifest["builds"] if each["runtime"] == "onnx") | {"id": "onnx"}
        build["files"] = [file | {"url": None} for file in build["files"][:1]]
        manifest |= {"id": ours, "permitted_uses": ["research", "evaluation"], "builds": [build]}
        manifest["licence"] |= {"note": "For research and evaluation only."}
        manifest["training_data"] = {"description": "Pictures of people who were never asked.", "consented": False}
        (root / "manifests" / f"{ours}.json").write_text(json.dumps(manifest))
        weights = root / "weights" / ours / "onnx" / build["files"][0]["name"]
        weights.parent.mkdir(parents=True)
        with weights.open("wb") as file:
            file.truncate(build["files"][0]["bytes"])
    return root


def _shipped() -> Path:
    spec = importlib.util.find_spec("facekeep_models")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])
