"""Butterfly-IoU against polygons worked out by hand, and the suppression of duplicates."""

import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.spine.butterfly import butterfly_iou, suppress


def body(upper=(2, 2, 2), lower=(0, 0, 0), at=(0, 0)):
    """Key points `(3, 2, 2)` at A = 2, 1, 0 with the given S of [A, M, P], moved by `at`."""
    return np.array([[[a, u], [a, w]] for a, u, w in zip((2, 1, 0), upper, lower, strict=True)], float) + at


def test_a_vertebra_overlaps_itself_wholly():
    assert butterfly_iou(body(), body()) == pytest.approx(1)


def test_rectangles_overlap_by_the_fraction_of_their_shared_area():
    # Two 2 x 2 squares, one moved by half a side: shared 1 x 2 = 2, united 4 + 4 - 2 = 6.
    assert butterfly_iou(body(), body(at=(1, 0))) == pytest.approx(2 / 6)
    # Moved by half a side both ways: shared 1 x 1, united 4 + 4 - 1 = 7.
    assert butterfly_iou(body(), body(at=(1, 1))) == pytest.approx(1 / 7)


def test_a_biconcave_body_has_the_area_of_its_hexagon():
    # Each half is a trapezium of heights 2 and 1 on a base of 1: 1.5; together 3, all inside the square of 4.
    biconcave = body(upper=(2, 1.5, 2), lower=(0, 0.5, 0))
    assert butterfly_iou(biconcave, body()) == pytest.approx(3 / 4)


def test_a_wedge_has_the_area_of_its_hexagon():
    # Upper edge falls from 2 (posterior) to 1 (anterior): the area is 2 x (2 + 1) / 2 = 3.
    assert butterfly_iou(body(upper=(1, 1.5, 2)), body()) == pytest.approx(3 / 4)


def test_apart_and_touching_vertebrae_do_not_overlap():
    assert butterfly_iou(body(), body(at=(0, 5))) == 0
    assert butterfly_iou(body(), body(at=(2, 0))) == 0


def test_a_crossed_half_counts_as_its_two_triangles():
    # Anterior corners swapped: the anterior half is a bow tie of two triangles, each 1/2 x base 2 x height 1/2 = 1/2,
    # so 1; the posterior half is 1 x 2 = 2. All 3 lie inside the square of 4.
    crossed = body(upper=(0, 2, 2), lower=(2, 0, 0))
    assert butterfly_iou(crossed, body()) == pytest.approx(3 / 4)


def test_a_half_folded_into_the_other_takes_nothing_away():
    # A at 2, M at 0, P at 1: the posterior half lies inside the anterior 2 x 2 square, so the union is that square,
    # although the outline around all six points, simple here, would leave the posterior half (1.5 of 4) out.
    folded = np.array([[[2, 2], [2, 0]], [[0, 2], [0, 0]], [[1, 1.5], [1, 0.5]]], float)
    assert butterfly_iou(folded, body()) == pytest.approx(1)


def test_halves_folded_over_each_other_are_counted_once():
    # The posterior points lie over the anterior ones: both halves are the same 1 x 2 rectangle, half the square.
    folded = body()
    folded[2] = folded[0]
    assert butterfly_iou(folded, body()) == pytest.approx(1 / 2)


def test_without_area_there_is_no_overlap():
    flat = body(upper=(0, 0, 0))
    assert butterfly_iou(flat, flat) == 0
    assert butterfly_iou(flat, body()) == 0
    turned = flat @ np.array([[0.6, 0.8], [-0.8, 0.6]]) / 3 + (7.1, 0.3)  # thirds are rounded: not quite flat any more
    assert butterfly_iou(turned, turned) == 0


grid_points = arrays(np.int8, (3, 2, 2), elements=st.integers(0, 4))


@settings(deadline=None)  # the computer may be busy
@given(grid_points, grid_points)
def test_any_six_points_have_a_symmetric_overlap_between_0_and_1(a, b):
    overlap = butterfly_iou(a, b)
    assert 0 <= overlap <= 1 + 1e-9
    assert overlap == pytest.approx(butterfly_iou(b, a))


