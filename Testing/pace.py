"""How fast this machine is just now, so that a bar in milliseconds asks the same of a slow one and of a busy one.

The bars are milliseconds of the processor on the machine where they were set. A fixed piece of work of the same kind
(small arrays, text), none of it the library's, is timed beside what is measured.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np

YARD_MS = 0.15  # of `_yard` on the machine where the bars were set, nothing else running


def processor_ms(action: Callable[[], object]) -> float:
    """What `action` takes of the processor, ms: others may use the computer."""
    started = time.thread_time()
    action()
    return 1000 * (time.thread_time() - started)


def slowness() -> float:
    """How many times longer than there the same work takes here and now; never below 1."""
    return max(1.0, statistics.median(processor_ms(_yard) for _ in range(100)) / YARD_MS)


def _yard() -> None:
    for i in range(20):
        points = np.full((6, 3), float(i))
        json.loads(json.dumps(np.linalg.norm(points[:3] - points[3:], axis=-1).tolist()))
