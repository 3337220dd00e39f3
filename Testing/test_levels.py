"""Level names run down the spine, and its variants are allowed where they occur."""

import pytest
from VertebralFractureQuantLib.levels import (
    LEVELS,
    followers,
    is_anatomical_order,
    level_index,
    next_level,
    previous_level,
)

COUNTS = {"C": 7, "T": 12, "L": 5, "S": 5}
USUAL = [f"{region}{i + 1}" for region, count in COUNTS.items() for i in range(count)]


def test_levels_are_numbered_from_the_top():
    assert level_index("C1") == 0
    assert [level_index(level) for level in LEVELS] == list(range(len(LEVELS)))


@pytest.mark.parametrize("first, step, column", [("C1", next_level, USUAL), ("S5", previous_level, USUAL[::-1])])
def test_a_usual_spine_is_walked_from_level_to_level(first, step, column):
    walked = [first]
    while (neighbour := step(walked[-1])) is not None:
        walked.append(neighbour)
    assert walked == column


def test_above_a_variant_lies_what_it_adds_to():
    assert (previous_level("T13"), previous_level("L6")) == ("T12", "L5")


@pytest.mark.parametrize("upper, lower", [("T12", "T13"), ("T13", "L1"), ("L5", "L6"), ("L6", "S1"), ("T11", "L1")])
def test_the_variants_of_the_spine_are_in_order(upper, lower):
    assert lower in followers(upper)
    assert is_anatomical_order([upper, lower])


@pytest.mark.parametrize("column", [["T5", "T7"], ["T7", "T6"], ["T6", "T6"], ["S1", "L5"], ["C7", "L1"]])
def test_gaps_repetitions_and_wrong_directions_are_not_in_order(column):
    assert not is_anatomical_order(column)


def test_unknown_levels_fit_anywhere():
    assert is_anatomical_order([])
    assert is_anatomical_order([None, "T4", None, "L1"])
    assert is_anatomical_order(USUAL)


@pytest.mark.parametrize("name", ["Th7", "t7", "C8", "", "L7"])
def test_other_names_are_refused_with_those_that_exist(name):
    with pytest.raises(ValueError, match=r"C1\.\.C7"):
        level_index(name)
