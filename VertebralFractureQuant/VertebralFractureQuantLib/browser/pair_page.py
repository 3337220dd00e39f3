"""What the page shows of a prior study: its straightened view, the comparison in place of the table, and the script.

It shows values of the state (`pair_session.PAIR_STATE`), and each click calls an action of the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..scene.pair_keys import BLINK
from ..scene.pair_rows import HEIGHTS, NAMES
from .keys import HELD_MS
from .views import COLORS, PRIOR

if TYPE_CHECKING:
    from .session import Session

OWN: dict[str, Any] = {"blinked": False}  # values of the state that stay in a tab

# Both images have the same size and show the same place, so swapping them is blinking.
SCRIPT = """
(() => {
  let since = 0;
  const state = window.trame.state;
  window.vfqBlink = () => state.get("prior_name") && state.set("blinked", !state.get("blinked"));
  const other = (event) => event.key.toLowerCase() !== "BLINK" || event.ctrlKey || event.metaKey || event.altKey
    || event.target.closest("input, textarea, select, [contenteditable], .v-menu");
  window.addEventListener("keydown", (event) => {
    if (event.repeat || other(event) || state.get("help_open")) return;
    since = event.timeStamp;
    window.vfqBlink();
  }, true);
  const release = (event) => {  // times of the key itself: a busy page reads a short press late
    if (since && event.timeStamp - since > HELD_MS) window.vfqBlink();
    since = 0;
  };
  window.addEventListener("keyup", (event) => { if (!other(event)) release(event); }, true);
  window.addEventListener("blur", release);
  window.vfqPrior = () => {
    if (!state.get("prior_name")) return state.set("blinked", false);
    const area = document.querySelector("[data-view=Prior] .remote-controlled-area");
    if (!area?.querySelector("img")) return requestAnimationFrame(window.vfqPrior);
    area.tabIndex = -1;
    area.setAttribute("role", "img");
    area.setAttribute("aria-label", "Prior image");
    area.querySelector("img").alt = "";
  };
})();
"""
SCRIPT = SCRIPT.replace("HELD_MS", str(HELD_MS)).replace("BLINK", BLINK)

STYLE = f"""
.two {{ display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); grid-template-rows: minmax(0, 1fr);
  gap: 3px; min-height: 0; min-width: 0; }}
