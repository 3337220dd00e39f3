"""Shapes that are usual at a level or in a patient are physiologic; fractures are not, and excuse no other vertebra."""

import numpy as np
import pytest
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.levels import LUMBAR, NAMES, TALLEST_MM, THORACIC
from VertebralFractureQuantLib.spine.physiologic import corrected_ratio, expected_shape, physiologic_shapes

USUAL = {"T7": (0.90, 0.93, 1.0), "L5": (1.0, 0.93, 0.88)}


def column(shapes, levels=None):
    """Bodies with relative heights (anterior, middle, posterior), 30 mm deep, cranial first, as high as usual."""
    bodies, low = [], 0.0
    for shape, level in zip(shapes, levels or ["L3"] * len(shapes), strict=True):
        size = TALLEST_MM[level or "L3"]
        low -= 1.25 * size
        bodies.append([[[0, a, low + size * h], [0, a, low]] for a, h in zip((15.0, 0.0, -15.0), shape, strict=True)])
    return measure_column(np.array(bodies))


def judged(levels, shapes, probabilities=None, pinned=False, expected_mm=None):
    shares = [{}] * len(levels) if probabilities is None else probabilities
    pins = [pinned] + [False] * (len(levels) - 1)
    return physiologic_shapes(column(shapes, levels), levels, shares, pins, expected_mm)


PLAIN = (0.95, 0.92, 1.0)


def test_an_l5_that_is_lower_behind_is_physiologic_and_its_grade_stays():
    shapes = [(0.96, 0.93, 1.0), (1.0, 0.93, 0.97), (1.0, 0.87, 0.74)]
    measured = column(shapes, ["L3", "L4", "L5"])
    assert measured[2].grade == "moderate"
    why = physiologic_shapes(measured, ["L3", "L4", "L5"], [{}] * 3, [False] * 3)
    assert why == [None, None, "Lower behind, as usual for L5."]


def test_the_same_shape_is_a_fracture_at_l1():
    assert judged(["T11", "T12", "L1"], [PLAIN, PLAIN, (1.0, 0.87, 0.74)]) == [None, None, None]


@pytest.mark.parametrize(("front", "usual"), [(0.77, True), (0.74, True), (0.72, False), (0.65, False)])
def test_a_t7_that_is_lower_in_front_is_physiologic_down_to_its_norm(front, usual):
    neighbour = (0.89, 0.90, 1.0)
    why = judged(["T6", "T7", "T8"], [neighbour, (front, 0.86, 1.0), neighbour])
    assert (why[1] == "Lower in front, as usual for T7.") is usual


@pytest.mark.parametrize("level", [*THORACIC, "L1", "L2"])
@pytest.mark.parametrize("low", [0.72, 0.66, 0.5])
@pytest.mark.parametrize("kind", ["wedge", "biconcave", "both"])
@pytest.mark.parametrize("beside", [PLAIN, (0.85, 0.85, 1.0)])
def test_no_wedge_or_biconcave_vertebra_with_g_up_to_072_is_physiologic(level, low, kind, beside):
    shape = {"wedge": (low, (1 + low) / 2, 1.0), "biconcave": (0.95, low, 1.0), "both": (low, low, 1.0)}[kind]
    at = NAMES.index(level)
    levels = [n for n in NAMES[at - 2 : at + 4] if n not in ("T13",)][:5]
    shapes = [shape if n == level else beside for n in levels]
    assert judged(levels, shapes)[levels.index(level)] is None


def test_a_vertebra_that_lost_height_against_its_neighbours_is_a_fracture():
    """As the severe T11 of a real scan, of which two heights were measured too high and the third too low."""
    levels, lost = ["T11", "T12", "L1", "L2"], tuple(0.82 * h for h in (0.757, 0.752, 1.0))
    shapes = [(0.97, 0.93, 1.0), (0.97, 0.92, 1.0), (0.757, 0.752, 1.0), (0.9, 0.92, 1.0)]
    assert judged(levels, [*shapes[:2], lost, shapes[3]])[2] is None


def test_a_crushed_vertebra_is_never_physiologic():
    flat = tuple(0.7 * h for h in USUAL["L5"])
    shapes = [(1.0, 0.95, 1.0), (1.0, 0.95, 0.97), (0.70, 0.60, 0.55), (1.0, 0.95, 1.0)]
    measured = column([*shapes, flat])
    assert measured[2].crush_ratio < 0.8
    assert physiologic_shapes(measured, ["L2", "L3", "L4", "L5", "L6"], [{}] * 5, [False] * 5)[2] is None


def test_a_middle_height_far_below_both_others_is_biconcave_at_every_level():
    for level in (*THORACIC, *LUMBAR):
        assert judged(["T1", level], [PLAIN, (0.98, 0.77, 1.0)])[1] is None, level


def test_a_level_in_doubt_is_judged_under_each_likely_level():
    shapes = [PLAIN, PLAIN, (1.0, 0.90, 0.74)]
    doubt = [{}, {}, {"L5": 0.7, "L4": 0.28}]
    assert judged(["L2", "L3", "L5"], shapes, doubt) == [None, None, None]
    assert judged(["L2", "L3", "L5"], shapes, [{}, {}, {"L5": 0.88, "L4": 0.12}])[2]
    assert judged(["L2", "L3", "L5"], shapes, doubt, pinned=True)[2]  # a reader named the column
    assert judged([None, None, None], shapes) == [None, None, None]


def test_what_normal_neighbours_share_is_usual_for_this_patient():
    low = (0.75, 0.86, 1.0)
    alike, unlike = (0.83, 0.86, 1.0), (1.0, 0.95, 1.0)
    levels = ["T8", "T9", "T10", "T11", "T12"]
    assert judged(levels, [alike, alike, low, alike, alike])[2] == "Lower in front, like the vertebrae beside it."
    assert judged(levels, [unlike, unlike, (0.745, 0.86, 1.0), unlike, unlike])[2] is None


def test_fractured_neighbours_excuse_nothing():
    wedge, normal = (0.70, 0.85, 1.0), (0.94, 0.92, 1.0)
    levels = ["T9", "T10", "T11", "T12", "L1"]
    alone = judged(levels, [normal, normal, (0.74, 0.86, 1.0), normal, normal])
    among = judged(levels, [wedge, wedge, (0.74, 0.86, 1.0), wedge, wedge])
    assert alone[2] is None or among[2] == alone[2]
    assert among[0] is None and among[1] is None and among[3] is None


def test_heights_that_are_expected_of_a_vertebra_replace_those_of_its_level():
    shapes = [PLAIN, PLAIN, (1.0, 0.90, 0.74)]
    assert judged(["T11", "T12", "L1"], shapes, expected_mm=[None, None, (20.0, 18.0, 16.0)])[2]
    assert judged(["L3", "L4", "L5"], shapes, expected_mm=[None, None, (20.0, 19.0, 20.0)])[2] is None


def test_every_level_has_an_expected_shape_that_is_normal_or_l5():
    for level in NAMES:
        shape = expected_shape(level)
        assert max(shape) == 1 and min(shape) >= 0.84
        assert corrected_ratio([30 * h for h in shape], shape) == pytest.approx(1)
