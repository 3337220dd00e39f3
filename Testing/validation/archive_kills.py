"""Nothing is lost or doubled: python Testing/validation/archive_kills.py [--studies 20] [--kills 10] [--ct SCAN]

Orthanc sends studies to `vfq listen`, which is killed at random moments; the archive is stopped for a while, too. In
the end each study must have exactly one structured report, one overview and one PDF there. With --ct, each study is a
copy of that CT with UIDs of its own, and the networks are real; without, a stub stands in for them. Needs Orthanc.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing"), str(ROOT / "VertebralFractureQuant")]

from archive_cases import ARCHIVE, Listening, Studies, send, wait_for  # noqa: E402
from archive_orthanc import Orthanc, valid  # noqa: E402
from VertebralFractureQuantLib.imaging.files import read_ct  # noqa: E402

KINDS = ("SR", "OT", "DOC")
REAL = ("-m", "VertebralFractureQuantLib.cli")


def main() -> int:
    """Run the experiment and print what the archive holds; returns 1 if a result is lost or doubled."""
    wanted = _parser().parse_args()
    luck = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        studies = Studies(folder / "template", read_ct(wanted.ct) if wanted.ct else None)
        listener = Listening(folder / "listener", 0, REAL if wanted.ct else ())
        orthanc = Orthanc(folder / "archive", listener.port)
        try:
            listener.forward_to(orthanc.dicom)
            listener.start()
            begun = time.monotonic()
            for number in range(wanted.studies):
                assert set(send(studies.make(number), orthanc.dicom, ARCHIVE)) == {0}
            forwarding = threading.Thread(target=_forward, args=(orthanc, wanted.studies), daemon=True)
            forwarding.start()
            for kill in range(wanted.kills):
                time.sleep(luck.uniform(0, wanted.longest))
                listener.kill()
                if kill == wanted.kills // 2:
                    orthanc.stop()
                listener.start()
                if kill == wanted.kills // 2:
                    time.sleep(luck.uniform(5, 10))
                    orthanc.start()
            forwarding.join()
            wait_for(lambda: set(listener.states().values()) == {"sent"}, listener.said, 3600)
            return _report(orthanc, listener, wanted.studies, time.monotonic() - begun, folder)
        finally:
            listener.kill()
            orthanc.stop()


def _forward(orthanc: Orthanc, count: int) -> None:
    """Send all studies to the listener, each until it has arrived."""
    for number in range(count):
        while True:
            try:
                orthanc.forward(number)
                break
            except OSError:  # the listener or the archive is away
                time.sleep(0.3)


def _report(orthanc: Orthanc, listener: Listening, count: int, seconds: float, folder: Path) -> int:
    held = [[orthanc.instances(number, kind) for kind in KINDS] for number in range(count)]
    lost = sum(not objects for study in held for objects in study)
    twice = sum(len(objects) > 1 for study in held for objects in study)
    invalid = sum(not valid(one, folder) for objects in held[0] for one in objects)
    print(f"{count} studies in {seconds:.0f} s: {lost} objects lost, {twice} doubled, {invalid} of 3 invalid")
    print("events:", dict(Counter(listener.codes())))
    return int(bool(lost or twice or invalid))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Kill vfq listen at random moments, and look for lost results.")
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=8.0, help="longest time between two kills, s")
    parser.add_argument("--ct", type=Path, help="a scan in any format")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
