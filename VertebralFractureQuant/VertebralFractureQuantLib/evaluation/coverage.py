"""Which system measures which scan, and why it does not measure the others: a table of codes.

The systems are the methods, and the two ways to tell the height before a fracture from the vertebrae that ours found:
expected heights, and synthetic pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VFQError
from ..spine.expected import expectations
from ..spine.levels import UNMEASURED
from ..spine.record import SpineAnalysis
from .method_subjects import Scanned, analysis_of, pictures_of

if TYPE_CHECKING:
    from ..analysis import Models
    from ..methods.healthy_picture import Healer

EXPECTED, PICTURE = "expected heights", "synthetic picture"
NO_NEIGHBOUR, UNMEASURED_LEVEL = "no_neighbour", "unmeasured_level"  # C2 and the sacrum have no three heights


@dataclass(frozen=True)
class Cell:
    """One system on one scan.

    Attributes
    ----------
    status : "ok", or the code of why nothing was measured.
    vertebrae : how many were measured.
    refused : how many were not although they were found, by code.
    message : what the code means here; "" if all is well.
    """

    status: str
    vertebrae: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    message: str = ""


def coverage(
    scans: Sequence[Scanned],
    methods: dict[str, Models | VFQError],
    ours: str,
    healer: Healer | None,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, dict[str, Cell]]:
    """Run every system on every scan, and return the cells by scan and system.

    ours : the method whose vertebrae the other two systems use. Without `healer` no synthetic pictures are made.
    """
    table = {}
    for number, scan in enumerate(scans, 1):
        say(f"{scan.name} ({number} of {len(scans)})")
        cells: dict[str, Cell] = {}
        for method, networks in methods.items():
            if isinstance(networks, VFQError):
                cells[method] = Cell(networks.code, message=networks.message)
                continue
            record = analysis_of(scan, method, networks, folder)
            cells[method] = Cell(record.status, len(record.vertebrae), message=record.message)
            if method == ours:
                cells[EXPECTED] = expected_cell(record)
                if healer:
                    cells[PICTURE] = _pictured(scan, record, healer, folder)
        table[scan.name] = {name: cells[name] for name in (*methods, EXPECTED, PICTURE) if name in cells}
        scan.forget()
    return table


def expected_cell(record: SpineAnalysis) -> Cell:
    """Return how many vertebrae of an analysis have expected heights."""
    if record.status != "ok":
        return Cell(record.status, message=record.message)
    levels = [v.level for v in record.vertebrae]
    found = expectations([v.keypoints for v in record.vertebrae], levels)
    return _cell([_why(level) if e is None else "" for level, e in zip(levels, found, strict=True)])


def coverage_json(table: dict[str, dict[str, Cell]]) -> list[dict[str, Any]]:
    """Return `coverage` of `vfq-methods/1`."""
    return [
        {"scan": scan, "systems": {name: vars(cell) for name, cell in cells.items()}} for scan, cells in table.items()
    ]


def _why(level: str | None) -> str:
    return UNMEASURED_LEVEL if level in UNMEASURED else NO_NEIGHBOUR


def _pictured(scan: Scanned, record: SpineAnalysis, healer: Healer, folder: Path) -> Cell:
    if record.status != "ok":
        return Cell(record.status, message=record.message)
    return _cell([loss.code for loss in pictures_of(scan, record, healer, folder)])


def _cell(codes: Sequence[str]) -> Cell:
    """Return the cell of vertebrae with these codes, "" where one was measured."""
    refused = dict(Counter(code for code in codes if code))
    measured = len(codes) - sum(refused.values())
    return Cell("ok" if measured or not refused else max(refused, key=lambda code: refused[code]), measured, refused)
