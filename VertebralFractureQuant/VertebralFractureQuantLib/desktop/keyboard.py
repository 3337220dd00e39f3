"""Keyboard shortcuts of the module: shortcuts of Slicer's main window, active while the module is shown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import qt
import slicer

from ..scene.keys import KEYS, REPEATED, Key
from ..scene.pair_keys import PAIR_KEYS

QT_NAMES = {
    "ArrowDown": "Down",
    "ArrowUp": "Up",
    "ArrowLeft": "Left",
    "ArrowRight": "Right",
    " ": "Space",
    "Delete": "Del",
    "Escape": "Esc",
    "Enter": "Return",
    "PageDown": "PgDown",
    "PageUp": "PgUp",
}
NEEDS_CLICKS = ("finish_clicks", "cancel")  # outside a click mode, Slicer needs the keys: Enter ends typing in a field
NOT_HERE = (" ",)  # Space presses the focused button
HELD = "; while held"
ARROWS = ("ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight")
# Widgets that use the arrow keys themselves while they have the focus.
TAKES_ARROWS = ("QAbstractSlider", "QAbstractSpinBox", "QComboBox", "QLineEdit")
NEEDS_NO_STUDY = ("next_case", "previous_case", "next_open", "toggle_help")


class Keyboard:
    """The shortcuts of all keys of a table except Space.

    Parameters
    ----------
    window : the widget that owns the shortcuts.
    act : called with the name of the key's action.
    keys, repeated : the table, and the keys that act again while they are held down.
    """

    def __init__(
        self,
        window: Any,
        act: Callable[[str], None],
        keys: Sequence[Key] = (*KEYS, *PAIR_KEYS),
        repeated: Collection[str] = REPEATED,
    ):
        self._actions = {entry.action for entry in keys}
        self._shortcuts = [
            (key, entry.action, _shortcut(window, key, partial(act, entry.action), key in repeated))
            for entry in keys
            for key in entry.keys
            if key not in NOT_HERE
        ]
        self._listening = False
        self._open = False
        self._mode: str | None = None
        self._arrows_taken = False
        slicer.app.connect("focusChanged(QWidget*,QWidget*)", self._focus)

    def listen(self, on: bool) -> None:
        """Enable the shortcuts while the module is shown."""
        self._listening = on
        self._update()

    def show(self, study_open: bool, mode: str | None) -> None:
        """Enable the shortcuts that apply: whether a study is open, and in which click mode."""
        if (study_open, mode) != (self._open, self._mode):
            self._open, self._mode = study_open, mode
            self._update()

    def forget(self) -> None:
        """Remove all shortcuts."""
        slicer.app.disconnect("focusChanged(QWidget*,QWidget*)", self._focus)
        for _, _, shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def _focus(self, _: Any, now: Any) -> None:
        taken = now is not None and any(now.inherits(name) for name in TAKES_ARROWS)
        if taken != self._arrows_taken:
            self._arrows_taken = taken
            self._update()

    def _update(self) -> None:
        allowed = self._allowed()
        for key, action, shortcut in self._shortcuts:
            free = not (self._arrows_taken and key in ARROWS)
            shortcut.enabled = self._listening and free and action in allowed

    def _allowed(self) -> Collection[str]:
        if not self._open:
            return set(NEEDS_NO_STUDY)
        return self._actions if self._mode else self._actions - set(NEEDS_CLICKS)


def help_text(table: Sequence[Key] = (*KEYS, *PAIR_KEYS)) -> str:
    """Return the list of keys as an HTML table, without what a shortcut cannot do: act again when it is released."""
    told = [entry.what.split(HELD)[0] for entry in table]
    keys = [", ".join(_qt_name(k) for k in entry.keys if k not in NOT_HERE) for entry in table]
    shown = zip(keys, told, strict=True)
    lines = (f"<tr><td><b>{_escaped(keys)}</b>&nbsp;&nbsp;</td><td>{_escaped(what)}</td></tr>" for keys, what in shown)
    return f"<table>{''.join(lines)}</table>"


def _shortcut(window: Any, key: str, do: Callable[[], None], repeats: bool) -> Any:
    shortcut = qt.QShortcut(qt.QKeySequence(_qt_name(key)), window)
    shortcut.connect("activated()", do)
    shortcut.connect("activatedAmbiguously()", do)
    shortcut.autoRepeat = repeats
    shortcut.enabled = False
    return shortcut


def _qt_name(key: str) -> str:
    *held, name = key.split("+") if len(key) > 1 else [key]
    return "+".join((*held, QT_NAMES.get(name, name.upper() if len(name) == 1 else name)))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
