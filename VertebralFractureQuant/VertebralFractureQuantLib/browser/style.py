"""The style sheet of the review page, in a dark and a light theme; grades have the colours of `report.markups`.

The straightened image has more than half of the page at every size. A wide page has the patient views beside it and
then the table; a smaller one has the table above the patient views, and a very small one the table alone, until it is
folded. Images are black in both themes. Text has a contrast of at least 4.5 to its ground.
"""

from __future__ import annotations

from ..report.markups import GRADE_COLORS

GRADES = tuple(GRADE_COLORS)  # in the order of their numbers, 0 to 3


def _css_color(color: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)


THEMES = """
:root { --gap: #0d0e0f; --panel: #1b1c1e; --raised: #26282b; --line: #3a3d41; --text: #e6e8eb; --dim: #a9aeb5;
  --warn: #ffc107; --told: #81d4fa; --bad: #ff8a80; --good: #81c784; --fault: #ff7bff; --chosen: #30405a;
  --focus: #8ab4ff; color-scheme: dark; }
:root[data-look="light"] { --gap: #b9bdc3; --panel: #ffffff; --raised: #eef0f3; --line: #cfd3d8; --text: #1b1e22;
  --dim: #545a61; --warn: #7a4b00; --told: #0b5394; --bad: #b3261e; --good: #1b6e20; --fault: #9c009c;
  --chosen: #d3e2fb; --focus: #1a56c4; color-scheme: light; }
.v-application { color: var(--text); background: var(--gap); }
.text-amber { color: var(--warn) !important; }
.text-light-blue-lighten-3 { color: var(--told) !important; }
.text-red { color: var(--bad) !important; }
.text-green { color: var(--good) !important; }
.v-btn.bg-green { background: #2e7d32 !important; color: #fff !important; }
"""

PAGE = """
html { overflow: hidden; font-size: clamp(16px, .56vw, 24px); }
:focus-visible { outline: 2px solid var(--focus) !important; outline-offset: -2px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.bar { display: flex; align-items: center; gap: .5rem; height: 2.75rem; padding: 0 .25rem; flex: none;
  background: var(--raised); white-space: nowrap; }
.bar .case { flex: 0 1 auto; min-width: 7.75rem; }
.bar .case .v-btn__content { min-width: 0; overflow: hidden; }
.bar .case .name { overflow: hidden; text-overflow: ellipsis; }
.bar .title { flex: 0 1000 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; font-size: .875rem;
  font-weight: 400; margin-right: auto; }
.bar .notice { flex: none; font-size: .75rem; color: var(--warn); }
.bar .buttons { display: flex; flex: 0 1 auto; min-width: 12rem; margin-left: auto; overflow-x: auto;
  scrollbar-width: thin; }
.bar .buttons .v-btn { width: 2.25rem; height: 2.25rem; flex: none; }
.page { display: grid; height: calc(100dvh - 2.75rem); gap: 3px; background: var(--gap);
  grid-template: "straight side side side" minmax(0, 1fr) "straight sagittal coronal axial" minmax(0, 32%)
    / 58.5fr minmax(0, 14fr) minmax(0, 14fr) minmax(0, 13.5fr); }
.place { min-width: 0; min-height: 0; display: grid; grid-template-rows: minmax(0, 1fr); }
.straight { grid-area: straight; grid-template-rows: minmax(0, 1fr) auto; }
.sagittal { grid-area: sagittal; }
.coronal { grid-area: coronal; }
.axial { grid-area: axial; }
.side { grid-area: side; }
.page[data-folded="true"] { grid-template: "straight sagittal" minmax(0, 1fr) "straight coronal" minmax(0, 1fr)
  "straight axial" minmax(0, 1fr) / 58.5fr minmax(0, 41.5fr); }
.page[data-folded="true"] .side { display: none; }
@media (min-width: 1750px) {
  .page { grid-template: "straight sagittal side" minmax(0, 1fr) "straight coronal side" minmax(0, 1fr)
    "straight axial side" minmax(0, 1fr) / 56.5% minmax(0, 1fr) 33rem; }
}
@media (max-width: 900px), (max-height: 500px) {
  .bar { height: 2.25rem; gap: .25rem; }
  .bar .case { min-width: 6rem; padding: 0 .25rem; }
  .bar .title { display: none; }
  .bar .notice { white-space: normal; font-size: .625rem; line-height: 1.1; width: 6.5rem; }
  .bar .buttons .v-btn { width: 1.9rem; height: 2rem; }
  .strip { gap: .375rem; padding: 0 .375rem; font-size: .6875rem; }
  .readings { width: 12.5rem; }
  .plane { width: 5rem; }
  .page { height: calc(100dvh - 2.25rem); grid-template: "straight side" minmax(0, 1fr) / 61fr minmax(0, 39fr); }
  .page[data-folded="true"] { grid-template-columns: 61fr minmax(0, 39fr); }
  .page:not([data-folded="true"]) > :is(.sagittal, .coronal, .axial) { display: none; }
}
.page:is([data-enlarged="Straightened"], [data-enlarged="Sagittal"], [data-enlarged="Coronal"],
  [data-enlarged="Axial"]) { grid-template: "large side" minmax(0, 1fr) / minmax(0, 1fr) minmax(0, min(33rem, 39%)); }
.page[data-enlarged][data-folded="true"]:not([data-enlarged=""]) { grid-template-columns: minmax(0, 1fr) 0; }
.page[data-enlarged]:not([data-enlarged=""]) > .place { display: none; }
.page[data-enlarged="Straightened"] > .straight, .page[data-enlarged="Sagittal"] > .sagittal,
.page[data-enlarged="Coronal"] > .coronal, .page[data-enlarged="Axial"] > .axial {
  display: grid !important; grid-area: large; }
"""

