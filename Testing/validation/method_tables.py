"""Print the tables of Documentation/methods.md from the methods.json of `vfq evaluate methods`.

    python Testing/validation/method_tables.py METHODS_JSON

Figures are written with their 95 % intervals in brackets where they have one of some width.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# heading, keys of the figures (joined by commas), factor, decimals, whether intervals are shown
Column = tuple[str, tuple[str, ...], float, int, bool]

FINDING: tuple[Column, ...] = (
    ("recall", ("recall",), 1, 3, True),
    ("precision", ("precision",), 1, 3, True),
    ("centres, mm", ("centre_mm",), 1, 2, False),
    ("off > 4, 10, 20 mm, %", ("outliers.4", "outliers.10", "outliers.20"), 100, 1, False),
    ("points, mm", ("point_mm",), 1, 2, True),
    ("heights, mm", ("height_mm",), 1, 2, True),
    ("abs. error of G", ("ratio",), 1, 3, True),
)
BY_G: tuple[Column, ...] = (
    ("AUC, vertebrae", ("auc.vertebra",), 1, 3, True),
    ("AUC, patients", ("auc.patient",), 1, 3, False),
    ("sensitivity at specificity 0.9", ("sensitivity.vertebra", "sensitivity.patient"), 1, 2, False),
    ("accuracy of grades", ("accuracy",), 1, 3, True),
    ("macro F1", ("macro_f1",), 1, 3, False),
    ("weighted kappa", ("kappa",), 1, 3, True),
    ("crushes found", ("crushes",), 1, 2, False),
    ("wedged, called normal", ("physiologic",), 1, 2, False),
)
BY_LOSS: tuple[Column, ...] = (
    ("AUC, vertebrae", ("by_loss.auc.vertebra",), 1, 3, True),
    ("AUC, patients", ("by_loss.auc.patient",), 1, 3, False),
    ("sensitivity at specificity 0.9", ("by_loss.sensitivity.vertebra",), 1, 2, False),
    ("accuracy of grades", ("by_loss.accuracy",), 1, 3, True),
    ("macro F1", ("by_loss.macro_f1",), 1, 3, False),
    ("weighted kappa", ("by_loss.kappa",), 1, 3, True),
)
PLACES = ("anterior", "middle", "posterior")
LOSS: tuple[Column, ...] = tuple(
    (f"{group}, {what}", tuple(f"loss.{group}.{key}.{place}" for place in (*PLACES, "all")), 100, 1, False)
    for group in ("fractured", "intact")
    for what, key in (("mean error", "bias"), ("mean absolute error", "error"))
)
LOSS_INTERVALS: tuple[Column, ...] = tuple(
    (f"{group}, {what}", (f"loss.{group}.{key}.all",), 100, 1, True)
    for group in ("fractured", "intact")
    for what, key in (("mean error", "bias"), ("mean absolute error", "error"))
)
EXPERTS: tuple[Column, ...] = (
    ("share mild, moderate", ("share.mild", "share.moderate"), 1, 3, False),
    ("kappa of mild or worse", ("kappa.mild",), 1, 2, True),
    ("kappa of moderate or worse", ("kappa.moderate",), 1, 2, True),
    ("weighted kappa of grades", ("kappa.grades",), 1, 2, True),
    ("same grade", ("agreement",), 1, 3, False),
    ("correlation", ("correlation",), 1, 2, True),
)
SAME_SHARE: tuple[Column, ...] = (
    ("mild: kappa", ("kappa_same_share.mild",), 1, 2, True),
    ("more than by G", ("more_than_by_g.kappa_same_share.mild",), 1, 2, True),
    ("moderate: kappa", ("kappa_same_share.moderate",), 1, 2, True),
    ("more than by G", ("more_than_by_g.kappa_same_share.moderate",), 1, 2, True),
)
FOUND_BY_EXPERTS: tuple[Column, ...] = (
    ("mild or worse: sensitivity", ("sensitivity.mild",), 1, 3, True),
    ("specificity", ("specificity.mild",), 1, 3, True),
    ("moderate or worse: sensitivity", ("sensitivity.moderate",), 1, 3, True),
    ("specificity", ("specificity.moderate",), 1, 3, True),
    ("AUC", ("auc",), 1, 3, True),
)
TABLES = {
    "phantoms": (FINDING, BY_G, BY_LOSS, LOSS, LOSS_INTERVALS),
    "real scans": (FINDING, BY_G),
    "experts' annotations": (EXPERTS, SAME_SHARE, FOUND_BY_EXPERTS),
}


def figure(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the figure at a path such as "auc.vertebra"; one without a value if there is none."""
    for part in key.split("."):
        tree = tree.get(part, {})
    return tree or {"value": None, "ci95": None}


def cell(tree: dict[str, Any], column: Column) -> str:
    """Return the text of one cell; "-" where a row has no such figure."""
    _, keys, factor, decimals, intervals = column
    found = [figure(tree, key) for key in keys]
    if all(f["value"] is None for f in found):
        return "-"
    text = ", ".join("-" if f["value"] is None else f"{factor * f['value']:.{decimals}f}" for f in found)
    ends = found[0]["ci95"] if intervals else None
    if not ends or ends[0] == ends[1]:
        return text
    return f"{text} [{', '.join(f'{factor * end:.{decimals}f}' for end in ends)}]"


def table(title: str, rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> str:
    """Return one table in Markdown, with the rows that have any of its figures."""
    lines = [f"| {' | '.join([title, *(c[0] for c in columns)])} |", "|" + "---|" * (len(columns) + 1)]
    for row in rows:
        cells = [cell(row["figures"], column) for column in columns]
        if set(cells) != {"-"}:
            name = row["name"] if row["patients"] in (0, rows[0]["patients"]) else f"{row['name']} ({row['patients']})"
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def coverage_table(scans: list[dict[str, Any]]) -> str:
    """Return the table of who measures what in Markdown."""
    systems = list(scans[0]["systems"])
    lines = [f"| {' | '.join(['scan', *systems])} |", "|" + "---|" * (len(systems) + 1)]
    for scan in scans:
        cells = []
        for system in systems:
            found = scan["systems"][system]
            parts = [str(found["vertebrae"]), *(f"{count} `{code}`" for code, count in found["refused"].items())]
            cells.append("; ".join(parts) if found["status"] == "ok" else f"`{found['status']}`")
        lines.append(f"| {' | '.join([scan['scan'], *cells])} |")
    return "\n".join(lines)


def main() -> None:
    """Print all tables of the file that is given."""
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for block in data["blocks"]:
        for columns in TABLES[block["name"]]:
            print(table(f"{block['patients']} {block['name']}", block["rows"], columns), end="\n\n")
    if data["coverage"]:
        print(coverage_table(data["coverage"]))


if __name__ == "__main__":
    main()
