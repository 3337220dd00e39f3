"""Evaluation: statistics with known answers, predictions with known errors, faulty files, and the published tables."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation import annotations, experts, metrics, problems, sources
from VertebralFractureQuantLib.evaluation.figures import counts
from VertebralFractureQuantLib.evaluation.matching import is_partial, match_overlap
from VertebralFractureQuantLib.evaluation.predictions import Evaluation, evaluate_predictions
from VertebralFractureQuantLib.evaluation.scans import ratios_of
from VertebralFractureQuantLib.evaluation.severity import TASKS, confusion, reported_confusion, severity_labels
from VertebralFractureQuantLib.phantom.volume import TRUTH_SCHEMA
from VertebralFractureQuantLib.report import evaluation_figure
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.levels import THORACIC
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra
from VertebralFractureQuantLib.spine.record_json import to_json

MODERATE_FRONT = 0.7
PIXEL_MM = 0.625


def column(count: int = 5, fractured: int = 1) -> np.ndarray:
    """Vertebrae `(count, 3, 2, 3)` 28 mm apart and 20 mm high; one has an anterior height of 14 mm."""
    points = np.zeros((count, 3, 2, 3)) + np.array([5.0, -40.0, 0.0])
    points[..., 1] += np.array([13.0, 0.0, -13.0])[:, None]
    points[..., 2] += (-28.0 * np.arange(count))[:, None, None] + np.array([10.0, -10.0])
    points[fractured, 0, :, 2] = -28.0 * fractured + MODERATE_FRONT * np.array([10.0, -10.0])
    return points


def analysis(case: str, points: np.ndarray, **changes) -> dict:
    vertebrae = tuple(Vertebra(k, m) for k, m in zip(points, measure_column(points), strict=True))
    line = np.stack([np.full(200, 5.0), np.full(200, -40.0), 30.0 - np.arange(200)], axis=1)
    scan = {"shape": (200, 300, 300), "spacing_mm": (1.0, 0.5, 0.5)}
    record = SpineAnalysis(case, curve=line, limits_mm=(20.0, 150.0), vertebrae=vertebrae, **scan)
    return {**to_json(record), **changes}


def reference(case: str, points: np.ndarray, partial: tuple = ()) -> dict:
    vertebrae = [{"level": name, "keypoints": k.tolist()} for name, k in zip(THORACIC, points, strict=False)]
    line = [[5.0, -40.0, float(s)] for s in range(12, -125, -4)]
    cut = [{"level": "L1", "center": list(c)} for c in partial]
    return {"case": case, "space": "RAS_mm", "vertebrae": vertebrae, "partial": cut, "centerline": line}


def annotation(*readings: np.ndarray) -> dict:
    """Points in RAS mm as a public file stores them: voxels [row, column, slice] of 0.625 x 0.625 x 0.8 mm."""
    origin = np.array([200.0, 200.0, 100.0])
    marked = {}
    for i, points in enumerate(readings):
        voxels = (origin - points)[..., [1, 0, 2]] / np.array([PIXEL_MM, PIXEL_MM, annotations.SLICE_STEP_MM])
        marked[f"expert{i + 1}"] = [
            {"segments": v.tolist(), "type": n.replace("T", "Th")} for n, v in zip(THORACIC, voxels, strict=False)
        ]
    return {"Annotation": marked}


def on_clicks(points: np.ndarray, seed: int) -> np.ndarray:
    """Move points by up to two steps of 0.25 mm in the plane, and onto that grid."""
    moved = points + 0.25 * np.random.default_rng(seed).integers(-2, 3, points.shape) * np.array([0, 1, 1])
    return np.rint(moved / 0.25) * 0.25


@pytest.fixture
def folders(tmp_path):
    """Empty folders for predictions and references, and a function that writes a JSON file into them."""

    def write(place: str, data, text: str | None = None) -> Path:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data) if text is None else text)
        return path

    for name in ("pred", "ref"):
        (tmp_path / name).mkdir()
    return tmp_path, write


def evaluate(root: Path, repeats: int = 0) -> Evaluation:
    return evaluate_predictions(root / "pred", root / "ref", repeats)


def codes(found) -> list[str]:
    return [p.code for p in found]


def value(evaluation, *key: str) -> float:
    return evaluation.estimates[key].value


# statistics


def test_auc_counts_the_pairs_in_order_and_half_the_ties():
    scores, positive = np.array([1.0, 2, 2, 3]), np.array([False, True, False, True])
    assert metrics.auc(scores, positive) == pytest.approx(3.5 / 4)
    assert np.isnan(metrics.auc(scores, np.zeros(4, bool)))


def test_sensitivity_is_the_highest_with_nine_of_ten_negatives_below_the_threshold():
    negatives, positives = np.arange(10.0), np.array([7.5, 8.5, 9.5, 0.0])
    positive = np.r_[np.zeros(10, bool), np.ones(4, bool)]
    assert metrics.sensitivity_at(np.r_[negatives, positives], positive) == pytest.approx(2 / 4)
    assert metrics.sensitivity_at(np.r_[negatives, positives], positive, 0.8) == pytest.approx(3 / 4)


def test_the_roc_curve_has_the_area_and_the_sensitivity():
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.3
    scores = np.round(rng.normal(size=400) + positive, 1)
    x, y = metrics.roc(scores, positive)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() == pytest.approx(metrics.auc(scores, positive))
    assert y[x <= 0.1].max() == pytest.approx(metrics.sensitivity_at(scores, positive))


def test_bland_altman_of_known_differences():
    found = metrics.bland_altman(np.array([2.0, 4, 6]), np.array([1.0, 2, 3]))
    assert (found.bias, found.sd) == (2, 1)
    assert (found.low, found.high) == pytest.approx((0.04, 3.96))


def test_bootstrap_intervals_cover_the_truth_and_respect_patients():
    def mean(items):
        return {"mean": float(np.mean(items))}

    rng = np.random.default_rng(3)
    covered, widths = 0, []
    for _ in range(100):
        patients = [[x] * 5 for x in rng.normal(size=30)]  # five equal vertebrae
        found = metrics.bootstrap(patients, mean, repeats=200)["mean"]
        covered += found.low <= 0 <= found.high
        widths.append(found.high - found.low)
    assert 86 <= covered <= 99
    assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(30), rel=0.1)  # for 30 patients, not for 150 vertebrae


def test_bootstrap_is_reproducible_and_has_no_interval_for_a_single_patient():
    def mean(items):
        return {"mean": float(np.mean(items)), **({"of the first": 1.0} if 1.0 in items else {})}

    patients = [[1.0], [2.0], [4.0]]
    assert str(metrics.bootstrap(patients, mean)) == str(metrics.bootstrap(patients, mean))
    many = [[x] for x in np.random.default_rng(0).normal(size=20)]
    assert metrics.bootstrap(many, mean) != metrics.bootstrap(many, mean, seed=1)
    assert np.isfinite(metrics.bootstrap(patients, mean)["mean"].low)
    assert np.isnan(metrics.bootstrap(patients, mean)["of the first"].low)
    assert np.isnan(metrics.bootstrap(patients[:1], mean)["mean"].low)


def test_a_share_of_none_or_all_patients_has_an_exact_interval():
    def shares(items):
        return {"all": 1.0, "none": 0.0, "some": float(np.mean(items))}

    found = metrics.bootstrap([[x] for x in (0.0, 1.0) * 100], shares, shares=lambda key: True)
    assert found["all"].low == pytest.approx(0.9817, abs=1e-4) and found["all"].high == 1  # 200 of 200
    assert found["none"].high == pytest.approx(0.0183, abs=1e-4) and found["none"].low == 0
    assert 0.4 < found["some"].low < 0.5
    assert metrics.bootstrap([[1.0], [1.0]], shares)["all"].low == 1  # a figure that is not a share keeps its interval


# predictions


def test_a_perfect_prediction_has_no_error(folders):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("ref/a.json", reference("a", column()))
    found = evaluate(root)
    assert found.problems == []
    assert counts(found.scans)["found"] == 5
    for key in (("error", "point_mm"), ("error", "ratio"), ("line", "mean_mm"), ("agreement", "ratio", "sd")):
        assert value(found, *key) == pytest.approx(0, abs=1e-3)
    for kind in ("overlap", "center"):
        assert value(found, "detection", kind, "precision") == value(found, "detection", kind, "recall") == 1
    assert value(found, "severity", "vertebra", "G0-1 vs G2-3", "auc") == 1
    assert value(found, "line", "limits_mm") == pytest.approx(3)  # 10 and -120 against 12 and -124
    assert confusion(found.scans)[[0, 2], [0, 2]].tolist() == [4, 1]


def test_known_errors_come_back(folders):
    root, write = folders
    moved = column() + np.array([0.0, 3.0, 0.0])
    moved[:, 0, 0, 2] -= 2.0  # also the anterior superior point, 2 mm too low
    write("pred/a/analysis.json", analysis("a", moved))
    write("ref/a.json", reference("a", column()))
    found = evaluate(root)
    assert value(found, "error", "anterior_superior_mm") == pytest.approx(np.hypot(3, 2))
    assert value(found, "error", "posterior_inferior_mm") == pytest.approx(3)
    assert value(found, "error", "anterior_height_mm") == pytest.approx(2)
    assert value(found, "error", "height_mm") == pytest.approx(2 / 3)
    assert value(found, "error", "ratio") == pytest.approx(0.1)
    assert value(found, "agreement", "ratio", "bias") == pytest.approx(-0.1)
    assert value(found, "level", "T2", "ratio_bias") == pytest.approx(-0.1)


def test_names_are_right_wrong_or_not_given(folders):
    root, write = folders
    for case, names in (("a", ("T1", "T2", "T3", "T4", "T5")), ("b", ("T1", None, "T4", "T5", None))):
        record = analysis(case, column())
        for vertebra, name in zip(record["vertebrae"], names, strict=True):
            vertebra["level"] = name
        record["vertebrae"][3]["level_probabilities"] = {"T4": 0.7, "T5": 0.3}  # in a it is right, in b wrong
        write(f"pred/{case}/analysis.json", record)
        write(f"ref/{case}.json", reference(case, column()))
    found = evaluate(root)
    assert value(found, "names", "right") == pytest.approx(6 / 10)
    assert value(found, "names", "wrong") == pytest.approx(2 / 10)
    assert value(found, "names", "surely_wrong") == pytest.approx(1 / 10)
    assert value(found, "names", "scans_any_surely_wrong") == 0.5
    unsure = reference("a", column())
    unsure["vertebrae"][0]["level_certain"] = False
    write("ref/a.json", unsure)
    assert value(evaluate(root), "names", "right") == pytest.approx(5 / 9)
    record["vertebrae"][0]["pinned"] = True  # a reader named b: none of its names is in doubt
    write("pred/b/analysis.json", record)
    assert value(evaluate(root), "names", "surely_wrong") == pytest.approx(2 / 9)
    assert value(found, "names", "scans_all_right") == value(found, "names", "scans_any_wrong") == 0.5


def test_missed_false_and_partial_vertebrae_are_distinguished(folders):
    root, write = folders
    points = column(6)
    write("pred/a/analysis.json", analysis("a", points[1:]))
    write("ref/a.json", reference("a", points[:4], partial=((5.0, -38.0, -140.0),)))
    found = evaluate(root)
    assert found.scans[0].by_overlap == (3, 1, 1)  # the sixth is partial, the fifth does not exist
    assert found.scans[0].by_center == (3, 1, 1)
    assert value(found, "detection", "overlap", "precision") == pytest.approx(3 / 4)
    assert value(found, "level", "T1", "missed") == 1
    table = confusion(found.scans)
    assert table[0, 4] == 1 and table[4, 0] == 1


def test_a_failed_analysis_misses_all_vertebrae(folders):
    root, write = folders
    empty = {**to_json(SpineAnalysis("b_ct", status="no_spine_found")), "curve": []}
    write("pred/a/analysis.json", analysis("a", column()))
    write("pred/b_ct/analysis.json", empty)
    for case in "ab":
        write(f"ref/{case}.json", reference(case, column()))
    write("pred/c/analysis.json", analysis("c", column()[2:]))
    write("ref/c.json", reference("c", column()[2:]))  # the only patient without a fracture
    found = evaluate(root)
    assert counts(found.scans) | {"failed_scans": 1, "missed": 5, "vertebrae": 13} == counts(found.scans)
    assert value(found, "detection", "overlap", "recall_by_scan") == pytest.approx(2 / 3)
    assert value(found, "severity", "patient", "G0-1 vs G2-3", "auc") == 0.5  # a's fracture is found, b's is not
    assert value(found, "called", "patient", "sensitivity") == 0.5
    assert value(found, "called", "vertebra", "sensitivity") == 0.5
    evaluation_figure.write_predictions_figure(found, root / "figure.png")
    assert (root / "figure.png").stat().st_size > 10_000


def test_a_failure_on_a_healthy_spine_improves_no_figure(folders):
    root, write = folders
    for case, points in (("a", column()), ("b", column()[2:]), ("c", column()[2:])):
        write(f"pred/{case}/analysis.json", analysis(case, points))
        write(f"ref/{case}.json", reference(case, points))
    figures = [("severity", "patient", "G0-1 vs G2-3", "auc"), ("called", "patient", "specificity")]
    assert [value(evaluate(root), *key) for key in figures] == [1, 1]
    empty = {**to_json(SpineAnalysis("c", status="no_spine_found")), "curve": []}
    write("pred/c/analysis.json", empty)
    assert [value(evaluate(root), *key) for key in figures] == [0.5, 0.5]


def crushed(height: float) -> np.ndarray:
    """A column without wedges; the third vertebra has this share of the height of its neighbours."""
    points = column(fractured=0)
    points[0, 0, :, 2] = [10.0, -10.0]
    middle = points[2, ..., 2].mean()
    points[2, ..., 2] = middle + height * (points[2, ..., 2] - middle)
    return points


def test_grades_are_counted_as_reported_and_by_g_alone(folders):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", crushed(0.72)))
    write("ref/a.json", reference("a", crushed(0.55)))
    found = evaluate(root)
    assert confusion(found.scans)[0].tolist() == [5, 0, 0, 0, 0]  # every G is 1
    reported = reported_confusion(found.scans)
    assert reported[3, 2] == 1 and reported[0, 0] == reported.sum() - 1 == 4
    assert found.to_json()["confusion"]["true_by_reported"] == reported.tolist()
    assert value(found, "called", "vertebra", "sensitivity") == value(found, "called", "patient", "sensitivity") == 1


def test_of_a_reviewed_case_the_original_result_is_evaluated(folders):
    root, write = folders
    true = analysis("a", column())
    for vertebra in true["vertebrae"]:
        vertebra |= {"origin": "reader", "review": "confirmed"}
    write("pred/a/analysis.json", true)
    write("pred/a/machine.json", analysis("a", column() + [0.0, 2.0, 0.0]))
    write("ref/a.json", reference("a", column()))
    assert value(evaluate(root), "error", "point_mm") == pytest.approx(2)
    by_reader = evaluate_predictions(root / "pred", root / "ref", 0, reviewed=True)
    assert value(by_reader, "error", "point_mm") == pytest.approx(0) and not by_reader.problems
    own = evaluate_predictions(root / "pred", root / "pred", 0)  # the original against its own review
    assert value(own, "error", "point_mm") == pytest.approx(2) and not own.problems
    (root / "pred/a/machine.json").unlink()
    assert codes(evaluate(root).problems) == ["corrected"]


@pytest.mark.parametrize(("review", "found"), [("open", 4), ("confirmed", 5), ("rejected", 4)])
def test_a_vertebra_with_impossible_points_counts_only_if_a_reader_confirmed_it(folders, review, found):
    root, write = folders
    data = analysis("a", column())
    data["vertebrae"][2] |= {"review": review, "quality": [{"code": "impossible_points", "message": "It overlaps."}]}
    write("pred/a/analysis.json", data)
    write("ref/a.json", reference("a", column()))
    [scan] = evaluate_predictions(root / "pred", root / "ref", 0, reviewed=True).scans
    assert scan.by_overlap == (found, 0, 5 - found)


def test_a_folder_without_analyses_is_a_coded_failure(folders):
    root, write = folders
    write("pred/deep/a/analysis.json", analysis("a", column()))
    write("ref/a.json", reference("a", column()))
    with pytest.raises(VFQError, match=r"pred holds no CASE/analysis\.json") as failure:
        evaluate(root)
    assert failure.value.code == "nothing_to_evaluate"


def test_a_reviewed_analysis_is_a_reference_but_not_for_itself(folders):
    root, write = folders
    true = analysis("a", column())
    true["vertebrae"][4]["review"] = "rejected"
    write("ref/a/analysis.json", true)
    write("pred/a/analysis.json", analysis("a", column() + [0.0, 2.0, 0.0]))
    found = evaluate(root)
    assert found.scans[0].by_overlap == (4, 1, 0) and value(found, "error", "point_mm") == pytest.approx(2)
    with pytest.raises(VFQError) as failure:
        evaluate_predictions(root / "pred", root / "pred")
    assert failure.value.code == "nothing_to_evaluate"


def test_reported_standard_deviations_are_compared_with_the_errors(folders):
    root, write = folders
    record = analysis("a", column())
    for vertebra, spread in zip(record["vertebrae"], (0.1, 0.1, None, 0.1, 0.1), strict=True):
        vertebra["genant_spread"] = spread
    write("pred/a/analysis.json", record)
    true = column()
    true[0, 0, 0, 2] -= 3.0  # G 0.85 instead of 1; two standard deviations are 0.2
    true[2, 0, 0, 2] -= 3.0
    write("ref/a.json", reference("a", true))
    found = evaluate(root)
    assert value(found, "calibration", "error_by_spread") == pytest.approx(0.15 / 0.1 / 2)
    assert value(found, "calibration", "within_one") == pytest.approx(3 / 4)
    assert value(found, "calibration", "within_two") == 1


def test_limits_are_the_outermost_points_in_any_order(folders):
    root, write = folders
    mixed = reference("a", column()[[2, 0, 4, 1, 3]]) | {"centerline": []}
    write("pred/a/analysis.json", analysis("a", column()))  # 10 and -120
    write("ref/a.json", mixed)  # 10 and -122
    assert value(evaluate(root), "line", "limits_mm") == pytest.approx(1)


def test_cases_are_paired_by_name_then_by_the_beginning_of_a_name(folders):
    root, write = folders
    for case in ("x", "x-1", "x-1_ct_full", "x2", "y_ct", "y_spine"):
        write(f"pred/{case}/analysis.json", analysis(case, column()))
    for case in ("x-1", "x", "y", "z"):
        write(f"ref/{case}.json", reference(case, column()))
    found = evaluate(root)
    assert {s.case: s.patient for s in found.scans} == {
        **{"x": "x", "x-1": "x-1", "y_ct": "y", "y_spine": "y"},
        "x-1_ct_full": "x-1",  # the longest of the names that its own begins with
    }
    assert sorted(codes(found.problems)) == ["no_prediction", "no_reference"]
    assert counts(found.scans)["patients"] == 3


def test_overlap_is_measured_in_the_plane_and_matched_one_to_one():
    points = column()
    sideways = points + np.array([9.0, 0, 0])
    assert match_overlap(sideways, points).pairs == tuple((i, i) for i in range(5))
    assert match_overlap(points[:1] + [0, 0, 19.0], points[:1]).pairs == ()  # they share 5 % of either outline
    twice = match_overlap(np.concatenate([points[:1] + 0.5, points]), points)
    assert twice.false == (0,)
    assert is_partial(points, points[2].mean((0, 1))[None]).tolist() == [False, False, True, False, False]


def test_tasks_leave_out_what_the_paper_leaves_out():
    true = np.array([0.9, 0.81, 0.8, 0.75, 0.74, 0.5])
    sizes = {task: severity_labels(task, true, true)[1] for task in TASKS}
    assert [(len(p), p.sum()) for p in sizes.values()] == [(6, 4), (4, 2), (6, 2)]


def test_phantom_truth_is_a_reference(folders):
    root, write = folders
    assert sources.TRUTH_SCHEMA == TRUTH_SCHEMA
    truth = reference("", column())
    line = [[5.0, -40.0, 40.0 - s] for s in range(200)]
    truth = {k: truth[k] for k in ("space", "vertebrae", "partial")} | {"schema": TRUTH_SCHEMA, "curve": line}
    write("ref/a/truth.json", truth | {"limits_mm": [28.0, 164.0]})
    write("pred/a/analysis.json", analysis("a", column()))
    found = evaluate(root)
    assert found.scans[0].patient == "a"
    assert value(found, "line", "limits_mm") == pytest.approx(3)  # 10 and -120 against 12 and -124


def test_annotations_need_the_position_of_the_scan(folders):
    root, write = folders
    points = column() + np.array([0, 0, 40.0])
    write("ref/a.json", annotation(points, points))
    write("pred/a/analysis.json", analysis("a", points))
    with pytest.raises(VFQError, match="no_common_space") as failure:
        evaluate(root)
    assert failure.value.code == "nothing_to_evaluate"
    placed = analysis("a", points)
    shape, spacing = (301, 512, 480), np.array([PIXEL_MM, PIXEL_MM, annotations.SLICE_STEP_MM])
    for turned in itertools.product(
        (False, True), repeat=3
    ):  # axes to the left, posterior, caudal, and their opposites
        matrix = np.diag([*np.where(turned, spacing, -spacing), 1.0])
        matrix[:3, 3] = np.array([200, 200, 100]) - np.where(turned, (np.array(shape[::-1]) - 1) * spacing, 0)
        placed["source"] = {"shape": shape, "spacing_mm": (0.8, 0.625, 0.625), "ijk_to_ras": matrix.tolist()}
        write("pred/a/analysis.json", placed)
        assert value(evaluate(root), "error", "point_mm") == pytest.approx(0, abs=1e-3)
    order = [1, 2, 0]  # the same grid, stored sagittally
    matrix[:3, :3] = matrix[:3, order]
    source = {"shape": np.array(shape)[::-1][order][::-1].tolist(), "ijk_to_ras": matrix.tolist()}
    placed["source"] |= source | {"spacing_mm": spacing[order][::-1].tolist()}
    write("pred/a/analysis.json", placed)
    found = evaluate(root)
    assert value(found, "error", "point_mm") == pytest.approx(0, abs=1e-3) and not found.problems


# faulty input


BAD_VERTEBRAE = {
    "missing_points": lambda k: k[:2].tolist(),
    "not_finite": lambda k: np.where(k == k[0, 0, 0], np.nan, k).tolist(),
    "coincident_points": lambda k: np.broadcast_to(k[0, 0], k.shape).tolist(),
    "swapped_ends": lambda k: k[:, ::-1].tolist(),
    "swapped_sides": lambda k: k[::-1].tolist(),
    "wrong_axis_order": lambda k: k[..., ::-1].tolist(),
    "outside_volume": lambda k: (k + [0, 0, 900.0]).tolist(),
    "implausible_size": lambda k: (k + [[[0, 200.0, 0]], [[0, 0, 0]], [[0, 0, 0]]]).tolist(),
}


@pytest.mark.parametrize("code", BAD_VERTEBRAE)
@pytest.mark.parametrize("side", ["pred", "ref"])
def test_a_faulty_vertebra_is_reported_and_the_rest_evaluated(folders, code, side):
    root, write = folders
    data = {"pred": analysis("a", column()), "ref": reference("a", column())}
    data[side]["vertebrae"][3]["keypoints"] = BAD_VERTEBRAE[code](column()[3])
    write("pred/a/analysis.json", data["pred"])
    write("ref/a.json", data["ref"])
    found = evaluate(root)
    assert codes(found.problems) == [code]
    assert found.problems[0].file == {"pred": "a/analysis.json", "ref": "a.json"}[side]
    assert found.problems[0].vertebra == {"pred": "V4", "ref": "T4"}[side]
    # a measurement of a faulty vertebra of the reference is neither right nor wrong, if its points show where it is
    elsewhere = code in ("wrong_axis_order", "outside_volume", "coincident_points", "not_finite")
    assert found.scans[0].by_overlap == {"pred": (4, 0, 1), "ref": (4, int(elsewhere), 0)}[side]
    assert code in problems.PROBLEMS


@pytest.mark.parametrize(
    ("swap", "code"),
    [
        (lambda k: k[..., [0, 2, 1]], "wrong_axis_order"),
        (lambda k: k[..., [1, 0, 2]], "wrong_axis_order"),
        (lambda k: k * [-1, -1, 1], "swapped_sides"),  # LPS
        (lambda k: k[::-1, ::-1], "swapped_ends"),
        (lambda k: np.stack([k[0, ::-1], k[1], k[2]]), "swapped_ends"),
        (lambda k: k[[1, 0, 2]], "swapped_sides"),
        (lambda k: np.stack([k[[1, 0, 2], 0], k[:, 1]], 1), "swapped_sides"),  # one endplate
    ],
)
def test_confused_points_have_their_code(swap, code):
    assert problems.fault(swap(column()[0]))[0] == code
    assert problems.fault(column()[0]) is None


CONFUSED = ("swapped_ends", "swapped_sides", "crossed_points", "coincident_points", "wrong_axis_order")


def test_any_two_exchanged_points_are_noticed():
    for one, other in itertools.combinations(np.ndindex(3, 2), 2):
        points = column()[1]
        points[one], points[other] = points[other].copy(), points[one].copy()
        assert problems.fault(points)[0] in CONFUSED, (one, other)


def test_a_tilted_neck_and_a_scoliotic_vertebra_are_sound():
    for angle, axes in ((55, (1, 2)), (-55, (1, 2)), (60, (0, 2))):
        turn = np.eye(3)
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn[np.ix_(axes, axes)] = [[c, -s], [s, c]]
        assert problems.fault(column()[0] @ turn.T) is None


def test_faulty_files_are_reported(folders):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("pred/broken.json", None, text="{")
    write("pred/other.json", {"schema": "vfq-evaluation/1"})
    write("pred/list.json", [1])
    write("pred/c/analysis.json", analysis("c", column(), curve=[[0, 0, 0]]))
    odd = reference("a", column())
    odd["vertebrae"][0]["level"] = "Q7"
    odd["partial"] = [{"level": "L5", "center": [1, None, 2]}]
    write("ref/a.json", odd)
    write("ref/again.json", reference("a", column()))
    write("ref/lps.json", reference("b", column()) | {"space": "LPS_mm"})
    write("ref/c.json", reference("c", column()))
    found = evaluate(root)
    named = {(p.code, p.file) for p in found.problems}
    assert named == {
        ("not_json", "broken.json"),
        ("wrong_schema", "other.json"),
        ("wrong_schema", "list.json"),
        ("bad_curve", "c/analysis.json"),
        ("unknown_level", "a.json"),
        ("not_finite", "a.json"),
        ("duplicate_case", "again.json"),
        ("wrong_schema", "lps.json"),
    }
    assert all(s.by_overlap == (5, 0, 0) for s in found.scans)


def test_faulty_annotations_are_reported_and_the_rest_counted(folders):
    root, write = folders
    points = on_clicks(column(12), 0)
    data = annotation(points, points)
    marked = data["Annotation"]["expert1"]
    marked[0]["segments"] = marked[0]["segments"][:2]
    marked[1]["type"] = "Th99"
    marked[2]["type"] = "Th4"
    marked[4]["segments"] = [segment[::-1] for segment in marked[4]["segments"]]
    marked[5]["segments"][0][0] = marked[5]["segments"][0][0][::-1]
    marked[6]["segments"][1][0][0] = float("nan")
    marked[7]["segments"] = (np.array(marked[7]["segments"]) - 900).tolist()
    marked[8]["segments"] = [[p[::-1] for p in segment] for segment in marked[8]["segments"]]
    marked[9] = "not a vertebra"
    marked[10]["type"] = "S1"
    marked[11]["segments"][0][0][0] = True
    data["Annotation"]["expert2"][0]["segments"][0][0][0] = 10**400
    data["Annotation"] |= {"expert3": None, "expert4": None}  # a fourth expert does not count
    write("ann/p.json", data)
    write("ann/few.json", annotation(points[:2]))
    write("ann/none.json", {"Annotation": {"expert1": 3}})
    patients, found = annotations.read_annotations(root / "ann")
    by_vertebra = {p.vertebra: p.code for p in found if p.file == "p.json"}
    assert by_vertebra.pop("expert1 T6") in ("wrong_axis_order", "swapped_ends", "swapped_sides")
    assert by_vertebra == {
        "expert1 T1": "missing_points",
        "expert1 2": "unknown_level",
        "expert1 T4": "duplicate_level",
        "expert1 T5": "swapped_ends",
        "expert1 T7": "not_finite",
        "expert1 T8": "outside_volume",
        "expert1 T9": "wrong_axis_order",
        "expert1 10": "missing_points",
        "expert1 11": "unknown_level",
        "expert1 T12": "missing_points",
        "expert2 T1": "not_finite",
        "expert3": "wrong_schema",
    }
    assert {(p.code, p.file) for p in found if p.file != "p.json"} == {
        ("no_spacing", "few.json"),
        ("wrong_schema", "none.json"),
    }
    assert {p.name: sum(map(len, p.readings.values())) for p in patients} == {"few": 2, "p": 1 + 11}


def test_annotations_far_from_all_others_are_left_out(folders):
    root, write = folders
    points = on_clicks(column(12), 0)
    data = annotation(points, points)
    data["Annotation"]["expert1"][3]["segments"] = (
        np.array(data["Annotation"]["expert1"][3]["segments"]) + 5000
    ).tolist()
    write("ann/p.json", data)
    (patient,), found = annotations.read_annotations(root / "ann")
    assert [(p.code, p.vertebra) for p in found] == [("outside_volume", "expert1 T4")]
    assert "T4" not in patient.readings["expert1"] and "T4" in patient.readings["expert2"]


@pytest.mark.parametrize(
    "curve",
    [
        [[0, 0, 0], [0, None, 1], [0, 0, 2], [0, 0, 3]],
        [[0, 0, 0], [0, 0, 1e300], [0, 0, 2]],
        [[0, 0, 0], [0, 0, 1e7], [0, 0, 2]],
        "a line",
        {},
        [[0, 0]],
    ],
)
def test_a_faulty_curve_is_reported_and_its_scan_evaluated(folders, curve):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("ref/a.json", reference("a", column()) | {"centerline": curve})
    found = evaluate(root)
    assert [(p.code, p.file) for p in found.problems] == [("bad_curve", "a.json")]
    assert found.scans[0].by_overlap == (5, 0, 0)


def test_a_failed_scan_misses_the_vertebrae_that_it_shows_and_no_others(folders):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("ref/a.json", reference("a", column()))
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[:3, 3] = (-100.0, -140.0, -70.0)  # the lower half of the column lies below it
    scan = {"shape": (200, 300, 300), "spacing_mm": (1.0, 1.0, 1.0), "ijk_to_ras": matrix}
    write("pred/b/analysis.json", to_json(SpineAnalysis("b", status="no_spine_found", **scan)))
    write("ref/b.json", reference("b", column()))
    points = column() + np.array([0, 0, 40.0])
    write("pred/c/analysis.json", to_json(SpineAnalysis("c", status="corrupt_file")))
    write("ref/c.json", annotation(points, points))
    found = evaluate(root)
    assert [s.by_overlap for s in found.scans] == [(5, 0, 0), (0, 0, 3), (0, 0, 5)]
    assert counts(found.scans)["failed_scans"] == 2
    assert set(codes(found.problems)) == {"no_common_space", "outside_volume"}


def test_an_analysis_without_review_is_not_a_reference(folders):
    root, write = folders
    for folder in ("pred", "ref"):
        write(f"{folder}/a/analysis.json", analysis("a", column()))
    with pytest.raises(VFQError, match=r"uncorrected a/analysis\.json") as failure:
        evaluate(root)
    assert failure.value.code == "nothing_to_evaluate"
    with pytest.raises(VFQError):
        evaluate_predictions(root / "pred", root / "pred" / "a")


def test_a_single_reference_belongs_to_a_single_analysis_of_any_name(folders):
    root, write = folders
    write("pred/ct/analysis.json", analysis("ct", column()))
    truth = write("ph/truth.json", {**reference("", column()), "schema": TRUTH_SCHEMA, "curve": None})
    assert evaluate_predictions(root / "pred", truth, 0).scans[0].by_overlap == (5, 0, 0)
    with pytest.raises(VFQError, match=r"no_reference ct/analysis\.json"):
        evaluate_predictions(root / "pred", root / "ph", 0)


def test_a_second_scan_of_the_same_file_name_is_of_another_patient(folders):
    root, write = folders
    for case in ("ct", "ct-2"):
        write(f"pred/{case}/analysis.json", analysis(case, column()))
    write("ref/ct.json", reference("ct", column()))
    found = evaluate(root)
    assert [s.case for s in found.scans] == ["ct"] and codes(found.problems) == ["no_reference"]


def test_a_case_in_the_folder_itself_hides_no_other_case(folders):
    root, write = folders
    for case, place in (("a", "pred"), ("b", "pred/b"), ("c", "pred/c")):
        write(f"{place}/analysis.json", analysis(case, column()))
    write("pred/keypoints.mrk.json", {"markups": []})
    for case in "abc":
        write(f"ref/{case}.json", reference(case, column()))
    write("ref/truth.json", reference("d", column()))
    found = evaluate(root)
    assert [s.case for s in found.scans] == ["a", "b", "c"] and codes(found.problems) == ["no_prediction"]


def test_a_reference_without_vertebrae_is_reported(folders):
    root, write = folders
    for case, points in (("a", column()), ("b", column()[:0])):
        write(f"pred/{case}/analysis.json", analysis(case, column()))
        write(f"ref/{case}.json", reference(case, points))
    found = evaluate(root)
    assert codes(found.problems) == ["no_vertebra"] and len(found.scans) == 1


@pytest.mark.parametrize("content", [None, "[]", "{}"])
def test_no_usable_file_is_a_coded_failure(folders, content):
    root, write = folders
    if content:
        write("ref/a.json", None, text=content)
    for attempt in (lambda: annotations.read_annotations(root / "ref"), lambda: evaluate(root)):
        with pytest.raises(VFQError) as failure:
            attempt()
        assert failure.value.code == "nothing_to_evaluate"
    with pytest.raises(VFQError) as failure:
        sources.read_predictions(root / "absent")
    assert failure.value.code == "not_found"


# annotations


def test_the_pixel_size_comes_from_the_grid_of_clicks():
    points = on_clicks(column(12), 1)
    readings = annotation(points)["Annotation"]["expert1"]
    voxels = [np.array(v["segments"]) for v in readings]
    assert annotations.pixel_spacing(voxels) == PIXEL_MM
    blurred = [v + np.random.default_rng(0).normal(0, 0.2, v.shape) for v in voxels]
    assert annotations.pixel_spacing(blurred) is None
    assert annotations.pixel_spacing(voxels[:2]) is None


def test_experts_that_agree_have_no_scatter(folders):
    root, write = folders
    points = on_clicks(column(12), 2)
    for name in ("p", "q"):
        write(
            f"ann/{name}.json", annotation(points, points + [4.0, 0, 0], points)
        )  # a different plane is not a disagreement
    found = experts.evaluate_annotations(root / "ann", repeats=5)
    assert found.scatter.point_mm == pytest.approx(0, abs=1e-9) and found.scatter.vertebrae == 24
    assert found.scatter.ratio_sd == pytest.approx(0, abs=1e-9)
    assert found.agreements[0].estimates["agreement", "ratio", "sd"].value == pytest.approx(0, abs=1e-9)
    assert found.counts["mm"]["annotations"]["moderate"] == 6
    assert found.same_vertebrae


def test_the_scatter_is_the_standard_deviation_of_one_expert(folders):
    root, write = folders
    points = [on_clicks(column(12), seed) for seed in range(3)]
    write("ann/p.json", annotation(*points[:2]))
    write("ann/q.json", annotation(*points))
    found = experts.scatter(annotations.read_annotations(root / "ann")[0])
    ratios = [ratios_of(np.array(read)[..., 1:]) for read in points]
    pair = (ratios[0] - ratios[1]) ** 2 / 2
    three = np.var(ratios, axis=0, ddof=1)
    assert found.ratio_sd == pytest.approx(np.sqrt(np.r_[pair, three].mean()), rel=1e-6)


@pytest.mark.parametrize("decimals", range(4))
def test_rounded_points_give_no_pixel_size(data_dir, decimals):
    """Their rows and slices share the grid of the decimals, which would look like pixels of 0.8 mm."""
    for path in sorted((data_dir / "annotations").glob("*.json"))[:15]:
        marked = json.loads(path.read_text())["Annotation"]["expert1"]
        assert annotations.pixel_spacing([np.round(v["segments"], decimals) for v in marked]) is None


def test_the_published_data_table_is_reproduced(data_dir):
    patients, found = annotations.read_annotations(data_dir / "annotations")
    assert found == []
    assert experts.grade_counts(patients, "voxels") == experts.PUBLISHED_COUNTS
    stats = json.loads((data_dir / "annotations_stats.json").read_text())
    spacings = {p["file"]: p["pixel_spacing_mm"] for p in stats["per_patient"]}
    assert {p.file: p.pixel_mm for p in patients} == spacings
    in_mm = stats["counts"]["mm_moderate<=0.75"]
    assert experts.grade_counts(patients, "mm") == {
        "annotations": in_mm["annotations"],
        "patients": in_mm["patients_worst_of_any_expert_any_vertebra"],
    }
    scatter, known = experts.scatter(patients), stats["inter_expert_mm"]
    assert scatter.point_mm == pytest.approx(known["mean_point_distance_to_expert_mean_mm_in_plane"])
    levels = experts.level_statistics(patients)
    assert levels["T7"].grades == stats["by_level_mm"]["Th7"]["grades_mm_0.75"]
    assert levels["T7"].heights_mm[0] == pytest.approx(stats["by_level_mm"]["Th7"]["h_anterior_mean_sd"][0])


# the command


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(evaluation_figure, "DPI", 30)  # quick
    return lambda *args: CliRunner().invoke(app, ["evaluate", *map(str, args)])


def test_annotations_without_a_spacing_are_counted_and_drawn(folders, run):
    root, write = folders
    write("ann/p.json", annotation(column()[:1]))
    done = run("annotations", root / "ann", "--output", root / "out", "--repeats", 5)
    assert done.exit_code == 3, done.output  # nothing is measured in mm
    assert "no_spacing" in done.output and (root / "out" / "evaluation.png").stat().st_size > 1000


def test_a_figure_that_cannot_be_drawn_leaves_no_files(folders, run, monkeypatch):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("ref/a.json", reference("a", column()))

    def fail(*_):
        raise RuntimeError("no picture")

    monkeypatch.setattr(evaluation_figure, "write_predictions_figure", fail)
    call = ("predictions", root / "pred", "--reference", root / "ref", "--output", root / "out", "--repeats", 5)
    assert run(*call).exit_code == 3
    assert not list((root / "out").iterdir())


def test_the_command_writes_record_figure_and_rows_and_refuses_to_overwrite(folders, run):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("pred/b/analysis.json", {**to_json(SpineAnalysis("b", status="no_spine_found"))})
    write("ref/a.json", reference("a", column()))
    write("ref/b.json", reference("b", column()) | {"extra": float("nan")})
    call = ("predictions", root / "pred", "--reference", root / "ref", "--output", root / "out", "--repeats", 20)
    done = run(*call)
    assert done.exit_code == 0, done.output
    assert "Butterfly-IoU" in done.output and "Not for diagnosis" in done.output
    assert "Failed analyses: 1." in done.output and "no_spine_found  b" in done.output  # counted, so the status is 0
    record = json.loads((root / "out" / "evaluation.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["figures"]["detection"]["overlap"]["recall"]["value"] == 0.5
    assert (root / "out" / "evaluation.png").stat().st_size > 1000
    rows = list(csv.DictReader((root / "out" / "evaluation.csv").open()))
    assert [(r["case"], r["outcome"]) for r in rows] == [("a", "found")] * 5 + [("b", "missed")] * 5
    assert rows[1]["true_grade"] == rows[1]["grade"] == "moderate" and rows[1]["true_level"] == "T2"
    assert float(rows[1]["genant_ratio"]) == pytest.approx(MODERATE_FRONT) and rows[1]["anterior_height_mm"] == "14.00"
    assert rows[6]["true_genant_ratio"] == "0.7000" and rows[6]["genant_ratio"] == ""
    assert not list((root / "out").glob(".partial*"))
    again = run(*call)
    assert again.exit_code == 3 and "output_exists" in again.output
    assert run(*call, "--overwrite").exit_code == 0


def test_the_command_reports_problems_of_annotations(folders, run):
    root, write = folders
    points = on_clicks(column(12), 3)
    data = annotation(points, on_clicks(points, 4))
    data["Annotation"]["expert2"][3]["segments"][0] = []
    write("ann/p.json", data)
    write("ann/unscaled.json", annotation(points[:1], points[:1]))
    done = run("annotations", root / "ann", "--output", root / "out", "--repeats", 0)
    assert done.exit_code == 3, done.output
    assert "missing_points" in done.output and "expert2 T4" in done.output and "no_spacing" in done.output
    assert "What to do:" in done.output and "missing_points  Mark all six points" in done.output
    assert len(json.loads((root / "out" / "evaluation.json").read_text())["problems"]) == 2
    nothing = run("annotations", root / "pred", "--output", root / "other")
    assert nothing.exit_code == 3 and "nothing_to_evaluate" in nothing.output


@pytest.mark.parametrize(
    ("name", "content", "code", "remedy"),
    [
        ("pred/b/analysis.json", "{", "not_json", "Check the file in a text editor"),
        ("pred/b/analysis.json", '{"schema": "vfq-analysis/9"}', "wrong_schema", "write the file again"),
        ("ref/b.json", "[]", "wrong_schema", "write the file again"),
        ("ref/b.json", json.dumps(reference("b", column())), "no_prediction", "Analyse the scan of the reference"),
        ("pred/b/analysis.json", json.dumps(analysis("b", column())), "no_reference", "Name the reference as the case"),
    ],
)
def test_the_command_evaluates_the_rest_and_ends_with_status_3(folders, run, name, content, code, remedy):
    root, write = folders
    write("pred/a/analysis.json", analysis("a", column()))
    write("ref/a.json", reference("a", column()))
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)
    call = ("predictions", root / "pred", "-r", root / "ref", "-o", root / "out", "--repeats", 0)
    done = run(*call)
    assert done.exit_code == 3, done.output
    assert any(line.startswith(f"{code}  b") for line in done.output.splitlines())
    assert remedy in " ".join(done.output.split())
    assert "A part of the input was not evaluated." in done.output
    record = json.loads((root / "out" / "evaluation.json").read_text())
    assert record["counts"]["scans"] == 1 and [p["code"] for p in record["problems"]] == [code]
    (root / name).unlink()
    assert run(*call, "--overwrite").exit_code == 0


def test_every_problem_says_what_to_do():
    assert all(p.meaning and p.remedy.endswith(".") for p in problems.PROBLEMS.values())
