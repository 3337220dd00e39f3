"""Text on Slicer's clipboard."""

from __future__ import annotations

import qt


def copied(text: str) -> bool:
    """Put a text on the clipboard; return False if the system refuses it, as when another program holds it."""
    board = qt.QApplication.clipboard()
    board.setText(text)
    return bool(board.text() == text)
