"""The style sheet of the review page; grades have the colours of `report.markups`."""

from __future__ import annotations

from ..report.markups import GRADE_COLORS


def _css_color(color: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)


STYLE = """
html { overflow: hidden; }
.page { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 3fr) 540px; grid-template-rows: minmax(0, 1fr);
  height: 100%; gap: 3px; background: #111; }
.stack { display: grid; grid-template-rows: repeat(3, minmax(0, 1fr)); gap: 3px; min-height: 0; min-width: 0; }
.straight { display: grid; grid-template-rows: minmax(0, 1fr) 34px 22px; min-height: 0; min-width: 0; }
.view { position: relative; min-height: 0; min-width: 0; overflow: hidden; background: #000; }
.view-label { position: absolute; top: 4px; left: 8px; font-size: 12px; pointer-events: none;
  text-shadow: 0 0 3px #000; }
.letter { position: absolute; font-size: 12px; color: #d0d3d8; pointer-events: none; text-shadow: 0 0 3px #000; }
.letter.left { left: 6px; top: 50%; }
.letter.right { right: 6px; top: 50%; }
[data-view=Straightened] .letter.right { top: 30%; }  /* beside the labels, which stand at the right in a close-up */
.letter.top { top: 4px; left: 50%; }
.letter.bottom { bottom: 4px; left: 25%; }
.note { position: absolute; top: 24px; left: 8px; right: 8px; font-size: 13px; color: #ffc107; pointer-events: none;
  text-shadow: 0 0 3px #000; }
.preset { appearance: auto; color: inherit; background: transparent; margin-right: 8px; cursor: pointer; }
.preset option { color: #111; background: #fff; }
.under-mouse { font-variant-numeric: tabular-nums; white-space: pre; }
.side { display: grid; grid-template: auto auto minmax(0, 1fr) auto / minmax(0, 1fr); min-height: 0; min-width: 0;
  background: #1b1c1e; }
.rows { overflow-y: auto; }
table.vertebrae { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
table.vertebrae th { position: sticky; top: 0; background: #26282b; font-weight: 500; color: #b8bcc2; text-align: right;
  padding: 4px 5px; z-index: 1; }
table.vertebrae td { text-align: right; padding: 3px 5px; border-bottom: 1px solid #2a2c2f; white-space: nowrap; }
table.vertebrae th.left, table.vertebrae td.left { text-align: left; }
table.vertebrae tr { cursor: pointer; }
table.vertebrae tr.selected td { background: #30405a; }
table.vertebrae tr.rejected td { opacity: .45; text-decoration: line-through; }
.ratio { font-weight: 600; }
.doubt { color: #9aa0a6; }
.usual { display: block; font-size: 11px; color: #9aa0a6; }
.quality { padding: 6px 12px; font-size: 13px; color: #ffc107; border-bottom: 1px solid #333; max-height: 20vh;
  overflow-y: auto; }
.spread { display: inline-block; width: 2.9em; color: #9aa0a6; }
.grade { display: inline-block; width: 5.6em; border-radius: 3px; padding: 0 5px; color: #111; text-align: center; }
.grade.uncounted { background: none; color: #ff5cff; text-decoration: line-through; }
.fault { color: #ff5cff; font-size: 12px; white-space: normal; }
.report { padding: 6px 12px; font-size: 13px; border-bottom: 1px solid #333; }
.report textarea, input.reader { width: 100%; background: #26282b; color: inherit; border: 1px solid #444;
  border-radius: 3px; padding: 2px 6px; }
input.reader { width: 14em; }
.link { text-decoration: underline; }
.hint { min-height: 34px; padding: 6px 10px; font-size: 13px; }
.summary { padding: 8px 12px; font-size: 14px; line-height: 1.5; border-bottom: 1px solid #333; }
.keys td { padding: 2px 10px 2px 0; font-size: 14px; }
.keys kbd { background: #333; border-radius: 3px; padding: 1px 6px; }
.contradiction { color: #ff5cff; }
""" + "".join(f".grade.{name} {{ background: {_css_color(color)}; }}\n" for name, color in GRADE_COLORS.items())
