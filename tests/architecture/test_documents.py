"""Documents that are true: commands that are those of CI, links that lead somewhere, code that runs."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^python3 -m venv .*pytest$", readme, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
    assert command in (ROOT / "docs" / "CONTRIBUTING.md").read_text().splitlines()
    # And the tests that the command leaves out.
    assert ".venv/bin/python -m pytest -m slow" in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} -> {target}"
        if anchor:
            lines = [line for line in file.read_text().splitlines() if line.startswith("#")]
            headings = {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines}
            assert anchor in headings, f"{page.name} -> {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_are_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        ast.parse(block)


def test_the_five_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facekeep_models.simulation import DrawnPerson, draw_frame

    monkeypatch.setenv("HOME", str(tmp_path))
    block = next(iter(re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)))
    # The README's reader has real packs; here the stand-ins are named.
    named = 'Device.open(detector="drawn-detector", embedder="drawn-embedder", home='
    block = block.replace("Device.open(", named, 1)
    pictures = [draw_frame(DrawnPerson(1), number, (240, 320)).pixels for number in range(3)]
    names = {"frames": pictures[:2], "frame": pictures[2]}
    exec(compile(block, "README.md", "exec"), names)
    device = names["device"]
    assert device.subjects() == ()  # type: ignore[union-attr]
    device.close()  # type: ignore[union-attr]


def test_every_figure_names_the_command_that_prints_it() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    from tests.bench.__main__ import BENCHES

    named = set(re.findall(r"python -m tests\.bench ([a-z]+)", text))
    assert named <= set(BENCHES)
    assert set(BENCHES) - named == set(), "every bench has its figures on the page"


def test_every_source_file_says_what_it_is() -> None:
    for root in ("sdk", "server", "edge_models"):
        for path in (ROOT / root).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path
