"""DICOMweb: CT studies from an archive (QIDO-RS, WADO-RS), and DICOM objects to it (STOW-RS).

Credentials come from environment variables only, certificates are verified, and nothing is logged.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..dicom.source import silenced
from ..errors import VFQError
from ..report.outputs import writing
from ..whole import beside
from .folders import holds, identify, instance_name, study_name, write_durably
from .queue import only_one

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom import Dataset

USER, PASSWORD, TOKEN = "VFQ_DICOMWEB_USER", "VFQ_DICOMWEB_PASSWORD", "VFQ_DICOMWEB_TOKEN"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
STUDY_UID, SERIES_UID, IMAGES_IN_SERIES, MODALITY = "0020000D", "0020000E", "00201209", "00080060"
WAIT_S = (10.0, 120.0)  # for a connection, and between two parts of an answer
ABANDONED_S = 3600.0  # after which a fetch that has got nothing more is not running
MOST_REQUESTS = 3  # with waits of 2 and 4 s between them
AS_STORED = (("application/dicom", "*"),)


def connect(url: str) -> DICOMwebClient:
    """Return a client of the DICOMweb service at `url`, with the credentials of the environment.

    VFQError `missing_dependency`; `unsafe_url` for credentials on a way without encryption, or for no web address.
    """
    try:
        from dicomweb_client import DICOMwebClient
        from dicomweb_client.session_utils import create_session
    except ImportError:
        raise VFQError(
            "missing_dependency",
            "DICOMweb needs the package dicomweb-client. Install it with: pip install "
            "'vertebral-fracture-quant[archive]'",
        ) from None
    name, word, token = (os.environ.get(key) for key in (USER, PASSWORD, TOKEN))
    _check_url(url, bool(name or token))
    session = create_session()
    # Without an `auth`, the library would look for credentials in the user's .netrc.
    session.auth = (name, word or "") if name else _no_credentials
    if token and not name:
        session.headers["Authorization"] = f"Bearer {token}"
    client = DICOMwebClient(url.rstrip("/"), session=session, timeout=WAIT_S)
    client.set_http_retry_params(max_attempts=MOST_REQUESTS)
    return client


def find_studies(
    client: DICOMwebClient, study: str | None = None, patient: str | None = None, accession: str | None = None
) -> list[str]:
    """Return the UIDs of the CT studies that the archive has for a study's UID, a patient's ID, or a number.

    DICOM takes * and ? for any characters, which would name other patients too, so they are refused.
    VFQError `nothing_found`; as `talking`.
    """
    wanted = {"StudyInstanceUID": study, "PatientID": patient, "AccessionNumber": accession}
    filters = {keyword: value for keyword, value in wanted.items() if value}
    if not filters or any(mark in value for value in filters.values() for mark in "*?"):
        raise VFQError("nothing_found", "Give a whole UID, ID or number: * and ? would stand for other patients, too.")
    with talking():
        found = client.search_for_studies(search_filters=filters, get_remaining=True)
        studies = sorted({_value(one, STUDY_UID) for one in found} - {""})
        with_ct = [uid for uid in studies if _ct_series(client, uid)]
    if not with_ct:
        raise VFQError(
            "nothing_found",
            f"The archive has {len(studies)} such studies, none with a CT series. Check the UID or ID."
            if studies
            else "The archive has no such study. Check the UID or ID, and that you may see the study.",
        )
    return with_ct


def fetch_study(client: DICOMwebClient, uid: str, output: Path, tell: Callable[[int], None] = lambda n: None) -> Path:
    """Fetch the CT images of a study into `output/<study>/`, completely or not at all, and return that folder.

    tell : called with the number of images that have arrived.

    Raises
    ------
    VFQError
        `output_exists`, `output_not_writable`; `fetch_in_progress` while another command fetches the study;
        `missing_slices` if the archive sends fewer images than it has; `nothing_found`; as `folders.identify` and
        `talking`.
    """
    target = output / study_name(uid)
    with _only_fetch(target):
        _refuse_fetched(target)
        with writing(output):
            discard_abandoned(target)
        _fetch_into(client, uid, target, tell)
    return target


@contextmanager
def _only_fetch(target: Path) -> Iterator[None]:
    """Keep other fetches of the study out while the block runs; the lock's file goes when the study is there.

    It goes while the lock is held: a command that waits for the old file then finds the study.
    """
    _refuse_fetched(target)  # before a lock is made beside it
    lock = target.with_name(f".fetch-{target.name}.lock")
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()  # an OSError here says why nothing can be written
    message = f"{target.name}: another command is fetching this study right now. Wait until it has ended."
    with only_one(lock, VFQError("fetch_in_progress", message)):
        try:
            yield
        finally:
            if target.exists():
                with suppress(OSError):  # Windows keeps it until it is closed
                    lock.unlink()


def _refuse_fetched(target: Path) -> None:
    if target.exists():
        raise VFQError(
            "output_exists", f"{target.name}: the study was fetched before. Move the folder away to fetch it again."
        )


def _fetch_into(client: DICOMwebClient, uid: str, target: Path, tell: Callable[[int], None]) -> None:
    """Fetch the CT images of a study into a folder beside `target`, and rename it when all are there."""
    partial = beside(target)
    with writing(target.parent):
        partial.mkdir()
    try:
        count = 0
        for one in _ct_series_in_talk(client, uid):
            for _ in _fetch_series(client, uid, one, partial):
                count += 1
                tell(count)
        if not count:
            raise VFQError("nothing_found", "The study has no CT images. Check the UID.")
        with writing(target.parent):
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def discard_abandoned(target: Path) -> None:
    """Delete what killed fetches into `target` left beside it: images of a patient, and nothing came for an hour."""
    for left in target.parent.glob(f".partial-*-{glob.escape(target.name)}"):
        if time.time() - left.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def store_files(client: DICOMwebClient, paths: Sequence[Path], stored: Callable[[Path], None]) -> None:
    """Store DICOM files one by one; `stored` is called with each that the archive has accepted.

    VFQError `bad_instance` for a file that is not DICOM; `archive_refused`; as `talking`.
    """
    from pydicom import dcmread

    for path in paths:
        try:
            with silenced():
                dataset = dcmread(path)
        except Exception as error:  # a damaged file can make pydicom raise anything
            raise VFQError(
                "bad_instance", f"{path.name!r} cannot be read as DICOM. Give files that vfq dicom wrote."
            ) from error
        with talking():
            answer = client.store_instances([dataset])
        if failed := answer.get("FailedSOPSequence"):
            reason = failed[0].get("FailureReason", 0)
            raise VFQError(
                "archive_refused", f"The archive refuses {path.name!r} (reason {reason:04X}). Check its log."
            )
        stored(path)


@contextmanager
def talking() -> Iterator[None]:
    """Turn what happens to an HTTP request into a VFQError without its address, which may name a patient.

    VFQError `archive_refused` for an answer that is an error, `archive_unreachable` if there is none.
    """
    try:
        with silenced("dicomweb_client", "urllib3"):
            yield
    except VFQError:
        raise
    except OSError as error:  # requests' exceptions are OSErrors
        raise _failure(error) from None
    except (ValueError, KeyError) as error:
        raise VFQError(
            "archive_refused", f"The answer of the archive is no DICOMweb ({type(error).__name__}). Check the address."
        ) from None


def _failure(error: OSError) -> VFQError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return VFQError(
            "archive_refused",
            f"The archive wants other credentials (HTTP {status}). Set {USER} and {PASSWORD}, or {TOKEN}, in the "
            "environment.",
        )
    if status is not None:
        return VFQError("archive_refused", f"The archive answers with an error (HTTP {status}). Check its log.")
    if type(error).__name__ == "SSLError":
        return VFQError(
            "archive_unreachable",
            "The certificate of the archive cannot be verified. If your site signs its own certificates, name the file "
            "with its authority in REQUESTS_CA_BUNDLE.",
        )
    return VFQError(
        "archive_unreachable",
        f"There is no answer from the archive ({type(error).__name__}). Check the address, and that it runs.",
    )


def _check_url(url: str, credentials: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise VFQError(
            "unsafe_url",
            "The address of a DICOMweb service begins with https:// or http://, and has no name or password in it. Set "
            f"{USER} and {PASSWORD} in the environment.",
        )
    if credentials and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise VFQError(
            "unsafe_url", "Credentials would be sent without encryption. Use the https:// address of the archive."
        )


def _no_credentials(request: Any) -> Any:
    return request


def _ct_series(client: DICOMwebClient, study: str) -> list[dict[str, Any]]:
    found = client.search_for_series(study, search_filters={"Modality": "CT"}, get_remaining=True)
    return [one for one in found if _value(one, MODALITY) in ("CT", "")]


def _ct_series_in_talk(client: DICOMwebClient, study: str) -> list[dict[str, Any]]:
    with talking():
        return _ct_series(client, study)


def _fetch_series(client: DICOMwebClient, study: str, series: dict[str, Any], folder: Path) -> Iterator[None]:
    """Keep the CT images of a series; yields after each. Other objects of the series are left out."""
    expected, came = int(_value(series, IMAGES_IN_SERIES) or 0), 0
    instances = client.iter_series(study, _value(series, SERIES_UID), media_types=AS_STORED)
    while True:
        with talking():
            one = next(instances, None)
        if one is None:
            break
        came += 1
        if _kept(one, folder):
            yield
    if came < expected:
        raise VFQError(
            "missing_slices", f"The archive sent {came} of the {expected} images of a series. Run the command again."
        )


def _kept(instance: Dataset, folder: Path) -> bool:
    """Write one instance; False for an object that is no CT image."""
    stream = BytesIO()
    with silenced():
        instance.save_as(stream, enforce_file_format=True)
        data = stream.getvalue()
        try:
            found = identify(data)
        except VFQError as error:
            if error.code == "not_accepted":
                return False
            raise
    target = folder / instance_name(found.instance)
    with writing(folder):
        if not holds(target, data):
            write_durably(data, target, folder)
    return True


def _value(found: dict[str, Any], tag: str) -> str:
    """Return a value of DICOM JSON as text; "" if it is absent."""
    return str((found.get(tag, {}).get("Value") or [""])[0])
