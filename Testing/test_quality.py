"""Reasons to doubt: sizes that no human has, gaps, borders, metal, and a curve beside the bone; and nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from VertebralFractureQuantLib.analysis import quality
from VertebralFractureQuantLib.analysis.curve_finding import Spine
from VertebralFractureQuantLib.analysis.saturation import check_range, clipped_intensities
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.keypoints import faults
from VertebralFractureQuantLib.spine.levels import TALLEST_MM
from VertebralFractureQuantLib.spine.plausibility import (
    DEPTH_TO_HEIGHT,
    column_flags,
    implausible,
    impossible,
    own_fault,
    scale_flag,
)
from VertebralFractureQuantLib.spine.quality import CODES, Flag, codes_text, is_suspect, of_study, place
from VertebralFractureQuantLib.spine.record import Vertebra
from VertebralFractureQuantLib.spine.straightening import Straightening

LEVELS = ("T8", "T9", "T10", "T11", "T12", "L1", "L2")


def spine_of(levels=LEVELS, size=1.0, depth=1.0, pitch=1.2):
    """Boxes of an adult's size at these levels, times `size` and `depth`, at R = 0, A = 0, from S = 0 downwards."""
    bodies, s = [], 0.0
    for level in levels:
        h = TALLEST_MM[level] * size
        d = TALLEST_MM[level] * DEPTH_TO_HEIGHT[level] * size * depth
        bodies.append([[[0, a, s], [0, a, s - h]] for a in (d / 2, 0, -d / 2)])
        s -= pitch * h
    return np.array(bodies, float)


def codes(flags):
    return [[f.code for f in each] for each in flags]


@pytest.mark.parametrize("size", [0.68, 0.85, 1.0, 1.2])
@pytest.mark.parametrize("levels", [LEVELS, ("C3", "C4", "C5", "C6", "C7", "T1"), ("L1", "L2", "L3", "L4", "L5")])
def test_small_and_tall_people_are_not_doubted(size, levels):
    points = spine_of(levels, size)
    assert codes(column_flags(points, levels)) == [[]] * len(levels)
    assert not implausible(points, [None] * len(levels)).any()


def test_vertebrae_of_a_wrong_level_are_doubted_but_human():
    points = spine_of(("C3", "C4", "C5", "C6"))
    assert codes(column_flags(points, ("L1", "L2", "L3", "L4"))) == [["implausible_size"]] * 4
    assert not implausible(points, [None] * 4).any()


def test_a_wrong_slice_distance_is_noticed_in_the_whole_study():
    for factor in (0.6, 0.8, 1.4):
        points = spine_of() * (1, 1, factor)
        flag = scale_flag(points, LEVELS)
        assert flag and flag.code == "implausible_size" and "slices" in flag.message and not flag.where, factor
    assert scale_flag(spine_of(size=0.85), LEVELS) is None
    assert scale_flag(spine_of(), [None] * len(LEVELS)) is None
    half = spine_of() * (1, 1, 0.5)
    assert implausible(half, [None] * len(LEVELS)).mean() > 0.5


def test_likely_names_count_where_a_vertebra_has_none():
    points, unnamed = spine_of() * (1, 1, 1.4), [None] * len(LEVELS)
    halved = [{level: 0.5, below: 0.5} for level, below in zip(LEVELS, (*LEVELS[1:], "L3"), strict=True)]
    assert scale_flag(points, unnamed, halved) and not scale_flag(spine_of(), unnamed, halved)
    assert scale_flag(points, unnamed, [{level: 0.3} for level in LEVELS]) is None  # hardly known
    assert scale_flag(points, LEVELS, [{"C3": 1.0}] * len(LEVELS))  # a name counts before what is likely


def test_three_vertebrae_are_doubted_if_they_are_off_by_more():
    three = ("C3", "C4", "C5")
    assert scale_flag(spine_of(three) * (1, 1, 1.28), three)
    assert scale_flag(spine_of(three) * (1, 1, 1.18), three) is None
    assert scale_flag(spine_of() * (1, 1, 1.18), LEVELS)
    assert scale_flag(spine_of(three[:2]) * (1, 1, 1.4), three[:2]) is None


def test_a_crushed_vertebra_is_not_implausible():
    points = spine_of()
    points[3, :, 0, 2] -= 0.5 * TALLEST_MM["T11"]
    assert codes(column_flags(points, LEVELS)) == [[]] * len(LEVELS)


def test_a_body_much_higher_than_its_neighbours_is_implausible():
    points = spine_of()
    points[3, :, 0, 2] += 0.5 * TALLEST_MM["T11"]
    assert "implausible_size" in codes(column_flags(points, [None] * len(LEVELS)))[3]


