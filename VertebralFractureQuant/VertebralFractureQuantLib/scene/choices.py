"""The question whose reading a case is opened as: what the reader is told, and the choices. Plain data, no MRML.

The page and the panel both ask it; the rules behind it are those of `readings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..report.readings import Found, reading_of
from ..spine.reading import signatures_text
from .readings import standing_text

OWN_AUTOMATIC = "Own reading from the automatic points, without seeing the other's"
OWN_COPY = "Own reading from the points of {reader}; all vertebrae are open again"
LOOK = "Open the signed reading, to look at it and counter-sign it (e)"
CONTINUE = "Continue the reading of {reader}; what you do is recorded under your name"
RETRY = "Try again to open it"

Choice = dict[str, str]  # "choice": "first", "automatic" or "copy"; "text": what it does


def owner(found: Found | None) -> str:
    """Return the name of the reader whose reading was found; "" without one."""
    reading = reading_of(found.record) if found else None
    return reading.reader if reading else ""


def choices(found: Found | None, in_use: bool = False) -> list[Choice]:
    """Return the choices of a reader who takes no part in the first reading of a case.

    "first" opens that reading; "automatic" and "copy" begin an own one, see `readings.begin_own`.
    in_use : another window of the program has the first reading open.
    """
    text = LOOK if found and found.record.signatures else CONTINUE.format(reader=owner(found))
    return [{"choice": "first", "text": RETRY if in_use else text}, *own_choices(found)]


def own_choices(found: Found | None) -> list[Choice]:
    """Return the choices that begin an own reading."""
    copy = [{"choice": "copy", "text": OWN_COPY.format(reader=owner(found))}] if found else []
    return [{"choice": "automatic", "text": OWN_AUTOMATIC}, *copy]


def other_choices(who: str, opened: Path, case_folder: Path, found: Sequence[Found], locked: bool) -> list[Choice]:
    """Return the choices of a reader who has a reading open.

    These are an own reading beside another reader's one, or the first one, signed, once the own one is signed.

    Parameters
    ----------
    who : the reader.
    opened : the folder of the reading that is open.
    found : the readings of the case, see `report.readings.readings`.
    locked : others have signed what is open.
    """
    first = next(iter(found), None)
    if first is None:
        return []
    if opened == case_folder:
        return [] if owner(first) == who and not locked else own_choices(first)
    own = next((each for each in found if each.folder == opened), None)
    done = own and own.record.signatures and first.record.signatures and first.folder == case_folder
    return [{"choice": "first", "text": LOOK}] if done else []


def told(found: Found | None, in_use: bool = False) -> list[str]:
    """Return the sentences before the choices: who has read the case and how far; none of its results."""
    sentences = ["This case is open in another window of the program, perhaps of another reader."] if in_use else []
    if found:
        signed = signatures_text(found.record.signatures)
        sentences.append(f"This case has been read, {signed}." if signed else standing_text(found.record, ""))
        done = sum(v.review != "open" for v in found.record.vertebrae)
        sentences.append(f"{done} of {len(found.record.vertebrae)} vertebrae are judged in it.")
    return [*sentences, "What will you do? All readings and signatures are kept."]
