"""The six key points keep their order: [anterior, middle, posterior] x [superior, inferior]."""

import numpy as np
import pytest
from VertebralFractureQuantLib.spine.keypoints import (
    ANTERIOR,
    FAULTS,
    INFERIOR,
    MIDDLE,
    POSTERIOR,
    SUPERIOR,
    centers,
    check_keypoints,
    faults,
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


def test_an_outline_converted_back_gives_the_same_points():
    many = np.random.default_rng(0).normal(size=(5, 7, 3, 2, 3))
    np.testing.assert_array_equal(from_outline(outline(many)), many)


def test_the_centre_is_the_mean_of_the_six_points():
    np.testing.assert_allclose(centers(np.stack([BODY, BODY + 1])), [[4, 0, 0], [5, 1, 1]])


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 3), (3, 2, 4), (6, 3)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="must be"):
        check_keypoints(np.zeros(shape))


def test_points_that_are_not_finite_are_refused():
    lost = BODY.copy()
    lost[MIDDLE, SUPERIOR, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        check_keypoints(lost)


def test_an_outline_without_six_points_is_refused():
    with pytest.raises(ValueError, match="six points"):
        from_outline(np.zeros((5, 3)))


FLAT = BODY[..., 1:]


def changed(**points):
    """The sound body with some points moved: `a_superior=(A, S)`."""
    flat = FLAT.copy()
    for name, place in points.items():
        flat["amp".index(name[0]), ("superior", "inferior").index(name[2:])] = place
    return flat


def test_a_sound_body_has_no_fault_even_tilted_wedged_or_biconcave():
    turn = np.deg2rad(40)
    tilt = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert faults(FLAT) == faults(FLAT @ tilt.T) == ()
    assert faults(changed(a_superior=(15, -8))) == ()
    assert faults(changed(m_superior=(0, 1), m_inferior=(0, -1))) == ()


def test_a_body_turned_back_to_front_is_swapped_and_so_is_one_with_its_middle_outside():
    assert faults(FLAT[::-1]) == ("anterior_posterior_swapped",)
    assert "anterior_posterior_swapped" in faults(FLAT + np.array([0, -40, 0])[:, None, None] * (1, 0))


def test_a_lower_point_above_its_upper_one_is_named_for_any_single_segment():
    assert faults(FLAT[:, ::-1]) == ("endplates_swapped",)
    for segment in range(3):
        flat = FLAT.copy()
        flat[segment] = flat[segment, ::-1]
        assert "endplates_swapped" in faults(flat)


def test_crossing_heights_are_a_fault_though_each_alone_is_sound():
    crossed = changed(a_inferior=(-4, -10), m_inferior=(9, -10), p_inferior=(-15, -10))
    assert faults(crossed) == ("segments_cross",)


def test_an_outline_that_crosses_its_own_endplate_is_a_fault_too():
    folded = [[[7, 14], [28, -8]], [[-4, 12], [-11, -5]], [[-4, 10], [-16, -15]]]
    assert faults(np.array(folded, float)) == ("segments_cross",)


def test_crossing_endplates_are_a_fault():
    assert "segments_cross" in faults(changed(m_superior=(0, -12)))


def test_lines_that_only_touch_do_not_cross():
    assert "segments_cross" not in faults(changed(m_superior=(0, 8), m_inferior=(0, 8)))


def test_every_fault_has_a_sentence():
    assert set(faults(FLAT[::-1, ::-1])) <= set(FAULTS)
    assert all(sentence.endswith(".") for sentence in FAULTS.values())
