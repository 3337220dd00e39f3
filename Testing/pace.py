"""The current speed of this computer, so that limits in milliseconds are fair on a slow or a busy one.

Limits are milliseconds of processor time on the computer where they were set. A fixed piece of work of the same kind
(small arrays, text), which uses nothing of the library, is timed together with what is measured.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np

YARDSTICK_MS = 0.15  # of `yardstick`, on the idle computer where the limits were set


def processor_ms(action: Callable[[], object]) -> float:
    """Return the processor time of `action` in ms, which does not count other programs."""
    started = time.thread_time()
    action()
    return 1000 * (time.thread_time() - started)


def slowness() -> float:
    """Return how many times longer the same work takes here and now; at least 1."""
    return max(1.0, statistics.median(processor_ms(yardstick) for _ in range(100)) / YARDSTICK_MS)


def yardstick() -> None:
    """Do a fixed piece of work."""
    for i in range(20):
        points = np.full((6, 3), float(i))
        json.loads(json.dumps(np.linalg.norm(points[:3] - points[3:], axis=-1).tolist()))