@settings(deadline=None)  # the computer may be busy
@given(grid_points, grid_points, st.floats(-3, 3))
def test_rotation_changes_no_overlap(a, b, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert butterfly_iou(a @ turn.T, b @ turn.T) == pytest.approx(butterfly_iou(a, b), abs=1e-9)


def test_a_spike_as_thin_as_rounding_takes_nothing_away():
    """Without a grid, polygon libraries fail here or find half of the overlap.

    One: the triangle (0, 0), (2, 1), (0, 1) of 1 and behind it another, of 2, whose outline turns back on itself.
    Other: the triangle (1, 0), (0, 0), (0, 1) of 1/2. They share (0, 0), (2/3, 1/3), (0, 1): 1/2 x 1 x 2/3 = 1/3.
    """
    spiked = np.array([[[0, 0], [0, 0]], [[2, 1], [0, 1]], [[2, 0], [2, 3]]], float)
    other = np.array([[[1, 0], [0, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]], float)
    for angle in np.linspace(0, 6, 50):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        assert butterfly_iou(spiked @ turn, other @ turn) == pytest.approx((1 / 3) / (3 + 1 / 2 - 1 / 3))


def test_a_flat_half_beside_a_sound_one_adds_nothing():
    """shapely refuses to overlay areas with the lines that such halves become, so these must be dropped."""
    flat_half = body()
    flat_half[2] = [[1, 1], [1, 0.5]]  # the posterior half is a line on the middle height
    assert butterfly_iou(flat_half, body()) == pytest.approx(1 / 2)
    assert butterfly_iou(flat_half, flat_half) == pytest.approx(1)
    spiked = body()
    spiked[1:] = [[[0, 0], [0, 0]], [[-5, 0], [-5, 0]]]  # a triangle of 2, and a line from its corner
    assert butterfly_iou(spiked, body()) == pytest.approx(2 / 4)


def test_without_shapely_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    for compute in (lambda: butterfly_iou(body(), body()), lambda: suppress(body()[None], np.ones(1))):
        with pytest.raises(VFQError) as caught:
            compute()
        assert caught.value.code == "missing_dependency"
        assert "pip install shapely" in caught.value.message and "slicer.util.pip_install" in caught.value.message


shifts = st.floats(-300, 300)


@settings(deadline=None)  # the computer may be busy
@given(grid_points, grid_points, st.tuples(shifts, shifts), st.floats(0.5, 20))
def test_shift_and_scale_change_no_overlap(a, b, shift, scale):
    assert butterfly_iou(scale * a + shift, scale * b + shift) == pytest.approx(butterfly_iou(a, b), abs=1e-9)


def test_the_best_of_duplicates_is_kept_and_comes_first():
    candidates = np.stack([body(), body(at=(0.1, 0)), body(at=(0, 5)), body(at=(0, 5.1))])
    np.testing.assert_array_equal(suppress(candidates, np.array([0.7, 0.8, 0.95, 0.9])), [2, 1])


def test_only_overlap_above_the_threshold_suppresses():
    # Moved up by 1.6: shared 2 x .4 = .8, united 8 - .8 = 7.2, overlap 1/9; a neighbour that only touches remains.
    candidates = np.stack([body(), body(at=(0, 1.6)), body(at=(0, 2))])
    scores = np.array([0.9, 0.8, 0.7])
    np.testing.assert_array_equal(suppress(candidates, scores, threshold=0.1), [0, 2])
    np.testing.assert_array_equal(suppress(candidates[:2], scores[:2], threshold=0.12), [0, 1])


def test_a_suppressed_vertebra_suppresses_nothing():
    # The second overlaps both others by 1/3, these two only touch: the second goes, the third stays.
    chain = np.stack([body(), body(at=(0, 1)), body(at=(0, 2))])
    np.testing.assert_array_equal(suppress(chain, np.array([0.9, 0.8, 0.7])), [0, 2])


def test_nothing_in_nothing_out():
    assert suppress(np.empty((0, 3, 2, 2)), np.empty(0)).shape == (0,)


def test_four_hundred_crowded_candidates_take_a_moment():
    rng = np.random.default_rng(0)
    places = np.c_[rng.normal(0, 1, 400), rng.integers(0, 15, 400) * 25.0]
    crowd = body(upper=(20, 18, 20)) * (15, 1) + places[:, None, None] + rng.normal(0, 0.5, (400, 3, 2, 2))
    scores = rng.random(400)
    assert len(suppress(crowd, scores)) == 15
    assert min(_seconds(lambda: suppress(crowd, scores)) for _ in range(3)) < 0.2  # .05 s on one core


def _seconds(action):
    """Processor time: other programs on a busy computer do not count."""
    started = time.process_time()
    action()
    return time.process_time() - started
