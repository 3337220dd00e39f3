"""The report of a study that was compared with a prior one, line by line, in both languages and every format."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pypdf import PdfReader
from test_follow_up import again
from test_follow_up import spine as patient
from test_formats import validated
from test_report_document import SPINE, WEDGE, spine
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.followup.comparison import compare_aligned
from VertebralFractureQuantLib.followup.matching import Alignment
from VertebralFractureQuantLib.followup.reader_match import ReaderMatch, places_of
from VertebralFractureQuantLib.report.comparison_files import read_examination
from VertebralFractureQuantLib.report.document import make_report, report_html, report_json, report_pdf, report_text
from VertebralFractureQuantLib.report.matches import write_match
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.report.prior import Prior, prior_of
from VertebralFractureQuantLib.report.wording import Wording
from VertebralFractureQuantLib.spine.record import SpineAnalysis, remeasured

MILD_L1 = ("L1", (15.6, 18.0, 20.0))  # G = 0.78
SEVERE_L1 = ("L1", (9.6, 18.0, 20.0))
CRUSHED_T8 = ("T8", (11.0, 18.0, 20.0))


def prior(
    before: SpineAnalysis, now: SpineAnalysis, days: int | None = 731, first: int = 0, shift: int | None = 0
) -> Prior:
    """Compare two spines of which vertebra `first` + i before is vertebra i now."""
    pairs = tuple((i + first, i) for i in range(len(now.vertebrae)) if i + first < len(before.vertebrae))
    return prior_of(compare_aligned(before.vertebrae, now.vertebrae, Alignment(pairs, 0.994, shift, 5.0)), days)


def sentences(before: SpineAnalysis, now: SpineAnalysis, language: str = "en", **told) -> str:
    return plain(report_text(make_report(now, Wording(language), None, prior(before, now, **told))))


def plain(text: str) -> str:
    """Return text with hyphens in place of minus signs."""
    return text.replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (
            (),
            (WEDGE,),
            "New since the prior examination 731 days before: anterior height -5.2 mm (measurement error ± 1.3 mm).",
        ),
        ((), (WEDGE,), "The new fracture is at most 731 days old.\n"),
        ((), (WEDGE,), "New fracture: L1. No change beyond measurement error in the others.\n"),
        (
            (CRUSHED_T8,),
            (WEDGE, CRUSHED_T8),
            "The new fracture is at most 731 days old. The age of the other is not assessed.\n",
        ),
        (
            (CRUSHED_T8,),
            (CRUSHED_T8,),
            "Present in the prior examination 731 days before, unchanged within measurement error.",
        ),
        ((CRUSHED_T8,), (CRUSHED_T8,), "No vertebral body has changed beyond measurement error; no new fracture.\n"),
        ((CRUSHED_T8,), (CRUSHED_T8,), "Age of the fracture not assessed.\n"),
        (
            (MILD_L1,),
            (SEVERE_L1,),
            "Present in the prior examination 731 days before, and lower now: anterior height -6.0 mm",
        ),
        ((MILD_L1,), (SEVERE_L1,), "Progressed: L1. No change beyond measurement error in the others.\n"),
        (
            (SEVERE_L1,),
            (MILD_L1,),
            "Higher than in the prior examination 731 days before: an error of one measurement is likelier",
        ),
        ((SEVERE_L1,), (), "Higher than before, likely an error of measurement: L1."),
        ((), (), "14 vertebral bodies (T4 to L5), matched by shape, place and image (certainty 99 %).\n"),
    ],
)
def test_each_line_about_a_prior_examination(before, now, line):
    text = sentences(spine(*before), spine(*now))
    assert line in text
    assert "No prior examination was compared" not in text


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        ((), (WEDGE,), "Neu seit der Voruntersuchung vor 731 Tagen: Vorderkantenhöhe -5,2 mm (Messfehler ± 1,3 mm)."),
        ((), (WEDGE,), "Die neue Fraktur ist höchstens 731 Tage alt.\n"),
        ((CRUSHED_T8,), (WEDGE, CRUSHED_T8), "Das Alter der anderen wurde nicht beurteilt.\n"),
        ((), (WEDGE,), "Neue Fraktur: LWK 1. Die übrigen sind im Rahmen des Messfehlers unverändert.\n"),
        (
            (CRUSHED_T8,),
            (CRUSHED_T8,),
            "In der Voruntersuchung vor 731 Tagen vorhanden, im Rahmen des Messfehlers unverändert.",
        ),
        (
            (CRUSHED_T8,),
            (CRUSHED_T8,),
            "Kein Wirbelkörper hat sich über den Messfehler hinaus verändert; keine neue Fraktur.\n",
        ),
        (
            (MILD_L1,),
            (SEVERE_L1,),
            "In der Voruntersuchung vor 731 Tagen vorhanden und jetzt niedriger: Vorderkantenhöhe -6,0 mm",
        ),
        (
            (SEVERE_L1,),
            (MILD_L1,),
            "Höher als in der Voruntersuchung vor 731 Tagen: Ein Messfehler ist wahrscheinlicher",
        ),
        ((), (), "14 Wirbelkörper (BWK 4 bis LWK 5), zugeordnet nach Form, Lage und Bild (Sicherheit 99 %).\n"),
    ],
)
def test_each_german_line_about_a_prior_examination(before, now, line):
    text = sentences(spine(*before), spine(*now), "de")
    assert line in text
    assert "Eine Voruntersuchung wurde nicht verglichen" not in text


def test_without_dates_no_age_is_told():
    text = sentences(spine(), spine(WEDGE), days=None)
    assert "New since the prior examination: anterior height" in text
    assert "Age of the fracture not assessed.\n" in text
    assert "days" not in text


def test_a_fracture_that_the_prior_scan_does_not_show_is_said_to_be_not_compared():
    now = spine(WEDGE)
    before = spine(levels=SPINE[: SPINE.index("T12")])
    assert "Not compared with the prior examination." in sentences(before, now)


def test_names_that_differ_are_told_beside_the_fracture_and_in_the_findings():
    before, now = spine(levels=SPINE[1:]), spine(("T12", WEDGE[1]), levels=SPINE[:-1])
    text = sentences(before, now, shift=-1)
    assert (
        "The names of the levels differ by 1 between both examinations; they are called as in the current one." in text
    )
    unnamed = replace(now, vertebrae=tuple(replace(v, level=None, level_probabilities={}) for v in now.vertebrae))
    text = sentences(before, unnamed, shift=None)
    assert "Vertebral fracture of vertebra 9" in text
    assert "In the prior examination this is L1." in text


def test_sizes_that_all_differ_are_told():
    now = spine()
    larger = replace(now, vertebrae=remeasured([replace(v, keypoints=v.keypoints * 1.06) for v in now.vertebrae]))
    assert "All sizes differ between both examinations: the voxel spacing of one may be wrong." in sentences(
        now, larger
    )


def test_every_format_has_the_table_of_changes():
    before, now = spine(CRUSHED_T8), spine(WEDGE, CRUSHED_T8)
    made = make_report(now, Wording(), None, prior(before, now))
    assert made.changes and len(made.changes.rows) == 14
    l1 = next(cells for cells, changed in made.changes.rows if changed)
    assert tuple(map(plain, l1)) == (
        "L1",
        "anterior height",
        "20.0 → 14.8",
        "-5.2 ± 1.3",
        "1.00 → 0.74",
        "0 → 2",
        "new fracture",
    )
    page = report_html(made)
    assert "Compared with the prior examination" in page and '<td class="text">20.0 → 14.8</td>' in page
    text = " ".join(" ".join(p.extract_text() for p in PdfReader(io.BytesIO(report_pdf(made))).pages).split())
    assert "L1 anterior height 20.0 → 14.8 -5.2 ± 1.3 1.00 → 0.74 0 → 2 new fracture" in plain(text)
    data = validated(json.loads(report_json(made)), "vfq-report/1")
    assert data["prior"]["days"] == 731
    assert [r["name"] for r in data["prior"]["rows"] if r["verdict"] == "new fracture"] == ["L1"]


def test_a_report_without_a_prior_examination_has_no_table_of_changes():
    made = make_report(spine(WEDGE), Wording())
    assert made.changes is None
    assert "prior examination" not in report_html(made).replace("No prior examination was compared.", "")
    assert json.loads(report_json(made))["prior"] is None


def test_the_command_compares_with_a_prior_case_and_refuses_another_patient(tmp_path):
    for analysis in (
        patient(case="before"),
        again(patient(lower={"L1": (0.6, 0.9, 1)}), case="after"),
        patient(2, case="other", scale=1.12),
    ):
        write_outputs(analysis, None, tmp_path, pictures=False)

    def report(before: str, *more: str):
        given = ["report", tmp_path / "after", "--prior", tmp_path / before, "--format", "txt", *more]
        return CliRunner().invoke(app, list(map(str, given)))

    told = report("before", "--days", "90")
    assert told.exit_code == 0, told.output
    assert "New since the prior examination 90 days before: anterior height" in told.stdout
    refused = report("other")
    assert refused.exit_code == 3
    assert "other_patient: other and after: " in refused.output
    assert not list(Path().glob("*-report.*"))


@pytest.mark.parametrize(
    ("language", "by", "other"),
    [("en", "matched by Reader A.", "with another prior examination"), ("de", "zugeordnet von Reader A.", "von Hand")],
)
def test_a_match_that_a_reader_set_is_said_and_one_with_another_prior_too(language, by, other):
    found = prior(spine(), spine())
    shown = {
        kind: plain(report_text(make_report(spine(), Wording(language), None, each)))
        for kind, each in (
            ("automatic", found),
            ("reader", replace(found, reader="Reader A")),
            ("other", replace(found, other_match=True)),
        )
    }
    assert by in shown["reader"] and "%" not in re.search(rf"^.*{by}", shown["reader"], re.MULTILINE)[0]
    assert by not in shown["automatic"] and "99 %" in shown["automatic"] and "99 %" in shown["other"]
    assert [kind for kind, text in shown.items() if other in text] == ["other"]


@pytest.mark.parametrize(("language", "words"), [("en", "different weights"), ("de", "verschiedenen Gewichten")])
def test_different_weights_of_the_prior_are_said(language, words):
    found = prior(spine(), spine())
    same, other = (
        plain(report_text(make_report(spine(), Wording(language), None, each)))
        for each in (found, replace(found, other_weights=("detector",)))
    )
    assert words not in same and words in other and "(detector)" in other


def test_the_command_takes_a_match_that_a_reader_set(tmp_path):
    for analysis in (patient(case="before"), again(patient(), case="after")):
        write_outputs(analysis, None, tmp_path, pictures=False)
    before, after = (read_examination(tmp_path / name) for name in ("before", "after"))
    pairs = tuple((i + 1, i) for i in range(11))
    match = ReaderMatch("Reader A", places_of(before.analysis.vertebrae, after.analysis.vertebrae, pairs))
    write_match(tmp_path / "after", after.digest, before.digest, match)
    given = ["report", tmp_path / "after", "--prior", tmp_path / "before", "--format", "txt"]
    told = CliRunner().invoke(app, list(map(str, given)))
    assert told.exit_code == 0 and "11 vertebral bodies" in told.stdout and "matched by Reader A." in told.stdout
    (tmp_path / "after" / "matches.json").write_text("{")
    refused = CliRunner().invoke(app, list(map(str, given)))
    assert refused.exit_code == 3 and "bad_matches" in refused.output
