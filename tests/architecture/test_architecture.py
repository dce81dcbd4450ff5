"""What is forbidden is forbidden by test, not by memory."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import facekeep
from facekeep.errors import CODES

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdk" / "facekeep"
SOURCES = sorted(path for root in ("sdk", "server", "edge_models") for path in (ROOT / root).rglob("*.py"))


def module_name(path: Path) -> str:
    for root in ("sdk", "server", "edge_models"):
        if path.is_relative_to(ROOT / root):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    raise AssertionError(path)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_import_contracts_hold() -> None:
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_public_names_are_exactly_those_that_resolve() -> None:
    assert sorted(facekeep.__all__) == facekeep.__all__
    assert set(facekeep._HOME_OF) == set(facekeep.__all__)
    for name in facekeep.__all__:
        assert getattr(facekeep, name) is not None
    with pytest.raises(AttributeError):
        _ = facekeep.nothing_of_this_name


def test_only_listed_modules_may_hold_a_face() -> None:
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["facekeep"]["may_hold_a_face"]
    holders = {
        module_name(path)
        for path in SOURCES
        if any(name == "facekeep.biometric" or name.startswith("facekeep.biometric.") for name in imports_of(path))
        and not module_name(path).startswith(("facekeep.biometric", "facekeep_models"))
        and module_name(path) != "facekeep"
    }
    listed = {name for name in holders if any(name == item or name.startswith(item + ".") for item in allowed)}
    assert holders - listed == set()
    # Stages and runtimes that take bare arrays hold a face without importing its type; they stand on the list all the same.
    assert {item for item in allowed if not any(name == item or name.startswith(item + ".") for name in holders)} == {
        "facekeep.embedding",
        "facekeep.resampling",
        "facekeep.residue",
        "facekeep.runtime",
        "facekeep.training",
    }


def test_the_base_dependencies_stay_four() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~ ;\[]", item)[0] for item in project["dependencies"]}
    assert names == {"numpy", "onnxruntime", "cryptography", "typer"}


def printed(code: str) -> str:
    """What a fresh interpreter prints that runs this."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_using_the_device_imports_no_optional_package_and_no_network_client() -> None:
    code = (
        "import sys, facekeep\n"
        "[getattr(facekeep, name) for name in facekeep.__all__]\n"
        "banned = {'cv2','PIL','torch','flwr','openvino','ai_edge_litert','keyring','matplotlib','fastapi','sqlalchemy',"
        "'http.client','urllib.request','socket','onnxruntime'}\n"
        "print(sorted(banned & set(sys.modules)))"
    )
    assert printed(code) == "[]"


def test_a_server_process_never_loads_what_stays_on_the_device() -> None:
    # The import contract does not count the packages above an imported module, which Python runs as well.
    code = (
        "import importlib, pkgutil, sys, facekeep_server\n"
        "loaded = 0\n"
        "for module in pkgutil.walk_packages(facekeep_server.__path__, 'facekeep_server.'):\n"
        "    if '.migrations' in module.name or module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name.split('.')[0] not in {'flwr', 'ray', 'dp_accounting'}: raise\n"
        "    else: loaded += 1\n"
        "kept = {'biometric', 'vault', 'capture', 'flows', 'device', 'runtime', 'detection', 'embedding'}\n"
        "print(loaded > 100, sorted(name for name in sys.modules if name.startswith('facekeep.') and name.split('.')[1] in kept))"
    )
    assert printed(code) == "True []"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, facekeep; print(sorted({'numpy','cryptography','sqlite3','onnxruntime','typer'} & set(sys.modules)))"
    assert printed(code) == "[]"


@pytest.mark.parametrize("group", ["", "token", "federate", "federate release", "report"])
def test_asking_the_server_for_help_opens_no_database_and_no_web_framework(group: str) -> None:
    code = (
        "import sys\n"
        "from facekeep_server.cli.app import main\n"
        "sys.argv[0] = 'facekeep-server'\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code, ended.code\n"
        "heavy = {'fastapi', 'starlette', 'sqlalchemy', 'alembic', 'pydantic', 'uvicorn', 'jinja2', 'prometheus_client', 'flwr',"
        " 'grpc', 'ray', 'dp_accounting', 'onnxruntime', 'PIL', 'facekeep_server.assembly'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *group.split(), "--help"], capture_output=True, text=True, check=True)
    assert "Usage: facekeep-server" in done.stdout
    assert done.stderr.strip() == "[]"


def test_no_file_is_a_drawer_of_everything_and_none_is_endless() -> None:
    banned = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "core.py", "manager.py", "misc.py"}
    assert [path for path in SOURCES if path.name in banned] == []
    assert [(path.name, n) for path in SOURCES if (n := len(path.read_text().splitlines())) > 400] == []


def test_every_error_code_is_documented_and_used() -> None:
    documented = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
    assert documented == set(CODES)
    text = "\n".join(path.read_text() for path in SOURCES if path.name != "errors.py")
    assert [code for code in CODES if f'"{code}"' not in text] == []


def test_flow_pages_use_the_numbers_of_the_code() -> None:
    for path in sorted((SDK / "flows").glob("*.py")):
        module = ast.parse(path.read_text())
        docstring = ast.get_docstring(module) or ""
        if "Steps:" not in docstring:
            continue
        page = (ROOT / "docs" / "flows" / f"{path.stem}.md").read_text()
        steps = re.findall(r"(?:^|, )\s*(\d+) [a-z]", docstring, re.MULTILINE)
        documented = re.findall(r"^\s*(\d+)\.? ", page, re.MULTILINE)
        assert sorted(set(map(int, steps))) == sorted(set(map(int, documented))), path.stem
        body = path.read_text().split('"""', 2)[2]
        commented = {int(n) for line in re.findall(r"# (\d[^\n]*)", body) for n in _numbers(line)}
        assert commented >= set(map(int, steps)), path.stem


def _numbers(line: str) -> list[int]:
    found = [int(n) for n in re.findall(r"(?:^|, |and )(\d+)\b", line)]
    spread = re.match(r"(\d+) to (\d+)", line)
    return [*found, *range(int(spread[1]), int(spread[2]) + 1)] if spread else found


def test_nothing_of_shared_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    names = [line.split("\t", 1)[1] for line in listed.stdout.splitlines()]
    pictures = [name for name in names if name.lower().endswith((".jpg", ".jpeg", ".mp4", ".parquet"))]
    assert pictures == []


def test_loading_every_runtime_leaves_nothing_in_the_home_directory(tmp_path: Path) -> None:
    code = "import facekeep, facekeep.runtime as runtime; print([status.works for status in runtime.available_runtimes()])"
    import os

    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    folders = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for folder in folders.values():
        folder.mkdir()
    environment |= {name: str(folder) for name, folder in folders.items()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[True")
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []
