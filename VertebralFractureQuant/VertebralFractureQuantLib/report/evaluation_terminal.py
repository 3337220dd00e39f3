"""Tables of an evaluation for the terminal (rich): values with 95 % intervals in brackets.

All numbers come from `evaluation/`. "-" stands for a value that cannot be computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..evaluation.experts import (
    PUBLISHED_COUNTS,
    PUBLISHED_ROW,
    RULES,
    SEVERITY_KEYS,
    UNITS,
    Agreement,
    AnnotationsEvaluation,
    LevelStatistics,
)
from ..evaluation.figures import counts
from ..evaluation.metrics import Estimate, Estimates
from ..evaluation.predictions import Evaluation
from ..evaluation.problems import Problem, remedies
from ..evaluation.scans import Scan
from ..evaluation.severity import TASKS, confusion, reported_confusion
from ..spine.genant import GRADES
from ..spine.keypoints import ENDPLATES, POSITIONS
from ..spine.levels import NAMES

MOST_PROBLEMS = 30
FEW_PATIENTS = 10
PUBLISHED = tuple(PUBLISHED_ROW.items())
SHORT_RULES = dict(zip(RULES, ("others' mean", "each other"), strict=True))


def annotations_tables(evaluation: AnnotationsEvaluation) -> Group:
    """Return counts by grade, heights by level, the experts' row beside the published one, and their agreement."""
    parts: list[Table | Text] = [
        _counts_table(evaluation),
        _levels_table(evaluation.levels),
        _experts_table(evaluation.agreements),
        _experts_note(evaluation),
        _agreement_table(evaluation),
    ]
    return _stacked([*parts, *problem_texts(evaluation.problems)])


def predictions_tables(evaluation: Evaluation) -> Group:
    """Return tables 1 to 3, errors, Bland-Altman, levels and grades."""
    e = evaluation.estimates
    total = counts(evaluation.scans)
    heading = (
        f"{total['patients']} patients, {total['scans']} scans ({total['failed_scans']} failed), "
        f"{total['vertebrae']} vertebrae: {total['found']} found, {total['missed']} missed, {total['false']} false"
    )
    tables = [
        _line_table(e),
        _detection_table(e),
        _severity_table(e),
        _called_table(e),
        _errors_table(e),
        _calibration_table(e),
        _names_table(e),
        _level_errors_table(e),
        _confusion_table("reported grade", reported_confusion(evaluation.scans)),
        _confusion_table("grade by G alone", confusion(evaluation.scans)),
    ]
    if total["patients"] < FEW_PATIENTS:
        heading += (
            f"\nWith fewer than {FEW_PATIENTS} patients the 95 % intervals are too narrow, "
            "and AUC and sensitivity depend on chance."
        )
    return _stacked([Text(heading), *tables, *_failed(evaluation.scans), *problem_texts(evaluation.problems)])


def _counts_table(evaluation: AnnotationsEvaluation) -> Table:
    table = _table("grades", *GRADES, "all")
    for what, published in PUBLISHED_COUNTS.items():
        _count_row(table, f"{what}, published", published)
        for unit in UNITS:
            found = evaluation.counts[unit][what]
            _count_row(table, f"{what}, {unit}", found, " =" if found == published else "")
    return table


def _count_row(table: Table, name: str, found: dict[str, int], mark: str = "") -> None:
    table.add_row(name, *(str(found[g]) for g in GRADES), f"{sum(found.values())}{mark}")


def _levels_table(levels: dict[str, LevelStatistics]) -> Table:
    table = _table("heights, mm", "n", *POSITIONS, "G", "each grade")
    for level, s in levels.items():
        spreads = zip(s.heights_mm, s.heights_sd_mm, strict=True)
        table.add_row(
            level,
            str(s.count),
            *(f"{mean:.1f} ±{sd:.1f}" for mean, sd in spreads),
            f"{s.ratio:.3f} ±{s.ratio_sd:.3f}",
            "/".join(str(s.grades[g]) for g in GRADES),
        )
    return table


