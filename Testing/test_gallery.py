"""The gallery: why a case needs a look, what its row says, that nothing of the tables runs as code, and thumbnails.

`test_gallery_page.py` drives the page in a browser.
"""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pl = pytest.importorskip("polars", reason="needs the gallery: pip install '.[cohort]'")

from gallery_bench import write_tables  # noqa: E402
from PIL import Image  # noqa: E402
from VertebralFractureQuantLib.cohort import gallery  # noqa: E402
from VertebralFractureQuantLib.cohort.gallery import write_gallery  # noqa: E402
from VertebralFractureQuantLib.cohort.gallery_reasons import reasons  # noqa: E402
from VertebralFractureQuantLib.cohort.gallery_tables import read_tables  # noqa: E402
from VertebralFractureQuantLib.cohort.thumbnails import draw_thumbnail, write_thumbnail  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.report.outputs import write_record  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra  # noqa: E402

EVIL = "=<script>alert('1')</script> & \"two\" ünï %23#?"


def vertebra(case: str, level: str | None, g: float = 0.9, grade: str = "normal", **others: Any) -> dict[str, Any]:
    """A row of vertebrae.parquet: a certain, open vertebra, unless `others` say something else."""
    row = {"case": case, "level": level, "level_certain": level is not None, "g": g, "g_sd": 0.02, "grade": grade}
    row |= {"shape": None if grade == "normal" else "wedge", "doubts": "", "score": 0.99, "counted": True}
    row |= {"review": "open", "origin": "model", "physiologic": False, "borderline": False}
    return row | {"auto_level": None, "auto_g": None, "auto_grade": None, "auto_shape": None} | others


def patient(case: str, worst: str | None = "normal", status: str = "ok", **others: Any) -> dict[str, Any]:
    """A row of patients.parquet."""
    row = {"case": case, "status": status, "worst_grade": worst, "auto_worst_grade": worst, "sdi": 0, "auto_sdi": 0}
    row |= {"levels_assessed": 3, "first_level": "T10", "last_level": "T12", "doubts": "", "reviewed": "no"}
    return row | {"reader": None} | others


def write(folder: Path, patients: list[dict[str, Any]], vertebrae: list[dict[str, Any]] = ()) -> Path:
    """The tables of a cohort as `vfq cohort run` writes them."""
    cases = [row["case"] for row in vertebrae]
    rows = [{"index": cases[: i + 1].count(row["case"]), **row} for i, row in enumerate(vertebrae)]
    empty = vertebrae or [vertebra("", "T1")]
    pl.DataFrame(rows or empty, infer_schema_length=None).head(len(rows)).write_parquet(folder / "vertebrae.parquet")
    pl.DataFrame(patients or [patient("")]).head(len(patients)).write_parquet(folder / "patients.parquet")
    failed = [
        {"case": p["case"], "code": p["status"], "message": "It <b>broke</b>.", "what_to_do": "Give another."}
        for p in patients
        if p["status"] not in ("ok", "waiting")
    ]
    lines = pl.DataFrame(failed, schema=dict.fromkeys(("case", "code", "message", "what_to_do"), pl.String))
    lines.write_csv(folder / "failures.csv")
    return folder


