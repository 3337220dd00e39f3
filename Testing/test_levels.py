"""Level names: one naming for the whole column from the evidence in view, with realistic confidences."""

import numpy as np
import pytest
from VertebralFractureQuantLib.spine.levels import (
    CLASSES,
    LEAST_CONFIDENCE,
    LEVELS,
    NAMES,
    SURE,
    contradictions,
    in_doubt,
    name_levels,
    renamed,
    steps_between,
)

LEVEL_RIB, FALLING_RIB, NO_RIB, UNTOLD = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)


def looks(names, sharpness=12.0):
    """Log-probabilities that favour the class of each name; None favours no class."""
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


def test_the_sacrum_names_the_vertebrae_above_it():
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


def test_bodies_far_too_tall_for_a_name_do_not_get_it():
    """Lumbar vertebrae of a tilted patient once looked like a neck. 30 % too large is possible, twice is not."""
    seen, steps = looks(["C3", "C4", "C5", "C6"], 2.0), np.ones(3, int)

    def likeliest(tallest):
        shares = name_levels(seen, steps, tallest=np.array(tallest))[1].distribution
        return max(shares, key=lambda name: shares[name])

    assert likeliest([np.nan] * 4) == likeliest([13.6, 13.1, 12.7, 13.2]) == "C4"
    assert likeliest([16.5, 16.0, np.nan, 16.0]) == "C4"  # a large patient
    assert likeliest([8.0, 16.0, 16.0, 16.5]) == "C4"  # one is fractured
    assert likeliest([28.0, 28.6, 29.0, 29.5])[0] in "TL"


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
    ribs = np.repeat(np.array([LEVEL_RIB] + [FALLING_RIB] * 2 + [NO_RIB] * 5 + [UNTOLD] * 2)[:, None], 2, axis=1)
    assert names_of(name_levels(seen, np.ones(9, int), ribs))[-3:-1] == ["L5", "L6"]


def test_a_gap_with_room_for_a_vertebra_skips_a_name():
    heights = np.full(8, 20.0)
    centers = np.zeros((8, 3))
    centers[:, 2] = -24.0 * np.array([0, 1, 2, 3, 5, 6, 7, 8])
    steps = steps_between(centers, heights)
    assert steps.tolist() == [1, 1, 1, 2, 1, 1, 1]
    seen = [f"T{i}" for i in (2, 3, 4, 5, 7, 8, 9, 10)]
    assert names_of(name_levels(looks(seen), steps)) == seen


def test_more_vertebrae_than_a_spine_has_are_left_without_names():
    assert names_of(name_levels(looks([None] * 32), np.ones(31, int))) == [None] * 32


def named_by_ribs(*sides):
    seen = np.repeat(np.array(sides)[:, None], 2, axis=1)
    return names_of(name_levels(looks([None] * len(sides)), np.ones(len(sides) - 1, int), seen))


def test_the_last_rib_names_a_column_without_clear_looks():
    seen = [LEVEL_RIB] * 5 + [FALLING_RIB] * 2 + [NO_RIB] * 4
    assert named_by_ribs(*seen) == [*(f"T{i}" for i in range(6, 13)), "L1", "L2", "L3", "L4"]


def test_the_first_rib_names_a_column_without_clear_looks():
    seen = [NO_RIB] * 2 + [FALLING_RIB] * 2 + [LEVEL_RIB] * 4
    assert named_by_ribs(*seen) == ["C4", "C5", "C6", "C7", "T1", "T2", "T3", "T4"]


def test_ribs_in_the_middle_of_the_chest_give_no_name():
    assert named_by_ribs(*[LEVEL_RIB] * 6) == [None] * 6


def test_ribs_outside_the_scan_give_no_name():
    assert named_by_ribs(*[UNTOLD] * 8) == [None] * 8


def test_ribs_correct_a_column_that_looks_a_level_off():
    column = [*(f"T{i}" for i in range(8, 13)), "L1", "L2", "L3"]
    off = [*(f"T{i}" for i in range(9, 13)), "L1", "L2", "L3", "L4"]
    seen = np.repeat(np.array([LEVEL_RIB] * 3 + [FALLING_RIB] * 2 + [NO_RIB] * 3)[:, None], 2, axis=1)
    assert names_of(name_levels(looks(off, 3.0), np.ones(7, int), seen)) == column


def test_a_crushed_vertebra_makes_no_gap():
    heights = np.array([24.0, 22.0, 29.0, 14.0, 26.0, 29.0, 31.0])
    tops = np.cumsum(np.r_[0, heights[:-1] + 7.0])
    centers = np.zeros((7, 3))
    centers[:, 2] = -(tops + heights / 2)
    centers[4:, 2] -= 6.0  # the crushed one is dislocated
    assert steps_between(centers, heights).tolist() == [1] * 6


