"""What a file of another program says: vertebrae for a case and a reader, before they become a reading.

Each form of file has a function that reads it into `Incoming`; all are lossless but for what `left_out` names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..evaluation.problems import known_level
from .reading import Label


@dataclass(frozen=True, eq=False)
class Incoming:
    """The vertebrae of one reader in a file.

    Attributes
    ----------
    labels : the vertebrae, in RAS mm.
    reader, case : names that the file gives; None if it gives none.
    session, comment : of the reading.
    left_out : one sentence for each vertebra that could not be taken over.
    unreviewed : True if no reader has decided on some of the points: they are a beginning, not a reading.
    """

    labels: tuple[Label, ...]
    reader: str | None = None
    case: str | None = None
    session: int = 1
    comment: str = ""
    left_out: tuple[str, ...] = ()
    unreviewed: bool = False


def unreadable(path: Path, why: object) -> VFQError:
    """Return the VFQError `bad_import` for a file that is not of the form that it seems to be."""
    message = f"{path.name} cannot be imported: {why}. Give a file of a form that vfq dataset import --help lists."
    return VFQError("bad_import", message)


def read_data(path: Path) -> Any:
    """Read a JSON file. VFQError `not_found` or `bad_import`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error


def level_of(raw: Any, path: Path) -> str | None:
    """Return the level that a file gives; None for "", null, "V3" or "?". VFQError `bad_labels` for other names."""
    text = "" if raw is None else str(raw).strip()
    level = known_level(text)
    if level is None and text not in ("", "?") and not (text[:1] == "V" and text[1:].isdigit()):
        message = (
            f"{path.name}: {text!r:.40} is the name of no vertebra. Correct it, or leave it empty if it is unknown."
        )
        raise VFQError("bad_labels", message)
    return level
