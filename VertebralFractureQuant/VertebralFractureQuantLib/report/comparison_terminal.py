"""The comparison of examinations as a table for the terminal (rich); all numbers come from the comparison."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ..followup.change import Change
from ..followup.comparison import Comparison
from ..followup.matching import LEAST_CERTAINTY

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
    certain = f"{100 * alignment.certainty:.0f} %"
    how = f"matched by {alignment.reader}" if alignment.reader else f"certainty of the match {certain}"
    lines = [f"{len(compared)} vertebrae compared{when}; {how}."]
    if alignment.reader and alignment.certainty < LEAST_CERTAINTY:
        lines.append(f"The program gives this match a probability of {certain}.")
    if alignment.reader and not alignment.same_patient:
        lines.append("Sizes, shapes and images of the vertebrae are unlikely to be those of one patient: check this.")
    if comparison.other_match:
        lines.append(
            "Readers corrected the match of this examination with other scans than this prior one; this match is "
            "automatic. If the prior was analysed again, match it again in vfq review."
        )
    if comparison.other_weights:
        lines.append(
            f"Both scans were measured with different weights of {' and '.join(comparison.other_weights)}; small "
            "differences may come from that. Analyse both with the same --weights, or review both."
        )
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
