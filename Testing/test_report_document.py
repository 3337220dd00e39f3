"""Reports: each sentence of the guidance's checklist, both languages, every format, and templates of a site."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM
from matplotlib.axes import Axes
from pypdf import PdfReader
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.report.document import (
    FORMATS,
    Report,
    case_panel,
    make_report,
    report_html,
    report_json,
    report_pdf,
    report_text,
)
from VertebralFractureQuantLib.report.findings import findings
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.report.reviews import write_review
from VertebralFractureQuantLib.report.wording import Wording
from VertebralFractureQuantLib.spine.levels import LUMBAR, THORACIC
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.reading import Reading
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra, remeasured

SPINE = (*THORACIC[3:], *LUMBAR)  # T4 to L5
STEP = 32.0  # mm from vertebra to vertebra
SIGNED = {"review": "confirmed", "reviewer": "Dr. Ødegård", "reviewed_at": "2026-01-31T12:34:56+00:00"}
HEIGHT = 20.0


def spine(
    *changes: tuple[str, tuple[float, float, float]], levels: tuple[str, ...] = SPINE, reviewed: bool = True
) -> SpineAnalysis:
    """A column on a straight curve, 20 mm high everywhere but at (level, (anterior, middle, posterior) mm)."""
    changed = dict(changes)
    vertebrae = []
    for i, level in enumerate(levels):
        tall = changed.get(level, (HEIGHT,) * 3)
        s = -STEP * (i + 1)
        points = [[[0, a, s + h / 2], [0, a, s - h / 2]] for a, h in zip((12.0, 0.0, -12.0), tall, strict=True)]
        signed = SIGNED if reviewed else {}
        sure = {"level_probabilities": {level: 1.0}, "spread": 0.02}
        vertebrae.append(Vertebra(np.array(points), None, 0.9, level, **sure, **signed))  # type: ignore[arg-type]
    length = STEP * (len(levels) + 1)
    return SpineAnalysis(
        "case",
        shape=(int(length) + 60, 70, 40),
        spacing_mm=(1.0, 2.0, 2.0),
        ijk_to_ras=np.array([[2.0, 0, 0, -40], [0, 2.0, 0, -70], [0, 0, 1.0, -length - 40], [0, 0, 0, 1]]),
        models=(ModelStamp("detector", "detector-1", "abcdef0123456789" * 4),),
        curve=np.stack([np.zeros(int(length)), np.zeros(int(length)), -np.arange(length)], axis=1),
        limits_mm=(10.0, length - 10.0),
        vertebrae=remeasured(vertebrae),
    )


def ct_of(analysis: SpineAnalysis) -> CTVolume:
    assert analysis.shape and analysis.ijk_to_ras is not None
    k, j, i = np.indices(analysis.shape)
    return CTVolume((20 * np.sin(k / 9) + 3 * j + 2 * i).astype(np.int16), analysis.ijk_to_ras, "case")


def sentences(analysis: SpineAnalysis, language: str = "en") -> str:
    return report_text(make_report(analysis, Wording(language)))


WEDGE = ("L1", (14.8, 18.0, 20.0))  # G = 0.74


# --- the checklist: what a report of vertebral fractures must say, by RCR (2021), IOF and ISCD


@pytest.mark.parametrize(
    "line",
    [
        "Bone integrity was assessed by the heights of 14 vertebral bodies from T4 to L5",
        "Vertebral fracture of L1, moderate (Genant 2), wedge;",
        "anterior height 14.8 mm, 26 % below the posterior height of 20.0 mm (± 2 percentage points).",
        "Age of the fracture not assessed.",
        "further assessment of bone health is recommended, for example by a fracture liaison service.",
        "Consider MRI if there is new pain, suspicion of malignancy or a neurological deficit.",
        "Spinal deformity index 2; 13 of the 13 levels T4 to L4 were assessable.",
        "No prior examination was compared.",
        "Reviewed by Dr. Ødegård, last on 2026-01-31 12:34 UTC.",
        "VertebralFractureQuant 0.1.0, detector abcdef01.",
        "For research use only. Not for diagnosis.",
    ],
)
def test_the_report_of_a_fracture_says_each_line_of_the_checklist(line):
    assert line in sentences(spine(WEDGE))


@pytest.mark.parametrize(
    "line",
    [
        "Wirbelkörperfraktur LWK 1, mittelgradig (Genant 2), Keilwirbel;",
        "Vorderkantenhöhe 14,8 mm, 26 % unter der Hinterkantenhöhe von 20,0 mm (± 2 Prozentpunkte).",
        "Das Alter der Fraktur wurde nicht beurteilt.",
        "weitere Abklärung der Knochengesundheit empfohlen",
        "Spinal Deformity Index 2; 13 der 13 Wirbel BWK 4 bis LWK 4 waren beurteilbar.",
        "Geprüft von Dr. Ødegård, zuletzt am 2026-01-31 12:34 UTC.",
        "Nur für die Forschung. Nicht zur Diagnose.",
    ],
)
def test_the_german_report_says_the_same(line):
    assert line in sentences(spine(WEDGE), "de")


def test_without_a_fracture_the_report_excludes_it_for_the_levels_seen_and_recommends_nothing():
    text = sentences(spine())
    assert "No vertebral fracture among the 14 assessed vertebrae (T4 to L5)." in text
    assert "recommended" not in text and "Age of" not in text


def test_fractures_are_told_worst_first_and_the_index_is_their_sum():
    text = sentences(spine(WEDGE, ("T8", (10.0, 18.0, 20.0)), ("T11", (20.0, 15.8, 20.0))))
    told = re.findall(r"Vertebral fracture of (\w+), (\w+)", text)
    assert told == [("T8", "severe"), ("L1", "moderate"), ("T11", "mild")]
    assert "Spinal deformity index 6;" in text and "Age of the fractures not assessed." in text


def test_the_reference_of_a_loss_is_named():
    text = sentences(spine(("T9", (20.0, 14.0, 18.0)), ("L2", (20.0, 18.0, 14.0)), ("T6", (14.0, 14.5, 14.2))))
    assert (
        "T9, moderate (Genant 2), biconcave; middle height 14.0 mm, 30 % below the anterior height of 20.0 mm, the"
        in text
    )
    assert (
        "L2, moderate (Genant 2), crush; posterior height 14.0 mm, 30 % below the anterior height of 20.0 mm, the"
        in text
    )
    assert (
        "T6, moderate (Genant 2), crush; mean height 14.2 mm, 29 % below the height expected from its neighbours"
        in text
    )


def test_a_grade_near_a_threshold_is_told_with_the_grade_that_it_may_be():
    near = sentences(spine(("L1", (15.1, 18.0, 20.0))))
    assert "mild (Genant 1)" in near and "near the threshold of another grade: it may be moderate." in near
    assert "it may be no fracture" in sentences(spine(("L1", (15.9, 18.0, 20.0))))
    assert "Near the threshold of a fracture: L1." in sentences(spine(("L1", (16.2, 18.0, 20.0))))
    assert "may be" not in sentences(spine(("L1", (13.5, 18.0, 20.0))))


def test_a_certain_mild_loss_is_told_to_be_a_variant_perhaps():
    text = sentences(spine(("L1", (15.5, 18.0, 20.0))))
    assert "mild (Genant 1)" in text and "may also be a variant of shape; look at the endplates." in text
    assert "variant" not in sentences(spine(WEDGE))


def test_levels_that_are_not_assessable_are_named_with_the_reason():
    a = spine(levels=("T6", "T7", "T9", "T10", "T11"))
    rejected = replace(a.vertebrae[3], review="rejected")
    broken = replace(a.vertebrae[4], review="open", quality=(Flag("impossible_points", "Impossible."),))
    text = sentences(replace(a, vertebrae=(*a.vertebrae[:3], rejected, broken)))
    assert "Not assessable: T4, T5 and T12 to L4 (outside the scan, or not found)." in text
    assert "Not assessable: T8 (not found between the others)." in text
    assert "Not assessable: T10 (rejected by the reader as not measurable)." in text
    assert "Not assessable: T11 (its points are not those of a vertebral body)." in text
    assert "3 of the 13 levels T4 to L4 were assessable." in text
    assert "from T6 to T9" in text


def test_the_index_names_the_fractures_that_it_includes_beyond_its_levels():
    assert "The index includes L5, outside T4 to L4." in sentences(spine(("L5", (12.0, 18.0, 20.0))))


def test_an_unreviewed_study_is_preliminary_and_so_are_its_findings():
    text = sentences(spine(WEDGE, reviewed=False))
    assert text.startswith("PRELIMINARY: 14 of 14 vertebrae have not been reviewed by a reader.\n")
    assert "Automatic finding, not reviewed." in text and "Not reviewed by a reader." in text
    a = spine(WEDGE)
    one = replace(a.vertebrae[0], review="open", reviewer=None, reviewed_at=None)
    assert sentences(replace(a, vertebrae=(one, *a.vertebrae[1:]))).startswith(
        "PRELIMINARY: 1 of 14 vertebrae has not been reviewed by a reader.\n"
    )
    assert "PRELIMINARY" not in sentences(a)


def test_signatures_that_hold_are_told_with_role_and_time():
    a = spine(WEDGE)
    reading = Reading("A", "2026-01-31T10:00:00+00:00").signed("A", "2026-01-31T13:00:00+00:00", a.digest)
    reading = reading.signed("B", "2026-02-01T08:30:00+00:00", a.digest).signed("C", "2026-02-02T00:00:00+00:00", "")
    text = sentences(replace(a, reading=reading))
    assert "Signed by A on 2026-01-31 13:00 UTC.\nCounter-signed by B on 2026-02-01 08:30 UTC.\n" in text
    assert " by C " not in text
    data = json.loads(report_json(make_report(replace(a, reading=reading), Wording())))
    assert [(s["reader"], s["role"]) for s in data["signatures"]] == [("A", "reader"), ("B", "countersigner")]


def test_doubts_stand_where_they_belong():
    a = spine(WEDGE, reviewed=False)
    at = SPINE.index("L1")
    flagged = replace(a.vertebrae[at], quality=(Flag("metal", "Metal."), Flag("newer_code", "?")))
    vertebrae = (*a.vertebrae[:at], flagged, *a.vertebrae[at + 1 :])
    text = sentences(replace(a, vertebrae=vertebrae, quality=(Flag("thick_slices", "x"), Flag("metal", "y", ("L1",)))))
    assert "In doubt: there is metal in or beside the vertebra; newer_code." in text
    assert "In doubt: the slices are thick, so heights are less exact.\n" in text
    assert "In doubt: there is metal in or beside the vertebra (L1).\n" in text
    unsure = tuple(replace(v, level_probabilities={str(v.level): 0.7}) for v in vertebrae)
    text = sentences(replace(a, vertebrae=unsure))
    assert "Vertebral fracture of L1 (level uncertain)" in text and "Level uncertain: T4 to L5." in text


def test_a_column_without_names_is_reported_without_levels():
    a = spine(WEDGE)
    unnamed = tuple(replace(v, level=None, level_probabilities={}) for v in a.vertebrae)
    text = sentences(replace(a, vertebrae=unnamed))
    assert "Vertebral fracture of vertebra 10, moderate" in text
    assert "Spinal deformity index 2 over 14 vertebrae; their levels are not known." in text
    assert "Not assessable" not in text


def test_where_nothing_was_assessed_nothing_is_excluded():
    a = spine(levels=("T6", "T7"))
    text = sentences(replace(a, vertebrae=tuple(replace(v, review="rejected") for v in a.vertebrae)))
    assert "No vertebra was assessed, so vertebral fractures can be neither found nor excluded." in text
    assert "No vertebral fracture" not in text


def test_the_picture_has_the_decimal_sign_of_the_report(monkeypatch):
    seen = []
    monkeypatch.setattr(Axes, "text", lambda axes, x, y, s, **style: seen.append(s))
    for language, ratio in (("de", "LWK 1  0,74"), ("en", "L1  0.74")):
        seen.clear()
        made(spine(WEDGE), language)
        assert any(text.startswith(ratio) for text in seen), seen


@pytest.mark.parametrize(("language", "ratio"), [("de", "0,798"), ("en", "0.798")])
def test_table_and_picture_write_a_ratio_near_a_threshold_alike(monkeypatch, language, ratio):
    seen = []
    monkeypatch.setattr(Axes, "text", lambda axes, x, y, s, **style: seen.append(s))
    report = made(spine(("L1", (15.96, 18.0, 20.0))), language)
    cells = [row.cells for row in report.table]
    assert [cell for row in cells for cell in row if cell.startswith((ratio, "~" + ratio))], cells
    assert any(ratio in text for text in seen), seen


@pytest.mark.parametrize("width", [600, 900, 1280])
def test_the_page_is_read_without_scrolling_aside(width):
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_content(report_html(made(spine(WEDGE), "de")))
        ends = page.evaluate("[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)")
        assert max(ends) <= width and page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()


def test_a_failed_study_has_no_report_but_its_code():
    failed = SpineAnalysis("case", "no_spine_found", "No spine found.")
    with pytest.raises(VFQError, match="no report") as caught:
        make_report(failed, Wording())
    assert caught.value.code == "no_spine_found"


# --- the formats


def made(analysis: SpineAnalysis, language: str = "en") -> Report:
    return make_report(analysis, Wording(language), case_panel(Path(), analysis, ct_of(analysis)))


def pdf_text(data: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages).split())


def test_the_pdf_holds_sentences_table_and_picture_on_one_page():
    data = report_pdf(made(spine(WEDGE)))
    pages = PdfReader(io.BytesIO(data)).pages
    assert len(pages) == 1 and len(pages[0].images) == 1
    text = pdf_text(data)
    assert "Vertebral fracture of L1, moderate (Genant 2), wedge;" in text
    assert "L1 14.8 18.0 20.0 ~0.74 ± 0.02 moderate (2) wedge 26 % confirmed" in text
    assert "For research use only. Not for diagnosis." in text
    assert report_pdf(made(spine(WEDGE))) == data  # the same study gives the same file


def test_many_fractures_fill_two_pages_in_either_language():
    every_level = [(level, (11.0, 18.0, 20.0)) for level in SPINE]
    for language, word in (("en", "Page 2"), ("de", "Seite 2")):
        data = report_pdf(made(spine(*every_level), language))
        assert len(PdfReader(io.BytesIO(data)).pages) == 2 and word in pdf_text(data)


def test_the_page_needs_no_other_file_and_a_name_is_never_markup():
    a = replace(spine(WEDGE), case="<b>&'\"")
    page = report_html(made(a))
    assert "&lt;b&gt;&amp;&#39;&#34;" in page and "<b>" not in page
    assert "data:image/png;base64," in page and not re.search(r'(src|href)="(?!data:)', page)
    assert report_pdf(made(a)).startswith(b"%PDF")


def test_without_a_straightened_image_the_report_says_so():
    report = make_report(spine(WEDGE), Wording())
    assert "No straightened image" in report_html(report)
    assert not PdfReader(io.BytesIO(report_pdf(report))).pages[0].images


def test_the_picture_comes_from_the_folder_of_the_case_as_long_as_the_curve_is_the_same(tmp_path):
    a = spine(WEDGE, reviewed=False)
    folder = write_outputs(a, ct_of(a), tmp_path)
    stored, exact = case_panel(folder, a), case_panel(folder, a, ct_of(a))
    assert stored is not None and exact is not None
    assert stored.points == pytest.approx(exact.points, abs=1e-3)
    for panel in (stored, exact):  # the same place shows the same intensity
        assert np.interp(-100.0, panel.up[::-1], panel.image[::-1, panel.image.shape[1] // 2]) == pytest.approx(
            float(ct_of(a).sample(np.array([[0.0, 0.0, -100.0]]))[0]), abs=3
        )
    write_review(spine(WEDGE), folder)
    assert not (folder / "straightened.nrrd").exists()
    assert case_panel(folder, spine(WEDGE)) is not None
    assert case_panel(folder, replace(spine(WEDGE), curve=a.curve + 1.0)) is None
    with pytest.raises(VFQError, match="another CT"):
        case_panel(folder, a, CTVolume(np.zeros((9, 9, 9), np.int16), np.eye(4), "other"))


def test_json_holds_the_findings_and_the_sentences():
    data = json.loads(str(FORMATS["json"](make_report(spine(WEDGE), Wording()))))
    assert (data["schema"], data["sdi"], data["sdi_levels"], data["fractures"]) == ("vfq-report/1", 2, 13, ["L1"])
    fracture = next(v for v in data["vertebrae"] if v["name"] == "L1")
    assert fracture["loss"] == {
        "percent": 26.0,
        "lowest": "anterior",
        "of": "posterior",
        "of_largest": False,
        "lowest_mm": 14.8,
        "of_mm": 20.0,
        "sd_percent": 2.0,
    }
    assert data["sections"][0]["heading"] == "Conclusion"


# --- words of a site


def test_a_site_replaces_words_and_sentences_one_by_one(tmp_path):
    (tmp_path / "words.json").write_text('{"grades": {"moderate": "grade II"}}', encoding="utf-8")
    text = report_text(make_report(spine(WEDGE, ("T8", (10, 18, 20))), Wording("en", tmp_path)))
    assert "L1, grade II (Genant 2)" in text and "T8, severe (Genant 3)" in text
    (tmp_path / "report.txt.j2").write_text("# Impression\n{{ f.fractures | length }} fractured\n", encoding="utf-8")
    assert report_text(make_report(spine(WEDGE), Wording("en", tmp_path))) == "IMPRESSION\n1 fractured\n"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("report.txt.j2", "one\n{% if f %}\n", "report.txt.j2, line"),
        ("report.txt.j2", "one\ntwo {{ f.nothing.at_all }}\n", "report.txt.j2, line 2"),
        ("report.txt.j2", "one\n{{ ''.__class__.__mro__ }}\n", "report.txt.j2, line 2"),
        ("report.txt.j2", "{{ 1 / 0 }}\n", "report.txt.j2, line 1"),
        ("words.json", "{", "words.json"),
        ("words.json", "[1]", "words.json"),
        ("words.json", '{"decimal": 5}', "words.json"),
    ],
)
def test_an_error_in_a_template_is_told_with_its_place(tmp_path, name, content, told):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(VFQError, match=re.escape(told)) as caught:
        make_report(spine(WEDGE), Wording("en", tmp_path))
    assert caught.value.code == "bad_template"


def test_an_unknown_language_and_a_folder_without_templates_are_refused(tmp_path):
    (tmp_path / "misnamed").mkdir()
    (tmp_path / "misnamed" / "report.txt").write_text("{% if f %}", encoding="utf-8")
    for bad in (("xx", None), ("../en", None), ("en", tmp_path / "none"), ("en", tmp_path / "misnamed")):
        with pytest.raises(VFQError) as caught:
            Wording(*bad)
        assert caught.value.code == "bad_template"


def test_both_languages_have_the_same_words():
    def keys(node: object, prefix: str = "") -> set[str]:
        if not isinstance(node, dict):
            return {prefix}
        return set().union(*(keys(value, f"{prefix}.{key}") for key, value in node.items()))

    assert keys(Wording("en").words) == keys(Wording("de").words)


# --- the command


def test_the_command_writes_each_format_and_refuses_to_overwrite(tmp_path, monkeypatch):
    a = spine(WEDGE)
    folder = write_outputs(a, ct_of(a), tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    for name in FORMATS:
        if name == "txt":
            continue
        result = CliRunner().invoke(app, ["report", str(folder), "--format", name])
        assert result.exit_code == 0, result.output
        assert (tmp_path / f"case-report.{name}").stat().st_size > 500
    again = CliRunner().invoke(app, ["report", str(folder)])
    assert again.exit_code == 3 and "output_exists" in again.stderr
    text = CliRunner().invoke(app, ["report", str(folder), "--format", "txt"])
    assert text.exit_code == 0 and text.stdout == report_text(make_report(a, Wording()))
    without = CliRunner().invoke(app, ["report", str(folder), "--format", "txt", "--days", "30"])
    assert without.exit_code == 2 and "--prior" in without.stderr
    nothing = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert nothing.exit_code == 3 and "not_found" in nothing.stderr


def test_findings_hold_nothing_but_the_name_of_the_case():
    found = findings(spine(WEDGE))
    assert found.case == "case" and found.assessed == 14
    assert [row.name for row in found.fractures] == ["L1"]
