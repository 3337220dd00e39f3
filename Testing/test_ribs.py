"""Ribs: a vertebra has one if bone reaches from it to beyond the transverse processes."""

import numpy as np
import pytest
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.spine.curve import SpineCurve
from VertebralFractureQuantLib.spine.ribs import _sideways, rib_bridges, rib_signs
from VertebralFractureQuantLib.spine.straightening import Straightening

MUSCLE, BONE = 50, 300
SPACING = 24.0
LEVEL, FALLING, NONE = range(3)


def spine(ribs, bottom=-40.0):
    """A straight spine with voxels of 2 mm, S from 140 down to `bottom`, and its upper posterior corners `(n, 3)`.

    `ribs` gives for each vertebra how far the left and the right rib fall, mm; None for no rib. The corners lie on the
    axis from S = 100 downwards.
    """
    r, a, s = (np.arange(low, 81 if i < 2 else 141, 2.0) for i, low in enumerate((-80, -80, bottom)))
    z, y, x = np.meshgrid(s, a, r, indexing="ij")
    voxels = np.where((abs(x) < 18) & (y > -25) & (y < 25), BONE, MUSCLE)
    corners = np.array([[0.0, 0.0, 100 - SPACING * i] for i in range(len(ribs))])
    for (_, _, top), pair in zip(corners, ribs, strict=True):
        for side, fall in zip((-1, 1), pair, strict=True):
            if fall is not None:
                out = side * x
                line = top - fall * (out - 16) / 38
                voxels[(out > 14) & (out < 75) & (abs(z - line) < 5) & (abs(y + 8) < 6)] = BONE
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = r[0], a[0], s[0]
    ct = CTVolume(voxels.astype(np.int16), matrix, "ribs")
    points = np.stack([np.zeros(281), np.zeros(281), np.arange(140.0, -141.0, -1.0)], 1)
    return ct, Straightening(SpineCurve(points, 1.0)), corners


def signs(ribs, **where):
    return rib_signs(*spine(ribs, **where))


def test_a_level_rib_a_falling_one_and_none_are_told_apart():
    seen = signs([(4, 4), (4, 4), (32, 32), (None, None), (None, None)])
    assert seen.argmax(-1).tolist() == [[LEVEL] * 2, [LEVEL] * 2, [FALLING] * 2, [NONE] * 2, [NONE] * 2]
    assert seen.max(-1).min() > 0.95


def test_each_side_is_judged_separately():
    seen = signs([(4, 4), (None, 4), (4, None), (None, None)])
    assert seen.argmax(-1).tolist() == [[LEVEL, LEVEL], [NONE, LEVEL], [LEVEL, NONE], [NONE, NONE]]


def test_a_transverse_process_is_no_rib():
    ct, straightening, corners = spine([(None, None)] * 3)
    out = np.abs(np.arange(-80, 81, 2.0))
    ct.voxels[68:73, 36:42, out < 46] = BONE
    assert rib_signs(ct, straightening, corners).argmax(-1).tolist() == [[NONE] * 2] * 3


def test_a_path_through_the_next_root_to_the_next_rib_is_no_level_rib():
    seen = signs([(None, None), (-6, -6), (4, 4), (4, 4)])
    assert seen[0].argmax(-1).tolist() != [LEVEL, LEVEL]
    assert seen[1:].argmax(-1).tolist() == [[LEVEL] * 2] * 3


def test_a_rib_that_is_cut_by_the_end_of_the_scan_is_not_missing():
    whole, cut = signs([(4, 4), (4, 4), (None, None)]), signs([(4, 4), (4, 4), (None, None)], bottom=36.0)
    assert whole[2, :, FALLING].max() < 0.05
    assert cut[2, :, FALLING].min() > 0.8
    assert cut[:2].argmax(-1).tolist() == [[LEVEL] * 2] * 2


def test_a_scan_of_the_bodies_alone_says_nothing_about_ribs():
    ct, straightening, corners = spine([(4, 4)] * 3)
    narrow = CTVolume(ct.voxels[:, :, 30:51], ct.ijk_to_ras @ _shift(30), "narrow")
    assert rib_signs(narrow, straightening, corners) == pytest.approx(np.ones((3, 2, 3)), abs=0.02)


def test_in_padding_a_rib_is_not_missing():
    ct, straightening, corners = spine([(4, 4)] * 3)
    ct.voxels[:, :, :30], ct.voxels[:, :, 51:] = -1024, -1024
    assert rib_signs(ct, straightening, corners) == pytest.approx(np.ones((3, 2, 3)), abs=0.02)


def test_beside_a_gap_a_level_rib_is_no_longer_than_elsewhere():
    ct, straightening, corners = spine([(4, 4), (None, None), (None, None), (32, 32)])
    seen = rib_signs(ct, straightening, corners[[0, 3]])
    assert seen.argmax(-1).tolist() == [[LEVEL] * 2, [FALLING] * 2]


def test_faint_bone_is_half_a_rib():
    ct, straightening, corners = spine([(4, 4)] * 3)
    ct.voxels[ct.voxels == BONE] = 122
    strengths, _ = rib_bridges(ct, straightening, corners)
    assert strengths[..., 0] == pytest.approx(122, abs=1)
    assert rib_signs(ct, straightening, corners)[..., LEVEL] == pytest.approx(0.5, abs=0.05)


def _shift(columns):
    matrix = np.eye(4)
    matrix[0, 3] = columns
    return matrix


def test_a_path_reaches_a_place_from_the_nearest_depths_and_up_to_two_arcs_above():
    way = np.full((5, 4), -np.inf, np.float32)
    way[1, 2] = 7.0
    seen = _sideways(way)
    assert seen.shape == way.shape and seen.dtype == way.dtype
    assert np.argwhere(seen == 7.0).tolist() == [[row, depth] for row in (1, 2, 3) for depth in (1, 2, 3)]
    assert np.isneginf(seen[seen != 7.0]).all()
