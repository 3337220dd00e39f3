"""What is handed on: table, Slicer markups, straightened volume, picture, and the folder that is whole or absent."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from VertebralFractureQuantLib.ct import CTVolume
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.matching import compare, match, point_errors
from VertebralFractureQuantLib.genant import measure_column
from VertebralFractureQuantLib.record import ModelStamp, SpineAnalysis, Vertebra, from_json
from VertebralFractureQuantLib.report import overview
from VertebralFractureQuantLib.report.markups import GRADE_COLORS, markups_document, read_markups, write_markups
from VertebralFractureQuantLib.report.outputs import case_name, case_names, check_output, write_outputs
from VertebralFractureQuantLib.report.overview import draw_overview, spread, straightened_panel
from VertebralFractureQuantLib.report.tables import COLUMNS, measurement_rows, write_measurements


def box(center: tuple[float, float, float], anterior_height: float = 22.0, height: float = 22.0) -> np.ndarray:
    """Key points of a body 24 mm deep around `center`, lower in front when `anterior_height` is."""
    points = np.empty((3, 2, 3))
    for p, (ahead, h) in enumerate(((12, anterior_height), (0, height), (-12, height))):
        points[p] = np.array([[0.5, ahead, h / 2], [-0.5, ahead, -h / 2]]) + center
    return points


@pytest.fixture
def ct() -> CTVolume:
    """Air in which each voxel's value tells its place: 2 mm voxels, R -20..40, A -50..70, S -160..0."""
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


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    monkeypatch.setattr(overview, "DPI", 40)


# --- measurements.csv


