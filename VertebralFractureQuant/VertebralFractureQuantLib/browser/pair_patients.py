"""Which cases of a worklist are studies of one patient: by the PatientID of their DICOM files.

PatientIDs are kept in memory only, as HMACs whose secret ends with the process; the page gets numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import warnings
from collections.abc import Iterable
from contextlib import suppress

from ..cohort.worklist import Case

TAGS = ["PatientID", "IssuerOfPatientID"]


class Patients:
    """The patients of cases, each read once, in any thread."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._known: dict[Case, str] = {}

    def of(self, case: Case) -> str:
        """Return the same text for all studies of a patient; "" if the scan does not say whose it is."""
        if case not in self._known:
            found = patient_id(case)
            self._known[case] = hmac.new(self._secret, found.encode(), hashlib.sha256).hexdigest() if found else ""
        return self._known[case]

    def groups(self, cases: Iterable[Case]) -> dict[Case, int]:
        """Return a number, from 1, for each case that shares its patient with another one of these cases."""
        of_patient: dict[str, list[Case]] = {}
        for case in cases:
            if self._known.get(case):
                of_patient.setdefault(self._known[case], []).append(case)
        several = [members for members in of_patient.values() if len(members) > 1]
        return {case: number for number, members in enumerate(several, 1) for case in members}


def patient_id(case: Case) -> str:
    """Return the PatientID of a DICOM scan, with who issued it; "" for other files and without one."""
    from pydicom import dcmread

    from ..imaging.dicom_header import is_dicom, plain_stream
    from ..imaging.dicom_slices import files_below

    with suppress(Exception), warnings.catch_warnings():  # a damaged file may raise or warn of anything
        warnings.simplefilter("ignore")
        files = files_below(case.source) if case.source.is_dir() else [case.source]
        path = next((path for path in files if path.name.upper() != "DICOMDIR" and is_dicom(path)), None)
        if path is not None:
            with plain_stream(path) as stream:
                header = dcmread(stream, force=True, stop_before_pixels=True, specific_tags=TAGS)
            texts = [str(header.get(tag, "")).strip() for tag in TAGS]
            return "\n".join(texts) if texts[0] else ""
    return ""
