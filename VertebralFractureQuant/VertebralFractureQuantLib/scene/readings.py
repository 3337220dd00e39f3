"""Which reading of a case a reader opens, and how an own reading begins. Plain files, no MRML.

The first reading lies in the case's own folder. Whoever takes no part in it chooses: counter-sign it, continue it while
it is not signed, or begin an own one, from the automatic key points or from those of the first reading. Nobody changes
what another reader has signed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import mkdtemp

from ..errors import VFQError
from ..report.outputs import writing
from ..report.readings import own_folder, reading_of, takes_part
from ..report.reviews import NOT_SAVED, write_review
from ..spine.reading import Reading, Signature, signatures_text
from ..spine.record import SpineAnalysis
from ..spine.record_json import read_analysis
from .case_files import open_journal
from .opening import machine_analysis
from .state import first_state


def folder_to_open(case_folder: Path, who: str) -> Path | None:
    """Return the folder of the reading that a reader opens; None if the reader has to choose first.

    VFQError as `read_analysis`, for a damaged record.
    """
    own = own_folder(case_folder, who)
    if (own / "analysis.json").exists():
        return own
    if not (case_folder / "analysis.json").exists():
        return case_folder
    record = read_analysis(case_folder / "analysis.json")
    return case_folder if reading_of(record) is None or takes_part(record, who) else None


def begin_own(case_folder: Path, who: str, from_reading: bool) -> Path:
    """Begin a reader's own reading of a case, and return its folder; one that exists is returned as it is.

    Parameters
    ----------
    from_reading : begin with the key points and levels of the first reading, else with the automatic ones. Verdicts
        are the reader's own in either case: all vertebrae are open.

    Raises
    ------
    VFQError : `output_not_writable`, or as `read_analysis`.
    """
    folder = own_folder(case_folder, who)
    if (folder / "analysis.json").exists():
        return folder
    automatic = machine_analysis(case_folder)
    start, reading = automatic, Reading(who, _now())
    if from_reading:
        start = read_analysis(case_folder / "analysis.json")
        first = reading_of(start)
        reading = replace(reading, begun_from="reading", begun_from_reader=first.reader if first else None)
    unsigned = [replace(v, review="open", reviewer=None, reviewed_at=None) for v in start.vertebrae]
    with writing(case_folder, NOT_SAVED):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            _write(replace(start, vertebrae=tuple(unsigned), reading=reading), automatic, partial, who)
            partial.chmod(case_folder.stat().st_mode)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(record: SpineAnalysis, automatic: SpineAnalysis, folder: Path, who: str) -> None:
    write_review(record, folder, automatic)
    first, now = first_state(automatic), first_state(record)
    journal = open_journal(folder, first, automatic)
    try:
        journal.commit("load", {key: now.get(key) for key in {*first, *now}}, who)
    finally:
        journal.close()
    if journal.unsaved:
        raise VFQError("output_not_writable", f"Your reading cannot begin: {journal.problem}")


def saved_reading(folder: Path) -> Reading | None:
    """Return whose reading lies in a folder, with its signatures; None before a review, or if the file is damaged."""
    with suppress(VFQError):
        return reading_of(read_analysis(folder / "analysis.json"))
    return None


def signed_by_others(folder: Path, who: str) -> bool:
    """True if the record in a folder has a signature of another reader that holds."""
    with suppress(VFQError):
        return any(s.reader != who for s in read_analysis(folder / "analysis.json").signatures)
    return False


def locked_text(signatures: Sequence[Signature]) -> str:
    """Return why a reading that others have signed cannot be changed; "" if nobody has."""
    if not signatures:
        return ""
    told = signatures_text(signatures)
    return (
        f"This reading is {told}, so it cannot be changed. Counter-sign it (e), or begin your own reading "
        "(i). Both are kept."
    )


def standing_text(record: SpineAnalysis, who: str) -> str:
    """Return whose reading a record is, what it began from, and who signed it; "" for an automatic analysis."""
    reading = reading_of(record)
    if reading is None:
        return ""
    owner = "Your reading" if reading.reader == who else f"Reading of {reading.reader}"
    start = f", begun from the points of {reading.begun_from_reader}" if reading.begun_from_reader else ""
    signed = signatures_text(record.signatures)
    if not signed:
        signed = "changed after it was signed: sign it again (e)" if reading.signatures else "not signed"
    return f"{owner}{start}: {signed}."


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
