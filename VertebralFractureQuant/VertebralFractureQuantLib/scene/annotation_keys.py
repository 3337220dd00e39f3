"""The keys of an annotation: one table for the shortcuts and the help of the page."""

from __future__ import annotations

from .keys import LAYOUT_KEYS, Key

ANNOTATION_KEYS = (
    Key(("b",), "start_placing", "place the six points of a vertebra; its level follows from its neighbours"),
    Key(("v",), "place_next", "the same for the level that is proposed beside the button; [ and ] change it"),
    Key(("a",), "start_adding", "propose the points with one click on the vertebra (assisted protocol)"),
    Key(("c", " "), "confirm", "accept the proposed points, and go to the next vertebra that waits"),
    Key(("ArrowUp",), "nudge_up", "move the point that was touched last by 0.1 mm towards the head"),
    Key(("ArrowDown",), "nudge_down", "the same towards the feet"),
    Key(("ArrowLeft",), "nudge_left", "the same to the left of the image (anterior)"),
    Key(("ArrowRight",), "nudge_right", "the same to the right of the image (posterior)"),
    Key(("q",), "next_point", "choose the next of the six points, for the arrow keys"),
    Key(("[",), "level_up", "set the level one higher; the levels of the others follow"),
    Key(("]",), "level_down", "set the level one lower; the levels of the others follow"),
    Key(("t",), "toggle_pin", "pin the level, so that it stays when other levels change; or unpin it"),
    Key(("x",), "ask_reason", "not assessable: then c cut off, m metal, a artefact, f fused, o other"),
    Key(("k",), "lateral_left", "move the sagittal plane to the patient's left"),
    Key(("l",), "lateral_right", "move the sagittal plane to the patient's right"),
    Key(("y",), "to_plane", "move the six points into the sagittal plane that is shown"),
    Key(("j",), "own_plane", "go to the sagittal plane of the vertebra's points"),
    Key(("n",), "next_vertebra", "next vertebra"),
    Key(("p",), "previous_vertebra", "previous vertebra"),
    Key(("Delete", "Backspace"), "delete", "delete the vertebra, or the last click"),
    Key(("Ctrl+z", "u"), "undo", "undo"),
    Key(("Ctrl+y", "Ctrl+Shift+Z", "r"), "redo", "redo"),
    Key(("s",), "start_rescue", "spine not found or curve wrong: click vertebral bodies in the patient's views"),
    Key(("Enter",), "finish_clicks", "lead the curve through the clicks; without clicks a close-up, as d"),
    Key(("d",), "toggle_close_up", "close-up: the selected vertebra fills the straightened view; or back"),
    Key(("h",), "toggle_overlay", "hide points, lines and labels, or show them; while held, for a look"),
    Key(("w",), "toggle_window", "window: bone, soft tissue, or what is in the spine (auto)"),
    Key(("z",), "fit_views", "show the whole spine"),
    Key(("e",), "complete_reading", "complete: the reading is final, and the next case opens"),
    Key(("g",), "next_open", "go to the next case that is not read"),
    Key(("PageDown", "."), "next_case", "next case"),
    Key(("PageUp", ","), "previous_case", "previous case"),
    Key(("Escape",), "cancel", "cancel clicking, close messages"),
    Key(("?",), "toggle_help", "show or hide this list"),
)

TAKEN_BY_DIGIT = "ABCDEFGHI"  # the readers whom 1 to 9 take; any number of readers has i and f
_FIRST = "take the reading of reader A, and go to the next disagreement"
TAKING_KEYS = (
    *(
        Key((str(i),), f"take_{letter.lower()}", f"the same of reader {letter}" if i > 1 else _FIRST)
        for i, letter in enumerate(TAKEN_BY_DIGIT, start=1)
    ),
    Key(("i",), "next_reader", "choose the next reader who marked the vertebra, however many there are"),
    Key(("f",), "take_chosen", "take the reading of the chosen reader, and go to the next disagreement"),
    Key(("m", "0"), "take_mean", "take the mean of the readers' points, and go to the next disagreement"),
    Key(("c", " "), "confirm", "decide as it is shown, with your corrections; go to the next disagreement"),
)
_NOT_TAKING = ("confirm", "start_adding", "place_next")  # actions that an adjudication has not, or has another row for
ADJUDICATION_KEYS = (*TAKING_KEYS, *(entry for entry in ANNOTATION_KEYS if entry.action not in _NOT_TAKING))
ADJUDICATION_ACTIONS = {key: entry.action for entry in ADJUDICATION_KEYS for key in entry.keys}
REASON_KEYS = {"c": "cut_off", "m": "metal", "a": "artefact", "f": "fused", "o": "other"}
ANNOTATION_HELP = (*ANNOTATION_KEYS, *LAYOUT_KEYS)
ANNOTATION_ACTIONS = {key: entry.action for entry in ANNOTATION_KEYS for key in entry.keys}
KNOWN_KEYS = (*ANNOTATION_ACTIONS, *REASON_KEYS)
_NUDGES = ("nudge_up", "nudge_down", "nudge_left", "nudge_right")
_REPEATING = (*_NUDGES, "next_vertebra", "previous_vertebra", "lateral_left", "lateral_right", "undo", "redo")
REPEATED_KEYS = tuple(key for key, action in ANNOTATION_ACTIONS.items() if action in _REPEATING)
