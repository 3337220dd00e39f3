"""The structured report of a case: Comprehensive 3D SR, TID 1500 (PS3.16), with the groups of `groups`.

Until a reader has decided every vertebra it is preliminary and unverified.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import highdicom as hd
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DT

from .. import __version__
from ..spine.record import SpineAnalysis
from . import codes as c
from .groups import review_state, spine_group, vertebra_groups
from .objects import MANUFACTURER, Stamp
from .uids import derived_uid

LONGEST_NAME = 64  # characters of VR LO, and of a group of components of VR PN
NO_ORGANIZATION = "Not stated"


def structured_report(analysis: SpineAnalysis, stamp: Stamp, predecessor: Dataset | None = None) -> Dataset:
    """Return the structured report of a record.

    predecessor : the structured report of an earlier state of the case.
    """
    source = stamp.source
    groups = [
        spine_group(analysis, source.frame_of_reference, source.series),
        *vertebra_groups(analysis, source.frame_of_reference, source.series),
    ]
    signed, organization = readers(analysis), _organization(source.identity)
    verified = review_state(analysis) == "REVIEWED" and bool(signed)
    content = hd.sr.MeasurementReport(
        observation_context=_observers(signed),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(
            hd.sr.CodedConcept("en", "RFC5646", "English")
        ),
    )
    written = hd.sr.Comprehensive3DSR(
        evidence=source.evidence,
        content=content,
        is_complete=True,
        is_final=verified,
        is_verified=verified,
        verifying_observer_name=person_name(next(iter(signed))) if verified else None,
        verifying_organization=organization if verified else None,
        previous_versions=None if predecessor is None else [predecessor],
        coding_schemes=[_scheme()],
        **stamp.series("SR"),
    )
    stamp.complete(written)
    if verified:
        written.VerifyingObserverSequence = [
            _verifier(name, when(time) or stamp.time, organization) for name, time in signed.items()
        ]
    return written


def readers(analysis: SpineAnalysis) -> dict[str, str]:
    """Return the readers who decided vertebrae, each with the time of the last decision."""
    signed: dict[str, str] = {}
    for vertebra in analysis.vertebrae:
        if vertebra.reviewer:
            signed[vertebra.reviewer] = max(signed.get(vertebra.reviewer, ""), vertebra.reviewed_at or "")
    return signed


def person_name(name: str) -> str:
    """Return a reader's name as a DICOM name; one without "^" is taken as a family name."""
    plain = "".join(" " if letter in "\\=" or not letter.isprintable() else letter for letter in name)
    return plain[:LONGEST_NAME] if "^" in plain else f"{plain[: LONGEST_NAME - 1]}^"


def when(text: str) -> datetime | None:
    """Return a time of a record (UTC, ISO 8601); None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _observers(signed: dict[str, str]) -> Any:
    people = [
        hd.sr.ObserverContext(codes.DCM.Person, hd.sr.PersonObserverIdentifyingAttributes(name=person_name(name)))
        for name in signed
    ]
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", MANUFACTURER, __version__),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MANUFACTURER} {__version__}",
    )
    context = hd.sr.ObservationContext(
        observer_person_context=people[0] if people else None,
        observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device),
    )
    for further in people[1:]:
        context.extend(further)
    return context


def _verifier(name: str, time: datetime, organization: str) -> Dataset:
    verifier = Dataset()
    verifier.VerifyingObserverName = person_name(name)
    verifier.VerifyingOrganization = organization
    verifier.VerificationDateTime = DT(time)
    verifier.VerifyingObserverIdentificationCodeSequence = []
    return verifier


def _organization(identity: Dataset) -> str:
    return str(identity.get("InstitutionName", ""))[:LONGEST_NAME] or NO_ORGANIZATION


def _scheme() -> Any:
    return CodingSchemeIdentificationItem(
        c.SCHEME, name=c.SCHEME_NAME, version=c.SCHEMA, responsible_organization=MANUFACTURER
    )