VIEWS = """
.view { position: relative; min-height: 0; min-width: 0; overflow: hidden; background: #000; color: #e6e8eb; }
.view .display-area img { width: 100% !important; height: 100% !important; object-fit: contain; }
.view-label { position: absolute; top: 0; left: 0; right: 0; padding: 2px 2px 0 8px; justify-content: space-between;
  pointer-events: none; font-size: .75rem; z-index: 2; user-select: none;
  cursor: default; text-shadow: 0 0 3px #000; display: flex; gap: 6px; align-items: center; }
.view-label > * { pointer-events: auto; }
.view-label button { opacity: .75; padding: 2px; min-width: 24px; min-height: 24px; }
.view-label button:is(:hover, :focus-visible) { opacity: 1; }
.letter { position: absolute; font-size: .75rem; color: #d0d3d8; pointer-events: none; text-shadow: 0 0 3px #000; }
.letter.left { left: 6px; top: 50%; }
.letter.right { right: 6px; top: 50%; }
[data-view=Straightened] .letter.right { top: 30%; }  /* beside the labels, which stand at the right in a close-up */
.letter.top { top: 4px; left: 50%; }
.letter.bottom { bottom: 4px; left: 25%; }
.note { position: absolute; top: 28px; left: 8px; right: 8px; font-size: .8125rem; color: #ffc107; pointer-events: none;
  text-shadow: 0 0 3px #000; }
.strip { display: flex; align-items: center; gap: .75rem; height: 2.125rem; padding: 0 .75rem; overflow: hidden;
  background: var(--panel); font-size: .75rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.readings { flex: none; width: 16rem; height: 2rem; line-height: 1rem; overflow: hidden; }
.readings > * { height: 1rem; white-space: pre; }
.strip .v-slider { flex: 1 1 4rem; min-width: 4rem; }
.preset { appearance: auto; color: inherit; background: transparent; cursor: pointer; flex: none; }
.preset option { color: #111; background: #fff; }
.plane { flex: none; width: 5.5rem; text-align: right; }
"""

