"""What has changed between a prior study and the open one, as rows of plain values for a table.

Heights are in mm. Minus signs are typographic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..followup.change import VERDICTS, Change, change_of, missing
from ..spine.genant import ratio_text
from .pair_match import Column, Match, offset_of
from .study import StudyScene

NAMES = "A", "M", "P"
MINUS = "\N{MINUS SIGN}"
HEIGHTS = "ha", "hm", "hp"
# The colour of a verdict: what speaks for a change, what asks for a look at the points, and the rest.
KINDS = {"new fracture": "worse", "progressed": "worse", "better": "doubtful"}

Row = dict[str, Any]


def listed(match: Match, before: Column, now: Column) -> list[tuple[str | None, str | None]]:
    """Return (id in the prior study, id in the open one) of all vertebrae of both, cranial first; None where it is not.

    Empty if nothing is compared.
    """
    offset = offset_of(match.pairs, before, now)
    if not match.holds or offset is None:
        return []
    matched = set(match.pairs.values())
    places = [(slot + offset, match.pairs.get(i), i) for i, slot in zip(now.ids, now.slots, strict=True)]
    alone = [(slot, i, None) for i, slot in zip(before.ids, before.slots, strict=True) if i not in matched]
    return [(p, c) for _, p, c in sorted([*places, *alone], key=lambda each: each[0])]


def row(prior: StudyScene, current: StudyScene, before: str | None, now: str | None) -> Row:
    """Return the row of a vertebra by its ids in both studies, one of which may be None.

    `was`: its name in the prior study if it differs, else "". `ha`, `hm`, `hp`: the change of the heights in per cent.
    `detail`: the changes in mm with the 95 % interval of measurement error. `kind`: a key of the verdict's colour.
    """
    change = _change(prior, current, before, now)
    level, was = current.label(now) if now else "", prior.label(before) if before else ""
    return {
        "key": f"{before}-{now}",
        "id": now,
        "prior": before,
        "level": level or was,
        "was": was if level and was != level else "",
        "verdict": change.verdict,
        "kind": KINDS.get(change.verdict, "none" if change.ratios is None else "same"),
        "reason": change.reason,
        "reviewed": [_reviewed(prior, before), _reviewed(current, now)],
        **_numbers(change),
    }


def _change(prior: StudyScene, current: StudyScene, before: str | None, now: str | None) -> Change:
    if before is None or now is None:
        return missing(None, None, "not in the current scan" if now is None else "not in the prior scan")
    return change_of(prior.vertebra(before), current.vertebra(now), 0, 0)


def _numbers(change: Change) -> Row:
    if change.ratios is None or change.heights_mm is None or change.difference_mm is None or change.error_mm is None:
        return {"then": "", "now": "", "g": "", "detail": "", **dict.fromkeys(HEIGHTS, "")}
    then, now = change.ratios
    share = 100 * np.array(change.difference_mm) / np.array(change.heights_mm[0])
    told = [
        f"{name} {_signed(by, 1)} ± {error:.1f} mm"
        for name, by, error in zip(NAMES, change.difference_mm, change.error_mm, strict=True)
    ]
    return {
        "then": ratio_text(then),
        "now": ratio_text(now),
        "g": f"{_signed(now - then, 2)} ± {change.ratio_error or 0.0:.2f}",
        "detail": ", ".join(told),
        **{name: f"{_signed(each, 0)} %" for name, each in zip(HEIGHTS, share.tolist(), strict=True)},
    }


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _reviewed(study: StudyScene, vertebra_id: str | None) -> str:
    return str(study.vertebrae[vertebra_id].details["review"]) if vertebra_id else ""


def summary(rows: list[Row]) -> str:
    """Return how many vertebrae have which verdict, with the names of those that changed."""
    told = []
    for verdict in VERDICTS:
        names = [str(r["level"]) for r in rows if r["verdict"] == verdict]
        listed_names = "" if verdict in ("unchanged", "not comparable") else f" ({', '.join(names)})"
        if names:
            told.append(f"{len(names)} {verdict}{listed_names}")
    return ", ".join(told)
