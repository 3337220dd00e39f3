"""`vfq listen` with a stub in place of the networks: python Testing/archive_stub.py listen ...

Everything else is real: the DICOM series is read, the case is written, its DICOM objects are made. A file `crash` in
the folder of the listener kills the next analysis; a file `slow` holds it until the file is gone.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import Any

from dicom_cases import record
from VertebralFractureQuantLib.archive import listener
from VertebralFractureQuantLib.archive.preparing import Prepared, Task, prepare
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.cohort.engine import Library
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.spine.record import SpineAnalysis


class Stub(Library):
    """Reads scans, and knows the answer for each."""

    def load_models(self, device: str) -> Any:
        """No networks."""

    def analyze(self, ct: CTVolume, models: Any, progress: Any = None, trust_header: bool = False) -> SpineAnalysis:
        """Return the record of the tests of DICOM objects."""
        return record(ct)


def work(task: Task) -> Prepared:
    """Prepare a study with the stub."""
    crash = task.root / "crash"
    if crash.exists():
        crash.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    while (task.root / "slow").exists():
        time.sleep(0.05)
    return prepare(task, Stub())


if __name__ == "__main__":
    listener.Listener = partial(listener.Listener, work=work)  # type: ignore[misc,assignment]
    app()
