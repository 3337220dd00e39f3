"""Read many damaged files of one format, and print what became of them: the long form of `Testing/test_fuzz_files.py`.

    python Testing/validation/fuzz.py nifti --count 20000

It stops at the first defect (an exception without a code, a read of more than 10 s, more than 2 GB of memory, or a
voxel that does not come from the file), keeps the file, and prints the seed that makes it again.
"""

from __future__ import annotations

import argparse
import collections
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "VertebralFractureQuant")]

import numpy as np  # noqa: E402
from ct_writers import Writer  # noqa: E402
from file_mutations import FORMS_OF, mutate, read_all  # noqa: E402
from test_ct import DIRECTIONS, body, placed  # noqa: E402

LONGEST_S = 10
MOST_BYTES = 2 << 30


def main() -> None:
    """Fuzz one format, until the count is reached or the user interrupts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMS_OF)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first file; each file has the next one")
    arguments = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    outcomes: collections.Counter[str] = collections.Counter()
    slowest, started = 0.0, time.perf_counter()
    folder = Path(tempfile.mkdtemp())
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        path = _damaged(FORMS_OF[arguments.format], folder, Random(seed))
        begun = time.perf_counter()
        try:
            signal.alarm(LONGEST_S)
            outcomes[read_all(path) if path.exists() else "removed"] += 1
            signal.alarm(0)
            assert _peak_bytes() < MOST_BYTES, "too much memory"
        except KeyboardInterrupt:
            break
        except BaseException:
            print(f"seed {seed}; the file is {path}", flush=True)
            raise
        slowest = max(slowest, time.perf_counter() - begun)
    shutil.rmtree(folder)
    took = time.perf_counter() - started
    print(f"{arguments.format}: {outcomes.total()} files from seed {arguments.seed}, {took:.0f} s")
    for outcome, count in outcomes.most_common():
        print(f"  {outcome}: {count}")
    print(f"  slowest {slowest:.2f} s; peak memory {_peak_bytes() / 2**20:.0f} MiB")


def _damaged(forms: dict[str, Writer], folder: Path, random: Random) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    direction: Any = random.choice(list(DIRECTIONS.values()))
    path = forms[random.choice(list(forms))](folder, body(), placed(np.asarray(direction)))
    mutate(random, path)
    return path


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {LONGEST_S} s")


if __name__ == "__main__":
    main()
