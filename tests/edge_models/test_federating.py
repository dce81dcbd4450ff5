"""What the demo of a federation is made of: crops that the gate takes, the same every time, of nobody on a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facekeep_models.federating.crops import DAY_PICTURES, FIRST_PERSON, POOR_PICTURES, write_crops
from facekeep_models.training.export.pictures import drawn_crop
from facekeep_server.releases.evaluating import read_crops


def test_the_gate_reads_the_crops_of_the_demo(tmp_path: Path) -> None:
    said: list[str] = []
    day, poor = write_crops(tmp_path / "crops", people=20, say=said.append)
    by_day, by_dusk = read_crops(day), read_crops(poor)
    assert (by_day.name, by_dusk.name, said) == ("day", "poor", ["20 of 20 people drawn"])
    assert np.unique(by_day.people, return_counts=True)[1].tolist() == [DAY_PICTURES] * 20
    assert np.unique(by_dusk.people, return_counts=True)[1].tolist() == [1 + POOR_PICTURES] * 20
    # What a poor picture is compared with is a day picture of the same person.
    np.testing.assert_array_equal(by_dusk.crops[0], by_day.crops[0])
    np.testing.assert_array_equal(by_day.crops[0], drawn_crop(FIRST_PERSON, 0))
    assert by_dusk.crops[1].mean() < by_day.crops[0].mean()
    again = write_crops(tmp_path / "again", people=20, say=said.append)
    assert [read_crops(each).sha256 for each in again] == [by_day.sha256, by_dusk.sha256]
