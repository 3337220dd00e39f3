"""The layout of the review page: the straightened spine at the left, then the patient views, the table at the right.

The page shows values of the state (`face.STATE`), and each click calls an action of the session.
"""

from __future__ import annotations

from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..scene.keys import KEYS, MOUSE, PAGE_KEYS, PAGE_MOUSE
from ..scene.straight import LATERAL_MM
from .keys import LISTENER
from .session import Session
from .style import STYLE
from .views import PATIENT, STRAIGHTENED

TITLE = "Vertebral Fracture Quantification"
NOTICE = "For research use only. Not for diagnosis."
BORDERLINE = "G is within its expected error of a grade threshold"
LEGEND = (
    ("~", BORDERLINE),
    ("±", "standard deviation of G, estimated by the network; none for points set by a reader"),
    ("mdi-alert", "in doubt: point at the sign to read why; the list by doubt (f) begins with these"),
    ("of neighbours", "the grade comes from the height that the neighbours lead to expect"),
    ("struck out", "points that no vertebral body can have: not counted in worst grade, SDI and neighbours"),
    ("physiologic", "usual at this level or in this patient: counts as normal in the worst grade and the SDI"),
    ("mdi-pin", "level set by a reader; it stays when other levels change"),
    ("mdi-account-edit", "points set by a reader"),
    ("mdi-check", "confirmed"),
    ("mdi-close", "rejected: no vertebra, or not measurable; excluded from the worst grade and the SDI"),
)
HEIGHTS = {"ha": "Anterior height in mm", "hm": "Middle height in mm", "hp": "Posterior height in mm"}
QUALITY = 'data-test="quality"'
# During a drag, only rows that changed are rendered again.
ONLY_CHANGED = 'v-memo="[JSON.stringify(r), r.id == selected]"'


