"""The keys for a prior study beside the open one: one table for the shortcuts and the help."""

from __future__ import annotations

from .keys import Key

PAIR_KEYS = (
    Key(("q",), "blink", "with a prior: swap the two straightened images; while held, for a look"),
    Key(("y",), "overlay", "with a prior: lay it over the image, faded, as a checkerboard, or not"),
    Key(("k",), "other_side", "with a prior: the keys act on the prior study, or on the current one again"),
    Key(("<",), "match_higher", "with a prior: match each vertebra with the one above it in the prior study"),
    Key((">",), "match_lower", "with a prior: match each vertebra with the one below it in the prior study"),
)
BLINK = "q"  # the page swaps the images by itself, so the server does not receive this key
PAIR_ACTIONS = {key: entry.action for entry in PAIR_KEYS for key in entry.keys if key != BLINK}

# Actions that act on the study whose side was chosen; all others are those of the current one.
OF_A_SIDE = (
    *("next_vertebra", "previous_vertebra", "confirm", "confirm_rest", "reject", "reopen", "undo", "redo"),
    *("level_up", "level_down", "toggle_pin", "reset", "delete", "start_adding", "start_placing"),
)