def judged_points(points, rejected=(), levels=None):
    own = [own_fault(faults(p[..., 1:])) for p in points]
    return impossible(points, points, levels or [None] * len(points), own, rejected)


@pytest.mark.parametrize("levels", [LEVELS, ("C3", "C4", "C5", "C6", "C7", "T1"), ("L1", "L2", "L3", "L4", "L5")])
@pytest.mark.parametrize("size", [0.68, 1.0, 1.2])
def test_human_spines_are_possible(levels, size):
    assert not any(judged_points(spine_of(levels, size)))


def test_crushed_bodies_and_the_whole_one_among_them_are_possible():
    points = spine_of()
    for i in (1, 2, 4, 5):
        points[i, :, 0, 2] -= 0.3 * TALLEST_MM[LEVELS[i]]
    points[3, 0, 0, 2] -= 0.75 * TALLEST_MM[LEVELS[3]]
    assert not any(judged_points(points)) and not any(judged_points(points, levels=LEVELS))


@pytest.mark.parametrize(
    ("moved", "told"),
    [
        (lambda p: p[3, 0, 0].__iadd__((0, 0, 60.0)), "height of"),
        (lambda p: p[3, 1, 0].__iadd__((0, 0, 60.0)), "height of"),  # the middle height counts too
        (lambda p: p[3, 0].__iadd__((0, 25.0, 0)), "depth of"),
        (lambda p: p[3, 0, 0].__iadd__((0, 0, 12.0)), "much higher"),
        (lambda p: p[3, 0, 0].__iadd__((0, 0, 9.5)), "overlaps the vertebra above"),
        (lambda p: p[3, 2, 1].__iadd__((0, 0, -9.5)), "overlaps the vertebra below"),
        (lambda p: p[3, 0, 0].__iadd__((0, 0, -40.0)), "lower point lies above"),
        (lambda p: p[3].__setitem__(slice(None), p[3, ::-1].copy()), "anterior points lie behind"),
    ],
)
def test_points_that_are_no_body_are_named_and_nothing_else_is(moved, told):
    points = spine_of()
    moved(points)
    found = judged_points(points, levels=LEVELS)
    assert told in found[3], found
    assert not any(found[:3] + found[4:])


def test_a_body_found_twice_is_impossible_until_one_of_the_two_is_rejected():
    points = spine_of()
    twice = np.insert(points, 3, points[3] + (0, 0, 1.0), axis=0)
    found = judged_points(twice)
    assert "below" in found[3] and "above" in found[4] and not any(found[:3] + found[5:])
    assert not any(judged_points(twice, [i == 3 for i in range(len(twice))]))


def test_a_missing_vertebra_is_a_gap_beside_both_neighbours():
    points = np.delete(spine_of(), 3, axis=0)
    assert codes(column_flags(points, [None] * 6)) == [[], [], ["column_gap"], ["column_gap"], [], []]
    twice = np.insert(spine_of(), 3, spine_of()[3] + (0, 0, -3.0), axis=0)
    assert "one may be too many" in column_flags(twice, [None] * 8)[3][0].message


def test_flags_of_a_study_name_each_stretch():
    off = Flag("curve_off_bone", "x")
    own = [[off], [off], [off], [], [off], [Flag("newer_code", "New.")]]
    found = of_study(["T5", "T6", "T7", "T8", "T9", "T10"], own, [Flag("thick_slices", "Thick.")])
    assert [(f.code, f.where) for f in found] == [
        ("newer_code", ("T10",)),
        ("curve_off_bone", ("T5", "T6", "T7")),
        ("curve_off_bone", ("T9",)),
        ("thick_slices", ()),
    ]
    assert found[1].message == (
        "The curve may have left the spine: T5 to T7. Press s and click the middle of the vertebral bodies there."
    )
    assert found[0].message == "New."
    assert [is_suspect(f) for f in found] == [True, True, True, False]
    assert [is_suspect(Flag("low_score", "", where)) for where in (("T6",), ("T6", "T7"))] == [False, True]
    assert codes_text(found) == "newer_code curve_off_bone thick_slices"
    assert [place(()), place(("T6",)), place(("T6", "T7"))] == ["", "T6", "T6 and T7"]


def test_every_code_says_what_to_do():
    for code, doubt in CODES.items():
        assert doubt.meaning and doubt.remedy.endswith("."), code


# --- with a scan


def block(points, margin=40.0, spacing=(2.0, 2.0, 2.0), hu=60):
    """A uniform CT around key points."""
    low, high = points.min((0, 1, 2)) - margin, points.max((0, 1, 2)) + margin
    shape = np.ceil((high - low) / np.array(spacing)).astype(int)
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = low
    return CTVolume(np.full(tuple(shape[::-1]), hu, np.int16), matrix, "block")


