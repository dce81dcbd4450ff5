"""Which packs a device gets without naming any: ours on a fresh machine, larger ones where they are, and what a policy leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from facekeep.assembly import PREFERRED_DETECTORS, PREFERRED_EMBEDDERS, ModelChoice, choose_models
from facekeep.errors import ModelError
from facekeep.packs import LoadPolicy, PackStore
from tests.sdk.demo_setting import stand_ins_only, with_ours

NOTHING_NAMED = ModelChoice(None, None, ())
COMMERCIAL, CONSENTED = LoadPolicy(commercial_only=True), LoadPolicy(consented_only=True)


@pytest.fixture
def fresh(tmp_path: Path) -> PackStore:
    """A machine on which nothing was pulled or imported."""
    return PackStore(tmp_path / "packs", catalogue=[with_ours(tmp_path)])


def put(store: PackStore, pack_id: str) -> None:
    """Lay a build of a pack into the store: files of the right size, which is all that choosing looks at."""
    build = next(build for build in store.manifest(pack_id).builds if build.runtime == "onnx")
    for file in build.files:
        store.add_file(pack_id, build, file, bytes(file.size_bytes))


def test_ours_come_last() -> None:
    assert PREFERRED_DETECTORS[-1] == "facekeep-detector"
    assert PREFERRED_EMBEDDERS[-1] == "facekeep-embedder"


def test_a_fresh_machine_has_models(fresh: PackStore) -> None:
    choice = choose_models(fresh, NOTHING_NAMED, policy=LoadPolicy())
    assert choice == ModelChoice("facekeep-detector/onnx", "facekeep-embedder/onnx", ())


def test_a_larger_pack_wins_each_for_its_own_task(fresh: PackStore) -> None:
    put(fresh, "yunet-n")
    assert choose_models(fresh, NOTHING_NAMED, policy=LoadPolicy()).embedder == "facekeep-embedder/onnx"
    put(fresh, "mobilefacenet-foamliu")
    choice = choose_models(fresh, NOTHING_NAMED, policy=LoadPolicy())
    assert choice.detector is not None
    assert choice.embedder is not None
    assert choice.detector.startswith("yunet-n/")
    assert choice.embedder.startswith("mobilefacenet-foamliu/")


def test_commercial_use_is_refused_with_the_reason_and_the_packs_that_may_be_used(fresh: PackStore) -> None:
    with pytest.raises(ModelError) as caught:
        choose_models(fresh, NOTHING_NAMED, policy=COMMERCIAL)
    assert caught.value.code == "model.not_permitted"
    message = str(caught.value.args[0])
    assert "'facekeep-detector' is for research and evaluation only; the policy wants commercial use" in message
    assert "`facekeep models pull yunet-s`" in message
    put(fresh, "yunet-n")
    with pytest.raises(ModelError) as caught:
        choose_models(fresh, NOTHING_NAMED, policy=COMMERCIAL)
    message = str(caught.value.args[0])
    assert "'facekeep-embedder'" in message
    assert "`facekeep models pull reid-retail-0095`" in message
    assert "foamliu" not in message  # that one is for research and evaluation as well


def test_where_no_public_pack_was_trained_on_consent_nothing_is_advised(fresh: PackStore) -> None:
    with pytest.raises(ModelError) as caught:
        choose_models(fresh, NOTHING_NAMED, policy=CONSENTED)
    assert caught.value.code == "model.not_permitted"
    assert "bring in one of your own" in str(caught.value.args[0])
    assert "pull" not in str(caught.value.args[0])


def test_a_stripped_installation_is_told_what_to_pull(tmp_path: Path) -> None:
    bare = PackStore(tmp_path / "packs", catalogue=[stand_ins_only(tmp_path)])
    with pytest.raises(ModelError) as caught:
        choose_models(bare, NOTHING_NAMED, policy=LoadPolicy())
    assert caught.value.code == "model.not_installed"
    assert "`facekeep models pull yunet-s` or `facekeep models pull yunet-n`" in str(caught.value.args[0])
    assert "pull facekeep-detector" not in str(caught.value.args[0])
