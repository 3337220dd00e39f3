"""The comparison of examinations as a table for the terminal (rich); all numbers come from the comparison."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ..followup.change import Change
from ..followup.comparison import Comparison

VERDICT_STYLES = {
    "unchanged": "green",
    "new fracture": "bold red",
    "progressed": "bold red",
    "better": "yellow",
    "not comparable": "dim",
}


def change_table(comparison: Comparison) -> Table:
    """Return a table with one row for each vertebra: heights now in mm and their differences, G, grade, verdict."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("level")
    for name in ("ha mm", "hm mm", "hp mm"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("G", "grade", "verdict"):
        table.add_column(name)
    for name, change in zip(comparison.names, comparison.changes, strict=True):
        table.add_row(*_row(name, change))
    return table


def change_lines(comparison: Comparison, days: int | None) -> list[str]:
    """Return what the table needs in words: how many vertebrae, how certain the match is, and reasons to doubt it."""
    alignment, compared = comparison.alignment, comparison.compared
    when = "" if days is None else f" after {days} days"
    lines = [f"{len(compared)} vertebrae compared{when}; certainty of the match {100 * alignment.certainty:.0f} %."]
    if alignment.shift:
        lines.append(
            f"The names of the levels differ by {abs(alignment.shift)} between the scans; the vertebrae are matched by "
            "shape and place, and called as in the current scan. Check the levels."
        )
    if comparison.scale_doubtful:
        lines.append(
            f"All sizes are {abs(100 * comparison.scale):.0f} % {'larger' if comparison.scale > 0 else 'smaller'} "
            "now: check the voxel spacing in both headers."
        )
    return lines


def _row(name: str, change: Change) -> tuple[Text, ...]:
    verdict = Text(change.verdict, style=VERDICT_STYLES[change.verdict])
    if change.reason:
        verdict.append(f" ({change.reason})", style="dim")
    if not (change.heights_mm and change.difference_mm and change.error_mm and change.ratios and change.grades):
        return Text(name), Text(""), Text(""), Text(""), Text(""), Text(""), verdict
    heights = zip(change.heights_mm[1], change.difference_mm, change.error_mm, strict=True)
    before, now = change.ratios
    ratio = f"{now:.2f} {now - before:+.2f} ±{change.ratio_error or 0:.2f}"
    grade = change.grades[1] if change.grades[0] == change.grades[1] else " → ".join(change.grades)
    return Text(name), *(Text(f"{h:.1f} {d:+.1f} ±{e:.1f}") for h, d, e in heights), Text(ratio), Text(grade), verdict
