"""The result of a study in one paragraph of plain text, for a report. It contains nothing about the patient."""

from __future__ import annotations

from ..spine.genant import deciding_text, severity
from ..spine.record import SpineAnalysis, Vertebra, shown_names


def report_text(analysis: SpineAnalysis, reader: str) -> str:
    """Return the sentences: what was measured, fractures, the worst first, SDI, what was left out, who signed it.

    `reader` signs now; others whose signatures hold are named as well.
    """
    named = list(zip(shown_names(analysis.vertebrae), analysis.vertebrae, strict=True))
    counted = [(name, v) for name, v in named if v.counts]
    if not counted:
        return f"Vertebral morphometry on CT: no vertebra was assessed. {_readers(analysis, reader)}"
    ends = dict.fromkeys((counted[0][0], counted[-1][0]))
    levels = "1 level" if len(counted) == 1 else f"{len(counted)} levels"
    told = [f"Vertebral morphometry on CT, {levels} ({' to '.join(ends)})."]
    found = sorted(((n, v) for n, v in counted if v.called != "normal"), key=lambda each: severity(each[1].measurement))
    told.append(f"{'; '.join(_finding(n, v) for n, v in found) or 'No vertebra with reduced height'}.")
    told.append(f"Spinal deformity index {analysis.spinal_deformity_index}.")
    for what, names in (
        ("Physiologic shape", [n for n, v in counted if v.physiologic]),
        ("Not measurable", [n for n, v in named if v.review == "rejected"]),
        ("Not counted because of impossible points", list(analysis.not_counted)),
    ):
        if names:
            told.append(f"{what}: {', '.join(names)}.")
    return " ".join([*told, _readers(analysis, reader)])


def _readers(analysis: SpineAnalysis, reader: str) -> str:
    signed = list(dict.fromkeys([*(s.reader for s in analysis.signatures), reader]))
    told = [f"Reader: {signed[0]}", *([f"Counter-signed by {', '.join(signed[1:])}"] if signed[1:] else [])]
    return " ".join(each if each.endswith(".") else f"{each}." for each in told)


def _finding(name: str, vertebra: Vertebra) -> str:
    m = vertebra.measurement
    return f"{name}: {m.grade} {f'{m.shape} ' if m.shape else ''}deformity (G {deciding_text(m)})"