@pytest.fixture
def points():
    return spine_of()


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    """How far the refiner sees the bodies beside the curve: nothing, unless a test changes it."""
    found = {}
    monkeypatch.setattr(quality, "off_bone", lambda ct, curve, v, models: found.get("mm", np.zeros(len(v))))
    return found


def judged(ct, points, levels=LEVELS, clicks=None, offsets=None, refuse=True, **changed):
    measured = measure_column(points)
    vertebrae = tuple(
        replace(Vertebra(k, m, 0.99, level, spread=0.05), **changed)
        for k, m, level in zip(points, measured, levels, strict=True)
    )
    ends = points.mean((1, 2))[[0, -1]]
    line = ends[0] + np.linspace(-0.2, 1.2, 30)[:, None] * (ends[1] - ends[0])
    curve = fit_curve(line)
    spine = Spine(curve, (0.0, curve.length), Straightening(curve), SimpleNamespace())
    offsets = np.zeros(len(points)) if offsets is None else offsets
    found, flags = quality.judged(ct, spine, vertebrae, offsets, SimpleNamespace(), clicks, refuse)
    return codes(v.quality for v in found), flags


NONE = [[]] * len(LEVELS)


def test_a_good_study_has_no_flags(points):
    assert judged(block(points), points) == (NONE, ())
    assert quality.judged(block(points), None, (), np.empty(0), None) == ((), ())


def test_two_bodies_beside_the_midline_of_the_arches_are_doubted(points):
    own, flags = judged(block(points), points, offsets=np.array([0, 0, 8.0, 9.0, 0, 0, np.nan]))
    assert own == [[], [], ["curve_off_bone"], ["curve_off_bone"], [], [], []] and flags[0].where == ("T10", "T11")


def test_a_body_beside_the_curve_is_doubted_with_its_place(points, beside):
    beside["mm"] = np.array([0, 2.0, 5.0, 9.0, 0, 0, 0])
    own, flags = judged(block(points), points)
    assert own == [[], [], ["curve_off_bone"], ["curve_off_bone"], [], [], []]
    assert [(f.code, f.where) for f in flags] == [("curve_off_bone", ("T10", "T11"))]
    own, _ = judged(block(points), points, clicks=points[2].mean((0, 1)) + (3, 0, 0))  # a reader led the curve there
    assert own == [[], [], [], ["curve_off_bone"], [], [], []]


def test_thick_slices_are_told_for_the_whole_study_whatever_the_axis(points):
    own, flags = judged(block(points, spacing=(1.0, 1.0, 5.0)), points)
    assert own == NONE and [f.code for f in flags] == ["thick_slices"] and "5.0 mm" in flags[0].message
    assert judged(block(points, spacing=(5.0, 1.0, 1.0)), points)[1] == ()
    own, flags = judged(block(points, spacing=(1.0, 5.0, 1.0)), points)  # a coronal reformat
    assert own == NONE and [f.code for f in flags] == ["thick_slices"] and "5.0 mm" in flags[0].message
    gap = replace(block(points), widest_gap_mm=6.0)  # where slices were interpolated
    assert "6.0 mm" in judged(gap, points)[1][0].message


def test_slices_beyond_those_that_can_be_measured_are_refused_unless_they_are_sagittal(points):
    with pytest.raises(VFQError) as caught:
        quality.check_slices(block(points, spacing=(1.0, 1.0, 8.0)))
    assert caught.value.code == "slices_too_thick" and "8.0 mm" in caught.value.message
    quality.check_slices(block(points, spacing=(1.0, 1.0, 7.5)))
    quality.check_slices(block(points, spacing=(8.0, 1.0, 1.0)))  # a sagittal reformat
    with pytest.raises(VFQError, match=r"8\.0 mm apart from front to back") as caught:  # a coronal reformat
        quality.check_slices(block(points, spacing=(1.0, 8.0, 1.0)))
    assert caught.value.code == "slices_too_thick"
    quality.check_slices(block(points, spacing=(1.0, 7.5, 1.0)))


def test_the_header_of_an_array_without_a_header_is_doubted(points):
    ct = block(points, spacing=(1.0, 1.0, 1.0))
    assert quality.lost_spacing(ct) is None  # a scan of 1 mm with a position
    for axes in (np.eye(3), np.diag([-1.0, -1.0, 1.0]), np.eye(3)[[2, 0, 1]]):
        bare = np.eye(4)
        bare[:3, :3] = axes
        flag = quality.lost_spacing(CTVolume(ct.voxels, bare, "bare"))
        assert flag and flag.code == "spacing_doubtful" and is_suspect(flag) and "1 x 1 x 1 mm" in flag.message
    assert quality.lost_spacing(CTVolume(ct.voxels, np.diag([1.0, 1.0, 2.0, 1.0]), "thick")) is None


