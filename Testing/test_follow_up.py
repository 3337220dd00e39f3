"""Examinations of one patient compared: which vertebrae belong together, what has changed, and the command."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_cases import trunk, write_series
from pydicom import dcmread
from test_formats import validated
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.cohort.engine import Library
from VertebralFractureQuantLib.cohort.incidents import write_incidents
from VertebralFractureQuantLib.cohort.planning import plan
from VertebralFractureQuantLib.cohort.state import CohortState
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.repeatability import evaluate_repeatability
from VertebralFractureQuantLib.followup.change import READER_HEIGHT_MM, UNTOLD_HEIGHT_MM, change_of, height_sd, ratio_sd
from VertebralFractureQuantLib.followup.comparison import Examination, check_different, compare, compare_aligned
from VertebralFractureQuantLib.followup.course import compare_course, days_between, interval, parsed_dates
from VertebralFractureQuantLib.followup.likeness import likeness, patches
from VertebralFractureQuantLib.followup.matching import LEAST_CERTAINTY, align, column_of
from VertebralFractureQuantLib.followup.reader_match import ReaderMatch, places_of
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.dicom_dates import study_date
from VertebralFractureQuantLib.report.comparison_files import read_examination
from VertebralFractureQuantLib.report.comparison_picture import _told, draw_comparison
from VertebralFractureQuantLib.report.comparison_terminal import change_lines, change_table
from VertebralFractureQuantLib.report.matches import write_match
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.report.reviews import write_review
from VertebralFractureQuantLib.spine.levels import LEVELS
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra, remeasured
from VertebralFractureQuantLib.spine.record_json import read_analysis

SPINE = LEVELS[LEVELS.index("T6") :]  # T6 to L5
SPREAD = 0.03


def spine(
    patient: int = 1,
    first: str = "T6",
    last: str = "L5",
    lower: dict[str, tuple[float, float, float]] | None = None,
    shift: int | None = 0,
    case: str = "case",
    scale: float = 1.0,
    left_out: Sequence[str] = (),
) -> SpineAnalysis:
    """Return the measured spine of a patient whose sizes are drawn at random, on a straight curve.

    first, last : the field of view. lower : shares of (anterior, middle, posterior) height that are left, by level.
    shift : how many levels too low the names are; None for no names. left_out : levels that were not found.
    """
    rng = np.random.default_rng(patient)
    sizes = {n: (rng.normal(1, 0.09), rng.normal(1, 0.09), rng.normal(1, 0.09)) for n in SPINE}
    seen, s = [], 0.0
    for i, name in enumerate(SPINE):
        depth, height, gap = np.array(sizes[name]) * (28 + i / 2, 20 + i / 2, 28 + i) * scale
        s -= gap
        if LEVELS.index(first) <= LEVELS.index(name) <= LEVELS.index(last) and name not in left_out:
            tall = height * np.array((lower or {}).get(name, (1, 1, 1)))
            places = (depth / 2, 0.0, -depth / 2)
            points = [[[0, a, s + h / 2], [0, a, s - h / 2]] for a, h in zip(places, tall, strict=True)]
            called = (
                None if shift is None else LEVELS[LEVELS.index(name) + shift] if name != "L5" or shift < 1 else "L5"
            )
            shares = {called: 0.8} if called else {}
            seen.append(Vertebra(np.array(points), None, 0.9, called, spread=SPREAD, level_probabilities=shares))
    curve = np.stack([np.zeros(480), np.zeros(480), -np.arange(480.0)], 1)
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = -30 - patient, -70, -500  # no two patients have the same grid
    place = {"shape": (265, 70, 30), "spacing_mm": (2.0, 2.0, 2.0), "ijk_to_ras": matrix}
    return SpineAnalysis(case, curve=curve, limits_mm=(5.0, 470.0), vertebrae=remeasured(seen), **place)


def again(analysis: SpineAnalysis, noise_mm: float = 0.2, case: str = "later") -> SpineAnalysis:
    """Return the analysis as another examination measures it: other noise, and another grid."""
    rng = np.random.default_rng(5)
    moved = remeasured(
        [replace(v, keypoints=v.keypoints + rng.normal(0, noise_mm, (3, 2, 3))) for v in analysis.vertebrae]
    )
    matrix = np.array(analysis.ijk_to_ras) + np.diag([0, 0, 0, 7.0])[[3, 0, 1, 2]]
    curve = analysis.curve + (0.0, 0.5, 0.0)
    return replace(analysis, case=case, vertebrae=moved, ijk_to_ras=matrix, curve=curve)


def texture(analysis: SpineAnalysis, patient: int = 1, noise: float = 0.0) -> CTVolume:
    """Return a straightened volume in which each vertebra of the patient has a look of its own, whatever its name."""
    voxels = np.random.default_rng(9).normal(0, noise, (480, 129, 41)) if noise else np.zeros((480, 129, 41))
    for v in analysis.vertebrae:
        middle = v.keypoints.mean((0, 1))
        place = round(480 - 1 + middle[2])
        label = round(float(np.linalg.norm(v.keypoints[0, 0] - v.keypoints[2, 0])), 0)  # its depth, which stays
        own = np.random.default_rng([patient, int(label)]).normal(150, 120, (7, 9, 5))
        voxels[place - 14 : place + 14] += np.kron(own, np.ones((4, 15, 9)))[:28, :129, :41]
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix[:3, 3] = 20, 64, -479
    return CTVolume(np.clip(voxels, -900, 1500).astype(np.int16), matrix, "straightened")


def levels_of(analysis: SpineAnalysis) -> list[str | None]:
    return [v.level for v in analysis.vertebrae]


def compared(prior: SpineAnalysis, current: SpineAnalysis):
    return compare(Examination(prior), Examination(current))


def verdicts(prior: SpineAnalysis, current: SpineAnalysis) -> dict[str, str]:
    comparison = compared(prior, current)
    return {n: c.verdict for n, c in zip(comparison.names, comparison.changes, strict=True)}


# --- which vertebrae belong together


def test_a_spine_seen_twice_is_matched_whole_and_certainly():
    alignment = align(column_of(spine().vertebrae), column_of(again(spine()).vertebrae))
    assert alignment.pairs == tuple((i, i) for i in range(len(SPINE)))
    assert (alignment.shift, alignment.same_patient) == (0, True)
    assert alignment.certainty > 0.99


@pytest.mark.parametrize("shift", [1, -1])
def test_names_that_are_one_off_do_not_mislead(shift):
    prior, current = spine(last="L4"), again(spine(last="L4", shift=shift))
    alignment = align(column_of(prior.vertebrae), column_of(current.vertebrae))
    assert alignment.pairs == tuple((i, i) for i in range(len(prior.vertebrae)))
    assert alignment.shift == shift
    assert alignment.certainty >= LEAST_CERTAINTY


def test_a_spine_without_names_is_matched_by_its_shapes():
    prior, current = spine(), again(spine(first="T9", last="L3", shift=None))
    alignment = align(column_of(prior.vertebrae), column_of(current.vertebrae))
    assert alignment.pairs == tuple((i + 3, i) for i in range(7))
    assert alignment.shift is None
    assert alignment.certainty >= LEAST_CERTAINTY


def test_a_vertebra_that_was_not_found_shifts_no_other():
    comparison = compared(spine(), again(spine(left_out=["T12"])))
    t12 = comparison.changes[comparison.names.index("T12")]
    assert (t12.prior, t12.current, t12.verdict, t12.reason) == (6, None, "not comparable", "not in the current scan")
    assert [c.verdict for c in comparison.changes if c is not t12] == ["unchanged"] * 11


def test_four_vertebrae_in_common_are_enough_and_the_rest_is_told():
    comparison = compared(spine(last="L1"), again(spine(first="T10")))
    assert len(comparison.compared) == 4
    assert comparison.names == SPINE
    reasons = [c.reason for c in comparison.changes]
    assert reasons == ["not in the current scan"] * 4 + [""] * 4 + ["not in the prior scan"] * 4


def equal_vertebrae(named: bool) -> tuple[SpineAnalysis, SpineAnalysis]:
    """Twelve vertebrae T6 to L5 of the same shape, and another examination of T8 to T12; nothing but names differs."""
    even, box = spine(), np.array([[[0, a, h] for h in (11.0, -11.0)] for a in (14.0, 0.0, -14.0)])
    same = [replace(v, keypoints=box + (0, 0, -30.0 * (i + 1)), pinned=named) for i, v in enumerate(even.vertebrae)]
    same = [v if named else replace(v, level=None) for v in same]
    prior = replace(even, vertebrae=remeasured(same))
    return prior, replace(again(prior, 0.0), vertebrae=tuple(again(prior, 0.05).vertebrae[2:7]))


def test_a_spine_of_equal_vertebrae_without_names_is_uncertain():
    with pytest.raises(VFQError, match="not certain which vertebrae belong together") as told:
        compared(*equal_vertebrae(False))
    assert told.value.code == "alignment_uncertain"


def test_names_that_readers_set_in_both_scans_settle_an_uncertain_match():
    comparison = compared(*equal_vertebrae(True))
    assert comparison.alignment.pairs == tuple((i + 2, i) for i in range(5))
    assert comparison.alignment.shift == 0


def test_images_decide_where_shapes_cannot():
    prior, current = spine(last="L4"), again(spine(first="T8", last="L4", shift=1), 1.2)
    z = np.full((len(prior.vertebrae), len(current.vertebrae)), 0.2)
    shapes = align(column_of(prior.vertebrae), column_of(current.vertebrae))
    z[np.arange(9) + 2, np.arange(9)] = 1.2
    images = align(column_of(prior.vertebrae), column_of(current.vertebrae), z)
    assert images.pairs == tuple((i + 2, i) for i in range(9))
    assert images.certainty > max(0.999, shapes.certainty if shapes.pairs == images.pairs else 0)
    z = np.roll(z, 1, axis=0)  # the images of their upper neighbours are alike instead
    assert align(column_of(prior.vertebrae), column_of(current.vertebrae), z).certainty < images.certainty


def test_images_are_compared_around_each_vertebra_without_what_all_share():
    prior, current = spine(), again(spine(), 0.0)
    z = likeness(patches(prior, texture(prior)), patches(current, texture(current, noise=20)))
    own = np.diag(z)
    assert own.min() > 0.8
    off = z[~np.eye(len(z), dtype=bool)]
    assert np.percentile(off, 90) < own.min() - 0.3


# --- whose spine it is


def test_two_patients_are_told_by_their_shapes():
    prior, current = spine(1), spine(2, case="other", scale=1.12)
    with pytest.raises(VFQError, match=r"case and other: .* unlikely to be those of one patient") as told:
        compared(prior, current)
    assert told.value.code == "other_patient"


def test_a_user_who_vouches_for_the_patient_gets_the_comparison():
    prior, current = spine(), again(spine(scale=1.09))
    with pytest.raises(VFQError) as told:
        compared(prior, current)
    assert told.value.code == "other_patient"
    assert compare(Examination(prior), Examination(current), same_patient=True).scale == pytest.approx(0.09, abs=0.01)


def test_images_of_two_patients_tell_them_apart_although_their_sizes_agree():
    prior, current = spine(), again(spine())
    same = Examination(prior, texture(prior)), Examination(current, texture(current, noise=30))
    assert compare(*same).alignment.likeness > 5
    with pytest.raises(VFQError) as told:
        compare(same[0], Examination(current, texture(current, patient=2)))
    assert told.value.code == "other_patient"


def test_no_level_in_common_is_said_with_what_each_scan_shows():
    prior, current = spine(last="T10"), again(spine(first="L1"))
    sure = [
        replace(a, vertebrae=tuple(replace(v, level_probabilities={v.level: 1.0}) for v in a.vertebrae))
        for a in (prior, current)
    ]
    with pytest.raises(VFQError, match=r"no vertebra is in both scans \(T6 to T10 and L1 to L5\)") as told:
        compared(*sure)
    assert told.value.code == "no_level_in_common"


def test_all_sizes_larger_is_an_error_of_a_header():
    comparison = compare(Examination(spine()), Examination(again(spine(scale=1.05))), same_patient=True)
    assert comparison.scale == pytest.approx(0.05, abs=0.01)
    assert comparison.scale_doubtful
    assert "All sizes are 5 % larger now: check the voxel spacing in both headers." in change_lines(comparison, None)
    assert not compared(spine(), again(spine())).scale_doubtful


def test_the_same_scan_twice_is_refused_after_a_review_too():
    prior = spine()
    moved = [replace(v, keypoints=v.keypoints + 0.4, machine_keypoints=v.keypoints) for v in prior.vertebrae]
    for twice in (prior, replace(prior, vertebrae=tuple(moved), curve=prior.curve + 3.0)):
        with pytest.raises(VFQError, match="same scan twice") as told:
            check_different(prior, twice)
        assert told.value.code == "same_study"
    check_different(prior, again(prior))


def test_vertebrae_that_different_methods_found_are_not_compared_unless_all_were_reviewed():
    ours, boxes = (
        tuple(ModelStamp(role, role, 64 * "0") for role in ("localizer", "refiner", last))
        for last in ("detector", "anchor-boxes")
    )
    prior, current = replace(spine(), models=ours), replace(again(spine()), models=boxes)
    with pytest.raises(VFQError, match=r"case and later: .* different methods \(detector and anchor-boxes\)") as told:
        compared(prior, current)
    assert told.value.code == "other_method"
    assert compared(replace(prior, models=boxes), current).changes
    assert compared(replace(prior, models=()), current).changes  # a record that names no networks
    confirmed = [[replace(v, review="confirmed") for v in a.vertebrae] for a in (prior, current)]
    assert compared(*(replace(a, vertebrae=tuple(v)) for a, v in zip((prior, current), confirmed, strict=True))).changes


def of_weights(analysis: SpineAnalysis, letter: str) -> SpineAnalysis:
    """The same record, measured with detector weights of another hash; localizer and refiner stay."""
    stamps = [ModelStamp(role, role, 64 * "0") for role in ("localizer", "refiner")]
    return replace(analysis, models=(*stamps, ModelStamp("detector", "detector", 64 * letter)))


def test_scans_of_different_weights_are_compared_and_it_is_said_unless_all_was_reviewed():
    prior, current = of_weights(spine(), "1"), of_weights(again(spine()), "2")
    found = compared(prior, current)
    assert found.other_weights == ("detector",) and found.changes
    assert any("different weights of detector; small differences" in line for line in change_lines(found, None))
    for same in ((of_weights(prior, "2"), current), (replace(prior, models=()), current)):
        assert not compared(*same).other_weights
        assert not any("weights" in line for line in change_lines(compared(*same), None))
    decided = [tuple(replace(v, review="confirmed") for v in a.vertebrae) for a in (prior, current)]
    confirmed = [replace(a, vertebrae=v) for a, v in zip((prior, current), decided, strict=True)]
    assert not compared(*confirmed).other_weights
    assert compared(confirmed[0], current).other_weights == ("detector",)


def test_comparison_json_names_the_networks_of_different_weights(tmp_path):
    for name, letter in (("prior", "1"), ("current", "2")):
        record = of_weights(spine() if name == "prior" else again(spine()), letter)
        write_outputs(replace(record, case=name), None, tmp_path / "cases", pictures=False)
    out = tmp_path / "out"
    given = [str(tmp_path / "cases" / name) for name in ("prior", "current")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", *given, "-o", str(out)])
    assert result.exit_code == 0 and "different weights of detector" in result.output
    record = validated(json.loads((out / "comparison.json").read_text()), "vfq-comparison/1")
    assert record["comparisons"][0]["alignment"]["other_weights"] == ["detector"]


def test_a_user_who_vouches_for_the_patient_is_told_what_to_do_where_no_match_fits():
    examinations = Examination(spine(1)), Examination(spine(3, case="other", scale=1.3))
    assert not align(*(column_of(e.analysis.vertebrae) for e in examinations)).pairs
    for vouched, advice in ((False, "use --same-patient"), (True, "set the level of one vertebra in each")):
        with pytest.raises(VFQError) as told:
            compare(*examinations, same_patient=vouched)
        assert told.value.code == "other_patient" and advice in told.value.message
        assert vouched != ("--same-patient" in told.value.message)


def test_a_failed_study_gives_its_own_code():
    failed = SpineAnalysis("later", "no_spine_found", "Only 38 mm look like spine.")
    with pytest.raises(VFQError, match=r"later: the analysis failed\. Only 38 mm") as told:
        compared(spine(), failed)
    assert told.value.code == "no_spine_found"


# --- what has changed


def test_nothing_is_new_in_a_spine_that_was_measured_twice():
    assert set(verdicts(spine(), again(spine(), 0.3)).values()) == {"unchanged"}


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ((1, 1, 1), (0.7, 0.9, 1), "new fracture"),
        ((1, 1, 1), (0.55, 0.55, 0.55), "new fracture"),  # a crush: G stays, the heights fall
        ((0.74, 0.9, 1), (0.5, 0.8, 1), "progressed"),
        ((0.5, 0.8, 1), (0.9, 0.95, 1), "better"),
        ((0.78, 0.9, 1), (0.76, 0.9, 1), "unchanged"),
    ],
)
def test_the_verdict_follows_heights_and_grades(before, now, verdict):
    told = verdicts(spine(lower={"L1": before}), again(spine(lower={"L1": now})))
    assert told.pop("L1") == verdict
    assert set(told.values()) == {"unchanged"}


def vertebra(*heights: float, spread: float | None = 0.02, **more) -> Vertebra:
    points = [[[0, a, h / 2], [0, a, -h / 2]] for a, h in zip((14.0, 0.0, -14.0), heights, strict=True)]
    (one,) = remeasured([Vertebra(np.array(points), None, level="L1", spread=spread, **more)])  # type: ignore[arg-type]
    return one


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ((25, 25, 25), (19.9, 25, 25), "new fracture"),  # 20 % and 4 mm
        ((25, 25, 25), (20.6, 25, 25), "unchanged"),  # 4.4 mm, but 18 %, and the grade is normal
        ((18, 18, 18), (14.6, 18, 18), "unchanged"),  # 19 %
        ((15, 15, 15), (12.5, 12.5, 12.5), "unchanged"),  # 17 %
        ((24, 24, 25), (24, 19.0, 25), "new fracture"),  # a grade more, with a height that is lower
        ((20, 20, 24.5), (20, 20, 25.5), "unchanged"),  # a grade more, as the largest height was measured larger
    ],
)
def test_a_fracture_is_a_fifth_and_four_millimetres_or_a_grade(before, now, verdict):
    change = change_of(vertebra(*before), vertebra(*now), 0, 0)
    assert change.verdict == verdict
    np.testing.assert_allclose(change.difference_mm, np.subtract(now, before))


def test_a_loss_within_the_error_of_an_uncertain_measurement_is_no_fracture():
    sure, unsure = (change_of(vertebra(25, 25, 25), vertebra(19, 25, 25, spread=s), 0, 0) for s in (0.02, 0.30))
    assert (sure.verdict, unsure.verdict) == ("new fracture", "unchanged")
    assert unsure.reason == "another grade, but within the error of measurement"
    assert unsure.error_mm[1] > 5 > sure.error_mm[1]


def test_the_error_of_a_difference_joins_those_of_both_measurements():
    change = change_of(vertebra(25, 25, 25, spread=0.1), vertebra(25, 25, 24, spread=None, origin="reader"), 0, 0)
    before = 0.7 * 0.1 * 25 / np.sqrt(2)
    assert change.error_mm[0] == pytest.approx(1.96 * np.hypot(before, READER_HEIGHT_MM))
    assert change.ratio_error == pytest.approx(1.96 * np.hypot(0.05, READER_HEIGHT_MM * np.sqrt(2) / 25))
    assert change.ratios == (1.0, 0.96)
    assert height_sd(vertebra(25, 25, 25, spread=0.001))[0] == READER_HEIGHT_MM  # never better than a reader
    assert ratio_sd(vertebra(25, 25, 25, spread=None, origin="reader")) == pytest.approx(
        READER_HEIGHT_MM * np.sqrt(2) / 25
    )


def test_automatic_points_of_a_method_without_a_spread_are_not_as_sure_as_a_readers():
    unseen, confirmed = (vertebra(25, 25, 25, spread=None, review=review) for review in ("open", "confirmed"))
    assert (height_sd(unseen) == UNTOLD_HEIGHT_MM).all() and (height_sd(confirmed) == READER_HEIGHT_MM).all()
    assert ratio_sd(unseen) == pytest.approx(UNTOLD_HEIGHT_MM * np.sqrt(2) / 25)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"review": "rejected"}, "rejected now"),
        ({"quality": (Flag("impossible_points", "They contradict each other."),)}, "impossible points now"),
    ],
)
def test_a_vertebra_without_usable_points_is_not_comparable(state, reason):
    change = change_of(vertebra(25, 25, 25), replace(vertebra(15, 25, 25), **state), 2, 3)
    assert (change.verdict, change.reason, change.heights_mm) == ("not comparable", reason, None)
    assert (change.prior, change.current) == (2, 3)


def test_a_change_of_a_vertebra_in_doubt_says_so_until_a_reader_has_decided():
    flags = {"quality": (Flag("metal", "There is metal."),)}
    metal = replace(vertebra(15, 25, 25), **flags)
    change = change_of(vertebra(25, 25, 25), metal, 0, 0)
    assert (change.verdict, change.reason) == ("new fracture", "in doubt: metal")
    assert change_of(vertebra(25, 25, 25), replace(metal, review="confirmed"), 0, 0).reason == ""
    assert change_of(vertebra(25, 25, 25), replace(vertebra(25, 25, 25), **flags), 0, 0).reason == ""


def test_the_loss_against_expected_heights_is_told_where_a_record_has_it():
    before, now = vertebra(25, 25, 25), vertebra(18, 24, 25)
    for one, loss in ((before, (0.01, 0.0, -0.02)), (now, (0.28, 0.04, 0.0))):
        object.__setattr__(one, "expected", SimpleNamespace(loss=loss))
    assert change_of(before, now, 0, 0).losses == (0.01, 0.28)
    assert change_of(vertebra(25, 25, 25), vertebra(25, 25, 25), 0, 0).losses == (None, None)


def test_a_height_regained_is_called_an_error_of_measurement():
    change = change_of(vertebra(15, 24, 25), vertebra(25, 24, 25), 0, 0)
    assert (change.verdict, change.grades) == ("better", ("severe", "normal"))
    assert change.reason == "vertebrae do not regain height: check the points of both examinations"


def test_points_that_a_reader_moves_change_the_comparison_along_the_same_match():
    prior, current = spine(), again(spine())
    alignment = compared(prior, current).alignment
    lower = [v for v in current.vertebrae]
    points = lower[7].keypoints.copy()
    points[0, 0, 2] -= 8.0
    lower[7] = replace(lower[7], keypoints=points, spread=None, origin="reader")
    live = compare_aligned(prior.vertebrae, remeasured(lower), alignment)
    assert [n for n, c in zip(live.names, live.changes, strict=True) if c.verdict == "new fracture"] == [SPINE[7]]


def test_a_name_of_the_prior_scan_is_moved_to_those_of_the_current_one():
    comparison = compared(spine(last="L3"), again(spine(first="T9", last="L4", shift=1)))
    assert comparison.alignment.shift == 1
    assert comparison.names[:3] == ("T7", "T8", "T9")  # T6 to T8 before
    assert comparison.names[3] == "T10"
    (told,) = (line for line in change_lines(comparison, None) if "names" in line)
    assert told.startswith("The names of the levels differ by 1 between the scans")


def test_no_two_vertebrae_have_one_name_where_no_level_is_known():
    comparison = compared(spine(shift=None), again(spine(first="T9", last="L3", shift=None)))
    assert comparison.names[:4] == ("V1 (prior)", "V2 (prior)", "V3 (prior)", "V1")
    assert len(set(comparison.names)) == len(comparison.names)


# --- several examinations, and dates


def test_each_examination_is_compared_with_the_one_before_and_the_last_with_the_first():
    course = [Examination(a) for a in (spine(), again(spine()), again(spine(lower={"L1": (0.6, 0.9, 1)}), 0.25))]
    course[2] = Examination(replace(course[2].analysis, curve=course[2].analysis.curve + 9.0))
    steps = compare_course(course)
    assert [(s.prior, s.current, s.status) for s in steps] == [(0, 1, "ok"), (1, 2, "ok"), (0, 2, "ok")]


def test_a_failed_examination_is_passed_over():
    failed = Examination(SpineAnalysis("second", "no_spine_found", "Nothing."))
    steps = compare_course([Examination(spine()), failed, Examination(again(spine()))])
    assert [(s.prior, s.current, s.status) for s in steps] == [(0, 2, "ok")]
    assert compare_course([Examination(spine()), failed]) == ()


def test_what_cannot_be_compared_is_a_step_with_its_reason():
    (step,) = compare_course([Examination(spine()), Examination(spine())])
    assert (step.comparison, step.status) == (None, "same_study")
    assert "same scan twice" in step.message


def test_only_days_between_dates_are_kept():
    assert days_between([date(2024, 1, 1), None, date(2026, 1, 1)]) == [0, None, 731]
    steps = compare_course([Examination(spine()), Examination(again(spine()))])
    assert interval([0, 731], steps[0]) == 731
    assert interval([None, 0], steps[0]) is None


def test_dates_out_of_order_are_refused_without_writing_them():
    with pytest.raises(VFQError) as told:
        days_between([date(2024, 3, 1), None, date(2024, 1, 1)])
    assert told.value.code == "bad_dates"
    assert told.value.message.startswith("Examination 3 is 60 days earlier than examination 1.")
    assert "2024" not in told.value.message


@pytest.mark.parametrize(("text", "words"), [("2024-01-01", "1 dates for 2"), ("1.1.2024,2025-01-01", "2026-11-30")])
def test_dates_that_cannot_be_used_are_refused(text, words):
    with pytest.raises(VFQError, match=words) as told:
        parsed_dates(text, 2)
    assert told.value.code == "bad_dates"


def test_the_date_of_a_dicom_study_is_read_from_its_first_file(tmp_path):
    write_series(tmp_path / "series", trunk(), {"StudyDate": "20240229"})
    assert study_date(tmp_path / "series") == date(2024, 2, 29)
    write_series(tmp_path / "undated", trunk(), {"StudyDate": None, "ContentDate": None})
    assert study_date(tmp_path / "undated") is None
    (tmp_path / "notes.txt").write_text("2024-01-01")
    assert study_date(tmp_path / "notes.txt") is None


# --- the command, its files, its picture


@pytest.fixture
def cases(tmp_path):
    """Folders of analysed cases: a first examination, one with a new fracture of L1, one of another patient."""
    for name, analysis, patient in (
        ("before", spine(case="before"), 1),
        ("after", again(spine(lower={"L1": (0.6, 0.9, 1)}), case="after"), 1),
        ("other", spine(2, case="other", scale=1.12), 2),
    ):
        write_outputs(analysis, None, tmp_path, pictures=False)
        stored = texture(analysis, patient)
        image = sitk.GetImageFromArray(stored.voxels)  # LPS
        image.SetOrigin((-20.0, -64.0, -479.0))
        sitk.WriteImage(image, str(tmp_path / name / "straightened.nrrd"))
    write_outputs(SpineAnalysis("failed", "no_spine_found", "Only 38 mm look like spine."), None, tmp_path)
    return tmp_path


def vfq(*arguments: str | Path):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", *map(str, arguments)])


def test_a_new_fracture_is_told_in_every_file(cases):
    result = vfq(cases / "before", cases / "after", "-o", cases / "out", "--dates", "2024-01-01,2026-01-01")
    assert result.exit_code == 0, result.output
    assert "after compared with before" in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("L1"))
    assert "normal → severe" in line or "normal → moderate" in line
    assert line.rstrip().endswith("new fracture")
    assert "12 vertebrae compared after 731 days" in result.stdout
    record = validated(json.loads((cases / "out" / "comparison.json").read_text()), "vfq-comparison/1")
    (step,) = record["comparisons"]
    assert (step["summary"]["new_fracture"], step["interval_days"], step["status"]) == (["L1"], 731, "ok")
    (l1,) = (v for v in step["vertebrae"] if v["name"] == "L1")
    np.testing.assert_allclose(
        l1["difference_mm"], np.subtract(l1["current"]["heights_mm"], l1["prior"]["heights_mm"]), atol=2e-3
    )
    rows = list(csv.DictReader((cases / "out" / "comparison.csv").open(encoding="utf-8")))
    assert [r["vertebra"] for r in rows if r["verdict"] == "new fracture"] == ["L1"]
    assert {r["interval_days"] for r in rows} == {"731"}
    assert (cases / "out" / "comparison.png").stat().st_size > 10_000


def test_no_file_of_a_comparison_holds_a_date_or_a_path(cases):
    vfq(cases / "before", cases / "after", "-o", cases / "out", "--dates", "2024-01-01,2026-01-01")
    for name in ("comparison.json", "comparison.csv"):
        text = (cases / "out" / name).read_text()
        assert "2024" not in text and "2026" not in text and str(cases) not in text


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("before", "other"), "other_patient"),
        (("before", "failed"), "no_spine_found"),
        (("before", "before"), "same_study"),
        (("before", "absent"), "not_found"),
    ],
)
def test_what_cannot_be_compared_ends_with_status_3_and_its_code(cases, names, code):
    result = vfq(*(cases / name for name in names), "-o", cases / "out")
    assert result.exit_code == 3
    assert f"{code}: " in result.output


def test_a_comparison_that_was_refused_is_a_file_too(cases):
    assert vfq(cases / "before", cases / "other", "-o", cases / "out").exit_code == 3
    (step,) = validated(json.loads((cases / "out" / "comparison.json").read_text()), "vfq-comparison/1")["comparisons"]
    assert (step["status"], step["vertebrae"], step["alignment"]) == ("other_patient", [], None)


def test_a_comparison_is_not_overwritten_unless_it_is_asked_for(cases):
    given = (cases / "before", cases / "after", "-o", cases / "out")
    assert vfq(*given).exit_code == 0
    result = vfq(*given)
    assert (result.exit_code, "output_exists" in result.output) == (3, True)
    assert vfq(*given, "--overwrite").exit_code == 0


def test_the_picture_of_an_earlier_comparison_does_not_stay_beside_a_later_one(cases):
    assert vfq(cases / "before", cases / "after", "-o", cases / "out").exit_code == 0
    assert (cases / "out" / "comparison.png").exists()
    result = vfq(cases / "before", cases / "failed", "-o", cases / "out", "--overwrite")
    assert "comparison.png" not in result.output
    assert not (cases / "out" / "comparison.png").exists()


def matched_by_a_reader(cases: Path, offset: int = 1) -> dict:
    """Write the match of a reader into the folder "after": each vertebra with the one `offset` lower before."""
    before, after = (read_examination(cases / name) for name in ("before", "after"))
    vertebrae = before.analysis.vertebrae, after.analysis.vertebrae
    pairs = tuple((i + offset, i) for i in range(len(vertebrae[1]) - offset))
    match = ReaderMatch("Reader A", places_of(*vertebrae, pairs))
    write_match(cases / "after", after.digest, before.digest, match)
    return json.loads((cases / "after" / "matches.json").read_text())


def test_a_match_that_a_reader_corrected_is_used_and_told_in_every_file(cases):
    validated(matched_by_a_reader(cases), "vfq-matches/1")
    result = vfq(cases / "before", cases / "after", "-o", cases / "out")
    assert result.exit_code == 0, result.output
    assert "11 vertebrae compared; matched by Reader A." in result.stdout
    assert "The program gives this match a probability of 0 %." in result.stdout
    record = validated(json.loads((cases / "out" / "comparison.json").read_text()), "vfq-comparison/1")
    (step,) = record["comparisons"]
    alignment = step["alignment"]
    assert (alignment["reader"], alignment["other_match"], alignment["shift"]) == ("Reader A", False, -1)
    pairs = [(v["prior"]["level"], v["current"]["level"]) for v in step["vertebrae"] if v["prior"] and v["current"]]
    assert pairs == list(zip(SPINE[1:], SPINE, strict=False))
    rows = list(csv.DictReader((cases / "out" / "comparison.csv").open(encoding="utf-8")))
    assert {r["matched_by"] for r in rows} == {"Reader A"}


def test_a_match_by_a_reader_holds_where_the_program_would_refuse(cases):
    one, other = read_examination(cases / "before"), read_examination(cases / "other")
    match = ReaderMatch("A", places_of(one.analysis.vertebrae, other.analysis.vertebrae, ((0, 0), (1, 1), (2, 2))))
    write_match(cases / "other", other.digest, one.digest, match)
    result = vfq(cases / "before", cases / "other", "-o", cases / "out")
    assert result.exit_code == 0, result.output
    assert "matched by A." in result.stdout and "unlikely to be those of one patient" in result.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.pop("pairs"), "damaged"),
        (lambda entry: entry.update(pairs=[{"prior": [1, 2], "current": [1, 2, 3]}]), "damaged"),
        (lambda entry: entry.update(pairs={"v1": "v2"}), "of another version"),
        (lambda entry: entry.update(scan="0" * 16), "in another scan"),
        (lambda entry: [p.update(prior=[90.0, 0.0, 0.0]) for p in entry["pairs"][:7]], "4 of 11 pairs are found again"),
        (lambda entry: entry.update(pairs=[]), "0 of 0 pairs"),
    ],
)
def test_a_match_that_cannot_be_used_is_refused_never_replaced_in_silence(cases, change, words):
    kept = matched_by_a_reader(cases)
    (entry,) = kept["matches"].values()
    change(entry)
    (cases / "after" / "matches.json").write_text(json.dumps(kept))
    result = vfq(cases / "before", cases / "after", "-o", cases / "out")
    assert result.exit_code == 3 and "bad_matches: " in result.output and words in result.output


@pytest.mark.parametrize("text", ["", "{", "[]", '{"matches": {}}', '{"schema": "vfq-matches/2", "matches": {}}'])
def test_a_damaged_file_of_matches_is_refused_where_it_would_be_used(cases, text):
    (cases / "after" / "matches.json").write_text(text)
    (cases / "before" / "matches.json").write_text(text)  # of the prior with yet earlier scans
    refused = vfq(cases / "before", cases / "after", "-o", cases / "out")
    assert refused.exit_code == 3 and "bad_matches: " in refused.output
    (cases / "after" / "matches.json").unlink()
    assert vfq(cases / "before", cases / "after", "-o", cases / "out", "--overwrite").exit_code == 0


def test_a_match_with_another_prior_scan_is_not_used_and_this_is_said(cases):
    kept = matched_by_a_reader(cases)
    kept["matches"] = {"f" * 16: next(iter(kept["matches"].values()))}
    (cases / "after" / "matches.json").write_text(json.dumps(kept))
    result = vfq(cases / "before", cases / "after", "-o", cases / "out")
    assert result.exit_code == 0 and "this match is automatic" in result.stdout
    (step,) = json.loads((cases / "out" / "comparison.json").read_text())["comparisons"]
    assert step["alignment"]["other_match"] and step["summary"]["new_fracture"] == ["L1"]


def test_the_image_of_a_case_whose_curve_a_reader_changed_is_read_along_its_own_curve(cases):
    machine = read_analysis(cases / "before" / "analysis.json")
    unchanged = read_examination(cases / "before")
    bent = replace(machine, curve=machine.curve + np.linspace([0, 0, 40], [0, 30, 0], len(machine.curve)))
    write_review(bent, cases / "before", machine)
    found = read_examination(cases / "before")
    np.testing.assert_allclose(found.curve, machine.curve)
    assert found.digest == unchanged.digest  # of the automatic curve
    one, other = (patches(e.analysis, e.straightened, e.curve) for e in (unchanged, found))
    np.testing.assert_allclose(one, other)


def test_json_is_printed_as_it_is_written(cases):
    result = vfq(cases / "before", cases / "after", "-o", cases / "out", "--json")
    assert json.loads(result.stdout) == json.loads((cases / "out" / "comparison.json").read_text())


def test_scans_are_analysed_first_wherever_in_a_folder_they_lie(cases, monkeypatch):
    write_series(cases / "scans" / "first" / "study" / "series", trunk(), {"StudyDate": "20240101"})
    write_series(cases / "scans" / "second", trunk(), {"StudyDate": "20240131"})
    made = iter([spine(case="x"), again(spine(lower={"L1": (0.6, 0.9, 1)}), case="x")])
    monkeypatch.setattr(Library, "load_models", lambda self, device: device)
    monkeypatch.setattr(Library, "analyze", lambda *given: next(made))
    given = [str(cases / "scans" / name) for name in ("first", "second")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", *given, "-o", str(cases / "out")])
    assert result.exit_code == 0, result.output
    assert "12 vertebrae compared after 30 days" in result.stdout
    record = json.loads((cases / "out" / "comparison.json").read_text())
    assert [e["status"] for e in record["examinations"]] == ["ok", "ok"]
    assert record["comparisons"][0]["summary"]["new_fracture"] == ["L1"]


def test_the_failure_of_a_scan_is_printed_once(cases, monkeypatch):
    write_series(cases / "scans" / "first", trunk(), {"StudyDate": "20240101"})
    monkeypatch.setattr(Library, "load_models", lambda self, device: device)

    def fail(*given):
        raise VFQError("no_spine_found", "No spine here.")

    monkeypatch.setattr(Library, "analyze", fail)
    for _ in range(2):  # the second time its failure lies in the output folder
        result = vfq(cases / "scans" / "first", cases / "before", cases / "after", "-o", cases / "out", "--overwrite")
        assert result.exit_code == 3 and result.output.count("No spine here.") == 1, result.output
    result = vfq(cases / "failed", cases / "before", cases / "after", "-o", cases / "out", "--overwrite")
    assert result.exit_code == 3 and result.output.count("Only 38 mm look like spine.") == 1, result.output


def test_one_examination_is_wrong_usage(cases):
    assert vfq(cases / "before").exit_code == 2


def test_the_table_has_differences_and_their_error():
    table = change_table(compared(spine(), again(spine(lower={"L1": (0.6, 0.9, 1)}))))
    cells = zip(table.columns[0].cells, table.columns[1].cells, strict=True)
    (l1,) = (str(cell) for name, cell in cells if str(name) == "L1")
    now, difference, error = l1.replace("±", "").split()
    assert float(now) < 18 and -12 < float(difference) < -6 and 0.8 < float(error) < 3


def test_the_picture_joins_each_vertebra_with_itself_at_one_scale():
    prior, current = spine(case="before"), again(spine(first="T9", lower={"L1": (0.6, 0.9, 1)}), case="after")
    seen = [Examination(a, texture(a)) for a in (prior, current)]
    figure = draw_comparison(seen, compare_course(seen))
    sheet, *panels = figure.axes
    told = [text.get_text() for text in sheet.texts]
    assert told[:3] == ["Research use only - not for diagnosis", "before", "after"]
    assert [t.split()[0] for t in told[3:]] == list(SPINE[3:])
    assert sum("new fracture, \N{MINUS SIGN}" in t for t in told) == 1
    scales = [np.ptp(p.get_ylim()) / p.get_position().height for p in panels]
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)


def test_long_names_of_cases_stay_in_the_picture_and_tell_the_cases_apart():
    names = [f"a_very_long_name_of_one_patient_and_study_{end}" for end in ("baseline", "later")]
    prior, current = spine(case=names[0]), again(spine(lower={"L1": (0.6, 0.9, 1)}), case=names[1])
    seen = [Examination(a, texture(a)) for a in (prior, current)]
    figure = draw_comparison(seen, compare_course(seen))
    _, *titles = figure.axes[0].texts[:3]
    boxes = [title.get_window_extent() for title in titles]
    assert [t.get_text().split("_")[-1] for t in titles] == ["baseline", "later"]
    assert boxes[0].x0 >= 0 and boxes[0].x1 < boxes[1].x0 and boxes[1].x1 <= figure.bbox.x1


def test_no_change_of_height_has_no_sign_in_the_picture():
    (change, *_) = compared(spine(), again(spine())).changes
    for loss, text in ((-0.04, "0.0 mm"), (0.0, "0.0 mm"), (0.3, "+0.3 mm"), (-6.2, "\N{MINUS SIGN}6.2 mm")):
        told = _told(replace(change, difference_mm=(loss, 0.0, 0.0)))
        assert told == f"{change.verdict}, {text}"


# --- repeatability


@pytest.fixture
def repeated(tmp_path):
    """Two patients that were scanned twice without a change between; anterior heights are 0.6 mm larger in one scan."""
    for patient in (1, 3):
        first = spine(patient, case="first")
        second = again(first, 0.0, "second")
        lift = np.zeros((3, 2, 3))
        lift[0, 0, 2] = 0.6  # the anterior point of the upper endplate
        second = replace(
            second, vertebrae=remeasured([replace(v, keypoints=v.keypoints + lift) for v in second.vertebrae])
        )
        for analysis in (first, second):
            write_outputs(analysis, None, tmp_path / "pairs" / f"patient-{patient}", pictures=False)
    return tmp_path / "pairs"


def test_repeatability_is_the_spread_within_a_vertebra(repeated):
    found = evaluate_repeatability(repeated, 200, 0)
    e = found.estimates
    assert (found.patients, len(found.repeats), found.changed) == (2, 24, ())
    assert e["anterior", "sd"].value == pytest.approx(0.6 / np.sqrt(2), abs=1e-6)
    assert e["anterior", "bias"].value == pytest.approx(0.6, abs=1e-6)
    assert e["anterior", "smallest_detectable_change"].value == pytest.approx(1.96 * 0.6, abs=1e-6)
    assert e["middle", "sd"].value == pytest.approx(0, abs=1e-6)
    assert e["heights", "sd"].value == pytest.approx(0.6 / np.sqrt(6), abs=1e-6)
    assert e["anterior", "limit_low"].value == pytest.approx(0.6, abs=1e-6)
    expected = found.repeats[0].change.error_mm[0] / 1.96
    assert e["anterior", "error_ratio"].value == pytest.approx(0.6 / expected, rel=0.15)


def test_the_command_writes_its_three_files(repeated, tmp_path):
    out = tmp_path / "out"
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", "repeatability", str(repeated), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "2 patients, 2 pairs of examinations, 24 vertebrae" in result.stdout
    record = validated(json.loads((out / "repeatability.json").read_text()), "vfq-repeatability/1")
    assert record["figures"]["anterior"]["bias"]["value"] == pytest.approx(0.6, abs=1e-4)
    assert len(list(csv.DictReader((out / "repeatability.csv").open()))) == 24
    assert (out / "repeatability.png").stat().st_size > 10_000


def test_pairs_that_cannot_be_compared_are_told_and_the_others_count(repeated, tmp_path):
    write_outputs(spine(case="first"), None, repeated / "twice", pictures=False)
    write_outputs(spine(case="second"), None, repeated / "twice", pictures=False)
    found = evaluate_repeatability(repeated, 0, 0)
    assert [(patient, code) for patient, code, _ in found.problems] == [("twice", "same_study")]
    assert found.patients == 2
    arguments = ["evaluate", "repeatability", str(repeated), "--repeats", "0", "-o", str(tmp_path / "out")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert result.exit_code == 3 and "twice: same_study" in result.stdout, result.output
    assert (tmp_path / "out" / "repeatability.json").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(VFQError, match="No two examinations of a patient") as told:
        evaluate_repeatability(tmp_path / "empty", 0, 0)
    assert told.value.code == "nothing_to_evaluate"


def test_a_patient_with_a_single_examination_is_named(repeated, tmp_path):
    write_outputs(spine(case="only"), None, repeated / "single", pictures=False)
    arguments = ["evaluate", "repeatability", str(repeated), "--repeats", "0", "-o", str(tmp_path / "out")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert result.exit_code == 3 and "single: no_pair: the patient has a single examination" in result.stdout


# --- new fractures in a cohort


@pytest.fixture
def cohort(tmp_path):
    """Three patients: one with a new fracture in the second of two years, one scanned once, one exchanged."""
    pl = pytest.importorskip("polars")
    analyses = {
        "a-1": spine(case="a-1"),
        "a-2": again(spine(), case="a-2"),
        "a-3": again(spine(lower={"L1": (0.6, 0.9, 1)}), 0.25, case="a-3"),
        "b-1": spine(3, case="b-1"),
        "c-1": spine(4, case="c-1"),
        "c-2": spine(2, case="c-2", scale=1.12),
    }
    analyses["a-3"] = replace(analyses["a-3"], curve=analyses["a-3"].curve + 9.0)
    for analysis in analyses.values():
        write_outputs(analysis, None, tmp_path / "cases", pictures=False)
    CohortState(tmp_path).close()
    dates = ["2024-01-01", "2024-12-31", "2025-12-31", "2024-05-05", "2024-01-01", "2025-01-01"]
    table = {"case": list(analyses), "status": ["ok"] * 6, "who": [c[0] for c in analyses], "when": dates}
    pl.DataFrame(table).write_parquet(tmp_path / "patients.parquet")
    return tmp_path


def test_new_fractures_are_counted_over_the_years_that_were_compared(cohort):
    found = write_incidents(cohort, "who", "when")
    assert [(r["prior_case"], r["current_case"], r["days"], r["status"]) for r in found.rows] == [
        ("a-1", "a-2", 365, "ok"),
        ("a-2", "a-3", 365, "ok"),
        ("c-1", "c-2", 366, "other_patient"),
    ]
    assert (found.fractures, found.fractured, found.patients) == (1, 1, 1)
    assert found.person_years == pytest.approx(730 / 365.25)
    rate, low, high = found.rate
    assert rate == pytest.approx(100 / found.person_years)
    assert (low * found.person_years / 100, high * found.person_years / 100) == pytest.approx((0.0253, 5.572), abs=1e-3)
    rows = list(csv.DictReader((cohort / "incidents.csv").open(encoding="utf-8")))
    assert [r["new_levels"] for r in rows] == ["", "L1", ""]
    assert not re.search(r"\d{4}-\d\d-\d\d", (cohort / "incidents.csv").read_text())
    assert "days" in rows[0] and "date" not in rows[0]


def test_a_crash_while_the_table_of_new_fractures_is_written_leaves_the_one_before(cohort, monkeypatch):
    write_incidents(cohort, "who", "when")
    before = (cohort / "incidents.csv").read_text()

    def crash(writer, rows):
        writer.writerow(next(iter(rows)))
        raise RuntimeError

    monkeypatch.setattr(csv.DictWriter, "writerows", crash)
    with pytest.raises(RuntimeError):
        write_incidents(cohort, "who", "when")
    assert (cohort / "incidents.csv").read_text() == before and not list(cohort.glob(".partial*"))


def test_intervals_between_scans_of_different_weights_are_counted_and_named(cohort):
    for name, letter in (("a-1", "1"), ("a-2", "2"), ("a-3", "2")):
        record = read_analysis(cohort / "cases" / name / "analysis.json")
        write_outputs(of_weights(record, letter), None, cohort / "cases", overwrite=True, pictures=False)
    found = write_incidents(cohort, "who", "when")
    assert [row["other_weights"] for row in found.compared] == ["detector", ""] and found.other_weights == 1
    rows = list(csv.DictReader((cohort / "incidents.csv").open(encoding="utf-8")))
    assert [row["other_weights"] for row in rows] == ["detector", "", ""]
    given = ["cohort", "incidents", str(cohort), "--patient", "who", "--date", "when"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, given)
    assert "1 intervals are between scans that were measured with different weights" in result.stdout


def test_the_command_prints_the_rate(cohort):
    given = ["cohort", "incidents", str(cohort), "--patient", "who", "--date", "when"]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "1 new fractures in 1 patients, 2.0 person-years." in result.stdout
    assert "50.03 new fractures in 100 person-years (95 %: 1.27 to 278.77)." in result.stdout


@pytest.fixture
def dicom_cohort(tmp_path):
    """A patient whose L1 breaks between the second and third study, the first two of one day; and a file of nobody."""
    pl = pytest.importorskip("polars")
    fractured = again(spine(lower={"L1": (0.6, 0.9, 1)}), 0.25)
    studies = {
        "first": (spine(), "20240101"),
        "same": (again(spine()), "20240101"),
        "later": (replace(fractured, curve=fractured.curve + 9.0), "20251231"),
        "undated": (spine(3), ""),
    }
    for name, (_, day) in studies.items():
        tags = {"PatientID": "SECRET-7", "StudyDate": day, "StudyInstanceUID": f"1.2.{sum(map(ord, name))}"}
        write_series(tmp_path / "scans" / name, trunk(), tags)
    out = tmp_path / "out"
    out.mkdir()
    with CohortState(out) as state:
        planned = plan(tmp_path / "scans", out, state.salt())
        state.save_plan(planned.scans)
    assert len(planned.scans) == 4
    for one in planned.scans:
        write_outputs(replace(studies[Path(one.path).name][0], case=one.name), None, out / "cases", pictures=False)
    names = {Path(one.path).name: one.name for one in planned.scans}
    pl.DataFrame({"case": list(names.values()), "status": ["ok"] * 4}).write_parquet(out / "patients.parquet")
    return out, names


def test_patients_and_dates_of_dicom_scans_give_the_intervals_and_are_written_nowhere(dicom_cohort):
    out, names = dicom_cohort
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    found = write_incidents(out)
    hashed = names["first"].split("-")[0]
    first, second = sorted((names["first"], names["same"]))
    assert [(r["patient"], r["prior_case"], r["current_case"], r["days"], r["status"]) for r in found.rows] == [
        (hashed, first, second, 0, "same_day"),
        (hashed, second, names["later"], 730, "ok"),
    ]
    assert (found.fractures, found.left_out, found.from_dicom) == (1, 1, True)
    assert found.person_years == pytest.approx(730 / 365.25)
    told = (out / "incidents.csv").read_text()
    assert "SECRET" not in told and "2024" not in told and "2025" not in told
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "incidents.csv"}
    assert all(b"SECRET-7" not in data and b"20240101" not in data for data in after.values())
    assert {p: d for p, d in after.items() if "sqlite" not in p.name} == {
        p: d for p, d in before.items() if "sqlite" not in p.name
    }


def test_the_command_says_where_dates_come_from_and_what_is_left_out(dicom_cohort):
    out, _ = dicom_cohort
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["cohort", "incidents", str(out)])
    assert result.exit_code == 0, result.output
    assert "1 scans without a patient or a date are left out." in result.stdout
    assert "only the days between them are written" in result.stdout


def test_a_column_of_the_manifest_stands_before_dicom_and_a_column_that_is_asked_for_must_be_there(dicom_cohort):
    pl = pytest.importorskip("polars")
    out, names = dicom_cohort
    table = pl.read_parquet(out / "patients.parquet")
    dates = {names["first"]: "2020-01-01", names["same"]: "2020-01-31", names["later"]: None, names["undated"]: None}
    dated = table.with_columns(date=pl.col("case").replace_strict(dates, return_dtype=pl.String))
    dated.write_parquet(out / "patients.parquet")
    found = write_incidents(out)
    assert [(r["prior_case"], r["days"]) for r in found.rows] == [(names["first"], 30)] and found.left_out == 2
    for columns in (("who", None), (None, "when")):
        with pytest.raises(VFQError) as told:
            write_incidents(out, *columns)
        assert told.value.code == "bad_manifest"


def test_a_patient_of_the_manifest_goes_with_the_date_of_a_dicom_scan_that_names_nobody(dicom_cohort):
    pl = pytest.importorskip("polars")
    out, names = dicom_cohort
    for path in (out.parent / "scans").rglob("*.dcm"):
        held = dcmread(path)
        held.PatientID = held.PatientName = held.PatientBirthDate = ""
        held.save_as(path)
    table = pl.read_parquet(out / "patients.parquet")
    table.with_columns(patient=pl.lit("P1")).write_parquet(out / "patients.parquet")
    found = write_incidents(out)
    assert [r["days"] for r in found.rows] == [0, 730] and {r["patient"] for r in found.rows} == {"P1"}
    table.write_parquet(out / "patients.parquet")
    with pytest.raises(VFQError) as told:
        write_incidents(out)
    assert told.value.code == "bad_manifest" and names["first"] not in told.value.message


def test_dicom_scans_that_are_gone_are_said(dicom_cohort):
    out, _ = dicom_cohort
    (out.parent / "scans").rename(out.parent / "moved")
    with pytest.raises(VFQError, match="put the DICOM files back") as told:
        write_incidents(out)
    assert told.value.code == "bad_manifest"


@pytest.mark.parametrize(("columns", "code"), [(("patient", "when"), "bad_manifest"), (("who", "case"), "bad_dates")])
def test_a_cohort_without_patients_or_dates_is_refused(cohort, columns, code):
    with pytest.raises(VFQError) as told:
        write_incidents(cohort, *columns)
    assert told.value.code == code


# --- two real scans of one spine


def real(data_dir: Path, name: str) -> Path:
    path = data_dir / "ct" / f"{name}_ct.nii.gz"
    if not path.exists():
        pytest.skip(f"needs {path.name}")
    return path


@pytest.mark.thorough
def test_a_real_spine_seen_twice_is_matched_whole_and_nothing_is_new(data_dir, tmp_path):
    scans = [real(data_dir, f"mapconcierge_CC0_LSPINE_{kind}3mm") for kind in ("sag", "cor")]
    result = vfq(*scans, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    (step,) = json.loads((tmp_path / "comparison.json").read_text())["comparisons"]
    assert len(step["summary"]["unchanged"]) == 7
    assert sum(map(len, step["summary"].values())) == 7
    assert step["alignment"]["certainty"] > 0.99


@pytest.mark.thorough
def test_two_real_scans_without_a_level_in_common_are_told(data_dir, tmp_path):
    scans = [real(data_dir, f"ACRIN-FLT-Breast_001_{part}") for part in ("abdpelvis", "headneck")]
    result = vfq(*scans, "--output", tmp_path)
    assert result.exit_code == 3
    assert "no_level_in_common: " in result.output
