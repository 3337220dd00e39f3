"""Studies to send, an archive that can misbehave, and a listener in a process of its own, for the tests of archives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import dicom_cases
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]
from VertebralFractureQuantLib.archive.folders import Folders, study_name
from VertebralFractureQuantLib.archive.queue import read_queue
from VertebralFractureQuantLib.imaging.ct import CTVolume

TESTING = Path(__file__).resolve().parent
TITLE, SENDER, ARCHIVE = "VFQ", "SCANNER", "PACS"
WAIT_S = 240.0


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], why: Callable[[], str] = lambda: "", limit_s: float = WAIT_S) -> Any:
    """Wait until `what` returns something true, and return it."""
    end = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end, f"waited in vain: {why()}"
        time.sleep(0.05)
    return found


class Studies:
    """CT studies in memory; `template` holds the slices of one, of a scan that is written into `folder` for it."""

    def __init__(self, folder: Path, scan: CTVolume | None = None):
        files = dicom_cases.write_series(folder, scan or dicom_cases.trunk())
        self.template = [dcmread(path) for path in files]

    def make(self, number: int, series: int = 1, slices: slice = slice(None)) -> list[Dataset]:
        """A study with UIDs of its own; all are of the same patient."""
        made = []
        for k, one in enumerate(self.template[slices]):
            copy = deepcopy(one)
            copy.SOPClassUID = copy.file_meta.MediaStorageSOPClassUID
            copy.StudyInstanceUID = study_uid(number)
            copy.SeriesInstanceUID = f"{study_uid(number)}.{series}"
            copy.SOPInstanceUID = f"{copy.SeriesInstanceUID}.{k + 1 + (slices.start or 0)}"
            copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
            made.append(copy)
        return made


def study_uid(number: int) -> str:
    return f"1.2.826.0.7.{number}"


def send(instances: Iterable[Dataset], port: int, title: str = TITLE, sender: str = SENDER) -> list[int]:
    """Send instances as a scanner does, and return the status of each; -1 if there was no answer."""
    service = AE(sender)
    instances = list(instances)
    for syntax in sorted({one.file_meta.TransferSyntaxUID for one in instances}):
        service.add_requested_context(CTImageStorage, syntax)
    association = service.associate("127.0.0.1", port, ae_title=title)
    statuses = []
    for one in instances:
        status = association.send_c_store(one).get("Status", -1) if association.is_established else -1
        statuses.append(int(status))
    if association.is_established:
        association.release()
    return statuses


class Scanner:
    """A scanner that sends a study in a thread, again and again, until every instance was answered with success."""

    def __init__(self, instances: Sequence[Dataset], port: int):
        self.left, self._port = list(instances), port
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until all is sent."""
        self._thread.join(WAIT_S)
        assert not self.left

    def _send(self) -> None:
        while self.left:
            statuses = send(self.left, self._port)
            self.left = [one for one, status in zip(self.left, statuses, strict=True) if status]
            time.sleep(0.2 if self.left else 0)


class Archive:
    """An archive on loopback that remembers what it stored, and does as `behaviour` says.

    behaviour : called with the number of the request, returns a status or raises to break the association.
    """

    def __init__(self, behaviour: Callable[[int], int] = lambda n: 0):
        self.port, self.behaviour = free_port(), behaviour
        self.stored: dict[str, Dataset] = {}
        self.times: Counter[str] = Counter()  # how often each object was accepted
        self.requests = 0
        self._service: AE | None = None

    def start(self) -> Archive:
        self._service = AE(ARCHIVE)
        self._service.supported_contexts = AllStoragePresentationContexts
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._service.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def stop(self) -> None:
        if self._service:
            self._service.shutdown()
            self._service = None

    def of_study(self, number: int) -> list[Dataset]:
        return [one for one in list(self.stored.values()) if one.StudyInstanceUID == study_uid(number)]

    def reports(self, number: int) -> list[Dataset]:
        return [one for one in self.of_study(number) if one.Modality == "SR"]

    def _store(self, event: Any) -> int:
        self.requests += 1
        one = event.dataset
        one.file_meta = event.file_meta
        status = self.behaviour(self.requests)
        if status < 0:
            event.assoc.abort()
            return 0xC000
        if status == 0:
            self.stored[one.SOPInstanceUID] = one
            self.times[one.SOPInstanceUID] += 1
        return status


class Listening:
    """`vfq listen` in a process; the script is the one with the stub, or the real one."""

    def __init__(self, root: Path, archive_port: int, script: Sequence[str] = (), options: Sequence[str] = ()):
        self.root, self.port = root, free_port()
        self.folders = Folders(root)
        self._command = [sys.executable, *(script or (str(TESTING / "archive_stub.py"),)), "listen"]
        self._command += ["--port", str(self.port), "--aet", TITLE, "--from", SENDER, "--from", ARCHIVE]
        self._command += ["--output", str(root), "--quiet", "1", "--retry", "0.5", *options, "--forward", ""]
        self.forward_to(archive_port)
        self.log: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def forward_to(self, port: int) -> None:
        """Name the archive."""
        self._command[-1] = f"127.0.0.1:{port}:{ARCHIVE}"

    def start(self) -> Listening:
        path = os.pathsep.join([str(TESTING.parent / "VertebralFractureQuant"), str(TESTING)])
        self.process = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        seen = len(self.log)
        wait_for(lambda: any(" listening:" in line for line in self.log[seen:]) or self._dead(), self.said)
        assert not self._dead(), self.said()
        return self

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """End it as a service manager does, and return its exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in read_queue(self.folders.queue)} if self.folders.queue.exists() else {}

    def state(self, number: int) -> str | None:
        return self.states().get(study_name(study_uid(number)))

    def wait_until(self, number: int, state: str) -> None:
        wait_for(lambda: self.state(number) == state, self.said)

    def codes(self) -> list[str]:
        """The events and codes of the log, in order."""
        return [word[:-1] for line in self.log for word in line.split()[1:3] if word.endswith(":")]

    def wait_for_codes(self, *codes: str, since: int = 0) -> None:
        """Wait until the log has these codes, and no others after the first `since`; it comes later than the state."""
        wait_for(lambda: len(self.codes()) >= since + len(codes), self.said)
        assert self.codes()[since:] == list(codes)

    def said(self) -> str:
        return "\n".join(self.log[-40:])

    def _dead(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        for line in process.stderr:
            self.log.append(line.rstrip())