TABLE = """
.side { display: grid; grid-template: auto auto minmax(0, 1fr) auto / minmax(0, 1fr); min-height: 0; min-width: 0;
  background: var(--panel); container-type: inline-size; overflow-y: auto; }
.rows { overflow: auto; min-height: 6rem; }
table.vertebrae { width: 100%; border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
table.vertebrae th { position: sticky; top: 0; background: var(--raised); font-weight: 500; color: var(--dim);
  text-align: right; padding: 4px 5px; z-index: 1; }
table.vertebrae td { text-align: right; padding: 3px 5px; border-bottom: 1px solid var(--line); white-space: nowrap; }
table.vertebrae th.left, table.vertebrae td.left { text-align: left; }
table.vertebrae tr { cursor: pointer; scroll-margin-top: 3.5rem; }
table.vertebrae tr.selected td { background: var(--chosen); }
table.vertebrae tr.rejected td { color: var(--dim); text-decoration: line-through; }
.level { padding: 0 4px; }
.ratio { font-weight: 600; }
.doubt { color: var(--dim); }
.selected .doubt, .selected .usual, .selected .spread { color: var(--text); }
.usual { display: block; font-size: .6875rem; color: var(--dim); }
.quality { padding: 6px 12px; font-size: .8125rem; color: var(--warn); border-bottom: 1px solid var(--line);
  max-height: 20vh; overflow-y: auto; }
.spread { display: inline-block; width: 2.9em; color: var(--dim); }
.grade { display: inline-block; width: 6.6em; border-radius: 3px; padding: 0 5px; color: #111; text-align: center; }
.grade.uncounted { background: none; color: var(--fault); text-decoration: line-through; }
.rejected .grade { background: none; color: inherit; box-shadow: inset 0 0 0 1px var(--line); }
.fault { color: var(--fault); font-size: .75rem; white-space: normal !important; }
.report { padding: 6px 12px; font-size: .8125rem; border-bottom: 1px solid var(--line); }
.report textarea, input.reader { width: 100%; background: var(--raised); color: inherit; border: 1px solid var(--dim);
  border-radius: 3px; padding: 2px 6px; }
input.reader { width: 14em; min-width: 6em; }
input.path { flex: 1; margin-right: 8px; }
.worklist { display: grid; grid-template-rows: auto minmax(0, 1fr); height: 100%; }
.worklist input.reader { width: 100%; }
.worklist .v-virtual-scroll { height: 100%; grid-row: 2; }
.worklist .case { display: flex; align-items: center; gap: 6px; width: 100%; height: 44px; padding: 0 12px;
  text-align: left; }
.worklist .case:hover { background: var(--raised); }
.worklist .case.current { background: var(--chosen); }
.case-name { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.choice { height: auto !important; min-height: 40px; white-space: normal; }
.choice .v-btn__content { white-space: normal; }
.report-tools { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
.healthy { display: block; max-width: 100%; max-height: 68vh; margin: 0 auto .5rem; }
.report-page { width: 100%; height: 78vh; border: 0; background: #fff; }
.link { text-decoration: underline; }
.hint { min-height: 34px; padding: 6px 10px; font-size: .8125rem; }
.summary { padding: 8px 12px; font-size: .875rem; line-height: 1.5; border-bottom: 1px solid var(--line); }
.keys td { padding: 2px 10px 2px 0; font-size: .875rem; }
.keys kbd { display: inline-block; background: var(--raised); color: var(--text); border-radius: 3px;
  padding: 1px 6px; }
.contradiction { color: var(--fault); }
@container (max-width: 27rem) {
  table.vertebrae :is(td, th):nth-child(7):not([colspan]) { display: none; }
}
@container (max-width: 22rem) {
  table.vertebrae :is(td, th):nth-child(n+2):nth-child(-n+4) { display: none; }
  .summary { font-size: .8125rem; padding: 4px 8px; }
}
@media (max-height: 640px), (max-width: 900px) {
  .side { display: block; }
  .rows { overflow: visible; }
  .hint { min-height: 0; padding: 0 10px; }
}
"""

STYLE = THEMES + VIEWS + PAGE + TABLE
STYLE += "".join(f".grade.{name} {{ background: {_css_color(GRADE_COLORS[name])}; }}\n" for name in GRADES)
STYLE += "".join(f'.grade.{name}::before {{ content: "{number} "; }}\n' for number, name in enumerate(GRADES))
