"""The layout of the review page: the straightened spine at the left, then the patient views, the table at the right.

The page shows values of the state (`face.STATE`), and each click calls an action of the session.
"""

from __future__ import annotations

from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v3

from ..scene.straight import LATERAL_MM
from . import windows
from .dialogs import Dialogs
from .keys import LISTENER
from .loupe import SCRIPT as LOUPE
from .session import Session
from .side import Side
from .style import STYLE
from .views import PATIENT, SCREEN, STRAIGHTENED
from .windows import SCRIPT as WINDOWS

TITLE = "Vertebral Fracture Quantification"
NOTICE = "For research use only. Not for diagnosis."


class ReviewPage:
    """Builds the page on a trame server."""

    def __init__(self, server: Any, session: Session):
        self.session = session
        server.state.trame__title = TITLE
        server.trigger("key")(session.press)
        server.trigger("return_to")(session.return_to)
        server.trigger("restore_window")(session.restore_window)
        server.trigger("screen")(session.views.scale)
        with VAppLayout(server, theme="dark", full_height=True) as self.layout:
            client.Style(STYLE)
            client.Script(LISTENER)
            client.Script(LOUPE)
            client.Script(WINDOWS)
            client.Script(SCREEN)
            server.controller.copy = client.JSEval(exec="utils.get('vfqCopy')($event)").exec
            session.face.loupe.send = client.JSEval(exec="utils.get('vfqLoupe')($event)").exec
            self._bar()
            with v3.VMain(style="height: 100vh"), html.Div(classes="page"):
                self._straightened()
                with html.Div(classes="stack"):
                    for name in PATIENT:
                        self._view(name)
                Side(session)
            Dialogs(session)

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
            self._button("mdi-contrast-box", "Switch window: bone, soft tissue, auto (w)", "toggle_window")
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
                windows.create_menu(self.session)
                html.Div(
                    "{{ close_up ? 'Close-up (Enter)   ' : '' }}W {{ window[0] }}  L {{ window[1] }} HU",
                    classes="under-mouse",
                    raw_attrs=['data-test="window"'],
                )

    def _view(self, name: str) -> None:
        with html.Div(classes="view", raw_attrs=[f'data-view="{name}"']):
            client.ServerTemplate(name=name)
