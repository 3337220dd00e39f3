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
from .keys import listener
from .layout import LAYOUT, OWN
from .lens import SCRIPT as LENS
from .loupe import SCRIPT as LOUPE
from .order import SCRIPT as ORDER
from .pair_page import OWN as PAIR_OWN
from .pair_page import SCRIPT as PAIR
from .pair_page import STYLE as PAIR_STYLE
from .pair_page import prior_view
from .pointer import POINTER
from .session import KEYS, Session
from .side import Side, part
from .sizes import Sizes
from .socket import SCRIPT as SOCKET
from .style import STYLE
from .views import COLORS, PATIENT, SCREEN, STRAIGHTENED
from .windows import SCRIPT as WINDOWS

TITLE = "Vertebral Fracture Quantification"
NOTICE = "For research use only. Not for diagnosis."
PLANE = "Sagittal plane: from the patient's left to the right"
# The focus stays in what lies over the page.
BEHIND = ':inert="worklist_open || help_open || case_open || report_open || healthy_open || !!ask"'
SHOW_ROW = "utils.get('vfqShowRow')()"
DRAWER_FOCUS = "worklist_open ? utils.get('vfqEnter')('[data-test=search]') : utils.get('vfqReturn')()"
# What screen readers hear: the selected vertebra, and its grade and verdict when they change.
SELECTION = (
    "{{ rows.filter(r => r.id == selected).map(r => [r.level, r.grade, r.fault, r.review].filter(Boolean).join(', '))"
    ".join() }}"
)