def _experts_table(agreements: Sequence[Agreement]) -> Table:
    table = _table("expert against", "prec.", "recall", "AUC, G <= .74", "sens. at spec. .9", "SDs off")
    published = (f"{p.value:.3f}" + (f" (SD {_short(p.sd)})" if key in SEVERITY_KEYS else "") for key, p in PUBLISHED)
    table.add_row("published", *published, "")
    for a in agreements:
        e = [a.estimates[key] for key, _ in PUBLISHED]
        values = (f"{e[0].value:.3f}", f"{e[1].value:.3f}", _interval(e[2], 3), _interval(e[3], 3))
        table.add_row(f"{SHORT_RULES[a.rule]}, {a.unit[:3]}", *values, f"{a.distance:.2f}")
    return table


def _experts_note(evaluation: AnnotationsEvaluation) -> Text:
    if not evaluation.agreements:
        return Text("The experts cannot be compared: no vertebra was marked by two of them.")
    nearest = evaluation.agreements[0]
    if not np.isfinite(nearest.distance):
        return Text("The published row cannot be compared: this needs vertebrae with G <= 0.74 and with G > 0.74.")
    note = (
        f"The row nearest to the published one is {nearest.rule}, in {nearest.unit}: its AUC and sensitivity differ "
        f"from the published values by {nearest.distance:.2f} published standard deviations on average (last column)."
    )
    if evaluation.same_vertebrae:
        note += (
            " In these files all experts of a patient have the same vertebrae. Precision and recall therefore only show"
            " whether outlines overlap (Butterfly-IoU >= 0.1); the published values cannot be reproduced from them."
        )
    return Text(note, style="dim")


def _agreement_table(evaluation: AnnotationsEvaluation) -> Table:
    inside = [a for a in evaluation.agreements if a.unit == "mm"]
    table = _table("agreement in the plane", *(f"against {SHORT_RULES[a.rule]}" for a in inside))
    for name, key, digits in (
        ("bias of G", ("agreement", "ratio", "bias"), 3),
        ("95 % limit of G, low", ("agreement", "ratio", "low"), 3),
        ("95 % limit of G, high", ("agreement", "ratio", "high"), 3),
        ("bias of heights, mm", ("agreement", "height_mm", "bias"), 2),
        ("95 % limit of heights, low", ("agreement", "height_mm", "low"), 2),
        ("95 % limit of heights, high", ("agreement", "height_mm", "high"), 2),
        ("mean |dG|", ("error", "ratio"), 3),
        ("point distance, mm", ("error", "point_mm"), 2),
    ):
        table.add_row(name, *(_interval(a.estimates[key], digits) for a in inside))
    s = evaluation.scatter
    table.add_row("SD of an expert's G", f"{s.ratio_sd:.4f}")
    table.add_row("SD of an expert's heights, mm", f"{s.height_sd_mm:.2f}")
    table.add_row("points to experts' mean, mm", f"{s.point_mm:.2f}")
    return table


def _line_table(e: Estimates) -> Table:
    table = _table("table 1: spine curve", "mean l2, mm", "limits MAE, mm")
    table.add_row("", _interval(e["line", "mean_mm"], 2), _interval(e["line", "limits_mm"], 1))
    return table


def _detection_table(e: Estimates) -> Table:
    table = _table("table 2: detection", "all vertebrae", "mean over scans")
    for kind, rule in (("overlap", "Butterfly-IoU >= 0.1"), ("center", "centres within 20 mm")):
        for name in ("precision", "recall"):
            cells = (e["detection", kind, n] for n in (name, f"{name}_by_scan"))
            table.add_row(f"{name}, {rule}", *(_interval(c, 3) for c in cells))
    return table


def _severity_table(e: Estimates) -> Table:
    table = _table("tables 2, 3: severity", "AUC", "sens. at spec. .9")
    for kind in ("vertebra", "patient"):
        for task in TASKS:
            cells = (e["severity", kind, task, n] for n in ("auc", "sensitivity"))
            table.add_row(f"{kind}, {task}", *(_interval(c, 3) for c in cells))
    return table


def _called_table(e: Estimates) -> Table:
    table = _table("reported moderate or worse", "sensitivity", "specificity")
    for kind in ("vertebra", "patient"):
        table.add_row(kind, *(_interval(e["called", kind, what], 3) for what in ("sensitivity", "specificity")))
    return table