def words(folder: Path) -> dict[str, list[str]]:
    """The reasons of each case."""
    found = reasons(*read_tables(folder)[:2])
    return {case: told["words"].to_list() for (case,), told in found.group_by("case", maintain_order=True)}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the written page."""
    write_gallery(folder)
    script = (folder / "gallery" / "cases.js").read_text(encoding="utf-8")
    return json.loads(script.removeprefix("window.cases = ").removesuffix(";\n"))


# --- reasons


def test_a_doubt_is_told_in_words_with_its_vertebrae(tmp_path):
    levels = ("T8", "T9", "T10", "T11", "T12")
    column = [vertebra("gap", level, doubts="column_gap metal" if level in ("T9", "T11") else "") for level in levels]
    many = [vertebra("many", level, doubts="low_score") for level in levels]
    doubted = [patient("gap", doubts="column_gap metal"), patient("many", doubts="low_score")]
    told = words(write(tmp_path, doubted, column + many))
    assert told == {
        "gap": ["A vertebra seems to be missing, or to be found twice: T9, T11."],
        "many": [
            "The network is less certain of the vertebra or of its key points than usual: T8 to T12 (5 vertebrae)."
        ],
    }


def test_one_uncertain_vertebra_or_thick_slices_are_no_reason_to_look(tmp_path):
    column = [vertebra("one", "T9", doubts="low_score"), vertebra("one", "T10")]
    assert words(write(tmp_path, [patient("one", doubts="low_score thick_slices")], column)) == {}


def test_a_failure_needs_a_look_and_a_case_that_waits_does_not(tmp_path):
    folder = write(tmp_path, [patient("bad", None, "corrupt_file"), patient("later", None, "waiting")])
    assert words(folder) == {"bad": ["There is no result."]}


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        (("T11", "T12", "L1"), None),
        (("T11", "L1", "L2"), None),  # a spine without T12
        (("T12", "T13", "L1"), "An unusual level was found: T13."),
        (("T10", "T12", "L1"), "Levels do not follow each other at T12."),
        (("T11", "T11", "T12"), "Levels do not follow each other at T11."),
        (("T11", None, "T12"), "Levels are uncertain: V2."),
    ],
)
def test_odd_levels(tmp_path, levels, told):
    folder = write(tmp_path, [patient("a")], [vertebra("a", level) for level in levels])
    assert words(folder).get("a") == (told and [told])


def test_levels_that_are_uncertain_are_told(tmp_path):
    column = [vertebra("a", level, level_certain=level != "T10") for level in ("T9", "T10", "T11")]
    assert words(write(tmp_path, [patient("a")], column)) == {"a": ["Levels are uncertain: T10."]}


@pytest.mark.parametrize(
    ("g", "sd", "grade", "doubted"),
    [
        (0.74, 0.02, "moderate", "mild to moderate: T9 has G 0.74 (SD 0.02)"),
        (0.752, 0.01, "mild", "mild to moderate: T9 has G 0.752 (SD 0.01)"),
        (0.70, 0.02, "moderate", None),
        (0.80, 0.02, "mild", None),  # normal or mild is no reason
    ],
)
def test_a_worst_grade_that_may_be_moderate_or_severe_is_told_when_it_is_uncertain(tmp_path, g, sd, grade, doubted):
    column = [vertebra("a", "T9", g, grade, g_sd=sd), vertebra("a", "T10", 0.78, "mild", g_sd=0.005)]
    told = words(write(tmp_path, [patient("a", grade)], column))
    assert told == ({"a": [f"The worst grade is uncertain, {doubted}."]} if doubted else {})


@pytest.mark.parametrize("settled", [{"review": "confirmed"}, {"physiologic": True}, {"counted": False}])
def test_a_confirmed_physiologic_or_rejected_vertebra_leaves_no_grade_uncertain(tmp_path, settled):
    column = [vertebra("a", "T9", 0.74, "moderate", **settled)]
    assert words(write(tmp_path, [patient("a", "moderate")], column)) == {}


def test_another_vertebra_that_is_surely_worse_settles_the_grade(tmp_path):
    column = [vertebra("a", "T9", 0.74, "moderate"), vertebra("a", "T10", 0.4, "severe")]
    assert words(write(tmp_path, [patient("a", "severe")], column)) == {}


def test_a_reviewed_case_needs_no_look_and_the_most_serious_reason_comes_first(tmp_path):
    cases = {"fine": "", "failed": "", "levels": "", "gap": "column_gap", "off": "curve_off_bone", "done": "column_gap"}
    patients = [patient(name, doubts=doubts) for name, doubts in cases.items()]
    patients[1] |= {"status": "not_ct", "worst_grade": None}
    patients[-1] |= {"reviewed": "yes", "reader": "Ann"}
    column = [vertebra("levels", "T9", level_certain=False)]
    found = rows(write(tmp_path, patients, column))
    assert [row["case"] for row in found] == ["off", "gap", "levels", "failed", "fine", "done"]
    assert [row["look"]["sort"] > 0 for row in found] == [True, True, True, True, False, False]


# --- rows


def text_of(cell: str) -> str:
    """What a browser shows of a cell."""
    return html.unescape(re.sub(r"<[^>]*>", " ", cell)).strip()


def test_the_readers_values_stand_beside_the_automatic_ones(tmp_path):
    reader = {"origin": "reader", "review": "confirmed"}
    column = [
        vertebra("a", "T7", 0.55, "severe", auto_level="T7", auto_g=0.78, auto_grade="mild", **reader),
        vertebra("a", "T8", 0.55, "severe", auto_level="T8", auto_g=0.55, auto_grade="severe", **reader),
        vertebra("a", "T9", 0.95, auto_level="T9", auto_g=0.70, auto_grade="moderate", **reader),
        vertebra("a", "T10", 0.7, "moderate", counted=False, review="rejected"),
        vertebra("a", "T11", 0.77, "mild", **reader),
        vertebra("a", "T12", 0.72, "moderate", auto_level="T11", auto_g=0.72, auto_grade="moderate", **reader),
        vertebra(
            "a", None, None, None, counted=False, review="deleted", auto_level="L1", auto_g=0.5, auto_grade="severe"
        ),
        vertebra("a", "L2", 0.9, auto_level="L2", auto_g=0.91, auto_grade="normal", **reader),
    ]
    seen = patient("a", "severe", auto_worst_grade="moderate", sdi=5, auto_sdi=4, reviewed="yes", reader="Ann <Lee>")
    (row,) = rows(write(tmp_path, [seen], column))
    shown = [re.sub(" +", " ", text_of(item)) for item in row["deformity"]["html"].split("</li>")]
    assert shown == [
        "T7 severe wedge 0.55 automatic: mild 0.78",
        "T8 severe wedge 0.55",
        "T9 normal 0.95 automatic: moderate 0.70",
        "T10 rejected automatic: moderate 0.70",
        "T11 mild wedge 0.77 added by the reader",
        "T12 moderate wedge 0.72 automatic: T11",
        "L1 deleted automatic: severe 0.50",
        "",
    ]
    assert row["deformity"]["facets"] == ["T7", "T8", "T11", "T12"]
    assert text_of(row["grade"]["html"]).split() == ["severe", "automatic:", "moderate"]
    assert text_of(row["sdi"]["html"]) == "5  automatic: 4" and row["sdi"]["sort"] == 5
    assert text_of(row["review"]["html"]) == "yes  Ann <Lee>"


def test_nothing_of_the_tables_is_html_and_the_command_survives_a_shell(tmp_path):
    evil = patient(EVIL, None, "not_ct", reader=EVIL, first_level=EVIL, last_level=EVIL, doubts=EVIL, **{EVIL: EVIL})
    (tmp_path / "gallery" / "thumbnails").mkdir(parents=True)
    (row,) = rows(write(tmp_path, [evil | {"reviewed": "part"}]))
    assert html.unescape(row["case"]) == EVIL == html.unescape(row["x0"])
    assert shlex.split(html.unescape(text_of(row["command"]))) == ["vfq", "cohort", "review", ".", EVIL]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "alert('1')" not in page + (tmp_path / "gallery" / "cases.js").read_text(encoding="utf-8")
    assert f"<th>{EVIL}</th>" in html.unescape(page)


def test_a_name_that_looks_like_an_option_is_an_argument(tmp_path):
    (row,) = rows(write(tmp_path, [patient("-rf")]))
    assert text_of(row["command"]) == "vfq cohort review . -- -rf"


def test_a_failure_is_shown_with_its_code_message_meaning_and_remedy(tmp_path):
    (row,) = rows(write(tmp_path, [patient("a", None, "not_ct")]))
    assert text_of(row["outcome"]["html"]) == "not_ct   It <b>broke</b>." and row["outcome"]["facets"] == "not_ct"
    page = html.unescape((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "the intensities are not Hounsfield units" in page and "Give the original CT" in page


def test_covariates_keep_their_type(tmp_path):
    given = [
        patient("a", age=71.5, site="Basel", n=3),
        patient("b", age=float("nan"), site=None, n=None),
        patient("c", age=float("inf"), site="Bern", n=-4),
    ]
    found = [(row["x0"], row["x1"], row["x2"]) for row in rows(write(tmp_path, given))]
    assert found == [(71.5, "Basel", 3), (None, None, None), (None, "Bern", -4)]


def test_covariates_may_have_any_name(tmp_path):
    """Also the names that the gallery itself uses."""
    names = ("row", "rank", "message", "urgency", "worst", "look", "picture", "kind", "x1", "x0", "index", "code")
    given = {name: f"of {name}" for name in names}
    (row,) = rows(write(tmp_path, [patient("a", None, "not_ct") | given]))
    assert [row[f"x{i}"] for i in range(len(names))] == list(given.values())
    assert row["look"]["sort"] > 0 and "broke" in row["outcome"]["html"]


@pytest.mark.parametrize("patients", [[], [patient("a", None, "not_ct")], [patient("a", None, "waiting")]])
def test_a_cohort_without_a_result_has_a_page(tmp_path, patients):
    assert len(rows(write(tmp_path, patients))) == len(patients)


def test_csv_tables_give_the_same_rows_as_parquet(tmp_path):
    folder = write(tmp_path, [patient("a", "mild", age=70)], [vertebra("a", "T9", 0.78, "mild"), vertebra("a", "T10")])
    from_parquet = rows(folder)
    for name in ("patients", "vertebrae"):
        pl.read_parquet(folder / f"{name}.parquet").write_csv(folder / f"{name}.csv")
        (folder / f"{name}.parquet").unlink()
    assert rows(folder) == from_parquet


def test_the_page_holds_neither_the_folder_nor_the_time(tmp_path):
    folder = tmp_path / "Doe_Jane"
    folder.mkdir()
    page = write_gallery(write(folder, [patient("a")], [vertebra("a", "T9", reviewed_at="2026-11-30T01:02:03+00:00")]))
    text = page.read_text(encoding="utf-8") + (folder / "gallery" / "cases.js").read_text(encoding="utf-8")
    assert "Doe_Jane" not in text and "2026-11-30" not in text and "Research use only" in text


def test_a_missing_table_or_package_is_a_coded_failure(tmp_path, monkeypatch):
    with pytest.raises(VFQError, match=r"no patients\.csv") as caught:
        write_gallery(tmp_path)
    assert caught.value.code == "not_found"
    monkeypatch.setattr(gallery, "find_spec", lambda name: None if name == "bokeh" else name)
    with pytest.raises(VFQError, match=r"bokeh.*\[cohort\]") as caught:
        write_gallery(tmp_path)
    assert caught.value.code == "missing_dependency"


def test_a_damaged_table_is_a_coded_failure(tmp_path):
    write(tmp_path, [patient("a")])
    (tmp_path / "vertebrae.parquet").write_bytes(b"PAR1 damaged PAR1")
    with pytest.raises(VFQError, match="cohort refresh") as caught:
        write_gallery(tmp_path)
    assert caught.value.code == "not_found"


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write(tmp_path, [patient("a")])
    before = write_gallery(tmp_path).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(VFQError) as caught:
        write_gallery(tmp_path)
    assert caught.value.code == "output_not_writable" and (tmp_path / "index.html").read_bytes() == before
    assert not list(tmp_path.glob(".partial*"))


def test_the_benchmarks_tables_have_the_columns_of_a_run(tmp_path):
    write_tables(tmp_path, 50)
    assert len(rows(tmp_path)) == 50 and len(read_tables(tmp_path).vertebrae) % 12 == 0


# --- thumbnails


def analysis_of_three() -> SpineAnalysis:
    """A straight spine: bodies 30 mm deep and 20 mm high at S -50, -80 and -110; the middle one is a severe wedge."""
    columns = []
    for centre, front in ((-50, 20.0), (-80, 8.0), (-110, 20.0)):
        heights = np.linspace(front, 20.0, 3)
        columns.append(
            [[[0, a, centre + h / 2], [0, a, centre - h / 2]] for a, h in zip((15, 0, -15), heights, strict=True)]
        )
    points = np.array(columns, float)
    measured = measure_column(list(points), [0.02] * 3)
    found = tuple(Vertebra(p, m) for p, m in zip(points, measured, strict=True))
    curve = np.stack([np.zeros(161), np.zeros(161), -np.arange(161.0)], axis=1)
    return SpineAnalysis("case", curve=curve, limits_mm=(0, 160), vertebrae=found)


def test_a_thumbnail_shows_the_deformed_vertebra_in_the_colour_of_its_grade_where_it_lies():
    analysis = analysis_of_three()
    assert [v.measurement.grade for v in analysis.vertebrae] == ["normal", "severe", "normal"]
    picture = draw_thumbnail(analysis, np.full((161, 129), 300.0, np.float32))
    pixels = np.asarray(picture).astype(int)
    assert picture.size == (168, 2 * (120 + 14 - (40 - 14)))  # 84 mm wide, 14 mm above and below the vertebrae
    red = (pixels[..., 0] - pixels[..., 1]) > 40
    rows_, columns = np.nonzero(red)
    assert (rows_.min() + rows_.max()) / 4 + 26 == pytest.approx(80, abs=1.5)  # row 0 lies 26 mm below the top
    assert columns.min() / 2 == pytest.approx(42 - 15, abs=1.5) and columns.max() / 2 == pytest.approx(42 + 15, abs=1.5)
    heights = [red[:, round(2 * (42 + x))].nonzero()[0] for x in (-12, 12)]  # anterior on the left
    front, back = (np.ptp(h) / 2 for h in heights)
    assert front < back - 6


def test_a_case_without_images_has_no_thumbnail(tmp_path):
    write_record(SpineAnalysis("case", status="not_ct", message="No."), tmp_path / "analysis.json")
    write_thumbnail(tmp_path, tmp_path / "gallery" / "case.jpg")
    assert not (tmp_path / "gallery").exists()


def test_a_thumbnail_is_read_from_the_straightened_image(tmp_path):
    import SimpleITK as sitk

    write_record(analysis_of_three(), tmp_path / "analysis.json")
    voxels = np.full((161, 129, 41), -1000, np.int16)  # from the foot up, from front to back, from right to left
    voxels[:81, :, 20] = 1000  # the lower half of the middle plane is bright
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "straightened.nrrd"))
    write_thumbnail(tmp_path, tmp_path / "gallery" / "thumbnails" / "case.jpg")
    picture = np.asarray(Image.open(tmp_path / "gallery" / "thumbnails" / "case.jpg").convert("L"))
    assert picture[:80, 2].max() < 30 and picture[-80:, 2].min() > 220
