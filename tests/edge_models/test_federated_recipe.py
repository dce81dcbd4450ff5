"""The recipe of the federated figures on a handful of drawn people: who stands where, what cameras do, rounds that resume."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")
pytest.importorskip("onnx", reason="onnx is not installed: recipes are for those who train (extra build)")
Pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from facekeep_models.simulation import DrawnPerson, draw_frame  # noqa: E402
from facekeep_models.training.federated.__main__ import main  # noqa: E402
from facekeep_models.training.federated.attacks import (  # noqa: E402
    area_under_curve,
    best_case_area,
    recovered_cosines,
)
from facekeep_models.training.federated.cameras import LARGEST_PX, SMALLEST_PX, camera_of, capture  # noqa: E402
from facekeep_models.training.federated.figures import COMPARED, intervals, measure  # noqa: E402
from facekeep_models.training.federated.fleet import Samples, build_fleet, build_scenes, split_people  # noqa: E402
from facekeep_models.training.federated.local import LocalPlan, device_changes  # noqa: E402
from facekeep_models.training.federated.mechanism import Mechanism  # noqa: E402
from facekeep_models.training.federated.network import Network  # noqa: E402
from facekeep_models.training.federated.objective import Lesson, Objective, lesson_of, losses  # noqa: E402
from facekeep_models.training.federated.pictures import Album  # noqa: E402
from facekeep_models.training.federated.recommended import ON_DEVICE, USED_NUMBERS, WITH_NOISE, WITHOUT_NOISE  # noqa: E402
from facekeep_models.training.federated.report import draw_rounds, write_table  # noqa: E402
from facekeep_models.training.federated.rows import EARLY, ROWS  # noqa: E402
from facekeep_models.training.federated.server import train_fleet  # noqa: E402
from facekeep_models.training.gradients.torch_graph import margin_loss  # noqa: E402

PEOPLE = 6


def _drawn(person: int, number: int) -> np.ndarray:
    return np.ascontiguousarray(draw_frame(DrawnPerson(person), number, (136, 136)).pixels[12:-12, 12:-12])


def _album() -> Album:
    files, person = [], []
    for index in range(PEOPLE):
        for number in range(1 + index % 3):
            written = io.BytesIO()
            Pillow.fromarray(_drawn(index, number)).save(written, "JPEG")
            files.append(written.getvalue())
            person.append(index)
    names = tuple(f"Person_{chr(ord('A') + index)}" for index in range(PEOPLE))
    ends = np.cumsum([len(each) for each in files])
    return Album(np.frombuffer(b"".join(files), np.uint8), ends.astype(np.int64), np.array(person, np.int32), names)


@pytest.fixture(scope="module")
def album() -> Album:
    torch.set_num_threads(1)
    return _album()


@pytest.fixture(scope="module")
def network() -> Network:
    return Network("channels")


@pytest.fixture(scope="module")
def samples(album: Album) -> Samples:
    return build_fleet(album, range(3), seed=1, single=True)


@pytest.fixture(scope="module")
def lesson(network: Network, samples: Samples) -> Lesson:
    anchors = torch.nn.functional.normalize(torch.randn(9, 256, generator=torch.Generator().manual_seed(1)), dim=1)
    return lesson_of(network, samples, anchors, day_weight=1.0)


def test_nobody_is_in_two_parts_and_a_person_of_two_names_is_in_none_but_one(album: Album) -> None:
    folders = [*album.names, "A_Person"]
    split = split_people(album, folders, held_out=3, validation=1, seed=1)
    everyone = [*split.fleet, *split.validation, *split.evaluation]
    assert len(everyone) == len(set(everyone))
    ordered = sorted(folders)
    chosen = {ordered[place] for place in np.random.default_rng(1).permutation(len(ordered))[:3]}
    # The other spelling of A is of the same person: in training if one of the two is.
    for place in split.evaluation:
        assert album.names[place] in chosen
    if len({"Person_A", "A_Person"} & chosen) == 1:
        assert 0 not in everyone


def test_a_fleet_is_the_same_every_time_and_devices_are_of_few(album: Album) -> None:
    one, same = (build_fleet(album, range(PEOPLE), seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.crops, same.crops)
    assert np.all(np.diff(one.device) >= 0)
    assert one.owner.max() + 1 == one.devices
    assert np.bincount(one.owner).max() <= 5
    assert (one.is_day.sum(), len(one.crops)) == (PEOPLE, 4 * PEOPLE)
    np.testing.assert_array_equal(one.crops[one.is_day], one.enrolled[one.centre[one.is_day]])


def test_night_is_grey_dark_and_coarse_and_a_mask_covers_the_lower_face() -> None:
    day = np.stack([_drawn(1, 0)] * 2)
    taken = capture(day, ["night", "mask"], [5, 5], [0, 1], seed=1)
    night, masked = taken.astype(int)
    assert np.ptp(night, axis=2).max() == 0
    assert night.mean() < 0.6 * day[0].mean()
    assert SMALLEST_PX <= camera_of(1, 5).face_px <= LARGEST_PX
    assert camera_of(1, 5) == camera_of(1, 5) != camera_of(1, 6)
    changed = np.abs(masked - day[1].astype(int)).mean(axis=2)
    assert changed[85:105, 40:72].mean() > 2 * changed[10:50].mean()


def test_the_loss_is_that_of_the_training_kit(network: Network, lesson: Lesson) -> None:
    objective = Objective(margin=0.3, scale=20.0, keep=2.0, anchors=9)
    places = torch.arange(4)
    embeddings = network.embed(lesson.crops[places].float(), network.start)
    own = lesson.templates[lesson.centre[places]]
    centres = torch.cat([lesson.templates[:1], lesson.anchors])
    expected = margin_loss(embeddings, centres, torch.zeros(4, dtype=torch.int64), own, margin=0.3, scale=20.0, keep=2.0)
    torch.testing.assert_close(losses(embeddings, lesson, places, objective).mean(), expected)


def test_devices_in_one_batch_send_what_each_sends_alone(network: Network, lesson: Lesson) -> None:
    plan = LocalPlan(steps=2, rate=1e-3, clip=0.1)
    together = device_changes(network, network.start, lesson, 0, 3, Objective(), plan)
    alone = torch.cat([device_changes(network, network.start, lesson, one, one + 1, Objective(), plan) for one in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)
    assert torch.all(together.norm(dim=1) <= 0.1 + 1e-6)


def test_the_sum_is_that_of_the_changes_but_for_rounding_and_noise() -> None:
    mechanism = Mechanism.of(replace(WITH_NOISE, rounds=2), devices=20, length=40)
    assert 7.9 < mechanism.epsilon <= 8.0
    changes = np.random.default_rng(0).normal(0, 0.01, (20, 40)).astype(np.float32)
    noise = mechanism.noise(20, 0, seed=1)
    summed = mechanism.summed(changes, noise, seed=1, number=0)
    exact = changes.sum(axis=0, dtype=np.float64) + noise * mechanism.scale.step
    assert np.abs(summed - exact).max() <= 20 * mechanism.scale.step
    assert 0.6 < noise.std() / np.sqrt(20 * mechanism.variance) < 1.5


def test_a_stopped_run_ends_where_the_other_one_does(network: Network, lesson: Lesson, tmp_path: Path) -> None:
    plan = replace(WITH_NOISE, rounds=2, dropped=0.0, minimum=1.0)

    def look(number: int, _: object) -> dict[str, float]:
        return {"number": float(number)}

    whole, history = train_fleet(network, lesson, plan, seed=1, work=tmp_path / "whole", name="run", watch=look)

    class StoppedError(Exception):
        pass

    def stop(number: int, _: object) -> dict[str, float]:
        if number == 2:
            raise StoppedError
        return {"number": float(number)}

    with pytest.raises(StoppedError):
        train_fleet(network, lesson, plan, seed=1, work=tmp_path / "broken", name="run", watch=stop)
    resumed, again = train_fleet(network, lesson, plan, seed=1, work=tmp_path / "broken", name="run", watch=look)
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    assert history == again == [{"round": 1.0, "number": 1.0}, {"round": 2.0, "number": 2.0}]
    assert not torch.equal(whole, network.start)


def test_figures_and_shares_of_a_gain(network: Network, album: Album, tmp_path: Path) -> None:
    scenes = build_scenes(album, range(PEOPLE), seed=1)
    before = measure(network, [network.start], scenes)
    figures, shares = intervals(
        {"base": before, "full": before}, base="base", whole={"base": "full", "full": "full"}, people=PEOPLE, resamples=3, seed=1
    )
    assert set(figures["base"]) == {f"{name} {target}" for name in COMPARED for target in ("1e-02", "1e-03")}
    for value, low, high in figures["base"].values():
        assert 0 <= value <= 1
        assert low <= high or np.isnan(low)
    write_table({"figures": figures, "shares": shares}, tmp_path / "figures.md")
    assert "| base |" in (tmp_path / "figures.md").read_text()
    # Without the row that counts as the whole gain, or without the base, nobody knows a share: 100 % would be made up.
    for rows in ({"base", "one"}, {"full", "one"}):
        part, share = intervals(
            dict.fromkeys(sorted(rows), before),
            base="base",
            whole={"base": "base", "full": "full", "one": "full"},
            people=PEOPLE,
            resamples=3,
            seed=1,
        )
        assert (set(part), "one" in share, "full" in share) == (rows, False, False)
        write_table({"figures": part, "shares": share}, tmp_path / "part.md")
        assert f"| one |{' - |' * len(part['one'])}" in (tmp_path / "part.md").read_text()
    history = [{"round": 1.0, "day-day 1e-02": 0.5}, {"round": 2.0, "day-day 1e-02": 0.6}]
    if draw_rounds({"run": history}, tmp_path / "curves.png"):
        assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_a_row_that_there_is_none_of_is_said_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path), "--work", str(tmp_path), "--rows", "base", "fedreated"])
    assert "no such rows: fedreated" in capsys.readouterr().err


def test_the_whole_gain_of_a_row_is_that_of_its_own_fleet() -> None:
    fleets = {row.name: row.fleet for row in ROWS if row.how == "central"}
    for row in ROWS:
        if row.how == "fleet":
            assert fleets[row.whole.removesuffix(EARLY)] == row.fleet
        else:
            assert row.whole.removesuffix(EARLY) in fleets


def test_the_level_early_is_the_first_numbers_of_the_channels(network: Network) -> None:
    early = Network("early")
    assert len(early.start) == early.early == USED_NUMBERS
    assert torch.equal(early.start, network.start[:USED_NUMBERS])
    moved = early.start * 1.1
    among_all = network.start.clone()
    among_all[:USED_NUMBERS] = moved
    assert torch.equal(early.whole(moved), network.whole(among_all))


def test_attacks_find_what_is_there_and_nothing_where_nothing_is() -> None:
    random = np.random.default_rng(4)
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert best_case_area(1e9, 1) == pytest.approx(0.5)
    assert best_case_area(1.0, 4) > 0.9
    secrets = random.standard_normal((200, 16))
    changes = secrets @ random.standard_normal((16, 300)) + 0.1 * random.standard_normal((200, 300))
    plain = recovered_cosines(changes, changes, secrets, known=150, ridge=1e-3)
    hidden = recovered_cosines(changes, random.standard_normal(changes.shape), secrets, known=150, ridge=1e-3)
    assert plain.mean() > 0.95
    # Fifty guesses, each with a deviation of a quarter: three and a half of their mean's.
    assert abs(hidden.mean()) < 3.5 / np.sqrt(16 * 50)


def test_plans_keep_to_what_is_promised(network: Network) -> None:
    assert network.early == USED_NUMBERS
    moved = network.without_late(network.start + 1)
    assert torch.equal(moved[: network.early], network.start[: network.early] + 1)
    assert torch.equal(moved[network.early :], network.start[network.early :])
    settings, objective = ON_DEVICE, WITH_NOISE.objective
    assert (settings.steps, settings.rate) == (WITH_NOISE.local_steps, WITH_NOISE.local_rate)
    assert (settings.margin, settings.scale) == (objective.margin, objective.scale)
    assert (settings.keep, settings.negatives) == (objective.keep, objective.anchors)
    assert WITHOUT_NOISE.rounds <= 30
    assert Mechanism.of(WITH_NOISE, devices=2489, length=5408).epsilon <= 8.0
