"""Read mutated DICOM series, and count what comes of it: `python fuzz_dicom.py FOLDER --count N [--seed S]`.

FOLDER is an empty folder for the mutated files; the last series that failed a condition stays in it. A small series is
written in every form. In each round a few files get wrong bytes in the header, lost, added or repeated bytes, wrong
lengths, or a body that ends early. Two child processes, whose new memory is filled with different bytes, read the
result. The conditions: only coded failures, the same voxels in both (else some came from memory that was not read), no
voxels of a body that ends early, no wait above 10 s, and no more than 2 GB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "VertebralFractureQuant")]

LONGEST_S = 10.0
MOST_BYTES = 2 * 2**30
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x2C, 0x5C, 0x2D, 0x39)


def main() -> int:
    """Run the rounds, print the figures, and return 1 if a condition failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        return child()
    return parent(wanted.folder, wanted.count, wanted.seed)


def child() -> int:
    """Read each folder that is named on standard input; print one JSON object for each."""
    from VertebralFractureQuantLib.errors import VFQError
    from VertebralFractureQuantLib.imaging.files import read_ct

    for line in sys.stdin:
        try:
            ct = read_ct(line.rstrip("\n"))
            told = {"code": "read", "voxels": hashlib.sha256(ct.voxels.tobytes()).hexdigest(), "n": len(ct.voxels)}
        except VFQError as error:
            told = {"code": error.code}
        except BaseException as error:
            told = {"code": "TRACEBACK", "error": f"{type(error).__name__}: {error}"}
        told["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(told), flush=True)
    return 0


class Reader:
    """A child process that reads folders; it is started again after a crash or a hang."""

    def __init__(self, fill: int):
        self._environment = {**os.environ, "MALLOC_PERTURB_": str(fill), "OMP_NUM_THREADS": "1"}
        self._process: subprocess.Popen[str] | None = None

    def read(self, folder: Path) -> dict[str, Any]:
        """Return what the child tells of `folder`."""
        if self._process is None:
            command = [sys.executable, __file__, str(folder), "--child"]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=self._environment,
            )
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 6 * LONGEST_S)  # the first read imports the library
        line = process.stdout.readline() if ready else ""
        if line:
            return dict(json.loads(line))
        self.stop()
        return {"code": "CRASH" if ready else "HANG", "bytes": 0}

    def stop(self) -> None:
        """End the child."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = None


def parent(folder: Path, count: int, seed: int) -> int:
    """Mutate and read `count` series; print the figures."""
    chance = random.Random(seed)
    forms = written_forms(folder / "forms")
    readers = [Reader(0x55), Reader(0xAA)]
    codes: Counter[str] = Counter()
    faults: list[str] = []
    slowest, most = 0.0, 0
    for n in range(count):
        case = folder / "case"
        shutil.rmtree(case, ignore_errors=True)
        what, cut = mutated(chance.choice(forms), case, chance)
        started = time.perf_counter()
        one, other = (reader.read(case) for reader in readers)
        slowest = max(slowest, (time.perf_counter() - started) if n else 0.0)
        most = max(most, one["bytes"], other["bytes"])
        codes[one["code"]] += 1
        wrong = fault(one, other, cut)
        if wrong:
            faults.append(f"{n}: {what}: {wrong}")
            shutil.copytree(case, folder / f"fault-{n}", dirs_exist_ok=True)
    for reader in readers:
        reader.stop()
    print(f"{count} series: {', '.join(f'{code} {n}' for code, n in codes.most_common())}")
    print(f"slowest pair of reads {slowest:.1f} s, most memory {most / 2**20:.0f} MB, {len(faults)} faults")
    print("\n".join(faults))
    return 1 if faults or slowest > 2 * LONGEST_S or most > MOST_BYTES else 0


def fault(one: dict[str, Any], other: dict[str, Any], cut: bool) -> str:
    """Name the condition that a pair of reads broke; "" for none."""
    for told in (one, other):
        if told["code"] in ("TRACEBACK", "CRASH", "HANG"):
            return f"{told['code']} {told.get('error', '')}"
    if one != {**other, "bytes": one["bytes"]}:
        return "voxels of unread memory"
    return "read although a body ends early" if cut and one["code"] == "read" else ""


def written_forms(folder: Path) -> list[list[Path]]:
    """Write a series of five slices in every form."""
    import test_dicom_forms as forms

    written = []
    for name, form in forms.FORMS.items():
        written.append(forms.series(folder / name, form))
    for compressor in ("JPEG", "JPEG2000"):
        files = forms.series(folder / compressor)
        for path in files:
            forms.compressed(path, compressor)
        written.append(files)
    written.append([forms.gzipped(path) for path in forms.series(folder / "gzip")])
    written.append([forms.without_preamble_and_meta(path) for path in forms.series(folder / "bare", forms.implicit)])
    return written


def mutated(files: list[Path], case: Path, chance: random.Random) -> tuple[str, bool]:
    """Write the files into `case` with some of them changed; return what was done, and whether a body ends early."""
    case.mkdir(parents=True)
    name, change = chance.choice(list(CHANGES.items()))
    some = files if chance.random() < 0.3 else chance.sample(files, chance.randint(1, 2))
    seed = chance.random()  # the same change in all files, so that the series may still fit together
    for path in files:
        data = path.read_bytes()
        (case / path.name).write_bytes(change(data, random.Random(seed)) if path in some else data)
    return f"{files[0].parent.name}, {name}", name == "the body ends early"


def wrong_bytes(data: bytes, chance: random.Random) -> bytes:
    """Change a few bytes of the header."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(min(len(data), header_end(data)))
        changed[at] = chance.choice((chance.randrange(256), chance.choice(INTERESTING), changed[at] ^ 1))
    return bytes(changed)


