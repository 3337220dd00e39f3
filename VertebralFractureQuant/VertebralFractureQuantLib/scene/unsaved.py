"""Actions that the disk of their case refuses: written to another folder at the end, recovered when the case is opened.

The file is a JSON list of actions. The reader moves it into the case's folder as `review-unsaved.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir

from ..errors import VFQError
from .journal import Journal
from .journal_file import Act

UNSAVED_NAME = "review-unsaved.json"


def save_elsewhere(acts: Sequence[Act]) -> str:
    """Write actions to another folder; return what to tell the reader: where they are, or that they are lost."""
    file = _write_elsewhere(acts)
    failed = f"{len(acts)} actions could not be written to the case's folder."
    if file is None:
        return f"{failed} They could not be saved anywhere else either, and are lost."
    return (
        f"{failed} They are saved in {file}. To recover them, move that file into the case's folder as {UNSAVED_NAME} "
        "and open the case."
    )


def recover(journal: Journal, folder: Path) -> str:
    """Append the actions of the file `review-unsaved.json` in a case's folder to its journal.

    Once they are on disk in the journal, the file is renamed. Returns what to tell the reader; "" if there is no file.
    """
    file = folder / UNSAVED_NAME
    if not file.exists():
        return ""
    try:
        found = json.loads(file.read_text("utf-8"))
        acts = [Act(**{**act, "changes": {k: tuple(v) for k, v in act["changes"].items()}}) for act in found]
        if not journal.recover(acts):
            return (
                f"{file.name} does not continue the journal of this case. The file was left as it is. Check that it "
                "belongs to this case."
            )
        if not journal.unsaved:
            file.replace(file.with_name(f"recovered-{file.name}"))
        return f"{len(acts)} actions that could not be written last time were recovered."
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return f"{file.name} is damaged and cannot be read. The file was left as it is."


def check_all_saved(journal: Journal) -> None:
    """Write what is left. VFQError `output_not_writable` if the disk still refuses."""
    journal.flush()
    if journal.unsaved:
        raise VFQError("output_not_writable", f"This case stays open: {journal.problem}")


def _write_elsewhere(acts: Sequence[Act]) -> Path | None:
    """Write to the user's home folder, or else to the folder of temporary files; None if both refuse."""
    for place in (Path(os.path.expanduser("~")), Path(gettempdir())):
        path = place / f"vfq-unsaved-{datetime.now():%Y%m%d-%H%M%S-%f}.json"
        try:
            path.write_text(json.dumps([asdict(act) for act in acts]), encoding="utf-8")
            return path
        except OSError:
            with suppress(OSError):
                path.unlink()
    return None
