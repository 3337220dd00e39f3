"""Two halves of a vertebra that holds screws are one; crushed vertebrae, and halves without metal, stay as they are."""

import numpy as np
import pytest
from VertebralFractureQuantLib.analysis import measured_vertebrae
from VertebralFractureQuantLib.ct import CTVolume
from VertebralFractureQuantLib.curve import SpineCurve
from VertebralFractureQuantLib.genant import heights
from VertebralFractureQuantLib.implants import joined, split_vertebrae
from VertebralFractureQuantLib.networks.detector import Detections

GAP_MM = 4.0


def column(*tall_mm, gaps_mm=None):
    """Key points of upright vertebrae of these heights, 30 mm deep, the first's top at S = 0."""
    tops = -np.cumsum([0, *(h + g for h, g in zip(tall_mm[:-1], gaps_mm or [GAP_MM] * len(tall_mm), strict=False))])
    points = np.zeros((len(tall_mm), 3, 2, 3))
    points[..., 1] = np.array([15.0, 0.0, -15.0])[:, None]
    points[..., 0, 2] = tops[:, None]
    points[..., 1, 2] = (tops - tall_mm)[:, None]
    return points


def scan(*metal_s):
    """2 mm voxels around the column, with a pair of screws at each S."""
    voxels = np.full((80, 60, 40), 40, np.int16)
    matrix = np.diag([-2.0, -2.0, 2.0, 1.0])
    matrix[:3, 3] = (40.0, 60.0, -140.0)
    for s in metal_s:
        k = round((s + 140) / 2)
        voxels[k - 1 : k + 2, 20:45, [13, 27]] = 3071
    return CTVolume(voxels, matrix, "screws")


HALVES = column(20, 21, 9, 10, 22, 23, gaps_mm=[4, 4, 2, 4, 4])
MIDDLE = -20 - 4 - 21 - 4 - 10


def test_halves_with_metal_between_are_one_vertebra():
    assert split_vertebrae(scan(MIDDLE), HALVES) == [2]
    assert heights(joined(HALVES[2], HALVES[3])) == pytest.approx(21)


def test_halves_without_metal_stay_two():
    assert split_vertebrae(scan(), HALVES) == []
    assert split_vertebrae(scan(-20 - 4 - 21 - 4 - 21 - 4 - 22 - 15), HALVES) == []  # far below


@pytest.mark.parametrize("tall_mm", [(20, 21, 21, 22, 22), (20, 21, 10, 22, 22), (20, 21, 14, 14, 22, 22), (20, 8, 9)])
def test_whole_and_crushed_vertebrae_with_metal_stay_as_they_are(tall_mm):
    assert split_vertebrae(scan(*range(-120, 0, 10)), column(*tall_mm)) == []


def test_a_joined_vertebra_has_the_larger_spread_and_the_others_stay():
    curve = SpineCurve(np.stack([np.zeros(141), np.zeros(141), 10 - np.arange(141.0)], 1))
    flat = np.stack([HALVES[..., 1], 10 - HALVES[..., 2]], -1)
    found = Detections(flat, np.linspace(0.9, 1, 6), np.array([0.01, 0.02, 0.03, 0.05, 0.02, 0.01]))
    vertebrae = measured_vertebrae(scan(MIDDLE), curve, found)
    assert [v.spread for v in vertebrae] == [0.01, 0.02, 0.05, 0.02, 0.01]
    np.testing.assert_allclose([np.mean(v.measurement.heights_mm) for v in vertebrae], [20, 21, 21, 22, 23], atol=0.1)
    assert len(measured_vertebrae(scan(), curve, found)) == 6
