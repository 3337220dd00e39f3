"""The time that a reader spends on each vertebra: what lies between two acts, without the breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

IDLE_S = 60.0  # a longer time without any act counts as this long
PLACING = "placing"  # the key of a vertebra that has no id yet


class Stopwatch:
    """Adds up seconds by key: a vertebra's id, `PLACING`, or None for time that belongs to no vertebra.

    Parameters
    ----------
    spent : seconds by id, of earlier sittings.
    clock : returns seconds; another one in tests.
    """

    def __init__(self, spent: Mapping[str, float] | None = None, clock: Callable[[], float] = time.monotonic):
        self._spent = dict(spent or {})
        self._clock = clock
        self._key: str | None = None
        self._at = clock()

    def touch(self, key: str | None) -> None:
        """The reader did something: the time since the last act belongs to the last key, and what follows to `key`."""
        now = self._clock()
        if self._key is not None:
            self._spent[self._key] = self._spent.get(self._key, 0.0) + min(now - self._at, IDLE_S)
        self._key, self._at = key, now

    def pause(self) -> None:
        """Count nothing until the next `touch`, as while no tab shows the page."""
        self.touch(None)

    def start(self) -> None:
        """Forget the time since the last act, as before the page was shown."""
        self._key, self._at = None, self._clock()

    def placed(self, vertebra_id: str) -> None:
        """Give the time of `PLACING` to the vertebra that was placed."""
        self.touch(vertebra_id)
        self._spent[vertebra_id] = self._spent.get(vertebra_id, 0.0) + self._spent.pop(PLACING, 0.0)

    def seconds(self, vertebra_id: str) -> float:
        """Return the seconds that were spent on a vertebra until the last act."""
        return self._spent.get(vertebra_id, 0.0)
