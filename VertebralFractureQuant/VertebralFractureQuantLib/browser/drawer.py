"""The drawer with the worklist: filters, a text to search for, the next open case, and the key of the case numbers.

The page filters by itself, and draws only the rows in view, so that thousands of cases scroll without delay.
"""

from __future__ import annotations

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from .session import Session

FILTERS = {
    "all": ("All", "true"),
    "open": ("Open", "!['reviewed', 'failed'].includes(w.state)"),
    "doubtful": ("Doubtful", "w.doubts && w.state != 'reviewed'"),
    "failed": ("Failed", "w.state == 'failed'"),
    "mine": ("Mine", "w.mine"),
}
_KIND = "({" + ", ".join(f"{name}: {rule}" for name, (_, rule) in FILTERS.items()) + "})[worklist_filter]"
_TEXT = (
    "`${w.name} ${w.state} ${w.problem} ${w.signed} ${w.doubts}`.toLowerCase().includes(worklist_text.toLowerCase())"
)
SHOWN = f"worklist.filter((w) => {_KIND} && {_TEXT})"
ROW_HEIGHT = 44
DRAWER = ('data-test="cases"', 'aria-label="Worklist"', ':inert="!worklist_open"')


class WorklistDrawer:
    """Builds the drawer where it is created, inside the layout."""

    def __init__(self, session: Session):
        self.session = session
        with (
            v3.VNavigationDrawer(v_model=("worklist_open",), temporary=True, width=480, raw_attrs=DRAWER),
            html.Div(classes="worklist"),
        ):
            self._filters()
            html.Div("Reading the cases ...", v_if="!worklist.length", classes="pa-3 text-caption")
            with (
                v3.VVirtualScroll(items=(SHOWN,), item_height=ROW_HEIGHT, v_if="worklist_open"),
                v3.Template(raw_attrs=['v-slot:default="{ item: w }"']),
            ):
                self._row()

    def _filters(self) -> None:
        with html.Div(classes="pa-2"):
            html.Input(
                v_model=("worklist_text",),
                classes="reader mb-2",
                raw_attrs=['type="search"', 'placeholder="Number, name, state or reader"', 'data-test="search"']
                + ['aria-label="Search the worklist"'],
            )
            with v3.VBtnToggle(v_model=("worklist_filter",), mandatory=True, density="compact"):
                for name, (text, _) in FILTERS.items():
                    v3.VBtn(text, value=name, size="small", classes="text-none", raw_attrs=[f'data-filter="{name}"'])
            with html.Div(classes="d-flex align-center mt-2"):
                html.Span(
                    f"{{{{ {SHOWN}.length }}}} of {{{{ worklist.length }}}}",
                    classes="text-caption",
                    raw_attrs=['data-test="shown"'],
                )
                v3.VSpacer()
                self._button("Next open (g)", "next_open")
                self._button("Write the key of the numbers", "write_key")

    def _button(self, text: str, action: str) -> None:
        v3.VBtn(
            text,
            size="small",
            variant="text",
            classes="text-none",
            click=(self.session.act, f"['{action}']"),
            raw_attrs=[f'data-test="{action}"'],
        )

    def _row(self) -> None:
        with html.Div(classes="case-row"):
            self._case()
            html.Button(
                "Prior",
                v_if="pairs && decided !== null && w.index != case_index",
                click=(self.session.act, "['compare_with', w.index]"),
                type="button",
                classes="link compare",
                raw_attrs=[':data-compare="w.index"', ':title="`Show ${w.name} beside the open case, as its prior`"'],
            )

    def _case(self) -> None:
        with html.Button(
            type="button",
            classes="case",
            v_bind_class="{current: w.index == case_index}",
            click=(self.session.act, "['show_case', w.index]"),
            raw_attrs=[':data-case="w.index"'],
        ):
            with html.Span(classes="case-name"):
                html.Span("{{ w.name }}")
                html.Span("{{ w.signed }}", v_if="w.signed", classes="usual")
            html.Span("patient {{ w.patient }}", v_if="w.patient", classes="patient", title="Studies of one patient")
            v3.VIcon("mdi-alert", v_if="w.doubts", size=14, color="amber", v_bind_title="w.doubts")
            html.Span("{{ w.grade }}", v_if="w.grade", classes="grade", v_bind_class="w.grade")
            html.Span(
                "{{ w.problem || w.state }}{{ w.total ? ' ' + (w.total - w.open) + '/' + w.total : '' }}",
                classes="text-caption",
            )
