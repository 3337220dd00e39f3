"""Folders and names that are typed in the panel: read when the user has finished, not at each letter."""

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


def when_typed(edit: Any, do: Callable[[], None], at_once: Callable[[], bool]) -> None:
    """Call `do` when a QLineEdit has another text; while it is typed only if `at_once()`, else at its end."""
    known = [edit.text]

    def read() -> None:
        """Call `do`, unless the text is still the same."""
        if edit.text != known[0]:
            known[0] = edit.text
            do()

    edit.connect("textChanged(QString)", lambda text: read() if at_once() or not edit.hasFocus() else None)
    edit.connect("editingFinished()", read)
