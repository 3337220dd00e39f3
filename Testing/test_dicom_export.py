"""DICOM objects of a case: what other programs read in them, whose identity they hold, and the report read back.

dciodvfy (dicom3tools) and dsrdump (dcmtk) judge the files; highdicom reads them as 3D Slicer's plugin does.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from dicom_cases import FRAME, LEVELS, PATIENT, SERIES, STUDY, Case, make_case, record, trunk, write_series
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.valuerep import PersonName
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.desktop.dicom_database import export_loaded
from VertebralFractureQuantLib.dicom import codes as concepts
from VertebralFractureQuantLib.dicom.back import read_record, read_report
from VertebralFractureQuantLib.dicom.export import Pdf, export_case
from VertebralFractureQuantLib.dicom.source import silenced
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct
from VertebralFractureQuantLib.report.outputs import write_outputs, write_record
from VertebralFractureQuantLib.scene.opening import read_study
from VertebralFractureQuantLib.scene.state import first_state
from VertebralFractureQuantLib.spine.quality import CODES
from VertebralFractureQuantLib.spine.record_json import read_analysis, to_json

OPEN = ("open",) * 4
REVIEWED = ("confirmed", "confirmed", "rejected", "rejected")
PARTLY = ("confirmed", "open", "rejected", "open")
PDF = b"%PDF-1.4 a report "  # an even number of bytes less one
SECRETS = ("Muster", "Erika", "PAT-4711", "ACC-0815", "19500102", STUDY, SERIES, "Haus")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"), OPEN)


@pytest.fixture(scope="module")
def files(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return exported(case, tmp_path_factory.mktemp("objects"), overview=True)


def exported(case: Case, output: Path, pdf: bytes = PDF, overview: bool = False) -> dict[str, Path]:
    """Write all objects of a case, and return them as "measurements", "overview" and "report"."""
    written = export_case(case.folder, case.series, output, overview=overview, pdf=Pdf(lambda: pdf, "en"))
    return {path.name.split("-")[0]: path for path in written}


def reviewed(case: Case, folder: Path, reviews: Sequence[str], readers: Sequence[str] = ("anna",) * 4) -> Case:
    """The same case in another state of its review."""
    return replace(case, folder=write_outputs(record(case.ct, reviews, readers), case.ct, folder, pictures=False))


def moved(ct: CTVolume) -> CTVolume:
    """The same voxels 1 mm higher."""
    matrix = ct.ijk_to_ras.copy()
    matrix[2, 3] += 1.0
    return replace(ct, ijk_to_ras=matrix)


def refused(code: str, *arguments: Any, **options: Any) -> str:
    with pytest.raises(VFQError) as info:
        export_case(*arguments, overview=False, **options)
    assert info.value.code == code, info.value
    return info.value.message


# other programs


def test_the_validator_finds_no_error_in_any_object(case: Case, files: dict[str, Path], tmp_path: Path) -> None:
    done = exported(
        reviewed(case, tmp_path / "out", REVIEWED, ("Anna Ä", "Bob^B", "Anna Ä", "Bob^B")),
        tmp_path / "o",
        overview=True,
    )
    validator = shutil.which("dciodvfy", path=Path(sys.executable).parent) or shutil.which("dciodvfy")
    assert validator, "install dicom3tools"
    for path in (*files.values(), *done.values()):
        told = subprocess.run([validator, path], capture_output=True, text=True).stderr
        assert any(name in told for name in ("Comprehensive3DSR", "SCImage", "EncapsulatedPDF")), told
        assert "Error" not in told, told


def test_dsrdump_prints_every_vertebra(files: dict[str, Path]) -> None:
    dsrdump = shutil.which("dsrdump")
    if not dsrdump:
        pytest.skip("dsrdump is not installed: install dcmtk")
    told = subprocess.run([dsrdump, "+Pl", files["measurements"]], capture_output=True, text=True)
    assert told.returncode == 0 and "E:" not in told.stderr
    for text in ('"T12? Genant 0, not reviewed"', '"L1 Genant 2 wedge, not reviewed"', '"V3 Genant 3 biconcave', '"L6'):
        assert text in told.stdout
    assert "POLYLINE" in told.stdout and "Verification Flag   : UNVERIFIED" in told.stdout


def test_the_calls_of_slicers_plugin_give_a_point_and_the_same_columns_for_each_vertebra(
    files: dict[str, Path],
) -> None:
    report = hd.sr.srread(files["measurements"])
    assert report.Modality == "SR" and report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = report.content.get_planar_roi_measurement_groups(
        graphic_type=hd.sr.GraphicTypeValues3D.POINT, reference_type=codes.DCM.ImageRegion
    )
    truth, columns = record(trunk()).vertebrae, []
    for group, vertebra in zip(groups, truth, strict=True):
        np.testing.assert_allclose(group.roi.value[0] * [-1, -1, 1], vertebra.keypoints.mean((0, 1)), atol=1e-3)
        assert group.roi.ReferencedFrameOfReferenceUID == FRAME
        items = hd.sr.utils.find_content_items(
            group[0],
            relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
            value_type=hd.sr.ValueTypeValues.CODE,
        )
        columns.append([item.name.CodeMeaning for item in items])
        assert all(item.value.CodeValue for item in items)  # the plugin knows no long code values
    assert columns[0][:2] == ["Finding category", "Finding"] and all(column == columns[0] for column in columns)
    findings = [group.finding_type.CodeMeaning for group in groups]
    assert findings == ["No vertebral fracture", "Vertebral fracture", "Vertebral fracture", "Vertebra not assessable"]
    sites = [group.finding_sites[0].value.CodeMeaning for group in groups]
    assert sites == ["T12 vertebra", "L1 vertebra", "Vertebra", "Vertebra"]


def test_highdicom_reads_the_heights_and_their_lines(files: dict[str, Path]) -> None:
    _, *groups = hd.sr.srread(files["measurements"]).content.get_image_measurement_groups()
    for group, vertebra in zip(groups, record(trunk()).vertebrae, strict=True):
        heights = group.get_measurements(name=codes.DCM.Height)
        assert [one.unit for one in heights] == [codes.UCUM.Millimeter] * 3
        np.testing.assert_allclose([one.value for one in heights], vertebra.measurement.heights_mm, rtol=0, atol=1e-12)
        modifiers = [one.finding_sites[0].topographical_modifier.meaning for one in heights]
        assert modifiers == ["Anterior", "Central", "Posterior"]
        lines = np.stack([one.referenced_coordinates[0].value for one in heights])
        np.testing.assert_allclose(lines * [-1, -1, 1], vertebra.keypoints, rtol=0, atol=1e-3)


def test_the_grade_loss_and_doubts_of_a_vertebra_can_be_read(files: dict[str, Path]) -> None:
    spine, *groups = hd.sr.srread(files["measurements"]).content.get_image_measurement_groups()

    def said(group: Any, name: str) -> list[str]:
        found = group.get_qualitative_evaluations(name=concepts.own(name))
        return [str(one.value.value) for one in found]

    def number(group: Any, name: str) -> float:
        return float(group.get_measurements(name=concepts.own(name))[0].value)

    assert [said(group, "GENANT") for group in groups] == [["G0"], ["G2"], ["G3"], []]
    assert [said(group, "TYPE") for group in groups] == [[], ["WEDGE"], ["BICONCAVE"], []]
    assert [said(group, "LEVELNAME") for group in groups] == [["DOUBTFUL"], ["CERTAIN"], ["UNKNOWN"], ["CERTAIN"]]
    assert [said(group, "ORIGIN") for group in groups] == [["MODEL"], ["READER"], ["MODEL"], ["MODEL"]]
    assert said(groups[3], "DOUBT") == ["impossible_points", "low_score"]
    assert number(groups[1], "LOSS") == pytest.approx(100 * (1 - 17.3 / 25.1))
    assert number(groups[1], "GRATIO") == pytest.approx(17.3 / 25.1)
    assert (number(spine, "SDI"), number(spine, "COUNTED"), said(spine, "WORSTGRADE")) == (5, 3, ["G3"])
    assert number(spine, "SDILEVELS") == 2 and said(spine, "LACKING") == ["OUTSIDE", "GAP"]
    assert said(spine, "DOUBT") == ["metal", "thick_slices"] and said(spine, "REVIEW") == ["OPEN"]


def test_a_rejected_vertebra_has_no_grade_and_no_point_that_a_viewer_would_draw(case: Case, tmp_path: Path) -> None:
    report = hd.sr.srread(exported(reviewed(case, tmp_path / "out", REVIEWED), tmp_path)["measurements"])
    _, *groups = report.content.get_image_measurement_groups()
    assert [group.finding_type.value for group in groups] == ["NOVFX", "VFX", "REJECTED", "REJECTED"]
    assert not groups[2].get_qualitative_evaluations(name=concepts.own("GENANT"))
    assert not groups[2].get_measurements(name=concepts.own("LOSS"))
    assert len(report.content.get_planar_roi_measurement_groups()) == 2


def test_every_quality_code_and_concept_fits_its_attributes() -> None:
    every = [*map(concepts.own, concepts.MEANINGS), *map(concepts.doubt, CODES)]
    assert len({code.value for code in every}) == len(every)
    assert all(len(code.meaning) <= concepts.LONGEST_MEANING for code in every)
    assert all(len(value) <= 16 for value in concepts.MEANINGS)
    page = Path(__file__).resolve().parent.parent / "Documentation" / "dicom.md"
    assert not [value for value in concepts.MEANINGS if f"`{value}`" not in page.read_text(encoding="utf-8")]


# who observed, and when


def test_a_report_is_verified_only_after_the_review_of_all_vertebrae(case: Case, tmp_path: Path) -> None:
    def flags(reviews: Sequence[str], name: str) -> tuple[str, str]:
        report = dcmread(exported(reviewed(case, tmp_path / name, reviews), tmp_path / name / "o")["measurements"])
        return report.VerificationFlag, report.PreliminaryFlag

    assert flags(OPEN, "a") == flags(PARTLY, "b") == ("UNVERIFIED", "PRELIMINARY")
    assert flags(REVIEWED, "c") == ("VERIFIED", "FINAL")


def test_readers_are_observers_and_verifiers_with_the_time_of_their_last_decision(case: Case, tmp_path: Path) -> None:
    several = reviewed(case, tmp_path / "out", REVIEWED, ("Anna\\Ä", "李", "Anna\\Ä", "Anna\\Ä"))
    report = hd.sr.srread(exported(several, tmp_path)["measurements"])
    people = [item for item in report.content[0].ContentSequence if item.name == codes.DCM.PersonObserverName]
    assert [str(item.PersonName) for item in people] == ["Anna Ä^", "李^"]
    signed = {str(v.VerifyingObserverName): str(v.VerificationDateTime) for v in report.VerifyingObserverSequence}
    assert signed == {"Anna Ä^": "20261130010300+0000", "李^": "20261130010100+0000"}
    assert report.VerifyingObserverSequence[0].VerifyingOrganization == PATIENT["InstitutionName"]


def test_an_unreviewed_report_names_the_device_alone(files: dict[str, Path]) -> None:
    report = hd.sr.srread(files["measurements"])
    assert len(report.content.get_observer_contexts(observer_type=codes.DCM.Device)) == 1
    assert not report.content.get_observer_contexts(observer_type=codes.DCM.Person)
    assert "VerifyingObserverSequence" not in report


# the same state is the same object


def test_the_same_state_gives_the_same_files_and_another_state_refers_to_the_earlier_report(
    case: Case, tmp_path: Path
) -> None:
    first = reviewed(case, tmp_path / "a", PARTLY)
    one, again = (exported(first, tmp_path / name, overview=True) for name in ("one", "again"))
    assert [p.name for p in one.values()] == [p.name for p in again.values()]
    for name in one:
        assert one[name].read_bytes() == again[name].read_bytes()
    before = {path: path.stat().st_mtime_ns for path in one.values()}
    assert exported(first, tmp_path / "one", overview=True) == one
    assert {path: path.stat().st_mtime_ns for path in one.values()} == before
    later = exported(reviewed(case, tmp_path / "b", REVIEWED), tmp_path / "one")
    assert len(list((tmp_path / "one").iterdir())) == 5
    old, new = dcmread(one["measurements"]), dcmread(later["measurements"])
    assert old.SOPInstanceUID != new.SOPInstanceUID and "PredecessorDocumentsSequence" not in old
    referred = new.PredecessorDocumentsSequence[0]
    assert referred.StudyInstanceUID == STUDY
    assert referred.ReferencedSeriesSequence[0].SeriesInstanceUID == old.SeriesInstanceUID
    assert referred.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID


def test_a_vertebra_keeps_its_tracking_uid_in_a_later_state(case: Case, files: dict[str, Path], tmp_path: Path) -> None:
    later = exported(reviewed(case, tmp_path / "out", REVIEWED), tmp_path)["measurements"]
    both = [hd.sr.srread(path).content.get_image_measurement_groups() for path in (files["measurements"], later)]
    uids = [[group.tracking_uid for group in groups] for groups in both]
    assert uids[0] == uids[1] and len(set(uids[0])) == 5


def test_the_uids_of_all_objects_are_valid_and_differ(files: dict[str, Path]) -> None:
    headers = [dcmread(path) for path in files.values()]
    uids = [uid for one in headers for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)]
    assert len(set(uids)) == 6 and all(uid.is_valid for uid in uids)
    assert all(one.StudyInstanceUID == STUDY for one in headers)
    assert {path.name.split("-")[0]: dcmread(path).Modality for path in files.values()} == {
        "measurements": "SR",
        "overview": "OT",
        "report": "DOC",
    }


# image and PDF


def test_the_overview_is_that_of_the_folder_or_drawn_of_the_present_points(case: Case, tmp_path: Path) -> None:
    from PIL import Image

    here = reviewed(case, tmp_path / "out", PARTLY)
    drawn = dcmread(exported(here, tmp_path / "drawn", overview=True)["overview"])
    assert drawn.pixel_array.shape[2] == 3 and min(drawn.pixel_array.shape[:2]) > 300
    assert drawn.pixel_array.std() > 10  # a picture
    assert {p.suffix for p in (tmp_path / "drawn").iterdir()} == {".dcm"}  # nothing temporary is left
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(picture).save(here.folder / "overview.png")
    written = dcmread(exported(here, tmp_path / "copied", overview=True)["overview"])
    np.testing.assert_array_equal(written.pixel_array, picture)
    assert written.PhotometricInterpretation == "RGB" and written.SeriesDescription == "Vertebral fractures: overview"


@pytest.mark.parametrize("pdf", [PDF, PDF + b"."])
def test_the_pdf_comes_back_byte_by_byte(case: Case, tmp_path: Path, pdf: bytes) -> None:
    written = dcmread(exported(case, tmp_path, pdf)["report"])
    assert written.EncapsulatedDocument[: written.EncapsulatedDocumentLength] == pdf
    assert len(written.EncapsulatedDocument) % 2 == 0 and written.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_reports_in_two_languages_are_two_objects(case: Case, tmp_path: Path) -> None:
    written = [
        export_case(case.folder, case.series, tmp_path, overview=False, pdf=Pdf(lambda: PDF, language))[-1]
        for language in ("en", "de")
    ]
    assert dcmread(written[0]).SOPInstanceUID != dcmread(written[1]).SOPInstanceUID


# identity

CHINESE = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"  # as in PS3.5, annex K
NAMES = [
    ("ISO_IR 100", "Müller^Jürgen"),
    ("ISO_IR 101", "Wałęsa^Łucja"),
    ("ISO_IR 110", "Bērziņš^Jānis"),
    ("ISO_IR 144", "Люксембург"),
    ("ISO_IR 127", "قباني^لنزار"),
    ("ISO_IR 126", "Διονυσιος"),
    ("ISO_IR 138", "שרון^דבורה"),
    ("ISO_IR 148", "Çavuşoğlu^Ş"),
    ("ISO_IR 166", "ประเสริฐ^สมชาย"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
    ("GBK", "Wang^XiaoDong=王^小东"),
    ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东"),
    (["ISO 2022 IR 100", "ISO 2022 IR 126"], "Müller^Διονυσιος"),
]


@pytest.mark.parametrize(("charset", "name"), NAMES, ids=[str(charset) for charset, _ in NAMES])
def test_a_name_in_any_character_set_is_the_same_in_every_object(tmp_path: Path, charset: Any, name: str) -> None:
    raw = PersonName(CHINESE, ["iso8859", "iso_ir_58"]) if charset == ["", "ISO 2022 IR 58"] else name
    case = make_case(tmp_path, charset=charset, patient={"PatientName": raw})
    source = dcmread(case.series / "0000.dcm")
    assert str(source.PatientName) == name or raw != name  # pydicom writes and reads no ISO 2022 IR 58
    written = export_case(case.folder, case.series, tmp_path / "o", overview=False, pdf=Pdf(lambda: PDF, "en"))
    for path in written:
        copied = dcmread(path)
        assert str(copied.PatientName) == name and copied.SpecificCharacterSet == "ISO_IR 192"


def test_patient_and_study_are_copied_into_every_object(files: dict[str, Path]) -> None:
    for path in files.values():
        written = dcmread(path)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
            assert str(written[keyword].value) == PATIENT[keyword], keyword
        assert (written.StudyDescription, written.ReferringPhysicianName) == ("CT trunk", "Haus^Arzt")
        assert "InstanceNumber" in written and "RescaleSlope" not in written


def test_what_the_series_lacks_stays_empty_and_what_is_no_date_or_sex_is_left_out(tmp_path: Path) -> None:
    odd = {"PatientBirthDate": None, "PatientSex": "X", "StudyTime": None, "AccessionNumber": None, "PatientAge": None}
    case = make_case(tmp_path, patient=odd)
    written = dcmread(export_case(case.folder, case.series, tmp_path / "o", overview=False)[0])
    for keyword in ("PatientBirthDate", "PatientSex", "StudyTime", "AccessionNumber"):
        assert not written[keyword].value
    assert "PatientAge" not in written and written.PatientID == PATIENT["PatientID"]


def test_a_name_that_its_character_set_cannot_decode_is_refused_and_not_quoted(tmp_path: Path) -> None:
    case = make_case(tmp_path, charset="ISO_IR 192", patient={"PatientName": "Mueller^Xaver"})
    for path in case.series.iterdir():
        path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfcller "))
    message = refused("no_identity", case.folder, case.series, tmp_path / "o")
    assert "PatientName" in message and "SpecificCharacterSet" in message and "ller" not in message


@pytest.mark.parametrize(
    ("patient", "told"),
    [
        ({"FrameOfReferenceUID": None}, "36 slices of the series have no FrameOfReferenceUID"),
        ({"SOPInstanceUID": "1.2.3"}, "the same SOPInstanceUID"),
    ],
)
def test_a_series_that_nothing_can_refer_to_is_refused(tmp_path: Path, patient: dict[str, Any], told: str) -> None:
    case = make_case(tmp_path, patient=patient)
    message = refused("no_identity", case.folder, case.series, tmp_path / "o")
    assert told in message and "Export the series from the archive again. Use vfq report" in message


def test_slices_of_two_patients_are_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    other = dcmread(case.series / "0007.dcm")
    other.PatientID = "PAT-0000"
    other.save_as(case.series / "0007.dcm")
    message = refused("no_identity", case.folder, case.series, tmp_path / "o")
    assert "PatientID" in message and "PAT" not in message


def test_nothing_of_a_patient_is_printed_logged_or_left_outside_the_objects(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = {
        "PatientName": "Muster=Erika=x=y",
        "PatientBirthDate": "",
        "PatientSex": "Erika",
        "PatientAge": "Erika^Muster",
    }
    with silenced():
        strange = make_case(tmp_path / "strange", patient=odd)
    capfd.readouterr()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    for name, series in (("good", case.series), ("odd", strange.series)):
        folder = case.folder if name == "good" else strange.folder
        result = CliRunner().invoke(
            app, ["dicom", str(folder), "--source", str(series), "--output", str(tmp_path / name), "--no-pdf"]
        )
        printed = result.output + result.stderr + caplog.text + "".join(capfd.readouterr())
        assert not [secret for secret in SECRETS if secret in printed], printed
        assert result.exit_code in (0, 3)
        assert not [p for p in (tmp_path / name).iterdir() if not p.name.startswith(("measurements-", "overview-"))]
        text = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        assert not [secret for secret in SECRETS if secret.encode() in text]


# refusals


def test_a_case_that_came_as_nifti_has_pdf_and_html_only(tmp_path: Path) -> None:
    ct = trunk()
    write_ct(ct, tmp_path / "scan.nii")
    folder = write_outputs(record(ct), ct, tmp_path / "out", pictures=False)
    for source in (tmp_path / "scan.nii", make_case(tmp_path / "dicom").series):
        assert "PDF and HTML need no identity" in refused("no_identity", folder, source, tmp_path / "o")
    without = refused("no_identity", folder, None, tmp_path / "o")
    assert "--source" in without and "PDF and HTML need no identity" in without
    assert not (tmp_path / "o").exists()


def test_an_older_record_needs_the_uid_of_its_series(case: Case, tmp_path: Path) -> None:
    older = replace(record(case.ct), series=None)
    folder = write_outputs(older, case.ct, tmp_path / "out", pictures=False)
    assert "--series" in refused("no_identity", folder, case.series, tmp_path / "o")
    written = export_case(folder, case.series, tmp_path / "o", series=SERIES, overview=False)
    assert dcmread(written[0]).PatientID == PATIENT["PatientID"]


def test_a_uid_does_not_overrule_the_series_that_a_record_names(case: Case, tmp_path: Path) -> None:
    other = make_case(tmp_path / "other", patient={"SeriesInstanceUID": "1.2.826.0.1.99"})
    refused("other_ct", case.folder, other.series, tmp_path / "o", series="1.2.826.0.1.99")


def test_times_are_those_of_the_zone_that_the_series_names(tmp_path: Path) -> None:
    case = make_case(tmp_path, REVIEWED, patient={"TimezoneOffsetFromUTC": "+0530"})
    written = dcmread(export_case(case.folder, case.series, tmp_path / "o", overview=False)[0])
    assert (written.ContentDate, written.ContentTime) == ("20261130", "063300")  # 01:03 UTC
    assert written.VerifyingObserverSequence[0].VerificationDateTime == "20261130010300+0000"


def test_a_series_that_is_incomplete_or_another_one_is_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path)
    (case.series / "0020.dcm").rename(tmp_path / "0020.dcm")
    refused("missing_slices", case.folder, case.series, tmp_path / "o")
    (tmp_path / "0020.dcm").rename(case.series / "0020.dcm")
    (case.series / "0035.dcm").unlink()
    assert "35 of the 36 slices" in refused("missing_slices", case.folder, case.series, tmp_path / "o")
    other = make_case(tmp_path / "other", patient={"SeriesInstanceUID": "1.2.826.0.1.99"})
    refused("no_ct_series", case.folder, other.series, tmp_path / "o")
    write_series(tmp_path / "moved", moved(trunk()))
    refused("other_ct", case.folder, tmp_path / "moved", tmp_path / "o")


def test_a_failed_analysis_is_refused_with_its_own_code(case: Case, tmp_path: Path) -> None:
    failed = replace(record(case.ct), status="no_spine_found", message="No spine found.", vertebrae=())
    write_record(failed, tmp_path / "analysis.json")
    assert refused("no_spine_found", tmp_path, case.series, tmp_path / "o") == "No spine found."


def test_without_highdicom_the_command_says_what_to_install(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert "vertebral-fracture-quant[dicom]" in refused("missing_dependency", case.folder, case.series, tmp_path / "o")


# back


@pytest.mark.parametrize("reviews", [OPEN, PARTLY, REVIEWED, ("confirmed",) * 4])
def test_a_report_comes_back_as_the_record_it_was_made_from(case: Case, tmp_path: Path, reviews: Sequence[str]) -> None:
    here = reviewed(case, tmp_path / "out", reviews)
    report = exported(here, tmp_path)["measurements"]
    made, back = read_analysis(here.folder / "analysis.json"), read_report(report)
    for one, other in zip(made.vertebrae, back.vertebrae, strict=True):
        np.testing.assert_allclose(other.keypoints, one.keypoints, rtol=0, atol=1e-3)
        told = {key: value for key, value in vars(one).items() if key not in ("keypoints", "measurement", "expected")}
        assert told == {key: value for key, value in vars(other).items() if key in told}
        assert (other.expected is None) is (one.expected is None)
        if one.expected:
            np.testing.assert_allclose(other.expected.loss, one.expected.loss, rtol=0, atol=1e-4)
        if one.counts:
            assert other.measurement == one.measurement
    assert [v.level for v in back.vertebrae] == list(LEVELS)
    np.testing.assert_allclose(back.curve, made.curve, rtol=0, atol=1e-3)
    kept = ("source", "models", "limits_mm", "quality", "patient")
    assert {key: to_json(back)[key] for key in kept} == {key: to_json(made)[key] for key in kept}


def test_a_review_opens_a_report_with_the_points_and_decisions_of_its_readers(case: Case, tmp_path: Path) -> None:
    here = reviewed(case, tmp_path / "out", PARTLY)
    report = exported(here, tmp_path / "o")["measurements"]
    prepared = read_study(case.series, tmp_path / "review" / "case", "case", report)
    state = first_state(prepared.analysis)
    assert [state[f"v{n}"]["review"] for n in (1, 2, 3, 4)] == list(PARTLY)
    assert state["v1"]["reviewer"] == "anna" and state["v2"]["level"] == "L1"
    np.testing.assert_allclose(state["v2"]["keypoints"], record(case.ct).vertebrae[1].keypoints, rtol=0, atol=1e-3)
    assert len(prepared.made.straightening.curve.points) == len(record(case.ct).curve)
    later = read_analysis(tmp_path / "review" / "case" / "analysis.json")  # opens without the report from now on
    assert [v.review for v in later.vertebrae] == list(PARTLY)
    assert read_study(case.series, here.folder, "case", report)  # beside the record that it was made from
    write_series(tmp_path / "other", moved(trunk()))
    with pytest.raises(VFQError) as info:
        read_study(tmp_path / "other", tmp_path / "review2" / "case", "case", report)
    assert info.value.code == "other_ct"


def test_objects_in_the_folder_of_their_series_do_not_disturb_it(case: Case, tmp_path: Path) -> None:
    series = tmp_path / "series"
    shutil.copytree(case.series, series)
    exported(replace(case, series=series), series, overview=True)
    ct = read_ct(series)
    assert ct.voxels.shape == case.ct.voxels.shape and ct.series == case.ct.series
    assert exported(replace(case, series=series), tmp_path / "again")


def test_an_analysis_json_is_read_as_before(case: Case) -> None:
    assert read_record(case.folder / "analysis.json").case == "case"


def altered(report: Path, target: Path, change: Any) -> Path:
    dataset = dcmread(report)
    change(dataset)
    dataset.save_as(target)
    return target


def set_schema(dataset: Dataset) -> None:
    for item in everything(dataset):
        if item.get("TextValue") == concepts.SCHEMA:
            item.TextValue = "vfq-sr/2"


def everything(dataset: Dataset) -> list[Dataset]:
    below = [item for item in dataset.get("ContentSequence", ())]
    return below + [deeper for item in below for deeper in everything(item)]


def drop_spine(dataset: Dataset) -> None:
    measurements = next(item for item in everything(dataset) if item.ValueType == "CONTAINER")
    del measurements.ContentSequence[0]


def drop_points(dataset: Dataset) -> None:
    for item in everything(dataset):
        if item.ValueType == "SCOORD3D" and item.GraphicType == "POLYLINE":
            item.GraphicData = item.GraphicData[:3]


def unknown_review(dataset: Dataset) -> None:
    for item in everything(dataset):
        if item.ValueType == "CODE" and item.ConceptCodeSequence[0].get("CodeValue") == "OPEN":
            item.ConceptCodeSequence[0].CodeValue = "PERHAPS"


def unknown_level(dataset: Dataset) -> None:
    for item in everything(dataset):
        if item.ValueType == "CODE" and item.ConceptCodeSequence[0].get("CodeValue") == "L6":
            item.ConceptCodeSequence[0].CodeValue = "L7"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (set_schema, "newer_schema"),
        (drop_spine, "not_an_analysis"),
        (drop_points, "not_an_analysis"),
        (unknown_review, "not_an_analysis"),
        (unknown_level, "not_an_analysis"),
    ],
)
def test_a_report_of_other_software_another_version_or_with_damage_is_refused(
    files: dict[str, Path], tmp_path: Path, change: Any, code: str
) -> None:
    with pytest.raises(VFQError) as info:
        read_record(altered(files["measurements"], tmp_path / "a.dcm", change))
    assert info.value.code == code
    assert not [secret for secret in SECRETS if secret in info.value.message]


def test_other_dicom_files_and_torn_ones_are_no_report(case: Case, files: dict[str, Path], tmp_path: Path) -> None:
    torn = tmp_path / "torn.dcm"
    torn.write_bytes(files["measurements"].read_bytes()[:5000])
    for path in (case.series / "0000.dcm", files["overview"], files["report"], torn):
        with pytest.raises(VFQError) as info:
            read_record(path)
        assert info.value.code == "not_an_analysis"


# 3D Slicer


class Node:
    """A volume node with Slicer's attribute of the instances that it was loaded from."""

    def __init__(self, instances: str | None):
        self._instances = instances

    def GetAttribute(self, name: str) -> str | None:  # noqa: N802
        return {"DICOM.instanceUIDs": self._instances}.get(name)


