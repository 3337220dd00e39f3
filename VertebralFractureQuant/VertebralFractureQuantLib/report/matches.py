"""`matches.json` (schema `vfq-matches/1`): how a reader matched the vertebrae of a reading with those of prior scans.

It lies in the folder of the reading. What cannot be used is an error with a code, never a match.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timezone
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..followup.reader_match import AGAIN, KeptMatches, Place, ReaderMatch
from ..whole import whole_file
from .outputs import writing

MATCHES_NAME = "matches.json"
DAMAGED_NAME = "matches-damaged.json"
SCHEMA = "vfq-matches/1"


def read_matches(folder: Path, scan: str) -> KeptMatches:
    """Return the matches in the folder of a reading of a scan (`scan_digest`)."""
    try:
        held = _read(folder)
    except VFQError as problem:
        return KeptMatches(problem=problem)
    return KeptMatches({prior: _entry(entry, scan) for prior, entry in held.items()})


def write_match(folder: Path, scan: str, prior: str, match: ReaderMatch) -> None:
    """Write a match of `scan` with the scan `prior` (`scan_digest`) into the folder of the reading; others stay.

    A damaged file is kept under another name. VFQError `output_not_writable`.
    """
    with writing(folder):
        held: dict[str, Any] = {}
        try:
            held = _read(folder)
        except VFQError:
            (folder / MATCHES_NAME).rename(_free(folder / DAMAGED_NAME))
        pairs = [{"prior": list(before), "current": list(now)} for before, now in match.places]
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        held[prior] = {"scan": scan, "pairs": pairs, "reader": match.reader, "at": at}
        with whole_file(folder / MATCHES_NAME) as partial:
            partial.write_text(json.dumps({"schema": SCHEMA, "matches": held}, indent=1), encoding="utf-8")


def _free(path: Path) -> Path:
    """Return the path, or the first of "name-2.json", "name-3.json", ... that does not exist."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(name for name in chain([path], names) if not name.exists())


def _read(folder: Path) -> dict[str, Any]:
    """Return the entries of the file, {} without one. VFQError `bad_matches`."""
    with suppress(FileNotFoundError):
        try:
            data = json.loads((folder / MATCHES_NAME).read_text(encoding="utf-8"))
            if data["schema"] == SCHEMA and isinstance(data["matches"], dict):
                return dict(data["matches"])
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, KeyError):
            pass
        raise VFQError("bad_matches", f"{MATCHES_NAME}: the file is damaged, or of another version. {AGAIN}")
    return {}


def _entry(entry: Any, scan: str) -> ReaderMatch | VFQError:
    try:
        if entry["scan"] != scan:
            return VFQError("bad_matches", f"{MATCHES_NAME}: the match was made in another scan than this one. {AGAIN}")
        places = tuple((_place(pair["prior"]), _place(pair["current"])) for pair in entry["pairs"])
        return ReaderMatch(str(entry["reader"]), places)
    except (TypeError, KeyError, ValueError):
        return VFQError("bad_matches", f"{MATCHES_NAME}: the match is damaged, or of another version. {AGAIN}")


def _place(values: Any) -> Place:
    r, a, s = (float(mm) for mm in values)
    return r, a, s