@pytest.mark.parametrize(("above", "below"), [(1, 0), (2, 0), (0, 1), (0, 2)])
def test_false_vertebrae_beyond_the_ends_get_no_name_and_the_others_keep_theirs(above, below):
    """In a nearly horizontal neck the atlas and the skull above it were once taken for two vertebrae."""
    seen = [*["C1"] * (1 + above), *LEVELS, *["S1"] * (1 + below)]
    named = names_of(name_levels(looks(seen, 30.0), np.ones(len(seen) - 1, int)))
    assert named[1:-1] == [*[None] * above, *LEVELS, *[None] * below]


FREE = [False] * 4


def test_naming_one_vertebra_names_all_that_follow_up_and_down():
    assert renamed([None] * 4, FREE, [1, 1, 1], 2, "L1") == ["T11", "T12", "L1", "L2"]


def test_a_step_over_a_missing_vertebra_skips_its_name_in_both_directions():
    assert renamed([None] * 4, FREE, [2, 1, 3], 1, "T6") == ["T4", "T6", "T7", "T10"]


def test_a_pinned_vertebra_and_all_beyond_it_keep_their_names():
    names = ["T1", "T2", "T3", "T4", "T5", "T6"]
    pinned = [False, True, False, False, True, False]
    assert renamed(names, pinned, [1] * 5, 3, "T9") == ["T1", "T2", "T8", "T9", "T5", "T6"]


def test_a_pin_without_a_name_is_kept_too():
    assert renamed([None] * 4, [True, False, False, False], [1] * 3, 2, "L1") == [None, "T12", "L1", "L2"]


def test_beyond_c2_and_the_last_lumbar_vertebra_there_is_no_name():
    assert renamed(["x"] * 4, FREE, [1, 1, 1], 1, "C2") == [None, "C2", "C3", "C4"]
    assert renamed(["x"] * 4, FREE, [1, 1, 1], 2, "L5") == ["L3", "L4", "L5", None]
    assert renamed(["x"] * 4, FREE, [1, 1, 1], 2, "L6") == ["L4", "L5", "L6", None]


def test_a_t13_is_in_the_column_only_if_a_reader_named_one():
    assert renamed([None] * 4, FREE, [1, 1, 1], 1, "T12") == ["T11", "T12", "L1", "L2"]
    assert renamed([None] * 4, FREE, [1, 1, 1], 1, "T13") == ["T12", "T13", "L1", "L2"]
    assert renamed([None, "T13", None, None], [False, True, False, False], [1] * 3, 3, "L2") == [
        None,
        "T13",
        "L1",
        "L2",
    ]
    assert renamed(["T13", None, None, None], [True, False, False, False], [1] * 3, 3, "L1") == [
        "T13",
        "T12",
        "T13",
        "L1",
    ]


def test_a_reader_can_take_a_t13_back():
    pinned = [False, True, False, False]
    assert renamed(["T12", "T13", "L1", "L2"], pinned, [1] * 3, 1, "T12") == ["T11", "T12", "L1", "L2"]


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown level 'S1'"):
        renamed([None], [False], [], 0, "S1")


def test_a_repeated_name_and_one_that_lies_above_are_contradictions():
    assert contradictions(["T5", "T6", None, "T6", "T4", "T8"]) == [3, 4]
    assert contradictions(["T5", None, "T9"]) == []


def test_with_steps_a_name_must_lie_as_far_down_as_its_vertebra():
    assert contradictions(["T5", "T6", None, "T9", "T10"], np.array([1, 1, 2, 1])) == []
    assert contradictions(["T5", "T6", "T9", "T10"], [1, 1, 1]) == [2]
    assert contradictions(["T5", "T6"], [2]) == [1]


def test_a_spine_with_one_vertebra_more_or_less_is_no_contradiction():
    for column in (["T11", "L1"], ["T12", "L1"], ["T12", "T13", "L1"], ["L5", "L6"], ["L3", "L4"]):
        assert contradictions(column, [1] * (len(column) - 1)) == []
    assert contradictions(["T12", "L1"], [2]) == []  # a T13 between them was not found
    assert contradictions(["L4", "L6"], [1]) == [1]


def test_a_name_is_in_doubt_until_a_reader_names_one_of_the_column():
    names, shares = ["T11", "T12", None, "L2"], [{"T11": 0.95}, {"T12": 0.7, "T11": 0.3}, {"L1": 0.4}, {}]
    assert in_doubt(names, shares, [False] * 4) == [None, 0.7, None, None]
    assert in_doubt(names, shares, [False, False, False, True]) == [None] * 4
    assert in_doubt(["L1"], [{"L2": 0.99}], [False]) == [0.0]  # one that was too improbable to be listed


def test_names_that_are_given_below_the_sure_confidence_are_in_doubt():
    given = [n for n in name_levels(looks(list(LEVELS[8:15]), 4.0), np.ones(6, int)) if n.name]
    assert len(given) == 7 and all(LEAST_CONFIDENCE < n.confidence < SURE for n in given)


@pytest.mark.parametrize("name", NAMES)
def test_the_names_that_follow_never_contradict(name):
    steps = [1, 2, 1, 1, 3, 1]
    assert contradictions(renamed([None] * 7, [False] * 7, steps, 3, name), steps) == []