class Database:
    """Slicer's DICOM database of the slices in a folder."""

    def __init__(self, folder: Path):
        self._files = {str(dcmread(path).SOPInstanceUID): str(path) for path in sorted(folder.iterdir())}

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        return self._files.get(uid, "")

    def fileValue(self, path: str, tag: str) -> str:  # noqa: N802
        group, element = tag.split(",")
        return str(dcmread(path)[int(group, 16), int(element, 16)].value)


def test_a_volume_of_slicers_database_is_exported_with_the_identity_of_its_series(case: Case, tmp_path: Path) -> None:
    database = Database(case.series)
    node = Node("1.2.826.0.1.4.1 1.2.826.0.1.4.2")
    folder = write_outputs(replace(record(case.ct), series=None), case.ct, tmp_path / "out", pictures=False)
    written = export_loaded(folder, node, database, tmp_path / "o")
    assert [dcmread(path).PatientID for path in written] == [PATIENT["PatientID"]] * 2
    assert len(dcmread(written[0]).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence) == 1
    for other in (Node(None), Node("1.2.3")):
        with pytest.raises(VFQError) as info:
            export_loaded(folder, other, database, tmp_path / "none")
        assert info.value.code == "no_identity" and "DICOM module" in info.value.message


# the commands


def test_a_report_in_words_is_made_of_a_structured_report(case: Case, files: dict[str, Path]) -> None:
    told = [
        CliRunner().invoke(app, ["report", str(path), "--format", "txt"])
        for path in (files["measurements"], case.folder)
    ]
    assert [one.exit_code for one in told] == [0, 0]
    words = [[line for line in one.stdout.splitlines() if "Case" not in line] for one in told]
    assert words[0] == words[1] and any("Vertebral fracture of L1" in line for line in words[0])


