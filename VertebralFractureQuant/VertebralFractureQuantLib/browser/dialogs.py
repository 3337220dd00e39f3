"""What opens over the review page: the keys and the legend, the worklist and the progress of an analysis."""

from __future__ import annotations

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..scene.keys import KEYS, LAYOUT_KEYS, MOUSE, PAGE_KEYS, PAGE_MOUSE
from .session import Session
from .side import BORDERLINE

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
FOCUS = (
    'aria-label="Keys"',
    "@after-enter=\"utils.get('vfqEnter')('.close')\"",
    "@after-leave=\"utils.get('vfqReturn')()\"",
)
DRAWER = ('data-test="cases"', 'aria-label="Worklist"', ':inert="!worklist_open"')


class Dialogs:
    """Builds the dialogs of the page where it is created, inside the layout."""

    def __init__(self, session: Session):
        self.session = session
        self._help()
        self._worklist()
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
            for entry in (*KEYS, *PAGE_KEYS, *LAYOUT_KEYS):
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
            v3.VNavigationDrawer(v_model=("worklist_open",), temporary=True, width=420, raw_attrs=DRAWER),
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
            v3.VCard(classes="pa-6", min_width=320, raw_attrs=['data-test="busy"', 'role="status"']),
        ):
            html.Div("{{ busy && busy.stage }}", classes="mb-3")
            v3.VProgressLinear(
                raw_attrs=['aria-label="Progress"'],
                model_value=("100 * ((busy && busy.share) || 0)",),
                indeterminate=("!busy || busy.share == null",),
            )
            v3.VBtn("Cancel", click=(self.session.act, "['cancel']"), classes="mt-4", raw_attrs=['data-test="cancel"'])
