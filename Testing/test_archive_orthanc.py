"""A real archive: Orthanc on loopback sends CT to the listener and gets the results back, by DICOM and DICOMweb."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_cases import ARCHIVE, SENDER, Listening, Studies, free_port, send, study_uid
from archive_orthanc import AVAILABLE, NAME, WORD, Orthanc, valid
from dicom_cases import PATIENT
from pydicom import dcmread
from typer.testing import CliRunner, Result
from VertebralFractureQuantLib.archive.folders import study_name
from VertebralFractureQuantLib.cli.app import app

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not AVAILABLE, reason="needs an archive: apt install orthanc orthanc-dicomweb"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orthanc")


@pytest.fixture(scope="module")
def studies(folder: Path) -> Studies:
    return Studies(folder / "template")


@pytest.fixture(scope="module")
def listener(folder: Path) -> Iterator[Listening]:
    listener = Listening(folder / "listener", 0)
    yield listener
    if listener.process:
        listener.kill()


@pytest.fixture(scope="module")
def orthanc(folder: Path, listener: Listening) -> Iterator[Orthanc]:
    orthanc = Orthanc(folder / "archive", listener.port)
    listener.forward_to(orthanc.dicom)
    listener.start()
    yield orthanc
    orthanc.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFQ_DICOMWEB_USER", NAME)
    monkeypatch.setenv("VFQ_DICOMWEB_PASSWORD", WORD)


def vfq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_ct_comes_from_the_archive_and_the_results_are_found_there_under_the_same_study(
    orthanc: Orthanc, listener: Listening, studies: Studies, tmp_path: Path
):
    """One study is stored by C-STORE, the other by STOW-RS."""
    assert set(send(studies.make(1), orthanc.dicom, ARCHIVE)) == {0}
    for k, one in enumerate(studies.make(2)):
        one.save_as(tmp_path / f"{k:03}.dcm", enforce_file_format=True)
    done = vfq("store", tmp_path, "--url", orthanc.url)
    assert done.exit_code == 0, done.output
    for number in (1, 2):
        orthanc.forward(number)
    for number in (1, 2):
        listener.wait_until(number, "sent")
        for kind in ("SR", "OT", "DOC"):
            (found,) = orthanc.instances(number, kind)
            assert valid(found, tmp_path), kind
        assert len(orthanc.instances(number, "CT")) == len(studies.template)

    # Sent again: the archive holds nothing twice.
    orthanc.forward(1)
    assert listener.state(1) == "sent" and len(orthanc.instances(1, "SR")) == 1


def test_a_study_is_fetched_by_its_uid_whole_and_once(
    orthanc: Orthanc, listener: Listening, studies: Studies, tmp_path: Path
):
    assert set(send(studies.make(3), orthanc.dicom, ARCHIVE)) == {0}
    done = vfq("fetch", orthanc.url, "--study", study_uid(3), "--output", tmp_path)
    assert done.exit_code == 0, done.output
    folder = tmp_path / study_name(study_uid(3))
    files = sorted(folder.iterdir())
    sent = {str(one.SOPInstanceUID): bytes(one.PixelData) for one in studies.make(3)}
    assert {str(one.SOPInstanceUID): bytes(one.PixelData) for one in map(dcmread, files)} == sent
    assert not [secret for secret in (PATIENT["PatientID"], study_uid(3), WORD) if secret in done.output]
    assert "output_exists" in vfq("fetch", orthanc.url, "--study", study_uid(3), "--output", tmp_path).output
    assert sorted(tmp_path.iterdir()) == [folder]


def test_all_ct_studies_of_a_patient_are_fetched_without_other_objects(
    orthanc: Orthanc, listener: Listening, studies: Studies, tmp_path: Path
):
    assert set(send(studies.make(4), orthanc.dicom, ARCHIVE)) == {0}
    done = vfq("fetch", orthanc.url, "--patient", PATIENT["PatientID"], "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert tmp_path / study_name(study_uid(4)) in list(tmp_path.iterdir())
    for study in tmp_path.iterdir():
        assert {dcmread(path).Modality for path in study.iterdir()} == {"CT"}


def test_what_goes_wrong_on_the_web_has_a_code_and_shows_no_secret(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refused(code: str, *arguments: object) -> str:
        done = vfq(*arguments)
        assert done.exit_code == 3 and done.output.startswith(f"{code}:"), done.output
        assert WORD not in done.output and "9.9.9" not in done.output
        return done.output

    output = ("--output", tmp_path)
    refused("nothing_found", "fetch", orthanc.url, "--study", "9.9.9", *output)
    refused("archive_unreachable", "fetch", f"http://127.0.0.1:{free_port()}", "--study", "9.9.9", *output)
    refused("unsafe_url", "fetch", "http://pacs.example/dicom-web", "--study", "9.9.9", *output)
    refused("unsafe_url", "fetch", "https://me:word@pacs.example", "--study", "9.9.9", *output)
    refused("unsafe_url", "fetch", "ftp://pacs.example", "--study", "9.9.9", *output)
    refused("archive_refused", "fetch", orthanc.url + "/nowhere", "--study", "9.9.9", *output)
    (tmp_path / "no.dcm").write_text("no DICOM")
    refused("bad_instance", "store", tmp_path / "no.dcm", "--url", orthanc.url)
    refused("not_found", "store", tmp_path / "absent.dcm", "--url", orthanc.url)
    monkeypatch.setenv("VFQ_DICOMWEB_PASSWORD", "another")
    said = refused("archive_refused", "fetch", orthanc.url, "--study", "9.9.9", *output)
    assert "VFQ_DICOMWEB_USER" in said and SENDER not in said
    monkeypatch.delenv("VFQ_DICOMWEB_USER")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {NAME} password {WORD}\n")
    refused("archive_refused", "fetch", orthanc.url, "--study", "9.9.9", *output)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
