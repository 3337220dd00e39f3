"""A body that lies otherwise than the header says: what canal, pedicles and spinous processes tell."""

from types import SimpleNamespace

import numpy as np
import pytest
from VertebralFractureQuantLib.analysis.contradiction import contradiction
from VertebralFractureQuantLib.analysis.orientation import cues, mirrored
from VertebralFractureQuantLib.imaging.ct import CTVolume

TALL, DEEP, PITCH = 24.0, 30.0, 30.0
COUNT = 5
MM = 2.0
TISSUE, BONE, CONTRAST = 40, 400, 350


def bodies(count=COUNT):
    """Boxes in the middle plane, front at A = 15, the first at the top."""
    points = []
    for n in range(count):
        top = 60.0 - PITCH * n
        points.append([[[0.0, a, top], [0.0, a, top - TALL]] for a in (DEEP / 2, 0.0, -DEEP / 2)])
    return np.array(points)


@pytest.fixture(scope="module")
def spine():
    """A CT with bodies, pedicles at their upper half, a ring of bone round the canal, and processes that hang down.

    A vessel full of contrast, which is as bright as bone, lies in front of the bodies.
    """
    low, high = np.array([-40.0, -80.0, -100.0]), np.array([40.0, 60.0, 80.0])
    s, a, r = np.meshgrid(*[np.arange(low[x], high[x] + 1, MM) for x in (2, 1, 0)], indexing="ij")
    side = np.abs(r)
    hu = np.full(s.shape, TISSUE, np.int16)
    for n in range(COUNT):
        top = 60.0 - PITCH * n
        body = (s <= top) & (s >= top - TALL)
        upper, lower = body & (s > top - TALL / 2), (s < top - TALL / 2) & (s > top - PITCH)
        beside = (side > 9) & (side < 17)
        hu[body & (np.abs(a) <= DEEP / 2) & (side <= 18)] = 250
        hu[upper & (a < -13) & (a > -23) & beside] = BONE  # pedicles
        hu[body & (a < -19) & (a > -31) & beside] = BONE  # facets
        hu[body & (a < -29) & (a > -34) & (side < 12)] = BONE  # laminae
        hu[lower & (a < -29) & (a > -52) & (side < 5)] = BONE  # spinous process
    hu[np.hypot(a - 30, r) < 12] = CONTRAST
    matrix = np.diag([MM, MM, MM, 1.0])
    matrix[:3, 3] = low
    return CTVolume(hu, matrix, "spine")


def found(points):
    return tuple(SimpleNamespace(keypoints=k) for k in points)


def reversed_bodies(axis):
    """The same bodies in a world that is reversed along `axis`, named again from cranial to caudal, front first."""
    points = bodies() * np.where(np.arange(3) == axis, -1.0, 1.0)
    return points[:, ::-1] if axis == 1 else points[::-1, :, ::-1]


def never(_):
    raise AssertionError("a second look at a scan that is right")


def nothing(_):
    return ()


def test_the_canal_lies_behind_the_bodies_and_a_bright_vessel_is_none(spine):
    assert cues(spine, bodies()).ring.min() > 150
    assert cues(spine, bodies(), in_front=True).ring.max() < 0
    assert cues(spine, bodies()).upright.min() > 150
    assert len(cues(spine, bodies(0)).ring) == 0


def test_beyond_the_scan_there_are_no_cues(spine):
    front = CTVolume(spine.voxels[:, 35:], spine.ijk_to_ras.copy(), "front")
    front.ijk_to_ras[1, 3] += 35 * MM
    assert np.isnan(cues(front, bodies()).ring).all()
    against = contradiction(front, found(bodies()), nothing)
    assert not against.certain and "The scan ends behind the vertebrae" in against.flag().message
    turned = mirrored(spine, 1)  # something is found at the border, and the spine once the scan is turned
    at_border = found(bodies() - (0.0, 50.0, 0.0))
    against = contradiction(turned, at_border, lambda ct: found(bodies()))
    assert np.isnan(cues(turned, bodies() - (0.0, 50.0, 0.0)).ring).all() and against.certain


def test_a_header_that_is_right_is_not_doubted_and_costs_no_second_look(spine):
    assert contradiction(spine, found(bodies()), never) is None
    assert contradiction(spine, found(bodies(2)), never) is None


def test_head_and_feet_exchanged_are_certain_from_three_vertebrae_on(spine):
    turned, points = mirrored(spine, 2), reversed_bodies(2)
    assert cues(turned, points).upright.max() < -150
    against = contradiction(turned, found(points), never)
    assert against.certain and against.exchanged == ("head and feet",)
    error = against.error()
    assert error.code == "orientation_contradicts_anatomy"
    assert "head and feet" in error.message and "5 of 5" in error.message and "--trust-header" in error.message
    two = contradiction(turned, found(points[:2]), never)
    assert not two.certain and two.flag().code == "orientation_doubtful" and "head and feet" in two.flag().message
    assert contradiction(turned, found(points[:1]), nothing) is None


def test_front_and_back_exchanged_are_seen_at_the_canal_in_front(spine):
    turned = mirrored(spine, 1)
    against = contradiction(turned, found(reversed_bodies(1)), nothing)
    assert against.certain and against.exchanged == ("front and back",) and "in front" in against.reason


def test_a_second_look_finds_the_spine_of_a_scan_in_which_nothing_or_something_else_was_found(spine):
    turned = mirrored(spine, 1)
    beside = reversed_bodies(1) + (0.0, 80.0, 0.0)
    for seen in ((), found(beside)):
        against = contradiction(turned, seen, lambda ct: found(bodies()))
        assert against.certain and against.exchanged == ("front and back",) and "5 of 5" in against.reason
        assert "left and right" in against.error().message  # a prone patient looks the same
    both = mirrored(turned, 2)
    against = contradiction(both, (), lambda ct: found(reversed_bodies(2)))
    assert against.exchanged == ("front and back", "head and feet")


def test_a_scan_that_shows_no_better_spine_the_other_way_round_is_not_called_turned(spine):
    assert contradiction(spine, (), nothing) is None
    assert contradiction(spine, (), lambda ct: found(bodies(2))) is None
    beside = found(bodies() + (30.0, 10.0, 0.0))
    against = contradiction(spine, beside, nothing)
    assert against and not against.certain and not against.exchanged
    assert "no spinal canal" in against.flag().message.lower()


def test_a_mirrored_scan_is_a_view_of_the_same_voxels(spine):
    turned = mirrored(spine, 2)
    assert turned.voxels is spine.voxels
    assert np.allclose(turned.ijk_to_ras[2], -spine.ijk_to_ras[2])
    assert np.allclose(turned.ijk_to_ras[:2], spine.ijk_to_ras[:2])