def scan_of(values):
    return CTVolume(np.asarray(values).reshape(40, 50, 60).astype(np.int16), np.eye(4), "values")


def test_intensities_that_are_cut_off_or_of_8_bits_are_told(points):
    rng = np.random.default_rng(0)
    whole = np.where(rng.random(120_000) < 0.3, rng.normal(-1000, 20, 120_000), rng.normal(60, 300, 120_000))
    whole = whole.clip(-1024, None)
    assert clipped_intensities(scan_of(whole)) is None
    metal = whole.copy()
    metal[:200] = 3071  # a scanner's own limit
    assert clipped_intensities(scan_of(metal)) is None
    bright, dark = clipped_intensities(scan_of(whole.clip(None, 400))), clipped_intensities(scan_of(whole.clip(-200)))
    assert "above 400 HU" in bright.message and "below" not in bright.message and not is_suspect(bright)
    assert "below -200 HU" in dark.message and bright.code == dark.code == "clipped_intensities"
    for spoiled, what in ((whole.clip(None, 150), "above 150 HU"), (whole.clip(-160), "below -160 HU")):
        with pytest.raises(VFQError, match=what) as caught:
            check_range(scan_of(spoiled))
        assert caught.value.code == "not_ct"
    for measured in (whole, metal, whole.clip(-200, 300)):
        check_range(scan_of(measured))
    coarse = -1000 + 8 * np.rint((whole.clip(-1000, 1000) + 1000) / 8)
    assert "different intensities" in clipped_intensities(scan_of(coarse)).message
    ct = block(points)
    ct.voxels[:] = rng.normal(60, 300, ct.voxels.shape).clip(-1000, 350)
    assert "clipped_intensities" in [f.code for f in judged(ct, points)[1]]


def test_metal_is_told_where_it_is(points):
    ct = block(points)
    i, j, k = np.rint((points[2].mean((0, 1)) - ct.ijk_to_ras[:3, 3]) / 2).astype(int)
    ct.voxels[k - 3 : k + 4, j - 12 : j + 2, i + 5 : i + 9] = 3071
    own, flags = judged(ct, points)
    assert own[2] == ["metal"] and own[0] == own[4] == [] and flags[0].code == "metal"


def test_a_vertebra_at_the_border_or_beside_padding_is_cut(points):
    ct = block(points)
    first = int((points[0, :, 0, 2].min() - 1.5 - ct.ijk_to_ras[2, 3]) / 2)
    short = CTVolume(ct.voxels[: first + 1], ct.ijk_to_ras, "short")
    assert judged(short, points)[0][0] == ["cut_by_border"]
    half = CTVolume(ct.voxels.copy(), ct.ijk_to_ras, "half")
    half.voxels[:, :, : int((-4 - ct.ijk_to_ras[0, 3]) / 2)] = -1024
    assert judged(half, points)[0] == [["cut_by_border"]] * len(LEVELS)


@pytest.mark.parametrize("changed", [{"score": 0.8}, {"spread": 0.13}])
def test_an_uncertain_network_is_told(points, changed):
    assert judged(block(points), points, **changed)[0] == [["low_score"]] * len(LEVELS)


def test_a_study_of_sizes_that_no_human_has_is_refused_unless_a_reader_drew_the_curve(points):
    flat = points * (1, 1, 0.45)
    with pytest.raises(VFQError) as caught:
        judged(block(flat), flat)
    assert caught.value.code == "implausible_size" and "7 of 7" in caught.value.message
    own, _ = judged(block(flat), flat, refuse=False)  # the user vouches for the header
    assert own == [["implausible_size"]] * len(LEVELS)
    own, _ = judged(block(flat), flat, clicks=flat.mean((1, 2)))
    assert own == [["implausible_size"]] * len(LEVELS)


def test_a_study_of_doubtful_scale_is_refused_if_most_of_its_vertebrae_are_in_doubt_too(points):
    tall = points * (1, 1, 1.45)
    own, flags = judged(block(tall), tall)
    assert own == NONE and codes([flags]) == [["implausible_size"]]  # the scale alone is only told
    with pytest.raises(VFQError) as caught:
        judged(block(tall), tall, score=0.8)
    assert caught.value.code == "implausible_size" and "7 of 7" in caught.value.message
    own, _ = judged(block(tall), tall, score=0.8, refuse=False)
    assert own == [["low_score"]] * len(LEVELS)