.two > [data-view={PRIOR}] {{ order: 0; }}
.two > [data-view=Straightened] {{ order: 1; }}
.two.blinked > [data-view={PRIOR}] {{ order: 2; }}
.two .acts::after {{ content: ""; position: absolute; inset: 0; pointer-events: none; z-index: 3;
  box-shadow: inset 0 0 0 2px #8ab4ff; }}
[data-view={PRIOR}] .letter.right {{ top: 30%; }}
.view-label .what {{ max-width: calc(50% - 4rem); margin-right: auto; color: #e6e8eb; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }}
.change {{ display: inline-block; border-radius: 3px; padding: 0 5px; }}
.change.worse {{ background: #e5484d; color: #111; font-weight: 600; }}
.change.doubtful {{ background: #ffc107; color: #111; }}
.change.none {{ color: var(--dim); }}
.selected .change.none {{ color: var(--text); }}
.changes {{ padding: 6px 12px; font-size: .8125rem; border-bottom: 1px solid var(--line); }}
table.vertebrae.comparison :is(td, th):nth-child(n):not([colspan]) {{ display: table-cell; }}
@container (max-width: 30rem) {{
  table.vertebrae.comparison :is(td, th):nth-child(n+5):nth-child(-n+7):not([colspan]) {{ display: none; }}
}}
.case-row {{ display: flex; align-items: center; width: 100%; height: 44px; }}
.case-row .case {{ flex: 1 1 auto; min-width: 0; }}
.case-row .compare {{ flex: none; padding: 8px 12px; font-size: .75rem; }}
.patient {{ flex: none; font-size: .6875rem; color: var(--told); }}
"""
ONLY_CHANGED = 'v-memo="[JSON.stringify(r), r.id == selected && r.prior == prior_selected]"'
CHOSEN = "(r.id ? r.id == selected : r.prior == prior_selected)"


def prior_view(session: Session) -> None:
    """Build the prior's view, which is there while a prior is open."""
    if session.views.prior is None:
        return
    with html.Div(
        v_if="prior_name",
        classes="view",
        v_bind_class="{acts: side == 'prior'}",
        raw_attrs=[f'data-view="{PRIOR}"'],
    ):
        client.ServerTemplate(name=PRIOR)
        with html.Div(classes="view-label", style=f"color: {COLORS[PRIOR]}"):
            html.Span("Prior")
            html.Span("{{ prior_name }}{{ side == 'prior' ? ' · keys act here' : '' }}", classes="what")
            for icon, title, click, name in (
                ("mdi-swap-horizontal", f"Swap the two images ({BLINK})", "utils.get('vfqBlink')()", "blink"),
                ("mdi-layers-outline", "Lay the prior over the image (y)", (session.act, "['overlay']"), "overlay"),
                ("mdi-close", "Close the prior", (session.act, "['close_prior']"), "close_prior"),
            ):
                with html.Button(
                    click=click,
                    raw_attrs=[
                        *('type="button"', f'title="{title}"', f'aria-label="{title}"', f'data-test="{name}"'),
                    ],
                ):
                    v3.VIcon(icon, size=14)
        html.Div("{{ prior_note }}", v_if="prior_note", classes="note", raw_attrs=['data-test="prior_note"'])
        html.Div("{{ prior_busy }}", v_if="prior_busy", classes="note", raw_attrs=['data-test="prior_busy"'])


def comparison(session: Session) -> None:
    """Build what is said about the change, and the switch between comparison and measurements."""
    with html.Div(v_if="prior_name", classes="changes", raw_attrs=['data-test="changes"', 'role="status"']):
        html.Div("{{ pair_summary || prior_busy }}", raw_attrs=['data-test="pair_summary"'])
        html.Div("{{ pair_doubt }}", v_if="pair_doubt", classes="text-amber", raw_attrs=['data-test="pair_doubt"'])
        html.Div(
            "Prior: {{ prior_locked }}", v_if="prior_locked", classes="usual", raw_attrs=['data-test="prior_locked"']
        )
        html.Div(
            "Prior not saved yet: {{ prior_unsaved }}",
            v_if="prior_unsaved",
            classes="text-red",
            raw_attrs=['data-test="prior_unsaved"'],
        )
        with html.Div(classes="d-flex mt-1", style="gap: 12px"):
            html.Button(
                "{{ compared ? 'Show the measurements' : 'Show the comparison' }}",
                click=(session.act, "['show_compared', !compared]"),
                classes="link",
                type="button",
                raw_attrs=['data-test="show_compared"'],
            )
            html.Button(
                "Match one higher (&lt;)",
                click=(session.act, "['match_higher']"),
                classes="link",
                type="button",
                raw_attrs=['data-test="match_higher"'],
            )
            html.Button(
                "One lower (&gt;)",
                click=(session.act, "['match_lower']"),
                classes="link",
                type="button",
                raw_attrs=['data-test="match_lower"'],
            )


def comparison_table(session: Session) -> None:
    """Build the table of what has changed, which stands in place of the measurements."""
    with html.Table(
        v_if="prior_name && compared && pair_rows.length",
        classes="vertebrae comparison",
        raw_attrs=['role="grid"', 'aria-label="Comparison with the prior"', 'data-test="comparison"'],
    ):
        with html.Thead(), html.Tr():
            html.Th("Level", classes="left")
            html.Th("G then", title="Genant ratio in the prior study")
            html.Th("G now", title="Genant ratio in the current study")
            html.Th("Change", title="Change of G, with the 95 % interval of measurement error")
            for name in NAMES:
                html.Th(f"{name} %", title="Change of the height in per cent of that in the prior study")
            html.Th("Verdict", classes="left")
        with html.Tbody(), html.Template(v_for="r in pair_rows", key="r.key", raw_attrs=[ONLY_CHANGED]):
            _rows(session)


def _rows(session: Session) -> None:
    with html.Tr(
        click=(session.act, "['select_pair', r.prior, r.id]"),
        v_bind_class=f"{{selected: {CHOSEN}}}",
        raw_attrs=[
            *(':data-pair="r.key"', ':data-verdict="r.verdict"', f':aria-selected="{CHOSEN}"'),
            f':tabindex="{CHOSEN} ? 0 : -1"',
        ],
    ):
        with html.Td(classes="left", raw_attrs=['data-cell="level"']):
            html.Span("{{ r.level }}")
            html.Span(" was {{ r.was }}", v_if="r.was", classes="doubt", title="Its name in the prior study")
        for i, name in enumerate(("then", "now")):
            with html.Td(raw_attrs=[f'data-cell="{name}"']):
                v3.VIcon("mdi-check", v_if=f"r.reviewed[{i}] == 'confirmed'", size=12, color="green", title="Confirmed")
                html.Span(f"{{{{ r.{name} }}}}", classes="ratio")
        html.Td("{{ r.g }}", raw_attrs=['data-cell="g"'])
        for name in HEIGHTS:
            html.Td(f"{{{{ r.{name} }}}}", raw_attrs=[f'data-cell="{name}"'])
        with html.Td(classes="left", raw_attrs=['data-cell="verdict"']):
            html.Span("{{ r.kind == 'none' ? r.reason : r.verdict }}", classes="change", v_bind_class="r.kind")
    detail = ('data-test="pair_detail"',)
    with (
        html.Tr(v_if=f"{CHOSEN} && r.detail"),
        html.Td(classes="left", colspan=8, style="white-space: normal", raw_attrs=detail),
    ):
        html.Span("{{ [r.detail, r.reason].filter(Boolean).join('. ') }}", classes="usual")
