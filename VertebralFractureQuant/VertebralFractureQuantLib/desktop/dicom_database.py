"""Slicer's DICOM database: the series from which a volume was loaded, and the objects of its case, which go back there.

The database and its tools (`DICOMLib.DICOMUtils`) are given, so that nothing here needs Slicer's DICOM module.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..dicom.export import export_case
from ..errors import VFQError

INSTANCES = "DICOM.instanceUIDs"  # attribute of a volume node: the SOP Instance UIDs of its slices
SERIES_TAG = "0020,000e"


class Database(Protocol):
    """What is needed of Slicer's `ctkDICOMDatabase`."""

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        """Return the path of an instance; "" if it is not in the database."""

    def fileValue(self, path: str, tag: str) -> str:  # noqa: N802
        """Return the value of an attribute in a file."""


def loaded_series(node: Any, database: Database) -> tuple[Path, str]:
    """Return a file of the DICOM series that a volume node was loaded from, and its Series Instance UID.

    VFQError `no_identity` if the volume did not come from the database, or its files are no longer there.
    """
    uids = (node.GetAttribute(INSTANCES) or "").split()
    path = database.fileForInstance(uids[0]) if uids else ""
    if not path or not Path(path).exists():
        raise VFQError(
            "no_identity",
            "The volume was not loaded from Slicer's DICOM database, or its files are no longer there, so the identity "
            "of patient and study is unknown. Load the CT with Slicer's DICOM module.",
        )
    return Path(path), database.fileValue(path, SERIES_TAG)


def export_loaded(folder: Path, node: Any, database: Database, output: Path) -> list[Path]:
    """Write the DICOM objects of the case in `folder`, with the identity of the series of its volume node.

    The overview image is left out where nothing can draw it. VFQError as `loaded_series` and `export_case`.
    """
    path, series = loaded_series(node, database)
    return export_case(folder, path, output, series, overview=drawn(folder))


def drawn(folder: Path) -> bool:
    """True if the case in `folder` has an overview image, or one can be drawn."""
    return (folder / "overview.png").exists() or find_spec("matplotlib") is not None