def _errors_table(e: Estimates) -> Table:
    table = _table("errors", "mean")
    names = [("point_mm", "points, mm"), ("center_mm", "centres, mm"), ("height_mm", "heights, mm")]
    names += [(f"{p}_{end}_mm", f"  {p} {end} point, mm") for p in POSITIONS for end in ENDPLATES]
    names += [(f"{p}_height_mm", f"  {p} height, mm") for p in POSITIONS]
    for key, name in names:
        table.add_row(name, _interval(e["error", key], 2))
    table.add_row("|dG|", _interval(e["error", "ratio"], 3))
    table.add_row("|dG|, median", _interval(e["error", "ratio_median"], 3))
    for key, name, digits in (("ratio", "G", 3), ("height_mm", "heights, mm", 2)):
        for part, what in (("bias", "bias"), ("low", "95 % limits, low"), ("high", "95 % limits, high")):
            table.add_row(f"Bland-Altman of {name}: {what}", _interval(e["agreement", key, part], digits))
    return table


def _calibration_table(e: Estimates) -> Table:
    table = _table("reported SD of G", "RMS error / SD", "within 1 SD", "within 2 SD")
    keys = ("error_by_spread", "within_one", "within_two")
    table.add_row("", *(_interval(e.get(("calibration", key)), 2) for key in keys))
    return table


def _names_table(e: Estimates) -> Table:
    table = _table("level names", "right", "wrong", "wrong, without doubt")
    for name, keys in (
        ("vertebrae", ("right", "wrong", "surely_wrong")),
        ("scans with all right, any wrong", ("scans_all_right", "scans_any_wrong", "scans_any_surely_wrong")),
    ):
        table.add_row(name, *(_interval(e.get(("names", key)), 3) for key in keys))
    return table


def _level_errors_table(e: Estimates) -> Table:
    table = _table("level", "found", "missed", "points, mm", "|dG|", "bias of G")
    for level in (*NAMES, "unknown"):
        if ("level", level, "found") in e:
            counted = (f"{e['level', level, n].value:.0f}" for n in ("found", "missed"))
            names = (("point_mm", 2), ("ratio", 3), ("ratio_bias", 2))
            table.add_row(level, *counted, *(_interval(e.get(("level", level, n)), d) for n, d in names))
    return table


def _confusion_table(what: str, counted: np.ndarray) -> Table:
    table = _table(f"{what}: true \\ measured", *GRADES, "missed")
    for name, row in zip((*GRADES, "no vertebra"), counted, strict=True):
        cells = [str(n) for n in row]
        table.add_row(name, *(cells if name in GRADES else [*cells[:-1], ""]))
    return table


def problem_texts(problems: Sequence[Problem], record: str = "evaluation.json") -> Iterator[Text]:
    """Yield the problems of the input as a list, and what to do about each code; nothing without problems.

    record : name of the file that holds all of them.
    """
    if not problems:
        return
    lines = [f"Problems: {len(problems)}. Faulty parts are left out, unless the message says otherwise."]
    lines += [
        f"{p.code}  {p.file}{f', {p.vertebra}' if p.vertebra else ''}: {p.text}" for p in problems[:MOST_PROBLEMS]
    ]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"... and {len(problems) - MOST_PROBLEMS} more in {record}")
    yield Text("\n".join(lines))
    yield Text("\n".join(["What to do:", *(f"{code}  {remedy}" for code, remedy in remedies(problems).items())]))


def _failed(scans: Sequence[Scan]) -> Iterator[Text]:
    """The scans that were not measured; each of their vertebrae counts as missed."""
    lines = [f"{scan.status}  {scan.case}" for scan in scans if scan.status != "ok"]
    if not lines:
        return
    more = [f"... and {len(lines) - MOST_PROBLEMS} more in evaluation.json"] if len(lines) > MOST_PROBLEMS else []
    heading = f"Failed analyses: {len(lines)}. Their vertebrae count as missed; analysis.json says what to do."
    yield Text("\n".join([heading, *lines[:MOST_PROBLEMS], *more]))


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _stacked(parts: Iterable[Table | Text]) -> Group:
    """Stack the parts with an empty line after each."""
    return Group(*(piece for part in parts for piece in (part, Text())))


def _interval(estimate: Estimate | None, digits: int) -> str:
    """ "0.972 [.950, .981]"; without brackets if there is no interval, and "-" if there is no value."""
    if estimate is None or not np.isfinite(estimate.value):
        return "-"
    value = f"{estimate.value:.{digits}f}"
    if not np.isfinite(estimate.low):
        return value
    return f"{value} [{_short(estimate.low, digits)}, {_short(estimate.high, digits)}]"


def _short(value: float, digits: int = 3) -> str:
    """The number without the zero before the decimal point."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"
