"""The spine's curve runs from cranial to caudal by arc length, with frames that are right-handed and do not twist."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve


def spine_points(cobb_deg=0.0, kyphosis_deg=0.0, length=400.0, spacing=10.0):
    """Points, RAS mm, along an S of the given Cobb angle to the side and a bow of the given angle forwards."""
    arc = np.arange(0, length + 0.05, 0.1)
    sideways = np.deg2rad(cobb_deg / 2) * np.sin(2 * np.pi * arc / length)
    forwards = np.deg2rad(kyphosis_deg / 2) * np.cos(np.pi * arc / length)
    down = -np.cos(sideways) * np.cos(forwards)
    tangents = np.stack([np.sin(sideways), np.cos(sideways) * np.sin(forwards), down], axis=1)
    return (np.cumsum(tangents, axis=0) * 0.1)[:: round(spacing / 0.1)] + (3, -20, 500)


SPINES = {"straight": (0, 0), "scoliotic": (60, 0), "kyphotic": (0, 80), "both": (60, 60)}
spines = pytest.mark.parametrize("cobb, kyphosis", SPINES.values(), ids=SPINES)


def test_a_straight_line_stays_straight():
    curve = fit_curve(np.array([[1, 2, 100], [1, 2, 70], [1, 2, 0]], float))
    np.testing.assert_allclose(
        curve.points, np.column_stack([np.ones(101), np.full(101, 2), 100.0 - np.arange(101)]), atol=1e-9
    )
    assert curve.length == pytest.approx(100)
    np.testing.assert_allclose(curve.frames, np.broadcast_to(np.eye(3), (101, 3, 3)), atol=1e-12)


@spines
def test_samples_lie_a_step_apart_on_the_true_curve(cobb, kyphosis):
    curve = fit_curve(spine_points(cobb, kyphosis))
    np.testing.assert_allclose(np.linalg.norm(np.diff(curve.points, axis=0), axis=1), 1, atol=1e-3)
    assert curve.distance_to(spine_points(cobb, kyphosis, spacing=1)[2:-2]).max() < 0.15
    assert curve.length == pytest.approx(400, abs=1.5)


@spines
def test_frames_are_right_handed_and_orthonormal_everywhere(cobb, kyphosis):
    curve = fit_curve(spine_points(cobb, kyphosis))
    for frames in (curve.frames, curve.at(np.linspace(-30, curve.length + 30, 777))[1]):
        np.testing.assert_allclose(
            frames @ np.swapaxes(frames, 1, 2), np.broadcast_to(np.eye(3), frames.shape), atol=1e-9
        )
        np.testing.assert_allclose(np.linalg.det(frames), 1)


@spines
def test_frames_do_not_twist_out_of_the_sagittal_plane(cobb, kyphosis):
    """Anterior points forwards and never to the patient's right, on every vertebra, also in scoliosis."""
    curve = fit_curve(spine_points(cobb, kyphosis))
    for frames, tolerance in ((curve.frames, 1e-12), (curve.at(np.arange(0, curve.length, 0.3))[1], 1e-4)):
        np.testing.assert_allclose(frames[:, 1, 0], 0, atol=tolerance)
        assert (frames[:, 1, 1] > 0.5).all()


def test_a_cobb_angle_of_sixty_degrees_is_seen_in_the_tangents():
    right = fit_curve(spine_points(cobb_deg=60)).tangents[:, 0]
    np.testing.assert_allclose(np.rad2deg([np.arcsin(right.max()), np.arcsin(right.min())]), [30, -30], atol=0.5)


def test_points_from_caudal_to_cranial_are_reversed():
    points = spine_points(60, 40)
    curve = fit_curve(points[::-1])
    assert curve.points[0, 2] > curve.points[-1, 2]
    np.testing.assert_allclose(curve.points[0], points[0], atol=1e-9)


