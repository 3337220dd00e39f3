"""Level names: one naming for the whole column, by the evidence in view, with honest confidences."""

import numpy as np
import pytest
from VertebralFractureQuantLib.levels import CLASSES, LEVELS, NAMES, name_levels, steps_between


def looks(names, sharpness=12.0):
    """Log-probabilities that favour the class of each name; None favours nothing."""
    logits = np.zeros((len(names), len(CLASSES)))
    for i, name in enumerate(names):
        if name:
            logits[i, CLASSES.index(name)] = sharpness
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def names_of(named):
    return [n.name for n in named]


def test_clear_looks_are_named_as_they_look():
    column = list(LEVELS[5:15])
    named = name_levels(looks(column), np.ones(9, int))
    assert names_of(named) == column
    assert all(n.confidence > 0.9 for n in named)


def test_the_sacrum_below_names_what_stands_upon_it():
    seen = looks([None, None, None, "L4", "L5", "S1"], 30.0)
    assert names_of(name_levels(seen, np.ones(5, int)))[:5] == ["L1", "L2", "L3", "L4", "L5"]


def test_faint_looks_do_not_add_up_to_a_sure_name():
    named = name_levels(looks(list(LEVELS[7:13]), 1.0), np.ones(5, int))
    assert names_of(named) == [None] * 6
    assert all(
        max(n.distribution, key=n.distribution.get) == level for n, level in zip(named, LEVELS[7:13], strict=True)
    )


def test_without_a_cue_there_is_no_name():
    named = name_levels(looks([None] * 6), np.ones(5, int))
    assert names_of(named) == [None] * 6
    assert all(n.confidence < 0.5 for n in named)


def test_a_single_contrary_look_is_outvoted():
    column = list(LEVELS[8:18])
    seen = list(column)
    seen[4] = "L2"
    assert names_of(name_levels(looks(seen), np.ones(9, int))) == column


def test_probabilities_are_those_of_known_names_and_sum_to_one():
    for named in name_levels(looks(list(LEVELS[15:21]), 6.0), np.ones(5, int)):
        assert set(named.distribution) <= set(NAMES)
        assert sum(named.distribution.values()) == pytest.approx(1.0, abs=0.1)


def test_a_sixth_lumbar_vertebra_is_possible():
    seen = looks(["T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", None, "S1"], 30.0)
    assert names_of(name_levels(seen, np.ones(9, int)))[-3:-1] == ["L5", "L6"]


def test_a_gap_with_room_for_a_vertebra_skips_a_name():
    heights = np.full(8, 20.0)
    centers = np.zeros((8, 3))
    centers[:, 2] = -24.0 * np.array([0, 1, 2, 3, 5, 6, 7, 8])
    steps = steps_between(centers, heights)
    assert steps.tolist() == [1, 1, 1, 2, 1, 1, 1]
    seen = [f"T{i}" for i in (2, 3, 4, 5, 7, 8, 9, 10)]
    assert names_of(name_levels(looks(seen), steps)) == seen


def test_more_vertebrae_than_a_spine_has_are_left_without_names():
    assert names_of(name_levels(looks([None] * 30), np.ones(29, int))) == [None] * 30
