"""Which cases of a worklist are studies of one patient, and which is the earlier one: from their DICOM headers.

PatientIDs are kept in memory only, as HMACs whose secret ends with the process; the page gets numbers. Dates are read,
compared and forgotten.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import warnings
from collections.abc import Iterable
from contextlib import suppress

from .worklist import Case

WHO, WHEN = ("PatientID", "IssuerOfPatientID"), ("StudyDate", "StudyTime")


class Patients:
    """The patients of cases, each read once, in any thread."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._known: dict[Case, str] = {}

    def of(self, case: Case) -> str:
        """Return the same text for all studies of a patient; "" if the scan does not say whose it is."""
        if case not in self._known:
            found = patient_id(facts(case))
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

    def newest_prior(self, current: Case, others: Iterable[Case]) -> Case | None:
        """Return the newest of the other cases that is an earlier scan of the same patient; None without any.

        A scan without a date counts as the earliest.
        """
        if not self.of(current):
            return None
        when = date_of(facts(current))
        dated = [(date_of(facts(case)), case) for case in others if self.of(case) == self.of(current)]
        earlier = [each for each in dated if not when or each[0] < when]
        return max(earlier, key=lambda each: each[0])[1] if earlier else None


def patient_id(found: dict[str, str]) -> str:
    """Return the PatientID of `facts`, with who issued it; "" without one."""
    return "\n".join(found[tag] for tag in WHO) if found.get(WHO[0]) else ""


def doubts(prior: Case, current: Case) -> str:
    """Return what speaks against a prior in the headers of both scans, as sentences; "" if nothing does."""
    before, now = facts(prior), facts(current)
    told = []
    if patient_id(before) and patient_id(now) and patient_id(before) != patient_id(now):
        told.append("The PatientIDs of both scans differ. Check that they are of one patient.")
    dates = date_of(before), date_of(now)
    if all(dates) and dates[0] > dates[1]:
        told.append("The prior is the later scan. Exchange both.")
    return " ".join(told)


def date_of(found: dict[str, str]) -> str:
    """Return date and time of `facts`, as text that sorts by time; "" without any."""
    return " ".join(found.get(tag, "") for tag in WHEN).strip()


def facts(case: Case) -> dict[str, str]:
    """Return whose a DICOM scan is and when it was made, by the names of the tags; {} for other files."""
    from pydicom import dcmread

    from ..imaging.dicom_header import is_dicom, plain_stream
    from ..imaging.dicom_slices import files_below

    tags = [*WHO, *WHEN]
    with suppress(Exception), warnings.catch_warnings():  # a damaged file may raise or warn of anything
        warnings.simplefilter("ignore")
        files = files_below(case.source) if case.source.is_dir() else [case.source]
        path = next((path for path in files if path.name.upper() != "DICOMDIR" and is_dicom(path)), None)
        if path is not None:
            with plain_stream(path) as stream:
                header = dcmread(stream, force=True, stop_before_pixels=True, specific_tags=tags)
            return {tag: str(header.get(tag) or "").strip() for tag in tags}
    return {}
