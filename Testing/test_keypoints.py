"""The six points keep their places: [anterior, middle, posterior] x [superior, inferior]."""

import numpy as np
import pytest
from VertebralFractureQuantLib.keypoints import (
    ANTERIOR,
    INFERIOR,
    MIDDLE,
    POSTERIOR,
    SUPERIOR,
    centers,
    check_keypoints,
    from_outline,
    outline,
)

# A body 30 mm deep and 20 high, its middle 2 mm lower on either side, on the plane R = 4.
BODY = np.array([[[4, 15, 10], [4, 15, -10]], [[4, 0, 8], [4, 0, -8]], [[4, -15, 10], [4, -15, -10]]], float)


def test_the_outline_runs_along_the_upper_endplate_and_back_along_the_lower():
    expected = [
        BODY[ANTERIOR, SUPERIOR],
        BODY[MIDDLE, SUPERIOR],
        BODY[POSTERIOR, SUPERIOR],
        BODY[POSTERIOR, INFERIOR],
        BODY[MIDDLE, INFERIOR],
        BODY[ANTERIOR, INFERIOR],
    ]
    np.testing.assert_array_equal(outline(BODY), expected)


def test_the_way_to_the_outline_and_back_changes_nothing():
    many = np.random.default_rng(0).normal(size=(5, 7, 3, 2, 3))
    np.testing.assert_array_equal(from_outline(outline(many)), many)


def test_the_centre_is_the_mean_of_the_six_points():
    np.testing.assert_allclose(centers(np.stack([BODY, BODY + 1])), [[4, 0, 0], [5, 1, 1]])


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 3), (3, 2, 4), (6, 3)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        check_keypoints(np.zeros(shape))


def test_points_that_are_nowhere_are_refused():
    lost = BODY.copy()
    lost[MIDDLE, SUPERIOR, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        check_keypoints(lost)


def test_an_outline_without_six_points_is_refused():
    with pytest.raises(ValueError, match="six points"):
        from_outline(np.zeros((5, 3)))
