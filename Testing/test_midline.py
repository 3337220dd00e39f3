"""The midline of the arches is found wherever the curve runs, and brings a curve back that has left the bone."""

import numpy as np
import pytest
from VertebralFractureQuantLib.analysis.midline import midline_offsets, on_midline, stretch_off_midline
from VertebralFractureQuantLib.imaging.ct import from_array
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve

pytestmark = pytest.mark.fast
MIDDLES = np.array([[3.0, 0.0, s] for s in (120.0, 90.0, 60.0, 30.0)])
TALL = np.full(4, 24.0)


def spine(turn_deg=0.0, vessel_hu=0.0):
    """A CT `[k, j, i]` of a column at R = 3, A = 0: bodies, arches, and a vessel at the left."""
    r, a, _ = np.meshgrid(np.arange(-70, 70, 2.0), np.arange(-70, 40, 2.0), np.arange(0, 150, 3.0), indexing="ij")
    turn = np.deg2rad(turn_deg)
    u, v = (r - 3) * np.cos(turn) + a * np.sin(turn), a * np.cos(turn) - (r - 3) * np.sin(turn)
    hu = np.where(np.hypot(u, v / 2.5) < 60, 40.0, -1000.0)
    hu[np.hypot(u + 30, v - 4) < 14] += vessel_hu
    hu[np.hypot(u, v) < 16] = 180
    hu[(np.hypot(u, v + 22) < 14) & (np.hypot(u, v + 22) > 9)] = 500
    hu[(abs(u) < 32) & (abs(u) > 12) & (abs(v + 20) < 4)] = 400
    hu[(abs(u) < 3) & (v < -34) & (v > -55)] = 450
    to_ras = np.diag([2.0, 2.0, 3.0, 1.0])
    to_ras[:3, 3] = -70, -70, 0
    return from_array(hu.transpose(2, 1, 0).round().astype(np.int16), to_ras)


def straight(right):
    return SpineCurve(np.array([[right, 0.0, s] for s in np.arange(149.0, 0.0, -1.0)]))


@pytest.mark.parametrize("aside", [-15.0, -6.0, 0.0, 7.0, 14.0])
def test_the_offset_is_the_distance_to_the_midline(aside):
    offsets = midline_offsets(spine(), straight(3.0 + aside), MIDDLES + (aside, 0, 0), TALL)
    assert np.abs(offsets + aside).max() <= 1.5


def test_a_bright_vessel_beside_the_bodies_does_not_draw_the_midline_aside():
    offsets = midline_offsets(spine(vessel_hu=400), straight(3.0 - 10.0), MIDDLES - (10, 0, 0), TALL)
    assert np.abs(offsets - 10).max() <= 1.5


def test_the_midline_of_a_turned_vertebra_passes_its_body():
    offsets = midline_offsets(spine(turn_deg=17.0), straight(3.0), MIDDLES, TALL)
    assert np.nanmax(np.abs(offsets)) <= 4.0 and np.isfinite(offsets).any()


def test_there_is_no_midline_where_there_is_no_arch():
    nothing = from_array(
        np.random.default_rng(0).normal(40, 20, (50, 55, 70)).astype(np.int16) - 100, np.diag([2.0, 2.0, 2.0, 1.0])
    )
    assert np.isnan(midline_offsets(nothing, straight(40.0), MIDDLES + (37, 40, 0), TALL)).all()
    assert len(midline_offsets(nothing, straight(40.0), np.empty((0, 3)), np.empty(0))) == 0


def test_only_neighbours_that_agree_are_off_the_midline():
    assert stretch_off_midline([0, 8, 9, 0]).tolist() == [False, True, True, False]
    assert not stretch_off_midline([0, 8, 0, -9]).any()  # a single one may be turned
    assert not stretch_off_midline([0, 8, -9, 0]).any()
    assert stretch_off_midline([0, np.nan, 9, 0]).tolist() == [False, False, True, False]  # unclear beside it
    assert len(stretch_off_midline([])) == 0


def test_a_curve_returns_to_the_midline():
    bulge = straight(3.0).points + np.exp(-(((np.arange(149.0) - 60) / 30) ** 4))[:, None] * (-12, 0, 0)
    curve = fit_curve(bulge)
    middles = curve.points[[29, 59, 89, 119]]
    offsets = midline_offsets(spine(), curve, middles, TALL)
    assert np.abs(on_midline(curve, middles, offsets).points[29:121, 0] - 3).max() < 3.5
