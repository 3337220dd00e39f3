"""The panel's section Prior study: what to choose, and what has changed since the prior that is shown."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from slicer.i18n import tr as _

from ..cohort.worklist import Case
from ..scene.pair_overlay import MODES
from .cohort_panel import CohortPanel
from .input_panel import InputPanel
from .labels import short, show_text
from .pair import PRIOR, Pairing
from .pair_choice import PriorChoice
from .pair_table import PairTable

ACTIONS = {
    "swapButton": "blink",
    "overlayButton": "overlay",
    "sideButton": "other_side",
    "matchHigherButton": "match_higher",
    "matchLowerButton": "match_lower",
}
CHOOSING = ("priorSelector", "priorVolumeButton", "priorPathLineEdit", "priorPathButton")
NONE = _("An earlier CT of the patient beside the open study, compared vertebra by vertebra.")
OVERLAYS = dict(zip(MODES, (_("Overlay"), _("Overlay: faded"), _("Overlay: checkerboard")), strict=True))


class PairPanel:
    """Shows a `Pairing`, and passes on what the reader presses.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    panel, cohort : the sections Input and Cohort.
    act : called with the name of an action.
    do : calls a function, and shows its errors.

    Attributes
    ----------
    pairing, choice : the pair, and what may be the prior.
    """

    def __init__(
        self, ui: Any, panel: InputPanel, cohort: CohortPanel, act: Callable[[str], None], do: Callable[..., None]
    ):
        self.ui = ui
        self.pairing = pairing = Pairing(panel.analyst.face)
        self.choice = choice = PriorChoice(pairing, panel, cohort)
        self._input = panel
        pairing.on_closed = cohort.show_folders
        self._offered: tuple[Case, Any] | None = None
        self._offered_to: Any = None  # the editor of the study for which a prior was looked for
        self._shown = False
        self._told: dict[str, str] = {}  # the texts of labels
        self.table = PairTable(ui.pairTable, lambda prior, current: do(pairing.select, prior, current))
        for button, action in ACTIONS.items():
            getattr(ui, button).connect("clicked()", lambda action=action: act(action))
        pressed = {
            "priorVolumeButton": lambda: choice.volume(ui.priorSelector.currentNode()),
            "priorPathButton": lambda: choice.path(ui.priorPathLineEdit.currentPath),
            "compareCaseButton": self._compare_case,
            "offerPriorButton": self._compare_offered,
            "closePriorButton": pairing.close,
        }
        for button, handler in pressed.items():
            getattr(ui, button).connect("clicked()", lambda handler=handler: do(handler))
        pairing.on_changed.append(self.show)
        pairing.on_followed.append(self.follow)
        self.show()

    def show(self) -> None:
        """Update all widgets of the section, and what the buttons of the review act on."""
        self._told.clear()
        pairing, is_open = self.pairing, self.pairing.pair is not None
        prior, folder = pairing.prior.review, pairing.prior.case_folder
        told = _("Beside the open study: {}.").format(folder.name) if prior.editor and folder else NONE
        show_text(self.ui.priorLabel, told)
        for name in ("pairTable", "closePriorButton", *ACTIONS):
            getattr(self.ui, name).visible = is_open
        for name in CHOOSING:
            getattr(self.ui, name).visible = not is_open
            getattr(self.ui, name).enabled = pairing.face.review.editor is not None
        show_text(self.ui.priorLockedLabel, _("Prior: {}").format(prior.locked) if prior.locked else "")
        unsaved = pairing.prior.unsaved
        show_text(self.ui.priorUnsavedLabel, _("Prior not saved yet: {}").format(unsaved) if unsaved else "")
        self.ui.sideButton.checked = pairing.side == PRIOR
        self.ui.overlayButton.text = OVERLAYS[pairing.overlay_mode]
        self.follow()
        self._unfold(is_open)
        self._offer()

    def follow(self, vertebra_ids: Collection[str] = ()) -> None:
        """Update what has changed: by the drag of these vertebrae, or by another selection if there are none."""
        pair = self.pairing.pair
        self._tell("pairSummaryLabel", pair.summary if pair else "")
        self._tell("pairDoubtLabel", " ".join(filter(None, (self.pairing.doubt, pair.doubt))) if pair else "")
        row = self.table.show(pair.rows, (pair.prior.selected, pair.current.selected)) if pair else None
        detail = ". ".join(filter(None, (row["detail"], row["reason"]))) if row else ""
        self._tell("pairDetailLabel", f"{row['level']}: {detail}" if row and detail else "")
        if not vertebra_ids:
            self._show_side()

    def _tell(self, label: str, text: str) -> None:
        """Show a text in a label, unless it is there: measuring its lines takes as long as a row of the table."""
        if self._told.get(label) != text:
            self._told[label] = text
            show_text(getattr(self.ui, label), text)

    def _show_side(self) -> None:
        """Show what the keys and buttons of the review do, if they act on the prior or the prior takes clicks."""
        pairing, prior = self.pairing, self.pairing.prior.review
        if pairing.pair is None or prior.editor is None:
            return
        journal = prior.editor.journal
        if pairing.side == PRIOR:
            _show_undo(self.ui.undoButton, _("Prior: Undo"), journal.undoable)
            _show_undo(self.ui.redoButton, _("Prior: Redo"), journal.redoable)
        hint = _("Prior: {}").format(prior.hint) if prior.hint else pairing.face.review.hint
        show_text(self.ui.hintLabel, hint)
        self.ui.leaveButton.visible = pairing.mode is not None

    def _unfold(self, is_open: bool) -> None:
        if is_open != self._shown:
            self._shown = is_open
            if is_open:
                self.ui.priorCollapsibleButton.collapsed = False

    # -- what is offered

    def choose_loaded(self, node: Any) -> None:
        """Answer a volume that was added to the scene: it may be the CT to measure, or an earlier one."""
        if node is not self.pairing.prior.ct:
            self._input.choose_loaded(node)
            self.look_again()

    def look_again(self) -> None:
        """Look for a prior once more, as after volumes or cases came; the offer is shown when it is found."""
        self._offered_to = None
        self._offer()

    def _offer(self) -> None:
        editor = self.pairing.face.review.editor
        if editor is not self._offered_to:
            self._offered_to, self._offered = editor, None
            if editor:
                self.choice.offer(self._found)
        offered = self._offered
        self.ui.offerPriorButton.visible = bool(offered) and self.pairing.pair is None
        if offered:
            self.ui.offerPriorButton.text = _("Compare with {}, an earlier scan of this patient").format(
                short(offered[0].name)
            )

    def _found(self, case: Case | None, node: Any) -> None:
        self._offered = (case, node) if case else None
        self._offer()

    def _compare_offered(self) -> None:
        if self._offered:
            case, node = self._offered
            if node is not None:
                self.choice.volume(node if node.GetScene() else None)
            else:
                self.choice.case(self.choice.index_of(case))

    def _compare_case(self) -> None:
        if self.ui.cohortTable.currentRow() >= 0:
            self.choice.case(self.ui.cohortTable.currentRow())


def _show_undo(button: Any, name: str, kind: str | None) -> None:
    button.enabled = bool(kind)
    button.toolTip = f"{name}: {kind}" if kind else name