def wrong_length(data: bytes, chance: random.Random) -> bytes:
    """Change a byte of a length: one of the two that follow letters such as "DS"."""
    found = [n for n in range(132, header_end(data)) if data[n : n + 2].isalpha() and data[n : n + 2].isupper()]
    at = chance.choice(found or [140]) + chance.choice((2, 3, 4, 5, 6, 7))
    return data[:at] + bytes([chance.choice(INTERESTING)]) + data[at + 1 :] if at < len(data) else data


def lost_bytes(data: bytes, chance: random.Random) -> bytes:
    """Delete a few bytes of the header."""
    at = chance.randrange(header_end(data))
    return data[:at] + data[at + chance.choice((1, 2, 4, 8, 50)) :]


def added_bytes(data: bytes, chance: random.Random) -> bytes:
    """Repeat a part of the header."""
    at = chance.randrange(header_end(data))
    return data[:at] + data[at : at + chance.choice((1, 2, 8, 100))] * chance.choice((2, 3, 50)) + data[at:]


def short_header(data: bytes, chance: random.Random) -> bytes:
    """End in the header."""
    return data[: chance.randrange(header_end(data))]


def short_body(data: bytes, chance: random.Random) -> bytes:
    """End in the pixels."""
    return data[: chance.randrange(header_end(data) + 8, len(data) - 2)]


def wrong_body(data: bytes, chance: random.Random) -> bytes:
    """Change a few bytes of the pixels, or of their lengths."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 10))):
        changed[chance.randrange(header_end(data), len(data))] = chance.choice((chance.randrange(256), 0, 0xFF))
    return bytes(changed)


def header_end(data: bytes) -> int:
    """Return about where the pixels begin; a file that is compressed as a whole is taken to be half header."""
    found = [at for tag in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10") if (at := data.rfind(tag)) > 0]
    return max(found) if found else len(data) // 2


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "wrong bytes": wrong_bytes,
    "a wrong length": wrong_length,
    "lost bytes": lost_bytes,
    "added bytes": added_bytes,
    "the header ends early": short_header,
    "the body ends early": short_body,
    "wrong bytes in the body": wrong_body,
}

if __name__ == "__main__":
    sys.exit(main())