def test_the_command_writes_the_pdf_with_the_image_of_the_series(case: Case, tmp_path: Path) -> None:
    from pypdf import PdfReader

    arguments = ["dicom", str(case.folder), "--source", str(case.series), "--output", str(tmp_path), "--no-overview"]
    for language, word in (("en", "Vertebral fracture of L1"), ("de", "Wirbelkörperfrakturen")):
        result = CliRunner().invoke(app, [*arguments, "--language", language])
        assert result.exit_code == 0, result.stderr
        (path,) = tmp_path.glob(f"report-{language}-*.dcm")
        written = dcmread(path)
        pdf = PdfReader(io.BytesIO(written.EncapsulatedDocument[: written.EncapsulatedDocumentLength]))
        text = " ".join(" ".join(page.extract_text() for page in pdf.pages).split())
        assert word in text and any(page.images for page in pdf.pages)
    absent = tmp_path / "none"
    result = CliRunner().invoke(app, [*arguments[:5], str(absent), "--language", "xx"])
    assert result.exit_code == 3 and result.stderr.startswith("bad_template") and not absent.exists()


def test_the_command_writes_the_objects_and_says_where(case: Case, tmp_path: Path) -> None:
    arguments = ["dicom", str(case.folder), "--source", str(case.series), "--output", str(tmp_path / "o"), "--no-pdf"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "o").iterdir())
    assert names == ["measurements", "overview"] and "measurements-" in result.stderr
    result = CliRunner().invoke(app, [*arguments[:2], *arguments[4:]])
    assert result.exit_code == 3 and result.stderr.startswith("no_identity: ")
    assert json.loads((case.folder / "analysis.json").read_text())["status"] == "ok"