def test_the_table_has_a_row_a_vertebra_and_its_cells_say_what_the_record_says(analysis, tmp_path):
    write_measurements(analysis, tmp_path / "measurements.csv")
    with (tmp_path / "measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["level"] for row in rows] == ["T7", "T8", "T9", ""]
    assert tuple(rows[0]) == COLUMNS and len(COLUMNS) == 16 + 18
    wedge = rows[2]
    assert (wedge["index"], wedge["grade"], wedge["shape"]) == ("3", "severe", "wedge")
    assert float(wedge["genant_ratio"]) == pytest.approx(analysis.vertebrae[2].measurement.genant_ratio, abs=1e-4)


def test_each_coordinate_column_names_its_own_point_and_axis(analysis):
    row = measurement_rows(analysis)[2]
    assert row["anterior_superior_a"] == "22.000"
    assert row["anterior_superior_s"] == "-80.000"
    assert row["posterior_inferior_r"] == "9.500"
    assert row["middle_inferior_s"] == "-97.000"


# --- keypoints.mrk.json


def test_markups_on_disk_are_lps_in_the_order_of_the_outline():
    """A golden file by hand: no two numbers alike, so that no swapped axis or point goes unseen."""
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


def test_markups_are_named_and_coloured_by_what_was_measured(analysis):
    markups = markups_document(analysis)["markups"]
    assert [m["name"] for m in markups] == ["T7 G 1.00", "T8 G 1.00", "T9 G 0.55", "V4 G 1.00"]
    assert markups[2]["display"]["selectedColor"] == list(GRADE_COLORS["severe"])


def test_markups_come_back_as_they_were_written(analysis, tmp_path):
    write_markups(analysis, tmp_path / "k.mrk.json")
    back = read_markups(tmp_path / "k.mrk.json")
    assert [name for name, _ in back] == ["T7 G 1.00", "T8 G 1.00", "T9 G 0.55", "V4 G 1.00"]
    np.testing.assert_array_equal([k for _, k in back], [v.keypoints for v in analysis.vertebrae])


def test_markups_keep_every_digit(tmp_path):
    points = box((1 / 3, -2 / 7, 1e3 / 9))
    [measurement] = measure_column(points[None])
    write_markups(SpineAnalysis("case", vertebrae=(Vertebra(points, measurement),)), tmp_path / "k.mrk.json")
    np.testing.assert_array_equal(read_markups(tmp_path / "k.mrk.json")[0][1], points)


def test_markups_in_ras_are_read_as_they_stand_and_other_markups_are_passed_over(analysis, tmp_path):
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


def test_labels_keep_their_order_and_their_distance_and_move_no_more_than_they_must():
    moved = spread(np.array([5.0, 1.0, 1.1, 1.05]), gap=0.5, low=0.0, high=10.0)
    assert moved[0] == 5.0
    assert np.diff(np.sort(moved)).min() >= 0.5 - 1e-9
    assert list(np.argsort(moved)) == [1, 3, 2, 0]
    assert moved[1:].mean() == pytest.approx(1.05)


def test_labels_stay_on_the_sheet_even_where_they_must_be_squeezed():
    moved = spread(np.full(11, 9.0), gap=2.0, low=0.0, high=10.0)
    np.testing.assert_allclose(np.sort(moved), np.arange(11.0), atol=1e-9)
    assert spread(np.array([]), 1.0, 0.0, 1.0).size == 0


def test_the_straightened_panel_shows_the_points_where_their_voxels_are(analysis, ct):
    from VertebralFractureQuantLib.curve import fit_curve

    panel = straightened_panel(analysis, ct, fit_curve(analysis.curve))
    a, s = panel.points[2, 0, 0]
    row, column = np.abs(panel.up - s).argmin(), np.abs(panel.across - a).argmin()
    beside_the_point = np.array([10.0, *analysis.vertebrae[2].keypoints[0, 0, 1:]])
    assert panel.image[row, column] == pytest.approx(ct.sample(beside_the_point[None])[0], abs=3)


def test_no_two_texts_of_the_overview_overlap_and_all_lie_on_the_sheet(analysis, ct):
    crowd = replace(analysis, case="a long name, with $ and _ " * 3, vertebrae=analysis.vertebrae * 5)
    figure = draw_overview(crowd, ct)
    figure.canvas.draw()
    boxes = [t.get_window_extent() for axes in figure.axes for t in axes.texts]
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert not overlaps
    assert all(b.x0 >= 0 and b.x1 <= figure.bbox.x1 and b.y0 >= 0 and b.y1 <= figure.bbox.y1 for b in boxes)


def test_the_overview_says_grade_ratio_and_that_it_is_no_diagnosis(analysis, ct):
    texts = [t.get_text() for axes in draw_overview(analysis, ct).axes for t in axes.texts]
    assert "0.55 severe wedge" in texts
    assert any("severe, lowest G 0.55" in t and "SDI 3" in t for t in texts)
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


def test_a_failed_case_gets_its_reason_and_nothing_else(tmp_path):
    folder = write_outputs(SpineAnalysis("bad", "no_spine_found", "No spine."), None, tmp_path)
    assert [p.name for p in folder.iterdir()] == ["analysis.json"]
    assert json.loads((folder / "analysis.json").read_text())["status"] == "no_spine_found"


def test_a_failures_record_makes_way_and_nothing_beside_it_does(analysis, ct, tmp_path):
    failed = SpineAnalysis("case", "bad_weights", "Give other weights.")
    write_outputs(failed, None, tmp_path)
    folder = write_outputs(analysis, ct, tmp_path)
    assert json.loads((folder / "analysis.json").read_text())["status"] == "ok"
    write_outputs(failed, None, tmp_path, overwrite=True)
    (folder / "my notes.txt").write_text("keep")
    with pytest.raises(VFQError) as caught:
        write_outputs(analysis, ct, tmp_path)
    assert caught.value.code == "output_exists" and (folder / "my notes.txt").read_text() == "keep"


def test_existing_outputs_are_refused_and_left_alone(analysis, ct, tmp_path):
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


def test_overwriting_never_deletes_what_somebody_else_put_there(analysis, ct, tmp_path):
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


def test_a_place_that_cannot_be_written_is_found_out_beforehand(tmp_path):
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
    ],
)
def test_a_case_is_called_after_its_input_in_a_way_every_file_system_takes(path, name):
    assert case_name(Path(path)) == name


def test_inputs_of_one_name_get_different_names_also_where_capitals_do_not_count():
    paths = [Path("a/scan.nii.gz"), Path("b/scan.nrrd"), Path("c/Scan.mha"), Path("d/scan-2.nii")]
    assert case_names(paths) == ["scan", "scan-2", "Scan-3", "scan-2-2"]


# --- matching with a truth


def test_matching_pairs_the_nearest_and_names_the_false_and_the_missed():
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


def test_a_comparison_counts_what_was_found_and_how_far_off(analysis):
    truth = np.array([v.keypoints for v in analysis.vertebrae[:3]] + [box((10, 10, -170.0))]) + np.array([0, 0, 1.5])
    comparison = compare(analysis, truth, ["T7", "T8", "T9", "T12"])
    assert (comparison.found, comparison.false) == (3, ("V4",))
    assert comparison.mean_point_error_mm == pytest.approx(1.5)
    assert comparison.vertebrae[3].measured is None