class ReviewPage:
    """Builds the page on a trame server."""

    def __init__(self, server: Any, session: Session):
        self.session = session
        server.state.trame__title = TITLE
        server.trigger("key")(session.press)
        server.trigger("return_to")(session.return_to)
        with VAppLayout(server, theme="dark", full_height=True) as self.layout:
            client.Style(STYLE)
            client.Script(LISTENER)
            server.controller.copy = client.JSEval(exec="utils.get('vfqCopy')($event)").exec
            self._bar()
            with v3.VMain(style="height: 100vh"), html.Div(classes="page"):
                self._straightened()
                with html.Div(classes="stack"):
                    for name in PATIENT:
                        self._view(name)
                self._side()
            self._help()
            self._worklist()
            self._busy()

    def _bar(self) -> None:
        with v3.VAppBar(density="compact", height=44, flat=True, color="#202225"):
            v3.VBtn(
                "{{ case_name || 'Worklist' }}",
                prepend_icon="mdi-format-list-bulleted",
                click="worklist_open = !worklist_open",
                classes="text-none",
                raw_attrs=['data-test="worklist"'],
            )
            html.Div(TITLE, classes="text-body-2 ml-2")
            html.Div(NOTICE, classes="text-caption ml-3 text-amber", raw_attrs=['data-test="notice"'])
            v3.VSpacer()
            html.Div(
                "Open in {{ tabs }} tabs. All tabs show and edit the same case.",
                v_if="tabs > 1",
                classes="text-caption text-amber mr-3",
                raw_attrs=['data-test="tabs"'],
            )
            self._button("mdi-undo", "Undo (Ctrl+Z)", "undo", disabled="!undoable")
            self._button("mdi-redo", "Redo (Ctrl+Y)", "redo", disabled="!redoable")
            self._button("mdi-vector-polygon", "Add vertebra with one click (a)", "start_adding")
            self._button("mdi-draw", "Place six points of a vertebra (b)", "start_placing")
            self._button("mdi-lifebuoy", "Click the spine: not found, or curve wrong (s)", "start_rescue")
            self._button("mdi-contrast-box", "Switch window: bone or soft tissue (w)", "toggle_window")
            self._button("mdi-magnify-plus-outline", "Close-up of the vertebra (d or Enter)", "toggle_close_up")
            self._button("mdi-eye-outline", "Hide or show points and lines (h)", "toggle_overlay")
            self._button("mdi-fit-to-page-outline", "Show whole spine (z)", "fit_views")
            self._button("mdi-content-save-outline", "Save scene for 3D Slicer (review.mrb)", "save_scene")
            self._button("mdi-help-circle-outline", "Show keys (?)", "toggle_help")

    def _button(self, icon: str, title: str, action: str, disabled: str | None = None) -> None:
        v3.VBtn(
            icon=icon,
            size="small",
            title=title,
            click=(self.session.act, f"['{action}']"),
            disabled=(disabled,) if disabled else False,
            raw_attrs=[f'data-test="{action}"'],
        )

    def _straightened(self) -> None:
        with html.Div(classes="straight"):
            with html.Div(classes="view", raw_attrs=[f'data-view="{STRAIGHTENED}"']):
                client.ServerTemplate(name=STRAIGHTENED)
                html.Div("{{ note }}", v_if="note", classes="note", raw_attrs=['data-test="note"'])
            with html.Div(classes="d-flex align-center px-3", style="background: #1b1c1e"):
                html.Div("Left", classes="text-caption mr-2")
                v3.VSlider(
                    model_value=("lateral",),
                    update_modelValue=(self.session.act, "['move_lateral', $event]"),
                    min=-LATERAL_MM,
                    max=LATERAL_MM,
                    step=0.5,
                    density="compact",
                    hide_details=True,
                    raw_attrs=['data-test="lateral"'],
                )
                html.Div(
                    "{{ Math.abs(lateral).toFixed(1) }} mm {{ lateral < 0 ? 'left' : 'right' }}",
                    classes="text-caption ml-2 text-right",
                    style="width: 90px",
                )
            with html.Div(classes="d-flex px-3 text-caption", style="background: #1b1c1e"):
                html.Div("{{ under_mouse }}", classes="under-mouse", raw_attrs=['data-test="under_mouse"'])
                v3.VSpacer()
                html.Div(
                    "{{ close_up ? 'Close-up (Enter)   ' : '' }}W {{ window[0] }}  L {{ window[1] }} HU",
                    classes="under-mouse",
                    raw_attrs=['data-test="window"'],
                )

    def _view(self, name: str) -> None:
        with html.Div(classes="view", raw_attrs=[f'data-view="{name}"']):
            client.ServerTemplate(name=name)

    def _side(self) -> None:
        with html.Div(classes="side", raw_attrs=['data-test="side"']):
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
                    html.Div(
                        "{{ summary.total - summary.open }} of {{ summary.total }} reviewed", classes="text-caption"
                    )
                html.Div("No vertebrae yet.", v_else=True)
            with html.Div():
                self._report()
                self._doubts()
                self._notes()
            with html.Div(classes="rows"), html.Table(classes="vertebrae"):
                self._head()
                self._body()
            self._verdicts()

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
            html.Button("Close", click="report = ''", classes="link", type="button")

    def _doubts(self) -> None:
        shown = html.Div(v_if="summary.quality && summary.quality.length", classes="quality", raw_attrs=[QUALITY])
        with shown, html.Div(v_for="(told, i) in summary.quality", key="i"):
            v3.VIcon("mdi-alert", size=14, classes="mr-1")
            html.Span("{{ told }}")

    def _notes(self) -> None:
        with html.Div(classes="hint", raw_attrs=['data-test="hint"']):
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
            html.Th("")

    def _body(self) -> None:
        with html.Tbody(), html.Template(v_for="r in rows", key="r.id", raw_attrs=[ONLY_CHANGED]):
            with html.Tr(
                click=(self.session.act, "['select', r.id]"),
                v_bind_class="{selected: r.id == selected, rejected: r.review == 'rejected'}",
                raw_attrs=[':data-id="r.id"', ':data-g="r.g"', ':data-review="r.review"'],
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
                with html.Td(raw_attrs=['data-cell="review"']):
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
            with v3.Template(v_slot_activator="{ props }"):
                v3.VIcon("mdi-menu-down", size=14, v_bind="props", click_stop=True, title="Set level")
            with v3.VList(density="compact", max_height=400):
                v3.VListItem(
                    v_for="name in names",
                    key="name",
                    title=("name",),
                    click=(self.session.act, "['name', r.id, name]"),
                )

    def _verdicts(self) -> None:
        with html.Div(classes="d-flex align-center px-2 pt-2", style="gap: 6px; border-top: 1px solid #333"):
            html.Label("Reader", raw_attrs=['for="reader"'], classes="text-caption")
            html.Input(
                raw_attrs=['id="reader"', 'data-test="reader"', ':value="reader"', 'maxlength="80"'],
                change=(self.session.act, "['sign_as', $event.target.value]"),
                classes="reader",
            )
            v3.VSpacer()
            v3.VBtn(
                "Study complete (e)",
                size="small",
                color="green",
                classes="text-none",
                disabled=("!summary.total || summary.open > 0",),
                click=(self.session.act, "['complete_study']"),
                raw_attrs=['data-test="complete_study"'],
            )
        with html.Div(classes="d-flex flex-wrap pa-2", style="gap: 6px"):
            for text, action in (("Confirm (c)", "confirm"), ("Reject (x)", "reject"), ("Reopen (o)", "reopen")):
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

    def _help(self) -> None:
        with (
            v3.VDialog(v_model=("help_open",), max_width=640),
            v3.VCard(title="Keys", raw_attrs=['data-test="help"']),
            v3.VCardText(),
            html.Table(classes="keys"),
        ):
            for entry in (*KEYS, *PAGE_KEYS):
                with html.Tr():
                    with html.Td():
                        for key in entry.keys:
                            html.Kbd({" ": "Space"}.get(key, key), classes="mr-1")
                    html.Td(entry.what)
            for how, what in (*MOUSE, *PAGE_MOUSE):
                with html.Tr():
                    html.Td(how)
                    html.Td(what)
            for icon, what in LEGEND:
                with html.Tr():
                    with html.Td():
                        v3.VIcon(icon, size=16) if icon.startswith("mdi-") else html.Span(icon)
                    html.Td(what)

    def _worklist(self) -> None:
        with (
            v3.VNavigationDrawer(
                v_model=("worklist_open",), temporary=True, width=420, raw_attrs=['data-test="cases"']
            ),
            v3.VList(density="compact"),
            v3.VListItem(
                v_for="w in worklist",
                key="w.index",
                active=("w.current",),
                title=("w.name",),
                click=(self.session.act, "['show_case', w.index]"),
                raw_attrs=[':data-case="w.index"'],
            ),
            v3.Template(v_slot_append=True),
        ):
            v3.VIcon("mdi-alert", v_if="w.doubts", size=14, color="amber", classes="mr-1", v_bind_title="w.doubts")
            html.Span("{{ w.grade }}", v_if="w.grade", classes="grade mr-2", v_bind_class="w.grade")
            html.Span(
                "{{ w.problem || w.state }}{{ w.total ? ' ' + (w.total - w.open) + '/' + w.total : '' }}",
                classes="text-caption",
            )

    def _busy(self) -> None:
        with (
            v3.VOverlay(model_value=("!!busy",), persistent=True, classes="align-center justify-center"),
            v3.VCard(classes="pa-6", min_width=320, raw_attrs=['data-test="busy"']),
        ):
            html.Div("{{ busy && busy.stage }}", classes="mb-3")
            v3.VProgressLinear(
                model_value=("100 * ((busy && busy.share) || 0)",), indeterminate=("!busy || busy.share == null",)
            )
            v3.VBtn("Cancel", click=(self.session.act, "['cancel']"), classes="mt-4", raw_attrs=['data-test="cancel"'])
