"""A slice distance that is half or twice the true one: seen by a second look, only where vertebrae are doubtful."""

from dataclasses import replace

import numpy as np
import pytest
from test_quality import LEVELS, spine_of
from VertebralFractureQuantLib.analysis import pipeline
from VertebralFractureQuantLib.analysis.contradiction import FRONT, HEAD, Contradiction
from VertebralFractureQuantLib.analysis.slice_distance import distance_flag, lengthened, wrong_distance
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.record import Vertebra


def found(points, levels=LEVELS, uncertain=0):
    """Vertebrae at these points, of which the network is not certain of the first ones."""
    measured = measure_column(points)
    return tuple(
        Vertebra(k, m, 0.5 if n < uncertain else 0.99, level, spread=0.05)
        for n, (k, m, level) in enumerate(zip(points, measured, levels, strict=True))
    )


@pytest.fixture
def scan():
    return CTVolume(np.zeros((4, 4, 4), np.int16), np.diag([-1.0, -1, 2.5, 1]), "scan", widest_gap_mm=3.0)


def looks(*answers):
    """Answers of a second look by the length of the scan, and the lengths that were asked for."""
    asked, known = [], dict(answers)

    def again(ct):
        asked.append(float(ct.ijk_to_ras[2, 2]) / 2.5)
        return known.get(asked[-1], ())

    return again, asked


@pytest.mark.parametrize(("stated", "true"), [(2.0, "half"), (0.5, "twice")])
def test_the_true_distance_is_named(scan, stated, true):
    again, _ = looks((1 / stated, found(spine_of())))
    wrong = found(spine_of() * (1, 1, stated))
    claim = wrong_distance(scan, wrong, again)
    assert "7 of 7 vertebrae are doubtful, but 7 of human size" in claim and f"{true} as far apart" in claim
    assert distance_flag(claim).code == "implausible_size"


def test_a_fifth_of_doubtful_vertebrae_is_enough_and_without_any_there_is_no_second_look(scan):
    again, asked = looks((0.5, found(spine_of())))
    assert not wrong_distance(scan, found(spine_of(), uncertain=0), again)
    assert not wrong_distance(scan, found(spine_of(), uncertain=1), again)
    assert not wrong_distance(scan, (), again)
    assert asked == []
    assert "2 of 7" in wrong_distance(scan, found(spine_of(), uncertain=2), again)


def test_a_scan_that_is_no_better_at_another_distance_is_not_doubted(scan):
    doubtful, four = found(spine_of(), uncertain=7), LEVELS[:4]
    for other in (
        (),
        found(spine_of(four[:3]), four[:3]),
        found(spine_of(), uncertain=1),
        found(spine_of() * (1, 1, 0.5)),
        found(spine_of() * (1, 1, 1.4)),  # not one is doubtful, but all are tall for their depth
    ):
        again, asked = looks((0.5, other), (2.0, other))
        assert not wrong_distance(scan, doubtful, again)
        assert asked == [0.5, 2.0]
    assert wrong_distance(scan, doubtful, looks((2.0, found(spine_of(four), four)))[0])


def test_a_lengthened_scan_is_a_view_of_the_same_voxels(scan):
    other = lengthened(scan, 2.0)
    assert other.voxels is scan.voxels and other.spacing_mm == pytest.approx((5.0, 1, 1))
    assert other.widest_gap_mm == 6.0 and scan.spacing_mm[0] == 2.5


def test_a_wrong_distance_is_named_before_bones_that_seem_turned():
    turned = Contradiction((HEAD,), "bones are upside down", certain=True)
    with pytest.raises(VFQError, match="twice as far") as info:
        pipeline._refuse_contradictions(turned, "Found if slices are twice as far apart.")
    assert info.value.code == "implausible_size" and "--trust-header" in info.value.message
    with pytest.raises(VFQError) as info:
        pipeline._refuse_contradictions(turned, "")
    assert info.value.code == "orientation_contradicts_anatomy"
    pipeline._refuse_contradictions(replace(turned, exchanged=(FRONT,), certain=False), "")
    flags = pipeline._with_doubt((), turned, "Found if slices are twice as far apart.")
    assert [flag.code for flag in flags] == ["orientation_doubtful", "implausible_size"]
