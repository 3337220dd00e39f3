"""Level names: one naming for the whole column, by the evidence in view, with honest confidences."""

import numpy as np
import pytest
from VertebralFractureQuantLib.levels import CLASSES, LEVELS, NAMES, name_levels, steps_between


def looks(names, sharpness=4.0):
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
    assert all(n.confidence > 0.95 for n in named)


def test_one_cue_names_the_whole_column():
    named = name_levels(looks([None, None, None, None, "L5", "S1"][:5], 12.0), np.ones(4, int))
    assert names_of(named) == ["L1", "L2", "L3", "L4", "L5"]


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
    for named in name_levels(looks(["T11", "T12", None, "L1"]), np.ones(3, int)):
        assert set(named.distribution) <= set(NAMES)
        assert sum(named.distribution.values()) == pytest.approx(1.0, abs=0.1)


def test_a_sixth_lumbar_vertebra_and_a_missing_t12_are_possible():
    assert "L6" in names_of(
        name_levels(looks(["T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1"], 9.0), np.ones(7, int))
    )
    short = ["T9", "T10", "T11", "L1", "L2", "L3"]
    assert names_of(name_levels(looks(short, 12.0), np.ones(5, int))) == short


def test_a_gap_with_room_for_a_vertebra_skips_a_name():
    heights = np.array([20.0, 20.0, 20.0])
    centers = np.array([[0, 0, 0], [0, 0, -24.0], [0, 0, -72.0]])
    steps = steps_between(centers, heights)
    assert steps.tolist() == [1, 2]
    assert names_of(name_levels(looks(["T4", "T5", "T7"]), steps)) == ["T4", "T5", "T7"]


def test_more_vertebrae_than_a_spine_has_are_left_without_names():
    assert names_of(name_levels(looks([None] * 30), np.ones(29, int))) == [None] * 30
