"""The keys and mouse actions of a review: one table for the shortcuts and the help of both the panel and the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """One row of the table.

    Attributes
    ----------
    keys : names as browsers give them, with "Ctrl+" in front for Ctrl or Cmd.
    action : a method of `Actions`, or of the face.
    what : the help text.
    """

    keys: tuple[str, ...]
    action: str
    what: str


KEYS = (
    Key(("n", "ArrowDown"), "next_vertebra", "next vertebra"),
    Key(("p", "ArrowUp"), "previous_vertebra", "previous vertebra"),
    Key(("f",), "toggle_order", "list order: most doubtful first, or cranial to caudal"),
    Key(("c", " "), "confirm", "confirm, and go to the next open vertebra"),
    Key(("v",), "confirm_rest", "confirm all that are certain, together: shows and names them first"),
    Key(("x",), "reject", "reject, and go to the next open vertebra"),
    Key(("o",), "reopen", "reopen: neither confirmed nor rejected"),
    Key(("Ctrl+z", "u"), "undo", "undo"),
    Key(("Ctrl+y", "Ctrl+Shift+Z", "r"), "redo", "redo"),
    Key(("[",), "level_up", "set the level one higher; the levels of the others follow"),
    Key(("]",), "level_down", "set the level one lower; the levels of the others follow"),
    Key(("t",), "toggle_pin", "pin the level, so that it stays when other levels change; or unpin it"),
    Key(("a",), "start_adding", "add a vertebra with one click on it in the straightened image"),
    Key(("b",), "start_placing", "add a vertebra by hand with six clicks: A+ M+ P+ P- M- A-"),
    Key(("m",), "reset", "restore the automatically detected key points"),
    Key(("Delete", "Backspace"), "delete", "delete the vertebra, or the last click"),
    Key(("s",), "start_rescue", "spine not found or curve wrong: click vertebral bodies in the patient's views"),
    Key(
        ("Enter",),
        "finish_clicks",
        "lead the curve through the clicks, and detect again; without clicks a close-up, as d",
    ),
    Key(("d",), "toggle_close_up", "close-up: the selected vertebra fills the straightened view; or back"),
    Key(("q",), "toggle_healthy", "synthetic picture of the vertebra before a fracture, beside the real one; or back"),
    Key(("j",), "own_plane", "go to the sagittal plane of the vertebra's points"),
    Key(("h",), "toggle_overlay", "hide points, lines and labels, or show them; while held, for a look"),
    Key(("Escape",), "cancel", "cancel clicking, close messages"),
    Key(("ArrowLeft",), "lateral_left", "move the sagittal plane to the patient's left"),
    Key(("ArrowRight",), "lateral_right", "move the sagittal plane to the patient's right"),
    Key(("w",), "toggle_window", "window: bone, soft tissue, or what is in the spine (auto)"),
    Key(("z",), "fit_views", "show the whole spine"),
    Key(("PageDown", "."), "next_case", "next case"),
    Key(("PageUp", ","), "previous_case", "previous case"),
    Key(("e",), "complete_study", "sign: the study is complete; copies the report's text, opens the next open case"),
    Key(("g",), "next_open", "go to the next case that is not read"),
    Key(("i",), "toggle_case", "the case: its readings, signatures and folder"),
    Key(("?",), "toggle_help", "show or hide this list"),
)

# Keys for the page's own layout. Each tab keeps its own, so the server receives none of these.
LAYOUT_KEYS = (
    Key(("1", "2", "3", "4"), "enlarge", "enlarge the straightened, sagittal, coronal or axial view; again to go back"),
    Key(("5",), "fold", "fold the table away, or show it"),
)

ACTIONS = {key: entry.action for entry in KEYS for key in entry.keys}

HELD = ("h",)  # keys that act again when they are released, if they were held down for a while

# These actions repeat while their key is held down; the others happen once for each press.
REPEATING = ("next_vertebra", "previous_vertebra", "lateral_left", "lateral_right", "undo", "redo")
REPEATED = frozenset(key for key, action in ACTIONS.items() if action in REPEATING)

# The mouse in the views, as in 3D Slicer.
MOUSE = (
    ("drag a point", "move it; the measurements follow"),
    ("drag a line with the middle button", "move all six points"),
    ("click inside a vertebra", "select it"),
    ("wheel", "next or previous plane"),
    ("Ctrl + wheel", "zoom"),
    ("Shift + drag", "move the image"),
)
# In the page alone; in 3D Slicer the right button zooms.
PAGE_MOUSE = (
    ("drag with the right button", "window: sideways for contrast, up and down for brightness"),
    ("double-click on a view's name", "enlarge the view, or go back"),
    ("one finger", "the same as the mouse with its left button"),
    ("two fingers", "zoom and move the image"),
)