class ReviewPage:
    """Builds the page on a trame server.

    Attributes
    ----------
    side, dialogs : the classes of the page's right-hand side, and of what opens over it.
    scripts : the scripts of the page.
    """

    side: type[Side] = Side
    dialogs: type[Dialogs] = Dialogs
    scripts: tuple[str, ...] = (ORDER, SOCKET, LAYOUT, POINTER, listener(KEYS), LENS, LOUPE, WINDOWS, SCREEN, PAIR)

    def __init__(self, server: Any, session: Session):
        self.session = session
        server.state.trame__title = TITLE
        server.trigger("key")(session.press)
        server.trigger("return_to")(session.return_to)
        server.trigger("restore_window")(session.restore_window)
        server.trigger("screen")(session.views.scale)
        server.trigger("report_file")(session.reporting.file)
        sizes = Sizes(session.views, server.state)
        server.trigger("claim")(sizes.claim)
        server.trigger("pinch")(sizes.pinch)
        own = {**OWN, **PAIR_OWN}
        server.state.update(own)
        server.state.client_only(*own)
        with VAppLayout(server, theme=("look",), full_height=True) as self.layout:
            client.Style(STYLE + PAIR_STYLE)
            for script in self.scripts:
                client.Script(script)
            server.controller.copy = client.JSEval(exec="utils.get('vfqCopy')($event)").exec
            server.controller.copy_path = client.JSEval(exec="utils.get('vfqCopyPath')($event)").exec
            session.face.loupe.send = client.JSEval(exec="utils.get('vfqLoupe')($event)").exec
            client.ClientStateChange(value="selected", trigger_on_create=True, change=SHOW_ROW)
            client.ClientStateChange(value="worklist_open", change=DRAWER_FOCUS)
            client.ClientStateChange(value="prior_name", change="utils.get('vfqPrior')?.()")
            self._bar()
            with (
                v3.VMain(raw_attrs=[BEHIND]),
                html.Div(classes="page", raw_attrs=[':data-enlarged="enlarged"', ':data-folded="folded"']),
            ):
                self._straightened()
                for name in PATIENT:
                    with html.Div(classes=f"place {name.lower()}"):
                        self._view(name)
                self.side(server, session)
            with part(server, "announced"):
                html.Div(SELECTION, classes="unseen", raw_attrs=['aria-live="polite"', 'data-test="announced"'])
            self.dialogs(session)

    def _bar(self) -> None:
        with html.Header(classes="bar", raw_attrs=[BEHIND]):
            with v3.VBtn(
                prepend_icon="mdi-format-list-bulleted",
                variant="text",
                click="worklist_open = !worklist_open",
                classes="text-none case",
                raw_attrs=['data-test="worklist"', ':title="case_name"', ':aria-expanded="!!worklist_open"'],
            ):
                html.Span("{{ case_name || 'Worklist' }}", classes="name")
            html.H1(TITLE, classes="title")
            html.Div(NOTICE, classes="notice", raw_attrs=['data-test="notice"'])
            html.Div(
                "Open in {{ tabs }} tabs. All tabs show and edit the same case.",
                v_if="tabs > 1",
                classes="notice",
                raw_attrs=['data-test="tabs"', 'role="status"'],
            )
            self._buttons()

    def _buttons(self) -> None:
        with html.Div(classes="buttons", raw_attrs=['role="group"', 'aria-label="Tools"']):
            self._button("mdi-information-outline", "Readings, signatures and folder of the case (i)", "toggle_case")
            self._button("mdi-undo", "Undo (Ctrl+Z)", "undo", disabled="!undoable")
            self._button("mdi-redo", "Redo (Ctrl+Y)", "redo", disabled="!redoable")
            self._button("mdi-vector-polygon", "Add vertebra with one click (a)", "start_adding")
            self._button("mdi-draw", "Place six points of a vertebra (b)", "start_placing")
            self._button("mdi-lifebuoy", "Click the spine: not found, or curve wrong (s)", "start_rescue")
            self._button("mdi-contrast-box", "Switch window: bone, soft tissue, auto (w)", "toggle_window")
            self._button("mdi-magnify-plus-outline", "Close-up of the vertebra (d or Enter)", "toggle_close_up")
            self._button("mdi-eye-outline", "Hide or show points and lines (h)", "toggle_overlay")
            self._button("mdi-fit-to-page-outline", "Show whole spine (z)", "fit_views")
            self._own("mdi-dock-right", "Fold the table away, or show it (5)", "vfqFold", "folded")
            self._own("mdi-theme-light-dark", "Light or dark", "vfqTheme", "look == 'light'")
            self._button("mdi-file-document-outline", "Report of the study: preview, copy, save", "toggle_report")
            self._button("mdi-image-auto-adjust", "Synthetic picture: before a fracture (q)", "toggle_healthy")
            self._button("mdi-content-save-outline", "Save scene for 3D Slicer (review.mrb)", "save_scene")
            self._button("mdi-help-circle-outline", "Show keys (?)", "toggle_help")

    def _own(self, icon: str, title: str, script: str, pressed: str) -> None:
        """A button for the layout, which each tab keeps for itself."""
        v3.VBtn(
            icon=icon,
            size="small",
            variant="text",
            title=title,
            click=f"utils.get('{script}')()",
            raw_attrs=[f'data-test="{script}"', f'aria-label="{title}"', f':aria-pressed="!!({pressed})"'],
        )

    def _button(self, icon: str, title: str, action: str, disabled: str | None = None) -> None:
        v3.VBtn(
            icon=icon,
            size="small",
            variant="text",
            title=title,
            click=(self.session.act, f"['{action}']"),
            disabled=(disabled,) if disabled else False,
            raw_attrs=[f'data-test="{action}"', f'aria-label="{title}"'],
        )

    def _straightened(self) -> None:
        with html.Div(classes="place straight"):
            with html.Div(classes="two", v_bind_class="{blinked: blinked && prior_name}"):
                prior_view(self.session)
                self._view(STRAIGHTENED)
            with html.Div(classes="strip"):
                with html.Div(classes="readings"):  # of constant size: text must not resize the view during a drag
                    html.Div("{{ under_mouse }}", raw_attrs=['data-test="under_mouse"'])
                    html.Div(
                        "W {{ window[0] }}  L {{ window[1] }} HU{{ close_up ? '   Close-up (Enter)' : '' }}",
                        raw_attrs=['data-test="window"'],
                    )
                windows.create_menu(self.session)
                v3.VSlider(
                    model_value=("lateral",),
                    update_modelValue=(self.session.act, "['move_lateral', $event]"),
                    min=-LATERAL_MM,
                    max=LATERAL_MM,
                    step=0.5,
                    density="compact",
                    hide_details=True,
                    raw_attrs=['data-test="lateral"', f'aria-label="{PLANE}"', f'title="{PLANE}"'],
                )
                html.Div("{{ Math.abs(lateral).toFixed(1) }} mm {{ lateral < 0 ? 'left' : 'right' }}", classes="plane")

    def _view(self, name: str) -> None:
        enlarge = f"utils.get('vfqEnlarge')('{name}')"
        with html.Div(classes="view", raw_attrs=[f'data-view="{name}"']):
            client.ServerTemplate(name=name)
            with html.Div(
                classes="view-label",
                style=f"color: {COLORS[name]}",
                raw_attrs=[f'@dblclick="{enlarge}"', 'title="Double-click to enlarge, or to go back"'],
            ):
                html.Span(name)
                with html.Button(
                    click=enlarge,
                    raw_attrs=[
                        'type="button"',
                        f'aria-label="Enlarge the {name.lower()} view, or go back"',
                        f":aria-pressed=\"enlarged == '{name}'\"",
                        f'data-test="enlarge-{name}"',
                        '@dblclick.stop=""',
                    ],
                ):
                    v3.VIcon(f"{{{{ enlarged == '{name}' ? 'mdi-arrow-collapse' : 'mdi-arrow-expand' }}}}", size=14)
            if name == STRAIGHTENED:
                html.Div("{{ note }}", v_if="note", classes="note", raw_attrs=['data-test="note"', 'role="status"'])
