"""What opens over the review page: keys and legend, the choice of a reading, the case's folder, progress of a job."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..scene.keys import KEYS, LAYOUT_KEYS, MOUSE, PAGE_MOUSE, Key
from ..scene.pair_keys import PAIR_KEYS
from .drawer import WorklistDrawer
from .reporting import LANGUAGES, MIME
from .session import Session
from .side import BORDERLINE, path_field

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


# The focus goes into a dialog when it opens, stays there, and returns when it closes.
def _focus(label: str, first: str) -> tuple[str, ...]:
    return (
        f'aria-label="{label}"',
        f"@after-enter=\"utils.get('vfqEnter')('{first}')\"",
        "@after-leave=\"utils.get('vfqReturn')()\"",
    )


FOCUS = _focus("Keys", ".close")
ASK_FOCUS = _focus("Whose reading", "[data-test=ask] .choice")
REPORT_FOCUS = _focus("Report", "[data-test=copy_report]")
HEALTHY_FOCUS = _focus("Synthetic picture", "[data-test=close-healthy]")
CASE_FOCUS = _focus("The case", "[data-test=case] button")


COPIED = "{{ copied ? 'The text is on the clipboard.' : 'The clipboard was refused; the text stands on the page.' }}"


class Dialogs:
    """Builds the dialogs of the page where it is created, inside the layout.

    Attributes
    ----------
    keys, legend : what the help lists.
    """

    keys: tuple[Key, ...] = (*KEYS, *PAIR_KEYS, *LAYOUT_KEYS)
    legend: tuple[tuple[str, str], ...] = LEGEND

    def __init__(self, session: Session):
        self.session = session
        self._help()
        WorklistDrawer(session)
        self._ask()
        self._case()
        self._report()
        self._healthy()
        self._busy()

    def _help(self) -> None:
        with (
            v3.VDialog(v_model=("help_open",), max_width=640, scrollable=True, raw_attrs=FOCUS),
            v3.VCard(title="Keys", raw_attrs=['data-test="help"']),
        ):
            with v3.Template(v_slot_append=True):
                v3.VBtn("Close", size="small", variant="tonal", click="help_open = false", classes="text-none close")
            self._keys()

    def _keys(self) -> None:
        scrolled = v3.VCardText(raw_attrs=['tabindex="0"', 'role="region"', 'aria-label="List of keys"'])
        with scrolled, html.Table(classes="keys"):
            for entry in self.keys:
                with html.Tr():
                    with html.Td():
                        for key in entry.keys:
                            html.Kbd({" ": "Space"}.get(key, key), classes="mr-1")
                    html.Td(entry.what)
            for how, what in (*MOUSE, *PAGE_MOUSE):
                with html.Tr():
                    html.Td(how)
                    html.Td(what)
            for icon, what in self.legend:
                with html.Tr():
                    with html.Td():
                        v3.VIcon(icon, size=16) if icon.startswith("mdi-") else html.Span(icon)
                    html.Td(what)

    def _ask(self) -> None:
        with (
            v3.VDialog(model_value=("!!ask",), persistent=True, max_width=640, raw_attrs=ASK_FOCUS),
            v3.VCard(title="Whose reading?", raw_attrs=['data-test="ask"']),
            v3.VCardText(),
        ):
            html.P("{{ line }}", v_for="(line, i) in (ask ? ask.told : [])", key="i", classes="mb-2")
            _choices("ask ? ask.choices : []", (self.session.act, "['choose', c.choice]"))

    def _case(self) -> None:
        with (
            v3.VDialog(v_model=("case_open",), max_width=720, raw_attrs=CASE_FOCUS),
            v3.VCard(raw_attrs=[':title="case_name"', 'data-test="case"']),
            v3.VCardText(),
        ):
            html.P("{{ line }}", v_for="(line, i) in readings", key="i", classes="mb-1")
            html.P("No reader has changed or signed anything yet.", v_if="!readings.length", classes="mb-1")
            path_field("path", (self.session.act, "['show_path']"))
            _choices("case_choices", (self.session.act, "['other_reading', c.choice]"))

    def _report(self) -> None:
        with (
            v3.VDialog(v_model=("report_open",), max_width=1100, scrollable=True, raw_attrs=REPORT_FOCUS),
            v3.VCard(title="Report", raw_attrs=['data-test="report-dialog"']),
        ):
            with v3.Template(v_slot_append=True), html.Div(classes="report-tools"):
                with html.Select(
                    change=(self.session.act, "['report_in', $event.target.value]"),
                    classes="preset",
                    raw_attrs=[':value="report_language"', 'aria-label="Language"', 'data-test="report-language"'],
                ):
                    for code, name in LANGUAGES.items():
                        html.Option(name, value=code)
                self._tool("Copy text", (self.session.act, "['copy_report']"), "copy_report")
                for kind, mime in MIME.items():
                    save = f"utils.download('report.{kind}', trigger('report_file', ['{kind}']), '{mime}')"
                    self._tool(f"Save {kind.upper()}", save, f"save-{kind}")
                self._tool("Write DICOM", (self.session.act, "['export_dicom']"), "export_dicom")
                self._tool("Close", "report_open = false", "close-report")
            html.Div("{{ message }}", v_if="message", classes="px-6 text-amber", raw_attrs=['role="status"'])
            html.Div(COPIED, v_if="report && copied !== null", classes="px-6", raw_attrs=['role="status"'])
            html.Iframe(
                classes="report-page",
                raw_attrs=[':srcdoc="report_page"', 'title="Preview of the report"', 'sandbox=""', 'tabindex="0"'],
            )

    def _healthy(self) -> None:
        with (
            v3.VDialog(v_model=("healthy_open",), max_width=760, scrollable=True, raw_attrs=HEALTHY_FOCUS),
            v3.VCard(
                raw_attrs=[":title=\"`${healthy ? healthy.name : ''}: synthetic picture`\"", 'data-test="healthy"']
            ),
        ):
            with v3.Template(v_slot_append=True):
                self._tool("Close", "healthy_open = false", "close-healthy")
            with v3.VCardText(v_if="healthy"):
                html.Img(
                    classes="healthy",
                    raw_attrs=[':src="healthy.picture"', ":alt=\"healthy.told.join('. ')\"", 'data-test="synthetic"'],
                )
                html.P("{{ line }}", v_for="(line, i) in healthy.told", key="i", classes="text-caption")

    def _tool(self, text: str, click: Any, name: str) -> None:
        v3.VBtn(
            text, size="small", variant="tonal", classes="text-none", click=click, raw_attrs=[f'data-test="{name}"']
        )

    def _busy(self) -> None:
        with (
            v3.VOverlay(model_value=("!!busy",), persistent=True, classes="align-center justify-center"),
            v3.VCard(classes="pa-6", min_width=320, raw_attrs=['data-test="busy"', 'role="status"']),
        ):
            html.Div("{{ busy && busy.stage }}", classes="mb-3")
            v3.VProgressLinear(
                raw_attrs=['aria-label="Progress"'],
                model_value=("100 * ((busy && busy.share) || 0)",),
                indeterminate=("!busy || busy.share == null",),
            )
            v3.VBtn("Cancel", click=(self.session.act, "['cancel']"), classes="mt-4", raw_attrs=['data-test="cancel"'])


def _choices(listed: str, click: tuple[Any, str]) -> None:
    """Build a button for each entry, `c`, of a list of the state."""
    v3.VBtn(
        "{{ c.text }}",
        v_for=f"c in ({listed})",
        key="c.choice",
        block=True,
        classes="text-none mt-2 choice",
        variant="tonal",
        click=click,
        raw_attrs=[':data-choice="c.choice"'],
    )
