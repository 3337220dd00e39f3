"""Texts in the panel's labels: wrapped at any place, so that no long word, such as a path, widens the panel."""

from __future__ import annotations

import re
from typing import Any

SHORT = 13  # letters of a name on a button
MARGINS_PIXELS = 24
BREAK = "\N{ZERO WIDTH SPACE}"
LONG = re.compile(r"\S{24,}")
AFTER = re.compile(r"(?<=[/\\_.,;:=-])(?=\S)|(?<=\w{16})(?=\w)")


def show_text(label: Any, text: str) -> None:
    """Show a text in a QLabel that wraps; hide the label if the text is empty.

    The label gets the height that its lines need: a collapsible section would give it that of one line.
    """
    label.text = breakable(text)
    label.visible = bool(text)
    width = label.parentWidget().width - MARGINS_PIXELS  # its own width is unknown while it is hidden
    label.setMinimumHeight(label.heightForWidth(width) if text and width > 0 else 0)


def breakable(text: str) -> str:
    """Return a text whose long words may be broken: after punctuation, and within words of more than 16 letters."""
    return LONG.sub(lambda word: AFTER.sub(BREAK, word[0]), text)


def short(name: str, most: int = SHORT) -> str:
    """Return a name without its middle if it is longer than `most` characters."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
