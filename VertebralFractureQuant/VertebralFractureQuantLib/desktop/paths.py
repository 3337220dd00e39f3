"""Folders that are chosen in the panel: read when the user has finished, not at each letter that is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def when_chosen(widget: Any, do: Callable[[], None]) -> None:
    """Call `do` when another path is in a ctkPathLineEdit: at once if it was chosen, at the end if it is typed."""
    edit, known = widget.comboBox().lineEdit(), [widget.currentPath]

    def read() -> None:
        """Call `do`, unless the path is still the same."""
        if widget.currentPath != known[0]:
            known[0] = widget.currentPath
            do()

    widget.connect("currentPathChanged(QString)", lambda path: None if edit.hasFocus() else read())
    edit.connect("editingFinished()", read)
