"""The receiver: takes CT images by C-STORE from the AE titles that it was told of, and refuses everything else.

An instance is answered with success only when it lies in its study's folder and on the disk. Each refusal is logged
with a code; nothing of a patient is.
"""

from __future__ import annotations

import sqlite3
import string
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import VFQError
from ..imaging.dicom_pixels import COMPRESSED, NATIVE
from ..imaging.dicom_slices import CT_STORAGE
from .folders import Folders, holds, identify, instance_name, study_name, write_durably
from .queue import Queue

Log = Callable[[str, str, str], None]  # (name of a study or "", code or event, sentence)

VERIFICATION = "1.2.840.10008.1.1"
SUCCESS, NO_SPACE, NOT_TAKEN, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000  # C-STORE statuses, PS3.4 B.2.3
STATUSES = {
    "output_not_writable": NO_SPACE,
    "not_accepted": NOT_TAKEN,
    "bad_instance": NOT_TAKEN,
    "instance_differs": NOT_TAKEN,
}
UNKNOWN_SYNTAX = 0x04  # result of a presentation context: none of its transfer syntaxes is taken
MOST_NAMED = 5  # kinds of objects that a line of the log names
MOST_ASSOCIATIONS = 20
IDLE_S = 60.0  # an association without any message for so long is aborted


class Receiver:
    """A C-STORE service.

    Parameters
    ----------
    title : our AE title; callers that ask for another one are refused.
    callers : the AE titles that may send.
    folders, queue : where instances are kept, and the studies noted.
    log : called with each refusal, from several threads.
    """

    def __init__(self, title: str, callers: Sequence[str], folders: Folders, queue: Queue, log: Log):
        from pynetdicom import AE

        if not callers:
            raise ValueError("without callers, pynetdicom would take instances from everybody")
        self._folders, self._queue, self._log = folders, queue, log
        self._said: set[str] = set()
        self._service = AE(title)
        self._service.require_calling_aet = list(callers)
        self._service.require_called_aet = True
        self._service.maximum_associations = MOST_ASSOCIATIONS
        self._service.network_timeout = IDLE_S
        self._service.add_supported_context(CT_STORAGE, [*filter(None, NATIVE), *COMPRESSED])
        self._service.add_supported_context(VERIFICATION)

    def start(self, host: str, port: int) -> None:
        """Listen in threads of its own. VFQError `port_in_use`."""
        from pynetdicom import evt

        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_ACCEPTED, self._accepted),
        ]
        try:
            self._service.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise VFQError(
                "port_in_use",
                f"Port {port} of {host} cannot be used ({error.strerror or error}). Give another --port, one above "
                "1023, or an address of this computer as --host.",
            ) from error

    def stop(self) -> None:
        """Abort all associations and close the port; what was not answered will be sent again."""
        self._service.shutdown()

    def _store(self, event: Any) -> int:
        """Keep one instance and return the status of the answer."""
        try:
            self._keep(event.encoded_dataset(), event.assoc)
        except Exception as error:
            failure = _coded(error)
            self._log("", failure.code, f"An instance from {_title(event.assoc)} is refused: {failure.message}")
            return STATUSES.get(failure.code, CANNOT_UNDERSTAND)
        return SUCCESS

    def _keep(self, data: bytes, sender: Any) -> None:
        found = identify(data)
        name = study_name(found.study)
        target = self._folders.studies / name / instance_name(found.instance)
        there = holds(target, data)
        if there and self._queue.state(name) in ("complete", "analysed", "sent"):
            return  # sent twice
        if self._queue.receive(name, sender):
            self._log(name, "receiving", f"A study arrives from {_title(sender)}.")
        if not there:
            write_durably(data, target, self._folders.incoming)

    def _rejected(self, event: Any) -> None:
        asked = printable(event.assoc.requestor.primitive.called_ae_title)
        refusal = VFQError(
            "unknown_ae_title",
            f"{_title(event.assoc)} at {event.assoc.requestor.address} asked for {asked} and is refused. To take its "
            f"studies, add --from with its AE title, and let it call {self._service.ae_title}.",
        )
        self._log("", refusal.code, refusal.message)

    def _accepted(self, event: Any) -> None:
        """Say once which kinds of objects a caller offers that are not taken; many offer all that exist."""
        from pydicom.uid import UID

        refused = [one for one in event.assoc.rejected_contexts if one.abstract_syntax]
        kinds = sorted({UID(one.abstract_syntax).name for one in refused if one.result != UNKNOWN_SYNTAX})
        if any(one.result == UNKNOWN_SYNTAX for one in refused):
            kinds.append("CT images in a compression that cannot be read")
        if kinds:
            more = f" and {len(kinds) - MOST_NAMED} other kinds" if len(kinds) > MOST_NAMED else ""
            listed = ", ".join(map(printable, kinds[:MOST_NAMED])) + more
            said = f"{_title(event.assoc)} offers objects that are not taken: {listed}."
            if said not in self._said:
                self._said.add(said)
                self._log("", "not_accepted", said)


def printable(text: str) -> str:
    """Return what another computer calls itself, for a log: no line breaks, nothing long."""
    allowed = set(string.printable) - set("\t\n\r\x0b\x0c")
    return repr("".join(one if one in allowed else "?" for one in str(text).strip())[:80])


def _title(association: Any) -> str:
    return printable(association.requestor.ae_title)


def _coded(error: Exception) -> VFQError:
    """Return the failure of an instance, without the words of a library, which may quote its values."""
    if isinstance(error, (OSError, sqlite3.Error)):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return VFQError(
            "output_not_writable", f"It cannot be written ({reason}). Check the free space and the permissions."
        )
    if isinstance(error, VFQError):
        return error
    return VFQError("internal_error", f"This program has a defect ({type(error).__name__}). Report it.")
