"""The folder of a listener, and how a received instance gets into it: complete or not at all.

`studies/<study>/` holds the instances of a study, `cases/<study>/` its results as `vfq analyze` writes them,
`outbox/<study>/` its DICOM objects, `incoming/` what is being written. Names are hashes of UIDs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from ..errors import VFQError
from ..imaging.dicom_slices import CT_STORAGE
from ..whole import sync_folder

PREAMBLE, GROUP_LENGTH = 132, 12  # bytes before the file meta information, and of its first element
WANTED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
LONGEST_UID = 64


@dataclass(frozen=True)
class Folders:
    """The places in the folder `root` of a listener."""

    root: Path

    @property
    def queue(self) -> Path:
        """The file of the queue."""
        return self.root / "queue.sqlite"

    @property
    def lock(self) -> Path:
        """The file that a running listener locks."""
        return self.root / "listener.lock"

    @property
    def incoming(self) -> Path:
        """The folder of files that are being written."""
        return self.root / "incoming"

    @property
    def studies(self) -> Path:
        """The folder of the received studies."""
        return self.root / "studies"

    @property
    def cases(self) -> Path:
        """The folder of the results."""
        return self.root / "cases"

    @property
    def outbox(self) -> Path:
        """The folder of the DICOM objects that go to the archive."""
        return self.root / "outbox"

    def prepare(self) -> None:
        """Create the folders, and delete what a killed process was writing. Raises OSError."""
        for folder in (self.incoming, self.studies, self.cases, self.outbox):
            folder.mkdir(parents=True, exist_ok=True)
        for left in self.incoming.iterdir():
            left.unlink()


class Identity(NamedTuple):
    """The UIDs of an instance."""

    study: str
    instance: str


def identify(data: bytes) -> Identity:
    """Return the UIDs of a CT instance, a DICOM file in memory.

    VFQError `not_accepted` for an object that is no CT image; `bad_instance` for one without its UIDs.
    """
    from pydicom import dcmread

    try:
        header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(WANTED))
        kind, instance, study = (str(header.get(keyword, "")) for keyword in WANTED)
    except Exception as error:  # a damaged file can make pydicom raise anything
        raise VFQError("bad_instance", "An object cannot be read as DICOM. Send the study again.") from error
    if not all(0 < len(uid) <= LONGEST_UID for uid in (kind, study, instance)):
        raise VFQError(
            "bad_instance", "An object lacks the UID of its kind, of its study or its own. Export the study again."
        )
    if kind != CT_STORAGE:
        raise VFQError("not_accepted", "An object is no CT image, so it is not taken. Send the CT series of the study.")
    return Identity(study, instance)


def study_name(uid: str) -> str:
    """Return the name of a study's folders, by a hash of its UID."""
    return f"study-{sha256(uid.encode()).hexdigest()[:16]}"


def instance_name(uid: str) -> str:
    """Return the name of an instance's file, by a hash of its UID."""
    return f"{sha256(uid.encode()).hexdigest()[:32]}.dcm"


def holds(target: Path, data: bytes) -> bool:
    """True if the file exists with this data set; its file meta information, which receivers write, may differ.

    VFQError `instance_differs` if it holds another data set.
    """
    try:
        there = target.read_bytes()
    except FileNotFoundError:
        return False
    if _data_set(there) != _data_set(data):
        raise VFQError(
            "instance_differs",
            "An instance was received before with other content under the same UID. The first one is kept. If the new "
            "one is right, delete the folder of the study and send the study again.",
        )
    return True


def _data_set(data: bytes) -> bytes:
    """Return what follows the file meta information."""
    length = int.from_bytes(data[PREAMBLE + GROUP_LENGTH - 4 : PREAMBLE + GROUP_LENGTH], "little")
    return data[PREAMBLE + GROUP_LENGTH + length :]


def write_durably(data: bytes, target: Path, incoming: Path) -> None:
    """Write a file so that it is complete or absent, and stays when power fails. Raises OSError."""
    partial = incoming / uuid4().hex
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not target.parent.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(target.parent.parent)
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        with suppress(OSError):
            partial.unlink()
