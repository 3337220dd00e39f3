"""The sender: brings DICOM objects to an archive by C-STORE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import VFQError

CONNECT_S, ANSWER_S = 10.0, 60.0  # longest waits for a connection, and for an answer
WARNINGS = range(0xB000, 0xC000)  # the archive has stored the object and changed something, or remarks on it


class Archive(NamedTuple):
    """Where objects go."""

    host: str
    port: int
    title: str


def send(
    archive: Archive,
    title: str,
    files: Sequence[Path],
    offer: Callable[[Path], None],
    accept: Callable[[Path], None],
) -> None:
    """Send DICOM files over one association; all are tried, even if the archive refuses some.

    Parameters
    ----------
    title : our AE title.
    offer, accept : called with each file before it is sent, and when the archive has accepted it.

    Raises
    ------
    VFQError
        `archive_unreachable`: no association, or it broke; `archive_refused`: the archive answered that it does not
        take an object; `bad_instance`: a file is damaged.
    """
    from pynetdicom import AE

    service = AE(title)
    service.connection_timeout = CONNECT_S
    service.acse_timeout = service.dimse_timeout = service.network_timeout = ANSWER_S
    for path in files:
        service.add_requested_context(*_kind(path))
    association = service.associate(archive.host, archive.port, ae_title=archive.title)
    if not association.is_established:
        raise _unreachable(archive, association)
    try:
        refused = [found for path in files if (found := _send_one(association, path, offer, accept))]
    finally:
        if association.is_established:
            association.release()
    if refused:
        raise VFQError(
            "archive_refused",
            f"The archive {archive.title} refuses {len(refused)} of {len(files)} objects ({', '.join(refused)}). Check "
            "its log and its free space, and that it takes structured reports, secondary captures and PDF.",
        )


def _kind(path: Path) -> tuple[str, str]:
    """Return the kind of object in a file, and its transfer syntax."""
    from pydicom import dcmread

    try:
        meta = dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta
        return meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file can make pydicom raise anything
        raise VFQError("bad_instance", f"{path.name!r} is damaged. Write it again with vfq dicom.") from error


def _send_one(
    association: Any, path: Path, offer: Callable[[Path], None], accept: Callable[[Path], None]
) -> str | None:
    """Send one file; return how the archive refused it. VFQError `archive_unreachable` if the association broke."""
    if not association.is_established:
        raise _broken()
    offer(path)
    try:
        answer = association.send_c_store(path)
    except ValueError:  # its kind was not accepted when the association began
        return f"{path.name.split('-')[0]}: kind of object not accepted"
    except RuntimeError as error:
        raise _broken() from error
    if "Status" not in answer:
        raise _broken()
    if answer.Status and answer.Status not in WARNINGS:
        return f"{path.name.split('-')[0]}: status {answer.Status:04X}"
    accept(path)
    return None


def _unreachable(archive: Archive, association: Any) -> VFQError:
    if association.is_rejected:
        message = (
            f"The archive at {archive.host}:{archive.port} rejects the association. Check its AE title, "
            f"{archive.title}, and that it knows ours."
        )
    else:
        message = f"No DICOM archive answers at {archive.host}:{archive.port}. Check the address, and that it runs."
    return VFQError("archive_unreachable", message)


def _broken() -> VFQError:
    return VFQError("archive_unreachable", "The archive ended the association. Check its log.")
