"""What other threads log is handled by the main thread, because Slicer's log handlers use Qt."""

from __future__ import annotations

import logging
import threading
from collections import deque


class HeldLogs:
    """Holds back the records of other threads at the handlers of the root logger, from `hold` until `release`."""

    def __init__(self) -> None:
        self._holding: list[_Holding] = []

    def hold(self) -> None:
        """Hold back records from now on; handlers that were added since the last call are included."""
        known = [each.handler for each in self._holding]
        self._holding += [_Holding(handler) for handler in logging.getLogger().handlers if handler not in known]

    def emit(self) -> None:
        """Pass the records that were held back to their handlers; call it in the main thread."""
        for each in self._holding:
            each.emit()

    def release(self) -> None:
        """Pass on what was held back, and hold back no more."""
        self.emit()
        for each in self._holding:
            each.handler.removeFilter(each)
        self._holding = []


class _Holding(logging.Filter):
    def __init__(self, handler: logging.Handler):
        super().__init__()
        self.handler = handler
        self._records: deque[logging.LogRecord] = deque()
        handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True for a record of the main thread; keep any other."""
        if threading.current_thread() is threading.main_thread():
            return True
        self._records.append(record)
        return False

    def emit(self) -> None:
        """Pass on the records that were kept."""
        while self._records:
            self.handler.handle(self._records.popleft())
