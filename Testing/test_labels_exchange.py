"""Labels of other programs: what goes in comes out again, to a millionth of a voxel, and what is wrong is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from label_bench import MATRIX, SHAPE, body, column, dataset_with, made
from test_labels import refused, run, snapshot
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation.annotations import SLICE_STEP_MM
from VertebralFractureQuantLib.labels.annotation_schema import voxel_matrix
from VertebralFractureQuantLib.labels.dataset import Case, changing, create, load, with_cases
from VertebralFractureQuantLib.labels.exporting import export
from VertebralFractureQuantLib.labels.importing import Settings, form_of, import_files
from VertebralFractureQuantLib.labels.reading import Label, LabelReading
from VertebralFractureQuantLib.labels.store import final_readings, newest, save
from VertebralFractureQuantLib.spine.reference import read_reference

VOXELS = 1e-6
LEVELS = ("T9", "T10", "T11")


def labelled(folder: Path) -> Any:
    """A label set with a CT, and a final reading by Anna with odd digits and a vertebra that is not assessable."""
    dataset = made(folder, ["Anna"])
    labels = [replace(v, keypoints=np.asarray(v.keypoints) + 0.1234567890123 * i) for i, v in enumerate(column(LEVELS))]
    labels.append(Label("T12", not_assessable="metal"))
    return dataset, save(dataset, LabelReading("scan", "Anna", state="final", labels=tuple(labels)))


def same_points(one: LabelReading, other: LabelReading, atol_mm: float = VOXELS) -> None:
    assert [v.level for v in one.measured] == [v.level for v in other.measured]
    for a, b in zip(one.measured, other.measured, strict=True):
        np.testing.assert_allclose(a.keypoints, b.keypoints, rtol=0, atol=atol_mm)


@pytest.mark.parametrize(
    ("form", "lost"), [("annotations", 1), ("markups", 1), ("csv", 0), ("reference", 1), ("centroids", 1)]
)
def test_what_is_exported_comes_back_when_it_is_imported(tmp_path, form, lost):
    dataset, reading = labelled(tmp_path)
    files, left_out = export(dataset, tmp_path / "out", form)
    assert len(left_out) == lost
    if form == "annotations":  # which name their readers
        files[0].write_text(files[0].read_text().replace("Anna", "Bob"))
    import_files(dataset.folder, files, Settings(reader="Bob", case="scan"))
    found = newest(load(dataset.folder), ("Bob", "scan", 1))
    if form == "centroids":
        assert [v.level for v in found.labels] == list(LEVELS) and found.state == "draft"
        for a, b in zip(found.labels, reading.measured, strict=True):
            np.testing.assert_allclose(a.center, np.mean(b.keypoints, (0, 1)), rtol=0, atol=VOXELS)
    else:
        same_points(found, reading)
    if form == "csv":
        assert [(v.level, v.not_assessable) for v in found.labels if v.not_assessable] == [("T12", "metal")]


def test_the_same_labels_are_known_when_they_come_back(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    labels = tuple(replace(v, keypoints=np.asarray(v.keypoints) + 0.1234567890123) for v in column(LEVELS))
    save(dataset, LabelReading("scan", "Anna", state="final", labels=labels))
    for form in ("annotations", "csv", "markups", "reference"):
        files, _ = export(dataset, tmp_path / form, form)
        assert import_files(dataset.folder, files, Settings(reader="Anna")).known == 1
    files[0].write_text(files[0].read_text().replace("4567890", "4667890"))
    refused("labels_exist", import_files, dataset.folder, files, Settings(reader="Anna"))


@pytest.mark.parametrize("form", ["annotations", "markups", "csv", "reference", "centroids"])
def test_an_export_never_overwrites(tmp_path, form):
    dataset, _ = labelled(tmp_path)
    export(dataset, tmp_path / "out", form)
    before = snapshot(tmp_path / "out")
    refused("output_exists", export, dataset, tmp_path / "out", form)
    assert snapshot(tmp_path / "out") == before


def test_the_markups_are_those_that_slicer_reads_in_lps(tmp_path):
    dataset, reading = labelled(tmp_path)
    (file,), _ = export(dataset, tmp_path / "out", "markups")
    first = json.loads(file.read_text())["markups"][0]
    assert first["coordinateSystem"] == "LPS" and first["name"].startswith("T9 G ")
    anterior = np.asarray(reading.labels[0].keypoints)[0, 0]
    np.testing.assert_allclose(first["controlPoints"][0]["position"], anterior * (-1, -1, 1), atol=1e-12)


def test_a_reference_is_one_that_evaluation_and_training_read(tmp_path):
    dataset, reading = labelled(tmp_path)
    (file,), _ = export(dataset, tmp_path / "out", "reference")
    found = read_reference(file)
    assert (found.case, found.ct_file, found.levels) == ("scan", "scan.nii.gz", LEVELS)
    np.testing.assert_allclose(found.keypoints, [v.keypoints for v in reading.measured], atol=1e-12)
    assert (np.diff(found.curve[:, 2]) < 0).all()


# --- the public annotations


def matrices() -> dict[str, np.ndarray]:
    """Matrices of the same scan with its axes in other orders and directions."""
    ras = np.diag([2.0, 2.0, 2.5, 1.0])
    turned = np.array([[0, 0, 2.5, 0], [2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1.0]])
    return {"LPS": MATRIX, "RAS": ras, "AS R": turned}


@pytest.mark.parametrize("axes", matrices())
def test_rows_columns_and_slices_run_back_left_and_down_whatever_the_axes_of_the_file(axes):
    matrix = matrices()[axes]
    case = Case("x", "x", shape=SHAPE, ijk_to_ras=matrix)
    voxels = voxel_matrix(case)
    np.testing.assert_array_less(voxels[[1, 0, 2], [0, 1, 2]], 0)  # row to -A, column to -R, slice to -S
    corner = voxels[:3, 3]  # the voxel at the front, the right and the top
    size = np.array(SHAPE[::-1])
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in size])).reshape(3, -1).T @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(corner, ends.max(0))


@pytest.mark.thorough
def test_the_public_annotations_come_back_as_they_were(tmp_path, data_dir):
    """All 100 files, each expert, every vertebra; the same keys and levels, points to a millionth of a voxel."""
    files = sorted((data_dir / "annotations").glob("*.json"))
    create(tmp_path / "set", "public", {})
    found = import_files(tmp_path / "set", files, Settings())
    assert len(files) == 100 and found.left_out == ()
    written, left_out = export(load(tmp_path / "set"), tmp_path / "out", "annotations")
    assert left_out == [] and [f.name for f in written] == [f.name for f in files]
    worst = 0.0
    for one, other in zip(files, written, strict=True):
        given, back = (json.loads(f.read_text()) for f in (one, other))
        experts = given.pop("Annotation"), back.pop("Annotation")
        assert given == back and experts[0].keys() == experts[1].keys()
        for name, vertebrae in experts[0].items():
            assert [v["type"] for v in vertebrae] == [v["type"] for v in experts[1][name]]
            apart = [np.array(a["segments"]) - b["segments"] for a, b in zip(vertebrae, experts[1][name], strict=True)]
            worst = max(worst, float(np.abs(apart).max()))
    assert worst <= VOXELS
    assert import_files(tmp_path / "set", files, Settings()).known == len(found.saved)


def annotation(pixel: float = 0.7, levels: tuple[str, ...] = ("Th9", "Th10", "Th11")) -> dict[str, Any]:
    """A file of the public form whose clicks lie on a screen of square pixels of 0.37 mm."""
    grid = 0.37
    vertebrae = []
    for i, level in enumerate(levels):
        points = body(-300.0 - 31.0 * i, 21, 20, 22)
        rows, slices = (np.rint(x / grid) * grid for x in (250 - points[..., 1], -points[..., 2]))
        voxels = np.stack([rows / pixel, np.full((3, 2), 240.0), slices / SLICE_STEP_MM], -1)
        vertebrae.append({"segments": voxels.tolist(), "type": level})
    return {"Folder": "p", "SeriesInstanceUID": "1.2.3", "Annotation": {"expert1": vertebrae, "expert2": []}}


def test_the_pixel_size_is_recovered_or_asked_for(tmp_path):
    dataset = dataset_with(tmp_path / "set", [], [])
    file = tmp_path / "p.json"
    file.write_text(json.dumps(annotation()))
    import_files(dataset.folder, [file], Settings())
    assert load(dataset.folder).cases["p"].ijk_to_ras[0, 0] == pytest.approx(-0.7)
    assert final_readings(load(dataset.folder)).keys() == {
        ("expert1", "p", 1),
        ("expert2", "p", 1),
    }  # the empty one too
    lone = tmp_path / "q.json"
    lone.write_text(json.dumps(annotation(levels=("Th9",))))
    assert "--pixel-mm" in refused("no_voxel_size", import_files, dataset.folder, [lone], Settings())
    import_files(dataset.folder, [lone], Settings(pixel_mm=0.9, slice_mm=1.0))
    np.testing.assert_allclose(np.diag(load(dataset.folder).cases["q"].ijk_to_ras)[:3], (-0.9, -0.9, -1.0))


@pytest.mark.parametrize("name", ["../p", "a@b", "", ".p", "a/b", "x" * 300])
def test_a_case_that_no_file_can_be_called_after_is_refused(tmp_path, name):
    dataset = dataset_with(tmp_path / "set", [], [])
    with pytest.raises(VFQError, match="cannot be the name of a case"), changing(dataset.folder) as held:
        held[0] = with_cases(held[0], [Case(name, name)])
    assert load(dataset.folder).cases == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda a: a["expert1"][0].update(type="Th14"), "bad_labels"),
        (lambda a: a["expert1"][0].update(type="Th10"), "bad_labels"),
        (lambda a: a["expert1"][0].update(colour="red"), "bad_labels"),
        (lambda a: a["expert1"][0]["segments"][0].pop(), "bad_labels"),
        (lambda a: a["expert1"][0]["segments"].reverse(), "bad_labels"),
        (lambda a: a["expert1"][0]["segments"][0][0].__setitem__(0, float("nan")), "bad_labels"),
        (lambda a: a.update(expert3="none"), "bad_import"),
    ],
)
def test_faulty_annotations_are_refused_with_all_other_files(tmp_path, change, code):
    dataset = dataset_with(tmp_path / "set", [], [])
    good, bad = tmp_path / "p.json", tmp_path / "q.json"
    data = annotation()
    good.write_text(json.dumps(data))
    change(data["Annotation"])
    bad.write_text(json.dumps(data))
    before = snapshot(dataset.folder)
    refused(code, import_files, dataset.folder, [good, bad], Settings())
    assert snapshot(dataset.folder) == before


# --- other forms


def test_labels_that_differ_from_final_ones_are_refused_or_become_a_version(tmp_path):
    dataset, reading = labelled(tmp_path)
    (file,), _ = export(dataset, tmp_path / "out", "csv")
    file.write_text(file.read_text().replace("T11", "L1"))
    assert "--correct" in refused("labels_exist", import_files, dataset.folder, [file], Settings())
    assert import_files(dataset.folder, [file], Settings(correct=True)).saved == (("scan", "Anna"),)
    found = newest(load(dataset.folder), ("Anna", "scan", 1))
    assert (found.version, found.labels[2].level) == (2, "L1") and reading.labels[2].level == "T11"


def test_the_form_of_a_file_is_recognised_and_others_are_refused(tmp_path):
    forms = {
        "a.csv": ("level", "csv"),
        "m.nii.gz": ("", "mask"),
        "k.mrk.json": ('{"markups": []}', "markups"),
        "c.json": ("[]", "centroids"),
        "r.json": ('{"space": "RAS_mm", "vertebrae": []}', "reference"),
        "o.json": ('{"schema": "vfq-reading/1"}', "reading"),
        "v.json": ('{"schema": "vfq-analysis/1"}', "analysis"),
    }
    for name, (text, form) in forms.items():
        (tmp_path / name).write_text(text)
        assert form_of(tmp_path / name) == form
    for name, text in {"x.json": "{}", "y.json": "{", "z.txt": "?", "w.json": '{"schema": "other/1"}'}.items():
        (tmp_path / name).write_text(text)
        refused("bad_import", form_of, tmp_path / name)
    refused("not_found", form_of, tmp_path / "none.csv")


def test_whose_labels_of_which_case_must_be_known(tmp_path):
    dataset, _ = labelled(tmp_path)
    (file,), _ = export(dataset, tmp_path / "out", "markups")
    lone = file.rename(tmp_path / "lone.mrk.json")
    assert "--reader" in refused("no_reader", import_files, dataset.folder, [lone], Settings(case="scan"))
    assert "--case" in refused("unknown_case", import_files, dataset.folder, [lone], Settings(reader="Bob"))
    refused("unknown_case", import_files, dataset.folder, [lone], Settings(reader="Bob", case="none"))


@pytest.mark.parametrize("direction", [["L", "A", "S"], ["P", "I", "R"], ["R", "A", "S"]])
def test_centroids_are_read_along_the_axes_that_they_name(tmp_path, direction):
    dataset = made(tmp_path, ["Anna"])
    where = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    center = np.array([4.0, -6.0, -30.0])
    size, step = np.array([85, 80, 90]), np.array([2.0, 2.0, 2.5])
    low = np.array([-88.0, -78.0, -200.0])  # RAS mm of the voxel at the left, the back and the bottom
    from_low = (center - low) / step
    voxel = [from_low[a] if sign > 0 else size[a] - 1 - from_low[a] for a, sign in (where[d] for d in direction)]
    file = tmp_path / "scan.json"
    file.write_text(json.dumps([{"direction": direction}, {"label": 16, **dict(zip("XYZ", voxel, strict=True))}]))
    import_files(dataset.folder, [file], Settings(reader="Anna"))
    (label,) = newest(load(dataset.folder), ("Anna", "scan", 1)).labels
    assert label.level == "T9" and label.source == "centroid" and label.keypoints is None
    np.testing.assert_allclose(label.center, center, atol=1e-9)


def test_centroids_with_unknown_numbers_or_without_a_ct_are_refused(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    file = tmp_path / "scan.json"
    file.write_text(json.dumps([{"label": 99, "X": 1, "Y": 1, "Z": 1}]))
    refused("bad_import", import_files, dataset.folder, [file], Settings(reader="Anna"))
    without = dataset_with(tmp_path / "without", ["scan"], ["Anna"])
    refused("no_voxel_size", import_files, without.folder, [file], Settings(reader="Anna"))


def test_an_analysis_that_a_reader_reviewed_becomes_that_readers_labels(tmp_path):
    from test_formats import edited
    from VertebralFractureQuantLib.spine.record_json import to_json

    dataset = made(tmp_path, [])
    with changing(dataset.folder) as held:  # as large as the analysed CT
        case = replace(held[0].cases["scan"], shape=(300, 300, 300), ijk_to_ras=np.diag([-2.0, -2.0, 2.8, 1.0]))
        case.ijk_to_ras[:3, 3] = 300.0, 300.0, -500.0
        held[0] = replace(held[0], cases={"scan": case})
    file = tmp_path / "analysis.json"
    file.write_text(json.dumps(to_json(edited())))
    import_files(dataset.folder, [file], Settings())
    found = newest(load(dataset.folder), ("reader", "scan", 1))
    kept = edited().assessed
    assert [v.level for v in found.labels] == [v.level for v in kept]
    np.testing.assert_array_equal([v.keypoints for v in found.labels], [v.keypoints for v in kept])
    assert [v.source for v in found.labels] == ["reader" if v.origin == "reader" else "automatic" for v in kept]
    assert found.state == "draft"  # automatic points are still open


def test_only_a_completely_reviewed_analysis_becomes_a_final_reading(tmp_path):
    from test_formats import analysis_of, box
    from VertebralFractureQuantLib.spine.record_json import to_json

    open_ones = analysis_of([box(-30.0 - 32 * i) for i in range(3)], ("T9", "T10", "T11"))
    placed, *others = open_ones.vertebrae
    signed = [replace(v, review="confirmed", reviewer="Anna") for v in others]
    reviewed = replace(open_ones, vertebrae=(replace(placed, origin="reader"), *signed))
    for name, analysis, state in (("open", open_ones, "draft"), ("reviewed", reviewed, "final")):
        dataset = dataset_with(tmp_path / name, ["scan"], ["Anna"])
        file = tmp_path / name / "analysis.json"
        file.write_text(json.dumps(to_json(analysis)))
        done = import_files(dataset.folder, [file], Settings(reader="Anna", case="scan"))
        assert (newest(load(dataset.folder), ("Anna", "scan", 1)).state, done.drafts) == (state, state == "draft")


def test_key_points_of_a_case_are_final_only_if_the_analysis_beside_them_is_reviewed(tmp_path):
    from test_formats import analysis_of, box
    from VertebralFractureQuantLib.report.markups import write_markups
    from VertebralFractureQuantLib.spine.record_json import to_json

    waiting = analysis_of([box(-30.0 - 32 * i) for i in range(3)], ("T9", "T10", "T11"))
    reviewed = replace(
        waiting, vertebrae=tuple(replace(v, review="confirmed", reviewer="Anna") for v in waiting.vertebrae)
    )
    for name, beside, state in (
        ("open", json.dumps(to_json(waiting)), "draft"),
        ("reviewed", json.dumps(to_json(reviewed)), "final"),
        ("damaged", "{", "draft"),
        ("alone", None, "final"),
    ):
        dataset = dataset_with(tmp_path / name, ["scan"], ["Anna"])
        case = tmp_path / name / "case"
        case.mkdir()
        write_markups(waiting, case / "keypoints.mrk.json")
        if beside:
            (case / "analysis.json").write_text(beside)
        done = import_files(dataset.folder, [case / "keypoints.mrk.json"], Settings(reader="Anna", case="scan"))
        saved = newest(load(dataset.folder), ("Anna", "scan", 1)).state
        assert (name, saved, done.drafts) == (name, state, state == "draft")


# --- masks


def mask(place: Callable[[int], tuple[int, int]], count: int = 4) -> np.ndarray:
    """Vertebrae `[k, j, i]` on the grid of the CT: bodies 40 x 30 x 25 mm with a canal behind, and an arch around it.

    place : number of the vertebra from the top -> (label, first slice).
    """
    voxels = np.zeros(SHAPE, np.uint8)
    for n in range(count):
        number, k = place(n)
        span = slice(k, k + 10)  # 25 mm
        voxels[span, 25:55, 30:50] = number  # with the arch; rows run to the back
        voxels[span, 40:50, 35:45] = 0  # the canal
    return voxels


def write_mask(path: Path, voxels: np.ndarray, matrix: np.ndarray = MATRIX) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(np.linalg.norm(matrix[:3, :3], axis=0).tolist())
    axes = np.diag([-1.0, -1.0, 1.0]) @ matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetDirection(axes.ravel().tolist())
    image.SetOrigin((np.array([-1, -1, 1]) * matrix[:3, 3]).tolist())
    sitk.WriteImage(image, str(path))
    return path


def verse(n: int) -> tuple[int, int]:
    return 16 + n, 65 - 14 * n


def test_a_mask_gives_first_points_on_its_surface_said_to_be_derived(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    file = write_mask(tmp_path / "scan.nii.gz", mask(verse))
    import_files(dataset.folder, [file], Settings(reader="Anna", numbers="verse"))
    found = newest(load(dataset.folder), ("Anna", "scan", 1))
    assert found.state == "draft" and {v.source for v in found.labels} == {"mask"}
    assert [v.level for v in found.labels] == ["T9", "T10", "T11", "T12"]
    for n, label in enumerate(found.labels):
        k = verse(n)[1]
        top, bottom = -200 + 2.5 * (k + 9.5), -200 + 2.5 * (k - 0.5)
        points = np.asarray(label.keypoints)
        np.testing.assert_allclose(points[:, 0, 2], top, atol=1.5)
        np.testing.assert_allclose(points[:, 1, 2], bottom, atol=1.5)
        np.testing.assert_allclose(points[0, :, 1], 80 - 2 * 24.5, atol=3.5)  # the front, where corners are rounded
        np.testing.assert_allclose(points[..., 0], 80 - 2 * 39.5, atol=1.0)  # the middle plane


def test_the_same_mask_with_other_numbers_or_axes_gives_the_same_points(tmp_path):
    dataset = made(tmp_path, ["Anna", "Bob", "Cleo"])
    voxels = mask(verse)
    first = write_mask(tmp_path / "a.nii.gz", voxels)
    import_files(dataset.folder, [first], Settings(reader="Anna", case="scan", numbers="verse"))
    other = np.where(voxels > 0, 50 - (voxels.astype(int) - 1), 0).astype(np.uint8)
    second = write_mask(tmp_path / "b.nrrd", other)
    import_files(dataset.folder, [second], Settings(reader="Bob", case="scan", numbers="totalsegmentator"))
    flipped = MATRIX.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 3] += MATRIX[:3, 0] * (SHAPE[2] - 1)
    third = write_mask(tmp_path / "c.nii.gz", voxels[:, :, ::-1], flipped)
    import_files(dataset.folder, [third], Settings(reader="Cleo", case="scan", numbers="verse"))
    one, two, three = (newest(load(dataset.folder), (name, "scan", 1)) for name in ("Anna", "Bob", "Cleo"))
    same_points(one, two)
    same_points(one, three, 1e-3)


def test_a_vertebra_that_the_border_cuts_gets_no_points(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    file = write_mask(tmp_path / "scan.nii.gz", mask(lambda n: (16 + n, 80 - 14 * n)))
    found = import_files(dataset.folder, [file], Settings(reader="Anna", numbers="verse"))
    assert found.left_out == ("scan.nii.gz: T9, which the border of the scan cuts",)
    assert [v.level for v in newest(load(dataset.folder), ("Anna", "scan", 1)).labels] == ["T10", "T11", "T12"]


def test_a_mask_of_another_ct_or_with_other_numbers_is_refused(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    before = snapshot(dataset.folder)
    settings = Settings(reader="Anna", case="scan", numbers="verse")
    moved = MATRIX.copy()
    moved[2, 3] += 1.0
    shifted = write_mask(tmp_path / "a.nii.gz", mask(verse), moved)
    refused("other_ct", import_files, dataset.folder, [shifted], settings)
    smaller = write_mask(tmp_path / "b.nii.gz", mask(verse)[:-1])
    refused("other_ct", import_files, dataset.folder, [smaller], settings)
    good = write_mask(tmp_path / "c.nii.gz", mask(verse))
    refused("bad_labels", import_files, dataset.folder, [good], replace(settings, numbers="totalsegmentator"))
    assert "--numbers" in refused("bad_import", import_files, dataset.folder, [good], replace(settings, numbers=None))
    upside = write_mask(tmp_path / "d.nii.gz", mask(lambda n: (19 - n, 65 - 14 * n)))
    assert "T12, T11" in refused("bad_labels", import_files, dataset.folder, [upside], settings)
    real = write_mask(tmp_path / "e.nii.gz", mask(verse).astype(np.float32) + 0.5)
    refused("bad_import", import_files, dataset.folder, [real], settings)
    text = tmp_path / "f.nii.gz"
    text.write_text("not an image")
    refused("bad_import", import_files, dataset.folder, [text], settings)
    assert snapshot(dataset.folder) == before


# --- the command


def test_the_command_imports_and_exports(tmp_path):
    dataset, reading = labelled(tmp_path)
    code, text = run("dataset", "export", dataset.folder, "--format", "csv", "-o", tmp_path / "out")
    assert code == 0, text
    code, text = run("dataset", "import", dataset.folder, tmp_path / "out" / "labels.csv", "--reader", "Bob")
    assert code == 0 and "1 readings imported" in text, text
    same_points(newest(load(dataset.folder), ("Bob", "scan", 1)), reading, 0.0)
    code, text = run("dataset", "import", dataset.folder, tmp_path / "none.csv")
    assert code == 3 and "not_found" in text
