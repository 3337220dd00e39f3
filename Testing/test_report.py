"""The outputs: table, Slicer markups, straightened volume, overview image, and a folder that is complete or absent."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from rich.console import Console
from rich.table import Table
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import compare, match, point_errors
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.report import overview
from VertebralFractureQuantLib.report.document import make_report, report_text
from VertebralFractureQuantLib.report.markups import GRADE_COLORS, markups_document, read_markups, write_markups
from VertebralFractureQuantLib.report.names import case_name, case_names
from VertebralFractureQuantLib.report.outputs import check_output, write_outputs
from VertebralFractureQuantLib.report.overview import draw_overview, spread, write_overview
from VertebralFractureQuantLib.report.panels import patient_panel, straightened_panel
from VertebralFractureQuantLib.report.tables import COLUMNS, measurement_rows, write_measurements
from VertebralFractureQuantLib.report.terminal import case_table, comparison_table, doubt_lines, vertebra_table
from VertebralFractureQuantLib.report.wording import Wording
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.genant import deciding_ratio, deciding_text, grade, measure_column
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra, vertebra_name, worst_text
from VertebralFractureQuantLib.spine.record_json import from_json


def box(center: tuple[float, float, float], anterior_height: float = 22.0, height: float = 22.0) -> np.ndarray:
    """Key points of a vertebra 24 mm deep around `center`, with the given anterior and other heights in mm."""
    points = np.empty((3, 2, 3))
    for p, (ahead, h) in enumerate(((12, anterior_height), (0, height), (-12, height))):
        points[p] = np.array([[0.5, ahead, h / 2], [-0.5, ahead, -h / 2]]) + center
    return points


@pytest.fixture
def ct() -> CTVolume:
    """A volume whose voxel values encode their place: 2 mm voxels, R -20..40, A -50..70, S -160..0."""
    k, j, i = np.indices((81, 61, 31))
    voxels = (10 * k + 2 * j + i - 200).astype(np.int16)
    matrix = np.array([[-2.0, 0, 0, 40], [0, -2.0, 0, 70], [0, 0, 2.0, -160], [0, 0, 0, 1]])
    return CTVolume(voxels, matrix, "asymmetric", ())


@pytest.fixture
def analysis() -> SpineAnalysis:
    """Four vertebrae on a straight curve at R = 10, A = 10; the third is a severe wedge."""
    keypoints = [box((10, 10, -30.0)), box((10, 10, -58.0)), box((10, 10, -86.0), 12.0), box((10, 10, -114.0))]
    levels = ("T7", "T8", "T9", None)
    return SpineAnalysis(
        "case",
        shape=(81, 61, 31),
        spacing_mm=(2.0, 2.0, 2.0),
        models=(ModelStamp("detector", "d", "abcdef" * 10),),
        curve=np.stack([np.full(141, 10.0), np.full(141, 10.0), -np.arange(141.0)], axis=1),
        limits_mm=(10.0, 130.0),
        vertebrae=tuple(
            Vertebra(k, m, 0.9, level) for k, m, level in zip(keypoints, measure_column(keypoints), levels, strict=True)
        ),
        timing_s={"total": 1.0},
    )


def with_heights(analysis: SpineAnalysis, *heights: tuple[float, float]) -> SpineAnalysis:
    """`analysis` with vertebrae of the given (anterior, other) heights in mm, measured again."""
    slant = 1.0  # mm that each height of `box` runs from right to left
    up = np.sqrt(np.square(heights) - slant**2)
    keypoints = [box((10, 10, -30.0 - 28 * i), *h) for i, h in enumerate(up)]
    pairs = zip(analysis.vertebrae, keypoints, measure_column(keypoints), strict=True)
    return replace(analysis, vertebrae=tuple(replace(v, keypoints=k, measurement=m) for v, k, m in pairs))


@pytest.fixture
def crushed(analysis) -> SpineAnalysis:
    """The second vertebra of `analysis` is a mild wedge, G 0.77, the third a crush: G 1.00, 0.57 of its neighbours."""
    return with_heights(analysis, (22, 22), (17, 22), (12.7, 12.7), (23, 23))


@pytest.fixture
def at_thresholds(analysis) -> SpineAnalysis:
    """G is 0.803, 0.754, 0.746 and 0.604: to two digits three of the four contradict their grade."""
    return with_heights(analysis, *[(22 * g, 22) for g in (0.803, 0.754, 0.746, 0.604)])


def overview_texts(analysis: SpineAnalysis, ct: CTVolume) -> list[str]:
    return [t.get_text() for axes in draw_overview(analysis, ct).axes for t in axes.texts]


def lines(table: Table) -> list[list[str]]:
    """Return the texts of a table, row by row."""
    return [
        [str(cell).strip() for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)
    ]


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    monkeypatch.setattr(overview, "DPI", 40)


# --- measurements.csv


def test_the_table_has_a_row_for_each_vertebra_with_the_values_of_the_record(analysis, tmp_path):
    write_measurements(analysis, tmp_path / "measurements.csv")
    with (tmp_path / "measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == ["T7", "T8", "T9", ""]
    assert tuple(rows[0]) == COLUMNS and len(COLUMNS) == 37 + 18
    wedge = rows[2]
    assert (wedge["index"], wedge["grade"], wedge["shape"]) == ("3", "severe", "wedge")
    assert float(wedge["genant_ratio"]) == pytest.approx(analysis.vertebrae[2].measurement.genant_ratio, abs=1e-4)


def test_each_coordinate_column_names_its_own_point_and_axis(analysis):
    row = measurement_rows(analysis)[2]
    assert row["anterior_superior_a"] == "22.000"
    assert row["anterior_superior_s"] == "-80.000"
    assert row["posterior_inferior_r"] == "9.500"
    assert row["middle_inferior_s"] == "-97.000"


def test_each_measurement_column_has_its_own_value(analysis):
    """No two values are equal, so that swapped cells are noticed."""
    [m] = measure_column([box((10, 10, -30.0))])
    m = replace(m, heights_mm=(17.51, 18.52, 22.53), genant_ratio=0.7772, borderline=True, crush_ratio=0.8313)
    machine = Vertebra(box((0, 0, 0)), m, 0.9, "T7", spread=0.0214, level_probabilities={"T6": 0.03, "T7": 0.97})
    reader = replace(
        machine, measurement=replace(m, borderline=False, crush_ratio=None), origin="reader", review="rejected"
    )
    found, moved = measurement_rows(replace(analysis, vertebrae=(machine, replace(reader, spread=None))))
    heights = {"ha_mm": "17.51", "hm_mm": "18.52", "hp_mm": "22.53"}
    assert found | heights == found
    told = ("level_probability", "genant_ratio", "genant_spread", "borderline", "crush_ratio", "score")
    assert [found[key] for key in told] == ["0.9700", "0.7772", "0.0214", 1, "0.8313", "0.9000"]
    assert [found[key] for key in ("origin", "review")] == ["model", "open"]
    changed = ("borderline", "genant_spread", "crush_ratio", "origin", "review")
    assert [moved[key] for key in changed] == [0, "", "", "reader", "rejected"]


# --- ratios in words


def test_the_ratio_that_decided_a_grade_is_recovered_from_the_measurement():
    heights = np.random.default_rng(0).uniform(9, 24, (400, 5, 3))
    columns = [[np.stack([box((0, 0, 0.0), h)[0] for h in body]) for body in bodies] for bodies in heights]
    measured = [m for column in columns for m in measure_column(column)]
    assert [grade(deciding_ratio(m)) for m in measured] == [m.grade for m in measured]
    assert sum(deciding_ratio(m) < m.genant_ratio and grade(m.genant_ratio) != m.grade for m in measured) > 20


def test_the_crush_ratio_is_shown_only_if_it_decided_the_grade(crushed):
    t7, t8, t9, _ = (v.measurement for v in crushed.vertebrae)
    assert (t9.shape, t9.grade) == ("crush", "severe")
    assert [deciding_text(m) for m in (t7, t8, t9)] == ["1.00", "0.77", "1.00 (0.57 of neighbours)"]
    assert deciding_text(replace(t8, crush_ratio=0.76)) == "0.77"  # G alone gives its grade
    both = replace(t9, genant_ratio=0.7, shape="wedge")
    assert deciding_text(both) == "0.70 (0.57 of neighbours)"
    assert deciding_text(replace(both, crush_ratio=None)) == "0.70"


def test_the_worst_vertebra_is_named_with_its_own_ratio(crushed):
    assert worst_text(crushed) == "T9 severe 1.00 (0.57 of neighbours)"
    vertebrae = list(crushed.vertebrae)
    vertebrae[2] = replace(vertebrae[2], review="rejected")
    assert worst_text(replace(crushed, vertebrae=tuple(vertebrae))) == "T8 mild 0.77"
    assert worst_text(replace(crushed, vertebrae=())) is None


def test_of_two_equal_grades_the_lower_deciding_ratio_is_the_worst(analysis):
    severe = with_heights(analysis, (22, 22), (11.6, 11.6), (22, 22), (13, 22))
    assert [v.measurement.grade for v in severe.vertebrae] == ["normal", "severe", "normal", "severe"]
    assert worst_text(severe) == "T8 severe 1.00 (0.55 of neighbours)"


# --- tables for the terminal


def test_no_ratio_in_the_terminal_contradicts_its_grade(at_thresholds):
    ratios = ["0.803 ~", "0.754 ~", "0.746 ~", "0.604 ~"]
    assert [row[4] for row in lines(vertebra_table(at_thresholds))] == ratios
    truth = np.array([v.keypoints for v in at_thresholds.vertebrae])
    compared = lines(comparison_table(compare(at_thresholds, truth, ["T7", "T8", "T9", "T10"])))
    assert [row[1:3] for row in compared] == [[r, r] for r in ratios]
    assert lines(case_table([at_thresholds]))[0][2] == "V4 moderate 0.604"


def test_the_terminal_shows_the_ratio_that_decided_a_crush(crushed):
    assert [row[4] for row in lines(vertebra_table(crushed))] == [
        "1.00",
        "0.77 ~",
        "1.00 (0.57 of neighbours) ~",
        "1.00",
    ]


def test_the_row_of_a_case_does_not_count_rejected_vertebrae(crushed):
    [row] = lines(case_table([crushed]))
    assert row == ["case", "4", "T9 severe 1.00 (0.57 of neighbours)", "4", "2", "0", "ok", "1.0"]
    vertebrae = list(crushed.vertebrae)
    vertebrae[2] = replace(vertebrae[2], review="rejected")
    [row] = lines(case_table([replace(crushed, vertebrae=tuple(vertebrae))]))
    assert row == ["case", "3", "T8 mild 0.77", "1", "1", "0", "ok", "1.0"]
    [failed] = lines(case_table([SpineAnalysis("bad", "not_ct", "No.")]))
    assert failed == ["bad", "", "", "", "", "", "not_ct", ""]


OFF_BONE = Flag("curve_off_bone", "The curve may have left the spine: T8 and T9. Press s.", ("T8", "T9"))
THICK = Flag("thick_slices", "The slices are 5.0 mm apart.")


@pytest.fixture
def doubted(analysis):
    """T9 is severe and physiologic, and the curve is in doubt at T8 and T9."""
    vertebrae = list(analysis.vertebrae)
    vertebrae[1] = replace(vertebrae[1], quality=(replace(OFF_BONE, where=()),))
    vertebrae[2] = replace(vertebrae[2], physiologic="Lower in front, as usual for T9.", quality=(OFF_BONE, THICK))
    return replace(analysis, vertebrae=tuple(vertebrae), quality=(OFF_BONE, THICK))


def test_the_terminal_shows_doubts_and_leaves_physiologic_shapes_out(doubted):
    [row] = lines(case_table([doubted]))
    assert row[2] == "T7 normal 1.00; T9 physiologic, counted as normal"
    assert (row[3], row[5]) == ("0", "2")
    rows = lines(vertebra_table(doubted))
    assert rows[2][5] == "severe, physiologic"
    assert [r[8] for r in rows] == ["", "curve_off_bone", "curve_off_bone, thick_slices", ""]
    assert [str(line) for line in doubt_lines(doubted)] == [
        OFF_BONE.message,
        THICK.message,
        "Physiologic, counted as normal: T9: Lower in front, as usual for T9.",
    ]


def test_the_table_on_disk_names_doubts_and_why_a_shape_is_physiologic(doubted, tmp_path):
    write_measurements(doubted, tmp_path / "measurements.csv")
    with (tmp_path / "measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["quality"] for row in rows] == ["", "curve_off_bone", "curve_off_bone thick_slices", ""]
    assert rows[2]["physiologic"] == "Lower in front, as usual for T9." and rows[2]["grade"] == "severe"
    assert rows[0]["physiologic"] == ""


def test_the_overview_marks_doubts_and_physiologic_shapes(doubted, ct):
    texts = [t.get_text() for axes in draw_overview(doubted, ct).axes for t in axes.texts]
    assert "! curve_off_bone T8 and T9, thick_slices" in texts
    assert any("(physiologic)" in t and t.endswith("!") for t in texts)
    assert any("T9 physiologic, counted as normal" in t and "SDI 0" in t for t in texts)


@pytest.mark.parametrize("width", [80, 160])
def test_a_narrow_terminal_wraps_the_ratio_of_a_crush_and_cuts_nothing_off(crushed, width):
    for table in (case_table([crushed]), vertebra_table(crushed)):
        console = Console(width=width, file=io.StringIO())
        console.print(table)
        text = console.file.getvalue()
        assert "\N{HORIZONTAL ELLIPSIS}" not in text and "0.57" in text and "neighbours" in text


# --- keypoints.mrk.json


def test_markups_on_disk_are_lps_in_the_order_of_the_outline():
    """A golden file by hand: no two numbers are equal, so that a swapped axis or point is noticed."""
    points = np.array([[[1, 2, 3], [4, 5, 7]], [[11, 12, 13], [14, 15, 17]], [[21, 22, 23], [24, 25, 29]]], float)
    [measurement] = measure_column(points[None])
    document = markups_document(SpineAnalysis("case", vertebrae=(Vertebra(points, measurement, level="T7"),)))
    [markup] = document["markups"]
    assert "markups-schema-v1.0.3.json" in document["@schema"]
    assert (markup["type"], markup["coordinateSystem"]) == ("ClosedCurve", "LPS")
    assert markup["fixedNumberOfControlPoints"] is True
    assert markup["display"]["sliceProjection"] is True
    assert [(p["label"], p["position"]) for p in markup["controlPoints"]] == [
        ("T7 A+", [-1, -2, 3]),
        ("T7 M+", [-11, -12, 13]),
        ("T7 P+", [-21, -22, 23]),
        ("T7 P-", [-24, -25, 29]),
        ("T7 M-", [-14, -15, 17]),
        ("T7 A-", [-4, -5, 7]),
    ]


def test_markups_are_named_and_coloured_by_the_measurement(analysis):
    markups = markups_document(analysis)["markups"]
    assert [m["name"] for m in markups] == ["T7 G 1.00", "T8 G 1.00", "T9 G 0.55", "V4 G 1.00"]
    assert markups[2]["display"]["selectedColor"] == list(GRADE_COLORS["severe"])


def test_no_ratio_of_the_markups_contradicts_its_colour(at_thresholds, crushed):
    names = [m["name"] for m in markups_document(at_thresholds)["markups"]]
    assert names == ["T7 G 0.803", "T8 G 0.754", "T9 G 0.746", "V4 G 0.604"]
    assert markups_document(crushed)["markups"][2]["name"] == "T9 G 1.00 (0.57 of neighbours)"


def test_markups_are_read_as_they_were_written(analysis, tmp_path):
    write_markups(analysis, tmp_path / "k.mrk.json")
    back = read_markups(tmp_path / "k.mrk.json")
    assert [name for name, _ in back] == ["T7 G 1.00", "T8 G 1.00", "T9 G 0.55", "V4 G 1.00"]
    np.testing.assert_array_equal([k for _, k in back], [v.keypoints for v in analysis.vertebrae])


def test_markups_keep_every_digit(tmp_path):
    points = box((1 / 3, -2 / 7, 1e3 / 9))
    [measurement] = measure_column(points[None])
    write_markups(SpineAnalysis("case", vertebrae=(Vertebra(points, measurement),)), tmp_path / "k.mrk.json")
    np.testing.assert_array_equal(read_markups(tmp_path / "k.mrk.json")[0][1], points)


def test_markups_in_ras_are_read_unchanged_and_other_markups_are_ignored(analysis, tmp_path):
    document = markups_document(analysis)
    for markup in document["markups"]:
        markup["coordinateSystem"] = "RAS"
    document["markups"].append({"type": "Fiducial", "controlPoints": []})
    (tmp_path / "k.mrk.json").write_text(json.dumps(document))
    back = read_markups(tmp_path / "k.mrk.json")
    assert len(back) == 4
    assert back[0][1][0, 0] == pytest.approx([-10.5, -22.0, -19.0])


def test_a_file_without_markups_is_refused(tmp_path):
    (tmp_path / "k.mrk.json").write_text("{}")
    with pytest.raises(ValueError, match="not a Slicer markups file"):
        read_markups(tmp_path / "k.mrk.json")


# --- overview.png


def test_labels_keep_their_order_and_distance_and_move_as_little_as_possible():
    moved = spread(np.array([5.0, 1.0, 1.1, 1.05]), gap=0.5, low=0.0, high=10.0)
    assert moved[0] == 5.0
    assert np.diff(np.sort(moved)).min() >= 0.5 - 1e-9
    assert list(np.argsort(moved)) == [1, 3, 2, 0]
    assert moved[1:].mean() == pytest.approx(1.05)


def test_labels_stay_on_the_sheet_even_if_there_is_too_little_room():
    moved = spread(np.full(11, 9.0), gap=2.0, low=0.0, high=10.0)
    np.testing.assert_allclose(np.sort(moved), np.arange(11.0), atol=1e-9)
    assert spread(np.array([]), 1.0, 0.0, 1.0).size == 0


def test_the_straightened_panel_shows_the_points_where_their_voxels_are(analysis, ct):
    panel = straightened_panel(analysis, ct, fit_curve(analysis.curve))
    a, s = panel.points[2, 0, 0]
    row, column = np.abs(panel.up - s).argmin(), np.abs(panel.across - a).argmin()
    beside_the_point = np.array([10.0, *analysis.vertebrae[2].keypoints[0, 0, 1:]])
    assert panel.image[row, column] == pytest.approx(ct.sample(beside_the_point[None])[0], abs=3)


def test_the_patients_panel_follows_a_scoliotic_curve_from_side_to_side(analysis, ct):
    bent = analysis.curve.copy()
    bent[:, 0] += 20 * np.sin(np.pi * bent[:, 2] / 140)
    panel = patient_panel(analysis, ct, fit_curve(bent))
    for s in (-40.0, -70.0, -110.0):
        row, column = np.abs(panel.up - s).argmin(), np.abs(panel.across - 20.0).argmin()
        place = [np.interp(-panel.up[row], -bent[:, 2], bent[:, 0]), panel.across[column], panel.up[row]]
        assert panel.image[row, column] == pytest.approx(ct.sample(np.array([place]))[0], abs=1)


def test_each_scale_bar_is_as_long_as_it_says(analysis, ct):
    lengths = []
    for axes in draw_overview(analysis, ct).axes[:2]:
        [text] = [t for t in axes.texts if t.get_text().endswith(" mm")]
        x, y = text.get_position()
        level = [line for line in axes.lines if len(line.get_xdata()) == 2 and np.ptp(line.get_ydata()) == 0]
        [bar] = [line for line in level if line.get_xdata()[0] == x and abs(line.get_ydata()[0] - y) < 10]
        assert np.ptp(bar.get_xdata()) == pytest.approx(float(text.get_text().removesuffix(" mm")))
        lengths.append(text.get_text())
    assert lengths == ["10 mm", "50 mm"]


def test_a_level_in_doubt_has_its_question_mark_in_both_columns_of_the_overview(analysis, ct):
    doubtful = replace(analysis.vertebrae[1], level_probabilities={"T8": 0.6, "T9": 0.4})
    texts = overview_texts(replace(analysis, vertebrae=(analysis.vertebrae[0], doubtful)), ct)
    assert (texts.count("T7"), texts.count("T8?"), texts.count("T8")) == (2, 2, 0)


def test_a_rejected_vertebra_is_grey_and_dashed_and_has_no_grade(analysis, ct):
    rejected = replace(analysis.vertebrae[2], review="rejected")
    figure = draw_overview(replace(analysis, vertebrae=(analysis.vertebrae[0], rejected)), ct)
    for axes in figure.axes[:2]:
        drawn = {line.get_color() if line.get_marker() == "None" else line.get_mfc() for line in axes.lines}
        assert drawn == {GRADE_COLORS["normal"], overview.REJECTED, overview.INK}
        assert [line.get_color() for line in axes.lines if line.get_linestyle() == "--"] == [overview.REJECTED]
    labels = {t.get_text(): t.get_color() for t in figure.axes[2].texts}
    assert labels["T9"] == labels["rejected"] == overview.REJECTED
    assert "0.55 severe wedge" not in labels and "worst T7 normal 1.00" in next(k for k in labels if "SDI" in k)


def test_no_ratio_of_the_overview_contradicts_its_grade(at_thresholds, ct):
    texts = overview_texts(at_thresholds, ct)
    for ratio, verdict in (("0.803", "~"), ("0.754", "mild wedge ~"), ("0.746", "moderate wedge ~")):
        assert ratio in texts and f"{ratio} {verdict}" in texts
    assert any(t.startswith("worst V4 moderate 0.604 ") for t in texts)


def test_the_overview_shows_the_ratio_that_decided_a_crush(crushed, ct):
    texts = overview_texts(crushed, ct)
    assert {"1.00 (0.57 of neighbours) severe crush ~", "1.00 (0.57 of neighbours)"} <= set(texts)
    assert any(t.startswith("worst T9 severe 1.00 (0.57 of neighbours) ") and "SDI 4" in t for t in texts)


def test_letters_that_no_font_has_give_no_warning(analysis, ct, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(overview, "FONTS", ("DejaVu Sans", "No Such Font", "STIXGeneral"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        write_overview(replace(analysis, case="患者_検査 ตรวจ"), ct, tmp_path / "overview.png")
    assert not warned and not caplog.records
    assert (tmp_path / "overview.png").stat().st_size > 0


def test_a_heading_uses_other_fonts_for_letters_that_the_first_font_lacks(analysis, ct, monkeypatch, recwarn):
    monkeypatch.setattr(overview, "FONTS", ("DejaVu Sans", "No Such Font", "STIXGeneral"))
    # DejaVu Sans lacks the circled A, STIX has it; both come with matplotlib.
    draw_overview(replace(analysis, case="\N{CIRCLED LATIN CAPITAL LETTER A}"), ct).canvas.draw()
    assert not recwarn.list


@pytest.mark.parametrize("letter", ["W", "i", "患"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_long_heading_is_shortened_to_the_width_of_the_sheet_whatever_its_letters(analysis, ct, letter):
    figure = draw_overview(replace(analysis, case=letter * 250), ct)
    [heading] = [t for t in figure.axes[2].texts if t.get_text().startswith(letter)]
    assert heading.get_text().endswith("...")
    assert 0.9 * figure.bbox.width < heading.get_window_extent().x1 < figure.bbox.width


def test_no_two_texts_of_the_overview_overlap_and_all_lie_on_the_sheet(crushed, at_thresholds, ct):
    doubtful = [
        replace(v, level="T13", level_probabilities={"T13": 0.5, "T12": 0.5})
        for v in (*at_thresholds.vertebrae, *crushed.vertebrae)
    ]
    crowd = replace(crushed, case="a long name, with $ and _ " * 3, vertebrae=(*doubtful, *crushed.vertebrae * 3))
    figure = draw_overview(crowd, ct)
    figure.canvas.draw()
    boxes = [t.get_window_extent() for axes in figure.axes for t in axes.texts]
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert not overlaps
    labels = [t.get_window_extent() for t in figure.axes[2].texts]
    assert not any(label.overlaps(panel.bbox) for label in labels for panel in figure.axes[:2])
    assert all(b.x0 >= 0 and b.x1 <= figure.bbox.x1 and b.y0 >= 0 and b.y1 <= figure.bbox.y1 for b in boxes)


def test_the_overview_shows_grade_and_ratio_and_that_it_is_not_for_diagnosis(analysis, ct):
    texts = overview_texts(analysis, ct)
    assert "0.55 severe wedge" in texts
    assert any("worst T9 severe 0.55" in t and "SDI 3" in t for t in texts)
    assert "Research use only - not for diagnosis" in texts
    assert any("detector abcdefab" in t for t in texts)


def test_both_pictures_have_one_true_scale_with_anterior_on_the_left(analysis, ct):
    figure = draw_overview(analysis, ct)
    scales = []
    for axes in figure.axes[:2]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left > right and top > bottom
        scales += [axes.bbox.width / (left - right), axes.bbox.height / (top - bottom)]
    np.testing.assert_allclose(scales, scales[0], rtol=1e-6)


def test_the_pixels_of_both_panels_lie_where_their_axes_say(analysis, ct, monkeypatch):
    step = 4  # a chequered image of other values at each place
    painted = []
    for name in ("straightened_panel", "patient_panel"):
        panel = getattr(overview, name)(analysis, ct, overview.fit_curve(analysis.curve))
        rows, columns = np.indices(panel.image.shape) // step
        image = np.where((rows * 7 + columns * 3) % 5 < 2, 950.0, -250.0)
        painted.append(replace(panel, image=image, points=panel.points[:0]))
    monkeypatch.setattr(overview, "straightened_panel", lambda *_: painted[0])
    monkeypatch.setattr(overview, "patient_panel", lambda *_: painted[1])
    figure = draw_overview(replace(analysis, vertebrae=()), ct)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., 1]
    for panel, axes in zip(painted, figure.axes, strict=False):
        row, column = np.indices(panel.image.shape)[:, 1::2, 1::2].reshape(2, -1)
        x, y = axes.transData.transform(np.stack([panel.across[column], panel.up[row]], axis=1)).T
        shown = drawn[len(drawn) - 1 - y.astype(int), x.astype(int)]
        expected = np.where(panel.image[row, column] > 0, 255, 0)
        assert np.mean(abs(shown - expected) < 64) > 0.9  # letters and the scale bar cover some


def test_a_study_without_vertebrae_is_still_drawn(analysis, ct):
    assert len(draw_overview(replace(analysis, vertebrae=()), ct).axes) == 3


# --- the folder


def test_a_measured_case_gets_all_five_files_and_nothing_else(analysis, ct, tmp_path):
    folder = write_outputs(analysis, ct, tmp_path / "new" / "out")
    assert folder == tmp_path / "new" / "out" / "case"
    names = {"analysis.json", "measurements.csv", "keypoints.mrk.json", "straightened.nrrd", "overview.png"}
    assert {p.name for p in folder.iterdir()} == names
    assert [p.name for p in folder.parent.iterdir()] == ["case"]
    back = from_json(json.loads((folder / "analysis.json").read_text()))
    assert back.patient_grade == "severe"


def test_the_straightened_volume_has_patient_voxels_at_its_straight_coordinates(analysis, ct, tmp_path):
    image = sitk.ReadImage(str(write_outputs(analysis, ct, tmp_path) / "straightened.nrrd"))
    assert image.GetPixelID() == sitk.sitkInt16
    right, anterior, up = 6.0, -14.0, -50.0
    index = image.TransformPhysicalPointToIndex((-right, -anterior, up))
    # The curve runs straight down at R = 10, A = 10 from S = 0, so straight space is only shifted.
    assert image[index] == pytest.approx(ct.sample(np.array([[10 + right, 10 + anterior, up]]))[0], abs=1)


def test_a_failed_case_gets_only_its_reason(tmp_path):
    folder = write_outputs(SpineAnalysis("bad", "no_spine_found", "No spine."), None, tmp_path)
    assert [p.name for p in folder.iterdir()] == ["analysis.json"]
    assert json.loads((folder / "analysis.json").read_text())["status"] == "no_spine_found"


def test_the_record_of_a_failure_is_replaced_but_no_file_of_others(analysis, ct, tmp_path):
    failed = SpineAnalysis("case", "bad_weights", "Give other weights.")
    write_outputs(failed, None, tmp_path)
    folder = write_outputs(analysis, ct, tmp_path)
    assert json.loads((folder / "analysis.json").read_text())["status"] == "ok"
    write_outputs(failed, None, tmp_path, overwrite=True)
    (folder / "my notes.txt").write_text("keep")
    with pytest.raises(VFQError) as caught:
        write_outputs(analysis, ct, tmp_path)
    assert caught.value.code == "output_exists" and (folder / "my notes.txt").read_text() == "keep"


def test_existing_outputs_are_refused_and_unchanged(analysis, ct, tmp_path):
    folder = write_outputs(analysis, ct, tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(VFQError) as caught:
        write_outputs(replace(analysis, message="second"), ct, tmp_path)
    assert caught.value.code == "output_exists"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_overwriting_replaces_the_folder_as_a_whole(analysis, ct, tmp_path):
    write_outputs(analysis, ct, tmp_path)
    folder = write_outputs(SpineAnalysis("case", "not_ct", "No."), None, tmp_path, overwrite=True)
    assert [p.name for p in folder.iterdir()] == ["analysis.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_overwriting_never_deletes_files_of_others(analysis, ct, tmp_path):
    folder = write_outputs(analysis, ct, tmp_path)
    (folder / "my notes.txt").write_text("keep")
    with pytest.raises(VFQError) as caught:
        write_outputs(analysis, ct, tmp_path, overwrite=True)
    assert caught.value.code == "output_exists" and "my notes.txt" in caught.value.message
    assert (folder / "my notes.txt").read_text() == "keep"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_interruption_leaves_the_old_outputs_and_no_half_written_folder(analysis, ct, tmp_path, interruption):
    folder = write_outputs(analysis, ct, tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def interrupt(path: Path) -> None:
        raise interruption

    with pytest.raises(interruption):
        write_outputs(analysis, ct, tmp_path, overwrite=True, extras={"truth.json": interrupt})
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_failing_last_rename_puts_the_old_outputs_back(analysis, ct, tmp_path, monkeypatch):
    folder = write_outputs(analysis, ct, tmp_path)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(5, "disk on fire")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(VFQError, match="disk on fire"):
        write_outputs(analysis, ct, tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
    assert (folder / "overview.png").exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VFQError) as caught:
        check_output(tmp_path / "file" / "below", "case")
    assert caught.value.code == "output_not_writable"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/a/scan.nii.gz", "scan"),
        ("scan.v2.MHA", "scan.v2"),
        ("folder/dicom series 3", "dicom_series_3"),
        ("../..hidden.nrrd", "hidden"),
        ("Jürgen.nii", "Jürgen"),
        ("...", "case"),
        ("王" * 80 + ".nii", "王" * 33),
    ],
)
def test_the_name_of_a_case_comes_from_its_input_and_suits_every_file_system(path, name):
    assert case_name(Path(path)) == name


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_folder_that_itk_could_not_write_is_refused_before_the_work(tmp_path):
    """Otherwise ITK would end the process."""
    with pytest.raises(VFQError, match="Rename") as refused:
        check_output(tmp_path / os.fsdecode(b"M\xfcller"), "case")
    assert refused.value.code == "output_not_writable" and not list(tmp_path.iterdir())


def test_inputs_of_the_same_name_get_different_names_even_if_letter_case_is_ignored():
    paths = [Path("a/scan.nii.gz"), Path("b/scan.nrrd"), Path("c/Scan.mha"), Path("d/other.nii")]
    assert case_names(paths) == ["a_scan", "b_scan", "c_Scan", "other"]
    assert case_names(paths[1:]) == ["b_scan", "c_Scan", "other"]  # whichever others are given
    assert case_names([Path("a/x/ct.nii"), Path("b/x/ct.nii"), Path("x_ct.nii")]) == ["x_ct", "x_ct-2", "x_ct-3"]


# --- matching with a truth


def test_matching_pairs_the_nearest_and_lists_the_false_and_the_missed():
    truth = np.array([box((0, 0, -30.0 * i)) for i in range(4)])
    predicted = np.array([box((0, 3, -61.0)), box((0, 0, 2.0)), box((80, 0, -30.0)), box((0, 0, -89.0))])
    found = match(predicted, truth)
    assert found.pairs == ((0, 2), (1, 0), (3, 3))
    assert (found.false, found.missed) == ((2,), (1,))
    np.testing.assert_allclose(point_errors(predicted, truth, found)[1], 2.0)


def test_matching_finds_the_most_pairs_within_reach_rather_than_the_single_nearest():
    truth = np.array([box((0, 0, 0.0)), box((0, 0, -12.0))])
    predicted = np.array([box((0, 0, -11.0)), box((0, 0, -20.0))])
    assert match(predicted, truth).pairs == ((0, 0), (1, 1))


def test_matching_with_nothing_is_no_error():
    nothing = np.empty((0, 3, 2, 3))
    assert match(nothing, np.array([box((0, 0, 0.0))])).missed == (0,)
    assert point_errors(nothing, nothing, match(nothing, nothing)).shape == (0, 3, 2)


def test_a_comparison_counts_found_vertebrae_and_measures_the_point_error(analysis):
    truth = np.array([v.keypoints for v in analysis.vertebrae[:3]] + [box((10, 10, -170.0))]) + np.array([0, 0, 1.5])
    comparison = compare(analysis, truth, ["T7", "T8", "T9", "T12"])
    assert (comparison.found, comparison.false) == (3, ("V4",))
    assert comparison.mean_point_error_mm == pytest.approx(1.5)
    assert comparison.vertebrae[3].measured is None


def test_what_is_not_counted_is_so_in_the_table_the_image_and_the_words(analysis, tmp_path):
    flag = Flag("impossible_points", "It overlaps the vertebra above by 5 mm.")
    vertebrae = list(analysis.vertebrae)
    vertebrae[1] = replace(vertebrae[1], quality=(flag,))
    vertebrae[2] = replace(vertebrae[2], review="confirmed", reviewer="A", reviewed_at="2026-01-02T03:04:05+00:00")
    vertebrae[3] = replace(vertebrae[3], review="rejected", reviewer="A", reviewed_at="2026-01-02T03:04:06+00:00")
    told = replace(analysis, vertebrae=tuple(vertebrae))
    rows = measurement_rows(told)
    assert [row["counted"] for row in rows] == [1, 0, 1, 0]
    assert [row["review"] for row in rows] == ["open", "open", "confirmed", "rejected"]
    assert [row["reviewer"] for row in rows] == ["", "", "A", "A"]
    assert rows[2]["reviewed_at"] == "2026-01-02T03:04:05+00:00" and rows[1]["quality"] == "impossible_points"
    text = report_text(make_report(told, Wording()))
    name = vertebra_name(vertebrae[1], 1)
    assert "by the heights of 2 vertebral bodies" in text
    assert f"Not assessable: {name} (its points are not those of a vertebral body)." in text
