"""The keyboard of both faces: one table, from which each face makes its handler and its help."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """`keys` as browsers name them, Ctrl (or Cmd) written before; `action` is a method of `Review`, or of the face."""

    keys: tuple[str, ...]
    action: str
    what: str


KEYS = (
    Key(("n", "ArrowDown"), "next_vertebra", "next vertebra"),
    Key(("p", "ArrowUp"), "previous_vertebra", "previous vertebra"),
    Key(("f",), "toggle_order", "order: doubtful first, or cranial first"),
    Key(("c", " "), "confirm", "confirm, and go to the next"),
    Key(("x",), "reject", "reject, and go to the next"),
    Key(("o",), "reopen", "open again"),
    Key(("Ctrl+z", "u"), "undo", "undo"),
    Key(("Ctrl+y", "Ctrl+Shift+Z", "r"), "redo", "redo"),
    Key(("[",), "level_up", "name it one level higher; the others follow"),
    Key(("]",), "level_down", "name it one level lower; the others follow"),
    Key(("t",), "toggle_pin", "pin the name, or let it follow"),
    Key(("a",), "start_adding", "add a vertebra with one click on it in the straightened picture"),
    Key(("b",), "start_placing", "add a vertebra by hand: six clicks, A+ M+ P+ P- M- A-"),
    Key(("m",), "reset", "back to the machine's points"),
    Key(("Delete", "Backspace"), "delete", "delete the vertebra, or the last click"),
    Key(("s",), "start_rescue", "spine not found or curve wrong: click it yourself in the patient's views"),
    Key(("Enter",), "finish_clicks", "done clicking: rebuild along the clicks"),
    Key(("Escape",), "cancel", "cancel clicking, close messages"),
    Key(("ArrowLeft",), "lateral_left", "move the sagittal plane to the patient's left"),
    Key(("ArrowRight",), "lateral_right", "move the sagittal plane to the patient's right"),
    Key(("w",), "toggle_window", "window: bone or soft tissue"),
    Key(("z",), "fit_views", "see the whole spine again"),
    Key(("PageDown", "."), "next_case", "next case"),
    Key(("PageUp", ","), "previous_case", "previous case"),
    Key(("?",), "toggle_help", "this list"),
)

ACTIONS = {key: entry.action for entry in KEYS for key in entry.keys}

# The keys that go on while they are held down; of the others, each press is one act.
GO_ON = ("next_vertebra", "previous_vertebra", "lateral_left", "lateral_right", "undo", "redo")
REPEATED = frozenset(key for key, action in ACTIONS.items() if action in GO_ON)

# What the mouse does in the views, as in 3D Slicer.
MOUSE = (
    ("drag a point", "move it; the numbers follow"),
    ("middle drag on a line", "move all six points"),
    ("click in a vertebra", "select it"),
    ("wheel", "the next plane"),
    ("Ctrl + wheel", "zoom"),
    ("Shift + drag", "move the picture"),
)
