"""The annotation page: views and bar of the review, with another side: next point, levels, reasons, comments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..cohort.worklist import Case
from ..labels.dataset import Dataset
from ..labels.reading import REASONS
from ..labels.store import Slot
from ..scene.annotation_keys import ANNOTATION_HELP, KNOWN_KEYS, REASON_KEYS, REPEATED_KEYS
from ..scene.keys import Key
from .annotation_loupe import SCRIPT as PLACING_LOUPE
from .annotation_session import AnnotationSession
from .dialogs import Dialogs
from .keys import listener
from .layout import LAYOUT
from .lens import SCRIPT as LENS
from .loupe import SCRIPT as LOUPE
from .order import SCRIPT as ORDER
from .page import ReviewPage
from .pointer import POINTER
from .serve import Settings
from .side import Side, typed
from .views import SCREEN
from .windows import SCRIPT as WINDOWS

HIDDEN = ("toggle_case", "toggle_report", "toggle_healthy", "save_scene")  # of the review; an annotation has none
LETTERS = {reason: key for key, reason in REASON_KEYS.items()}
LEGEND = (
    ("mdi-help-circle-outline", "proposed points wait: accept (c), correct or delete them"),
    ("mdi-comment-outline", "has a comment"),
    ("mdi-pin", "level pinned; it stays when other levels change"),
)


class AnnotationSide(Side):
    """Builds the side of the annotation page where it is created."""

    session: AnnotationSession
    label = "Labels"
    title = "{{ assisted ? 'Assisted' : 'Blinded' }} reading"

    def _above(self) -> None:
        """An adjudication shows here who is who."""

    def _numbers(self) -> None:
        with html.Div(classes="summary", raw_attrs=['data-test="summary"']):
            with html.Div():
                html.B(self.title)
                html.Span(" by {{ reader }} · {{ left_to_read }}", raw_attrs=['data-test="left"'])
            html.Div("{{ protocol }}", v_if="protocol", classes="text-caption", raw_attrs=['data-test="protocol"'])
        with html.Div():
            self._above()
            self._notes()
            self._reasons()
        with (
            html.Div(classes="rows"),
            html.Table(classes="vertebrae", raw_attrs=['role="grid"', 'aria-label="Vertebrae"']),
        ):
            self._head()
            self._body()
            self._not_assessable()
        self._comments()

    def _reasons(self) -> None:
        with html.Div(v_if="reason_open", classes="pa-2", raw_attrs=['data-test="reasons"', 'role="group"']):
            html.Span("Not assessable: ", classes="mr-1")
            with html.Select(
                classes="reader",
                raw_attrs=[
                    *('data-test="reason_level"', 'aria-label="Level"', ':value="reason_level"'),
                    '@change="reason_level = $event.target.value"',
                ],
            ):
                html.Option("{{ name }}", v_for="name in names", key="name", raw_attrs=[':value="name"'])
            for reason in REASONS:
                v3.VBtn(
                    f"{reason.replace('_', ' ')} ({LETTERS[reason]})",
                    size="small",
                    variant="tonal",
                    classes="text-none ma-1",
                    click=(self.session.act, f"['give_reason', '{reason}']"),
                    raw_attrs=[f'data-reason="{reason}"'],
                )

    def _head(self) -> None:
        with html.Thead(), html.Tr():
            for title in ("Level", "Points", "Plane", "Time"):
                html.Th(title, classes="left")

    def _body(self) -> None:
        with (
            html.Tbody(),
            html.Tr(
                v_for="r in rows",
                key="r.id",
                click=(self.session.act, "['select', r.id]"),
                v_bind_class="{selected: r.id == selected}",
                raw_attrs=[
                    *(':data-id="r.id"', ':data-waits="r.waits"', ':data-source="r.source"'),
                    *(':tabindex="r.id == selected ? 0 : -1"', ':aria-selected="r.id == selected"'),
                ],
            ),
        ):
            with html.Td(classes="left", raw_attrs=['data-cell="level"']):
                html.Span("{{ r.named ? r.level : 'level?' }}", v_bind_class="{contradiction: !r.named}")
                v3.VIcon("mdi-pin", v_if="r.pinned", size=12, title="Level pinned")
                self._level_menu()
            self._cells()

    def _cells(self) -> None:
        with html.Td(classes="left", raw_attrs=['data-cell="source"']):
            html.Span("{{ r.source }}")
            v3.VIcon("mdi-help-circle-outline", v_if="r.waits", size=14, title="Waits: accept (c) or correct")
            v3.VIcon("mdi-comment-outline", v_if="r.comment", size=14, v_bind_title="r.comment")
        html.Td("{{ r.plane }}", classes="left", raw_attrs=['data-cell="plane"'])
        html.Td("{{ r.seconds }}", classes="left", raw_attrs=['data-cell="seconds"'])

    def _not_assessable(self) -> None:
        with (
            html.Tbody(),
            html.Tr(v_for="n in entries", key="n.level", raw_attrs=[':data-entry="n.level"']),
        ):
            html.Td("{{ n.level }}", classes="left")
            html.Td("not assessable: {{ n.reason }}", classes="left", colspan=2)
            with html.Td(classes="left"):
                html.Button(
                    "Remove", click=(self.session.act, "['remove_reason', n.level]"), classes="link", type="button"
                )

    def _comments(self) -> None:
        with html.Div(classes="px-2 pt-2", style="border-top: 1px solid var(--line)"):
            for name, action, title in (
                ("comment", "comment", "Comment on the vertebra"),
                ("case_comment", "comment_case", "Comment on the case"),
            ):
                html.Input(
                    raw_attrs=[
                        *(f'data-test="{name}"', *typed(name), 'maxlength="500"'),
                        *(f'placeholder="{title}"', f'aria-label="{title}"'),
                        *('@keydown.enter="$event.target.blur()"', '@keydown.esc="$event.target.blur()"'),
                    ],
                    change=(self.session.act, f"['{action}', $event.target.value]"),
                    classes="reader path mb-1",
                )

    def _verdicts(self) -> None:
        html.Div(
            "Arrow keys move {{ point }} by 0.1 mm.",
            v_if="point",
            classes="text-caption px-2",
            raw_attrs=['data-test="point"'],
        )
        with html.Div(v_if="levels_left.length", classes="px-2 text-caption", raw_attrs=['data-test="levels"']):
            html.Span("Six points of: ")
            html.Button(
                "{{ level }}",
                v_for="level in levels_left",
                key="level",
                type="button",
                classes="link mr-1",
                click=(self.session.act, "['place_level', level]"),
                raw_attrs=[':data-level="level"', ':aria-label="`Six points of ${level}`"'],
            )
        with html.Div(classes="d-flex flex-wrap align-center pa-2", style="gap: 6px"):
            self._buttons()
            v3.VSpacer()
            v3.VBtn(
                "Complete (e)",
                size="small",
                color="green",
                classes="text-none",
                click=(self.session.act, "['complete_reading']"),
                raw_attrs=['data-test="complete_reading"'],
            )

    def _buttons(self) -> None:
        self._always("Six points (b)", "start_placing")
        self._always("Six points of {{ next_level }} (v)", "place_next", "next_level")
        self._always("Propose (a)", "start_adding", "assisted")
        self._always("Accept (c)", "confirm", "assisted")
        self._always("Not assessable (x)", "ask_reason")
        self._action("Delete (Del)", "delete")

    def _always(self, text: str, action: str, shown: str = "true") -> None:
        v3.VBtn(
            text,
            v_if=shown,
            size="small",
            variant="tonal",
            classes="text-none",
            click=(self.session.act, f"['{action}']"),
            raw_attrs=[f'data-test="{action}"'],
        )


class AnnotationDialogs(Dialogs):
    """What opens over the annotation page."""

    keys: tuple[Key, ...] = ANNOTATION_HELP
    legend = LEGEND

    def _report(self) -> None:
        """An annotation has no report, which would tell the grades."""

    def _healthy(self) -> None:
        """An annotation has no synthetic picture, which would tell the losses."""


def scripts_of(known: Iterable[str]) -> tuple[str, ...]:
    """Return the scripts of a page that sends the keys `known`."""
    return (ORDER, LAYOUT, POINTER, listener(known, REPEATED_KEYS), LENS, LOUPE, PLACING_LOUPE, WINDOWS, SCREEN)


class AnnotationPage(ReviewPage):
    """Builds the annotation page on a trame server."""

    session: AnnotationSession
    session_type = AnnotationSession
    side = AnnotationSide
    dialogs = AnnotationDialogs
    scripts: tuple[str, ...] = scripts_of(KNOWN_KEYS)

    def __init__(self, server: Any, session: AnnotationSession):
        super().__init__(server, session)
        with self.layout:
            loupe = client.JSEval(exec="utils.get('vfqPlacingLoupe')($event)")
        session.face.placing_loupe.send = loupe.exec

    def _button(self, icon: str, title: str, action: str, disabled: str | None = None) -> None:
        if action not in HIDDEN:
            super()._button(icon, title, action, disabled)


def build_page(
    dataset: Dataset, slots: Mapping[str, Slot], page: type[AnnotationPage] = AnnotationPage
) -> Callable[..., AnnotationSession]:
    """Return what `serve` builds the page with; `page` may be that of an adjudication."""

    def build(server: Any, views: Any, cases: Sequence[Case], settings: Settings) -> AnnotationSession:
        """Build the page on a trame server."""
        session = page.session_type(server, views, cases, settings, dataset, slots)
        page(server, session)
        return session

    return build
