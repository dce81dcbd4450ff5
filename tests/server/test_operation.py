"""What an operator touches: configuration, migrations, commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from facekeep.tlog import NoteKey
from facekeep_server.cli import main
from facekeep_server.configuration import Configuration, load_configuration
from facekeep_server.errors import ServerError
from facekeep_server.store import Store, migrate, require_current_schema
from facekeep_server.store.tables import Base

CONFIG = """
[store]
database = "sqlite:///{folder}/log.sqlite3"
keys = "{folder}/keys"
[http]
public_url = "https://log.example.org/"
[log]
origin = "log.example.org/fleet"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def test_the_configuration_of_the_page_is_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations" / "server.md").read_text()
    block = page.split("```toml\n")[1].split("```")[0]
    import tomllib

    found = Configuration.model_validate(tomllib.loads(block))
    assert found.access == Configuration.model_fields["access"].default
    assert found.limits == Configuration.model_fields["limits"].default


def test_the_environment_lies_over_the_file(config: Path) -> None:
    environment = {"FACEKEEP_SERVER_HTTP_PORT": "9000", "FACEKEEP_SERVER_LOG_COMMIT_INTERVAL_MS": "100", "OTHER": "x"}
    found = load_configuration(config, environment)
    assert (found.http.port, found.log.commit_interval_ms, found.http.public_url) == (9000, 100, "https://log.example.org")
    assert found.store.keys == config.parent / "keys"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[log]", "[log]\nsecret_key = 'hunter2'", "log.secret_key"),
        ('"https://log.example.org/"', '"hunter2"', "http.public_url"),
        ('"https://log.example.org/"', '"https://a:hunter2@log.example.org"', "http.public_url"),
        ('"log.example.org/fleet"', '"a b+hunter2"', "log.origin"),
        ("[http]", "[http]\nport = 70000", "http.port"),
        ("[log]", "[log]\ncommit_interval_ms = 'hunter2'", "log.commit_interval_ms"),
        ("[log]", "[other]\nx = 1\n[log]", "other"),
        ("[store]", "[stores]", "store"),
        ("[store]", "[store", "TOML"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(config: Path, old: str, new: str, named: str) -> None:
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ServerError) as caught:
        load_configuration(config, {})
    assert caught.value.code == "server.invalid_configuration"
    assert named in caught.value.args[0]
    assert "hunter2" not in caught.value.args[0]


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="cannot be read"):
        load_configuration(tmp_path / "none.toml", {})


def test_databases_that_are_none_are_refused() -> None:
    for url in ("", "hunter2", "mysql://u:hunter2@h/d", "sqlite://", "sqlite:///:memory:", "postgresql+none://u:hunter2@h/d"):
        if url.startswith("postgresql+none"):
            # Whatever driver is named, ours is used.
            assert Store(url).url.drivername == "postgresql+psycopg"
            continue
        with pytest.raises(ServerError) as caught:
            Store(url)
        assert caught.value.code == "server.invalid_configuration"
        assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Store("postgresql://u:hunter2@h/d"))


def test_the_migrations_make_the_tables_of_the_models(blank_database: str) -> None:
    store = Store(blank_database)
    with pytest.raises(ServerError, match=r"server\.schema"):
        require_current_schema(store)
    first = migrate(store)
    assert migrate(store) == first
    require_current_schema(store)
    with store.reading(snapshot=True) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ServerError, match="facekeep-server migrate"):
        require_current_schema(store)
    store.close()


def test_sqlite_waits_for_the_disk(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/log.sqlite3")
    with store.writing() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
    with store.writing(durable=False) as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 1
    with store.writing() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
    store.close()


def test_a_database_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ServerError, match=r"server\.unavailable"):
        require_current_schema(Store("postgresql:///none?host=/nonexistent"))
    with pytest.raises(ServerError, match=r"server\.unavailable"):
        migrate(Store("sqlite:////nonexistent/folder/log.sqlite3"))


def run(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["facekeep-server", "--config", str(config), *words])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_the_commands(config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*words: str) -> dict[str, object]:
        code, out, err = run(config, capsys, monkeypatch, *words, "--json")
        assert code == 0, (out, err)
        return dict(json.loads(out))

    code, out, err = run(config, capsys, monkeypatch, "device-code", "gate", "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "server.schema"
    vkeys = call("migrate")["vkeys"]
    assert isinstance(vkeys, list)
    assert NoteKey.parse(vkeys[0]).name == "log.example.org/fleet"
    assert call("migrate")["vkeys"] == vkeys
    assert str(call("device-code", "gate 1")["code"]).startswith("fkc-")
    token = str(call("token", "create", "auditor", "auditor 1", "--days", "1")["token"])
    rows = call("token", "list")["tokens"]
    assert isinstance(rows, list)
    assert (rows[0]["id"], rows[0]["role"], rows[0]["revoked_at"]) == (token.split("-")[1], "auditor", None)
    assert call("token", "revoke", token.split("-")[1]) == {"revoked": token.split("-")[1]}
    assert call("device", "list") == {"devices": []}
    new = call("rotate-log-key", "--overlap-days", "10")["vkey"]
    keys = call("log-keys")["keys"]
    assert isinstance(keys, list)
    assert [row["vkey"] for row in keys] == [new, *vkeys]
    for words in (
        ("device", "revoke", "0" * 32),
        ("token", "revoke", "x"),
        ("device-code", "<script>"),
        ("token", "create", "auditor", ""),
    ):
        code, out, err = run(config, capsys, monkeypatch, *words)
        assert code == 1, words
        assert "script" not in err
    assert run(config, capsys, monkeypatch, "token", "create", "god", "x")[0] == 2
    code, out, err = run(config, capsys, monkeypatch, "token", "list")
    assert "revoked" in out
    assert token.split("-")[2] not in out
    code, out, err = run(config, capsys, monkeypatch, "openapi")
    assert json.loads(out)["info"]["title"] == "Facekeep server"


def test_serve_says_in_one_line_why_it_does_not(config: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facekeep_server", "--config", str(config), "serve"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("server.schema: ")
    assert len(done.stderr.splitlines()) == 1
