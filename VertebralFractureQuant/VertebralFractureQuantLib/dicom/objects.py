"""What all DICOM objects of a case share, and two of them: the overview image and the PDF.

Patient and study come from the source series. UIDs follow from the state of the case (`uids`), and so do dates, so that
the same state gives the same objects.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, tzinfo
from hashlib import sha256
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.base import SOPClass
from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DA, DT, TM

from .. import __version__
from .source import METHODS, OPTIONAL, REQUIRED, Source
from .uids import derived_uid

MANUFACTURER = "VertebralFractureQuant"
UTF8 = "ISO_IR 192"
COPIED = tuple(keyword for keyword in (*REQUIRED, *OPTIONAL, METHODS) if keyword != "InstitutionName")
SERIES = {"SR": (9901, "measurements"), "SC": (9902, "overview"), "PDF": (9903, "report")}


@dataclass(frozen=True)
class Stamp:
    """Identity of the objects of one state of a case: its hash (`uids.state_of`) and the time of that state."""

    source: Source
    state: str
    time: datetime

    @property
    def short(self) -> str:
        """Eight hexadecimal digits for the names of files."""
        return sha256(f"{self.state} {self.source.series}".encode()).hexdigest()[:8]

    def uid(self, kind: str, of: str = "instance") -> str:
        """Return the UID of an object of this kind ("SR", "SC", "PDF ..."), or of its "series"."""
        return derived_uid(kind, of, self.state, self.source.series)

    def series(self, kind: str) -> dict[str, Any]:
        """Return the keyword arguments of highdicom for series, instance and equipment of an object."""
        number, name = SERIES[kind.split()[0]]
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": number,
            "series_description": f"Vertebral fractures: {name}",
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MANUFACTURER,
            "software_versions": __version__,
            "transfer_syntax_uid": ExplicitVRLittleEndian,
        }

    def complete(self, written: Dataset) -> None:
        """Set patient and study where highdicom does not, the character set, and all dates: the time of the state."""
        written.SpecificCharacterSet = UTF8
        for keyword in COPIED:
            if keyword in self.source.identity:
                written[keyword] = self.source.identity[keyword]
        for equipment in written.get("ContributingEquipmentSequence", ()):
            equipment.ContributionDateTime = DT(self.time)
        local = self.time.astimezone(self._zone)
        for keyword in ("Content", "InstanceCreation", "Series"):
            setattr(written, f"{keyword}Date", DA(local.date()))
            setattr(written, f"{keyword}Time", TM(local.time()))

    @property
    def _zone(self) -> tzinfo | None:
        """The time zone that the header of the series names for all its times; None for that of this computer."""
        with suppress(ValueError):
            return datetime.strptime(str(self.source.identity.get("TimezoneOffsetFromUTC", "")), "%z").tzinfo
        return None


def overview_object(stamp: Stamp, pixels: np.ndarray) -> Dataset:
    """Return the overview image `(rows, columns, 3)` uint8 as Secondary Capture."""
    written = hd.sc.SCImage.from_ref_dataset(
        ref_dataset=stamp.source.identity,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("P", "F"),
        **stamp.series("SC"),
    )
    stamp.complete(written)
    written.ConversionType, written.BodyPartExamined = "WSD", "SPINE"
    written.DateOfSecondaryCapture, written.TimeOfSecondaryCapture = written.ContentDate, written.ContentTime
    written.BurnedInAnnotation = "YES"  # the name of the case is drawn on it, and may be the patient's
    return written


def pdf_object(stamp: Stamp, pdf: bytes, variant: str) -> Dataset:
    """Return a PDF as Encapsulated PDF; `variant` tells reports of one state apart, such as their language."""
    identity = stamp.source.identity
    written = SOPClass(
        study_instance_uid=identity.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        **stamp.series(f"PDF {variant}"),
    )
    stamp.complete(written)
    written.AcquisitionDateTime = None
    written.ConversionType = "WSD"
    written.BurnedInAnnotation = "YES"
    written.DocumentTitle = "Vertebral fracture report"
    written.ConceptNameCodeSequence = []
    written.MIMETypeOfEncapsulatedDocument = "application/pdf"
    written.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    written.EncapsulatedDocumentLength = len(pdf)
    return written