def test_beyond_its_ends_the_curve_continues_straight():
    curve = fit_curve(np.array([[0, 0, 100], [0, 0, 50], [0, 0, 0]], float))
    points, _ = curve.at(np.array([-20, 0, 37.5, 100, 115]))
    np.testing.assert_allclose(points[:, 2], [120, 100, 62.5, 0, -15], atol=1e-9)


def test_smoothing_removes_the_noise_of_a_localizer():
    truth = spine_points(40, 60, spacing=4)
    noisy = truth + np.random.default_rng(0).normal(0, 1.5, truth.shape) * (1, 1, 0)
    smooth, rough = fit_curve(noisy, smoothing_mm=8), fit_curve(noisy)
    assert smooth.distance_to(truth).mean() < 0.6 * rough.distance_to(truth).mean()
    assert np.linalg.norm(smooth.curvatures, axis=1).max() < 0.25 * np.linalg.norm(rough.curvatures, axis=1).max()


def test_smoothing_does_not_draw_the_ends_inward():
    points = np.array([[0, 0, 100], [0, 0, 50], [0, 0, 0]], float)
    np.testing.assert_allclose(fit_curve(points, smoothing_mm=8).points[[0, -1], 2], [100, 0], atol=1e-6)


@spines
@pytest.mark.parametrize("smoothing", [0, 8], ids=["as it is", "smoothed"])
@pytest.mark.parametrize("length", [103.4, 250.9, 407.7])
def test_both_ends_are_kept_the_caudal_one_to_within_a_step(cobb, kyphosis, length, smoothing):
    points = spine_points(cobb, kyphosis, length, spacing=7)
    points[1:-1] += np.random.default_rng(0).normal(0, 0.3, points[1:-1].shape) * (1, 1, 0)
    curve = fit_curve(points, smoothing)
    np.testing.assert_allclose(curve.points[0], points[0], atol=1e-9)
    assert np.linalg.norm(curve.points[-1] - points[-1]) < 1


@pytest.mark.parametrize("step", [0.5, 1.0, 2.5])
def test_samples_lie_the_requested_step_apart(step):
    curve = fit_curve(spine_points(60, 60), smoothing_mm=8, step=step)
    np.testing.assert_allclose(np.linalg.norm(np.diff(curve.points, axis=0), axis=1), step, rtol=1e-3)
    assert curve.length == pytest.approx(400, abs=step + 1.5)


@spines
def test_fitting_a_stored_curve_again_changes_nothing(cobb, kyphosis):
    curve = fit_curve(spine_points(cobb, kyphosis), smoothing_mm=8)
    again = fit_curve(np.round(curve.points, 3))
    np.testing.assert_allclose(again.points, curve.points, atol=0.002)


def test_repeated_points_change_nothing():
    points = spine_points(60)
    np.testing.assert_allclose(fit_curve(np.repeat(points, 2, axis=0)).points, fit_curve(points).points)


@settings(deadline=None, max_examples=50)
@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(-2000, 2000))
def test_moving_the_patient_moves_the_curve_along(r, a, s):
    still, moved = fit_curve(spine_points(60, 40)), fit_curve(spine_points(60, 40) + (r, a, s))
    np.testing.assert_allclose(moved.points, still.points + (r, a, s), atol=1e-6)
    np.testing.assert_allclose(moved.frames, still.frames, atol=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((5, 3)),
        np.array([[0, 0, 9], [0, 0, 0]]),
        np.array([[0, 0, 20], [0, np.nan, 10], [0, 0, 0]]),
        np.array([[0, 0, 0.6], [0, 0, 0.3], [0, 0, 0]]),
        np.zeros((5, 2)),
    ],
    ids=["one place", "two points", "nan", "shorter than two steps", "two dimensions"],
)
def test_points_that_make_no_curve_are_refused(points):
    with pytest.raises(ValueError, match="a curve needs"):
        fit_curve(points)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="at least three points"):
        SpineCurve(np.zeros((2, 3)))
