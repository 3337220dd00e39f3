"""The right-hand side of the review page: the study's summary, its doubts, the table of vertebrae and the verdicts.

It shows values of the state (`face.STATE`), and each click calls an action of the session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trame.ui.html import DivLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from .pair_page import comparison, comparison_table
from .session import Session

BORDERLINE = "G is within its expected error of a grade threshold"
HEIGHTS = {"ha": "Anterior height in mm", "hm": "Middle height in mm", "hp": "Posterior height in mm"}
QUALITY = ('data-test="quality"', 'tabindex="0"', 'role="region"', 'aria-label="Doubts"')
# What screen readers hear for the signs of the last column.
VERDICT = (
    "[r.review, r.origin == 'reader' && 'points set by a reader', r.review == 'open' && r.quality]"
    ".filter(Boolean).join(', ')"
)
# During a drag, only rows that changed are rendered again.
ONLY_CHANGED = 'v-memo="[JSON.stringify(r), r.id == selected]"'


def typed(name: str) -> tuple[str, ...]:
    """Return the attributes of a field for a state value, which keeps what is being typed while the page is updated."""
    keep, forget = f"typed = {{{name}: $event.target.value}}", "typed = {}"
    return f':value="typed.{name} ?? {name}"', f'@input="{keep}"', f'@blur="{forget}"'


def path_field(name: str, show: tuple[Any, str]) -> None:
    """Build a field with the path in the state value `name`, and a button that shows and copies it by `show`."""
    with html.Div(classes="d-flex align-center mt-1"):
        html.Input(
            v_if=name,
            classes="reader path",
            raw_attrs=[f':value="{name}"', "readonly", f'data-test="{name}"', 'aria-label="Folder of the results"'],
        )
        html.Button(
            f"{{{{ {name} ? 'Copy' : 'Show and copy the folder of the results' }}}}",
            click=show,
            type="button",
            classes="link",
            raw_attrs=[f'data-test="show_{name}"'],
        )
    html.Div(
        "{{ path_copied ? 'Copied.' : 'The clipboard was refused. Select the path and copy it (Ctrl+C).' }}",
        v_if=f"{name} && path_copied !== null",
        classes="text-caption",
    )


@contextmanager
def part(server: Any, name: str) -> Iterator[None]:
    """Build a part of the page as a template of its own: what changes in it renders it alone, not the whole page."""
    with DivLayout(server, name, connect_parent=False, style="display: contents"):
        yield
    client.ServerTemplate(name=name)


class Side:
    """Builds the side of the page where it is created, inside the layout."""

    label = "Measurements"

    def __init__(self, server: Any, session: Session):
        self.session = session
        with html.Div(classes="side", raw_attrs=['data-test="side"', 'role="region"', f'aria-label="{self.label}"']):
            with part(server, "numbers"):
                self._numbers()
            self._verdicts()

    def _numbers(self) -> None:
        with html.Div(classes="summary", raw_attrs=['data-test="summary"']):
            with html.Div(v_if="summary.total"):
                html.Span("{{ summary.assessed ? 'Worst grade: ' : 'All rejected' }}")
                html.Span(
                    "{{ summary.grade }}", classes="grade mr-1", v_bind_class="summary.grade", v_if="summary.grade"
                )
                html.B(" {{ summary.worst }} ")
                html.Span(
                    " · {{ summary.physiologic }} physiologic, counted as normal",
                    v_if="summary.physiologic",
                    raw_attrs=['data-test="physiologic"'],
                )
                html.Span(
                    " · SDI {{ summary.sdi }} over {{ summary.assessed }} levels ({{ summary.span }})",
                    v_if="summary.assessed",
                )
                html.Div("{{ summary.total - summary.open }} of {{ summary.total }} reviewed", classes="text-caption")
            html.Div("No vertebrae yet.", v_else=True)
        with html.Div():
            self._report()
            self._doubts()
            self._notes()
            comparison(self.session)
        with html.Div(classes="rows"):
            comparison_table(self.session)
            with html.Table(
                v_show="!(prior_name && compared && pair_rows.length)",
                classes="vertebrae",
                raw_attrs=['role="grid"', 'aria-label="Vertebrae"'],
            ):
                self._head()
                self._body()
        self._against()

    def _against(self) -> None:
        """What the selected vertebra lacks of the heights that its neighbours lead to expect."""
        chosen = "(rows.find(r => r.id == selected) || {})"
        html.Div(
            f"{{{{ {chosen}.level }}}}: {{{{ {chosen}.against }}}}",
            v_if=f"{chosen}.against",
            classes="text-caption px-2",
            raw_attrs=['data-test="against"'],
        )

    def _report(self) -> None:
        with html.Div(v_if="report", classes="report", raw_attrs=['data-test="report"']):
            html.Div("{{ report_note }}", v_if="report_note", classes="text-caption")
            html.Div(
                "{{ copied ? 'The text for the report is on the clipboard:' : "
                "'The clipboard was refused. Select the text and copy it (Ctrl+C):' }}",
                v_if="copied !== null",
                classes="text-caption",
                raw_attrs=['data-test="copied"'],
            )
            html.Textarea(raw_attrs=[':value="report"', "readonly", 'rows="4"', 'aria-label="Text for the report"'])
            path_field("report_folder", (self.session.act, "['show_path', 'reported']"))
            html.Button("Close", click="report = ''", classes="link", type="button")

    def _doubts(self) -> None:
        shown = html.Div(v_if="summary.quality && summary.quality.length", classes="quality", raw_attrs=QUALITY)
        with shown, html.Div(v_for="(told, i) in summary.quality", key="i"):
            v3.VIcon("mdi-alert", size=14, classes="mr-1")
            html.Span("{{ told }}")

    def _notes(self) -> None:
        with html.Div(classes="hint", raw_attrs=['data-test="hint"', 'aria-live="polite"']):
            html.Div("{{ hint }}", v_if="hint", classes="text-light-blue-lighten-3")
            with html.Div(v_if="message", classes="text-amber", raw_attrs=['data-test="message"']):
                html.Span("{{ message }} ")
                html.Button("Close", click="message = ''", classes="link", type="button")
            html.Div(
                "Not saved yet: {{ unsaved }}", v_if="unsaved", classes="text-red", raw_attrs=['data-test="unsaved"']
            )

    def _head(self) -> None:
        with html.Thead(), html.Tr():
            html.Th("Level", classes="left")
            for name, title in HEIGHTS.items():
                html.Th(f"{name} mm", title=title)
            html.Th("G", title="Genant ratio: smallest height / largest height; ± standard deviation of G")
            html.Th("Grade", classes="left")
            html.Th("Shape", classes="left")
            with html.Th():
                html.Span("Review", classes="unseen")

    def _body(self) -> None:
        with html.Tbody(), html.Template(v_for="r in rows", key="r.id", raw_attrs=[ONLY_CHANGED]):
            with html.Tr(
                click=(self.session.act, "['select', r.id]"),
                v_bind_class="{selected: r.id == selected, rejected: r.review == 'rejected'}",
                raw_attrs=[
                    *(':data-id="r.id"', ':data-g="r.g"', ':data-review="r.review"'),
                    *(':tabindex="r.id == selected ? 0 : -1"', ':aria-selected="r.id == selected"'),
                ],
            ):
                with html.Td(classes="left", raw_attrs=['data-cell="level"']):
                    html.Span("{{ r.level }}", v_bind_class="{contradiction: r.contradiction}")
                    html.Span("?", v_if="r.doubt", v_bind_title="r.doubt", classes="doubt")
                    v3.VIcon("mdi-pin", v_if="r.pinned", size=12, title="Level pinned")
                    self._level_menu()
                for name in HEIGHTS:
                    html.Td(f"{{{{ r.{name} }}}}", raw_attrs=[f'data-cell="{name}"'])
                with html.Td(raw_attrs=['data-cell="g"']):
                    html.Span("{{ r.borderline ? '~' : '' }}", title=BORDERLINE)
                    html.Span("{{ r.ratio }}", classes="ratio")
                    html.Span("{{ r.spread }}", classes="spread")
                with html.Td(classes="left", raw_attrs=['data-cell="grade"']):
                    html.Span("{{ r.grade }}", classes="grade", v_bind_class="r.counts ? r.grade : 'uncounted'")
                    html.Span("{{ r.neighbours }}", v_if="r.neighbours", classes="usual")
                    html.Span("physiologic", v_if="r.physiologic", v_bind_title="r.physiologic", classes="usual")
                html.Td("{{ r.shape }}", classes="left", raw_attrs=['data-cell="shape"'])
                with html.Td(raw_attrs=['data-cell="review"', f':aria-label="{VERDICT}"']):
                    v3.VIcon(
                        "mdi-alert",
                        v_if="r.flags && r.review == 'open'",
                        size=14,
                        color="amber",
                        v_bind_title="r.quality",
                    )
                    v3.VIcon("mdi-account-edit", v_if="r.origin == 'reader'", size=14, title="Points set by a reader")
                    v3.VIcon(
                        "mdi-check",
                        v_if="r.review == 'confirmed'",
                        size=14,
                        color="green",
                        v_bind_title="r.reviewer",
                    )
                    v3.VIcon("mdi-close", v_if="r.review == 'rejected'", size=14, v_bind_title="r.reviewer")
            with html.Tr(v_if="r.fault"):
                html.Td("{{ r.fault }}", classes="left fault", colspan=8, raw_attrs=[':data-fault="r.id"'])

    def _level_menu(self) -> None:
        with v3.VMenu():
            with (
                v3.Template(v_slot_activator="{ props }"),
                html.Button(
                    v_bind="props",
                    click_stop=True,
                    classes="level",
                    raw_attrs=[
                        *('type="button"', 'title="Set level"', ':aria-label="`Set level of ${r.level}`"'),
                        ':tabindex="r.id == selected ? 0 : -1"',
                    ],
                ),
            ):
                v3.VIcon("mdi-menu-down", size=14)
            with v3.VList(density="compact", max_height=400):
                v3.VListItem(
                    v_for="name in names",
                    key="name",
                    title=("name",),
                    click=(self.session.act, "['name', r.id, name]"),
                )

    def _verdicts(self) -> None:
        with html.Div(classes="d-flex align-center px-2 pt-2", style="gap: 6px; border-top: 1px solid var(--line)"):
            html.Label("Reader", raw_attrs=['for="reader"'], classes="text-caption")
            html.Input(
                raw_attrs=['id="reader"', 'data-test="reader"', *typed("reader"), 'maxlength="80"'],
                change=(self.session.act, "['sign_as', $event.target.value]"),
                classes="reader",
            )
            v3.VSpacer()
            v3.VBtn(
                "{{ locked ? 'Counter-sign (e)' : 'Sign: study complete (e)' }}",
                size="small",
                color="green",
                classes="text-none",
                disabled=("!decided",),
                click=(self.session.act, "['complete_study']"),
                raw_attrs=['data-test="complete_study"'],
            )
        html.Div("{{ standing }}", v_if="standing", classes="text-caption px-2", raw_attrs=['data-test="standing"'])
        with html.Div(classes="d-flex flex-wrap pa-2", style="gap: 6px"):
            for text, action in (
                ("Confirm (c)", "confirm"),
                ("All certain (v)", "confirm_rest"),
                ("Reject (x)", "reject"),
                ("Reopen (o)", "reopen"),
            ):
                self._action(text, action)
            v3.VSpacer()
            self._action("Reset points (m)", "reset")
            self._action("Delete (Del)", "delete")
            v3.VBtn(
                "Order: {{ doubtful_first ? 'doubtful first' : 'cranial first' }} (f)",
                size="small",
                variant="text",
                classes="text-none",
                click=(self.session.act, "['toggle_order']"),
                raw_attrs=['data-test="toggle_order"'],
            )

    def _action(self, text: str, action: str) -> None:
        v3.VBtn(
            text,
            size="small",
            variant="tonal",
            classes="text-none",
            disabled=("!selected",),
            click=(self.session.act, f"['{action}']"),
            raw_attrs=[f'data-test="{action}"'],
        )
