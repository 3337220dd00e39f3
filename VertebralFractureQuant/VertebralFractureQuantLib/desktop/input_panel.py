"""The panel's Input section: the CT, its analysis and the packages that an analysis needs.

It starts and opens studies of volume nodes in the scene; a worklist of files belongs to `cohort_panel`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..cohort.jobs import JobState
from ..cohort.worklist import Case
from ..errors import VFQError
from ..scene.opening import RESCUABLE
from ..scene.volumes import COPY, ROLE, discard_copy, reviewable
from .analysing import Analyst, Opened, earlier_case
from .dependencies import Purpose, install, missing, offer, purpose_of
from .folder import LABELLED
from .labels import short, show_text
from .parameters import DEVICES

LINE = 40  # letters of a name in a sentence


class InputPanel:
    """Shows the chosen CT and its analysis in the widgets `ui`, and starts what is pressed there.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    analyst : runs the analyses and loads studies.
    parameters : returns the module's parameter node, or None while the module has none.
    opened : called with a loaded study and its volume node.
    """

    def __init__(self, ui: Any, analyst: Analyst, parameters: Callable[[], Any], opened: Callable[[Opened, Any], None]):
        self.ui = ui
        self.analyst = analyst
        self._parameters = parameters
        self._opened = opened
        self._tell = analyst.face.tell
        self._checked = ""  # the device that `show_missing` was called for last; looking takes 40 ms
        ui.deviceComboBox.addItems(list(DEVICES))

    @property
    def results(self) -> Path:
        """The folder of the cases. VFQError `output_not_writable` if none is chosen."""
        path = self.ui.resultsPathLineEdit.currentPath.strip()
        if not path:
            raise VFQError("output_not_writable", _("No results folder is chosen. Choose one first."))
        return Path(path)

    @property
    def device(self) -> str:
        """Where the networks run, one of `parameters.DEVICES`."""
        parameters = self._parameters()
        return parameters.device if parameters else DEVICES[0]

    @property
    def trusts_header(self) -> bool:
        """True if the user vouches for the volume's orientation and spacing."""
        parameters = self._parameters()
        return bool(parameters and parameters.trustHeader)

    # -- what is pressed

    def analyze(self) -> None:
        """Analyse the chosen volume in a child process."""
        results = self.results
        node = self._reviewable()
        self.analyst.analyze_volume(node, results, self.device, self.trusts_header)
        self.show_buttons()

    def open_earlier(self) -> None:
        """Resume the newest review of the chosen volume."""
        case = earlier_case(self._parameters().inputVolume, self.results)
        if case:
            node = self._reviewable()
            self.analyst.open_volume(node, case, lambda opened: self._opened(opened, node))

    def begin_by_hand(self) -> None:
        """Open a study of the chosen volume without any vertebra."""
        results = self.results
        node = self._reviewable()
        self.analyst.begin_by_hand(node, results, lambda opened: self._opened(opened, node))

    def install(self) -> None:
        """Install the missing packages, if the user agrees."""
        needed = missing(self._purpose, "pictures")
        if needed and slicer.util.confirmOkCancelDisplay(offer(needed)):
            with slicer.util.WaitCursor():
                install(needed)
            if self.analyst.face.review.editor:
                self._tell(_("The packages were installed. Open the study again to use the networks for clicks."))
        self.show_missing()

    def is_ready(self) -> bool:
        """Return True if an analysis can run; else report which packages are missing."""
        needed = missing(self._purpose)
        if needed:
            self._tell(offer(needed) + " " + _("Press 'Install missing packages' to install them."))
        return not needed

    def report(self, case: Case, state: JobState) -> None:
        """Report how an analysis ended."""
        message = "\n".join([*state.notes, state.message]).strip()
        if message:
            self._tell(f"{case.name}: {message}")
        self.show_progress()

    def finished(self, case: Case, state: JobState, node: Any) -> None:
        """Report how an analysis ended, and open the study of a volume node (None for a file)."""
        self.report(case, state)
        usable = state.status == "done" or state.code in RESCUABLE
        if node is not None and usable and node.GetScene() is not None:
            self.analyst.open_volume(node, case, lambda opened: self._opened(opened, node))
        elif node is not None and usable:
            self._tell(removed_text(case))
        elif node is not None:
            discard_copy(node)

    # -- what is chosen

    def choose_any(self) -> None:
        """If no volume is chosen, choose the CT that Slicer's views show, or the first of the scene."""
        parameters = self._parameters()
        if not parameters.inputVolume:
            volumes = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_choosable(n)]
            active = slicer.mrmlScene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetActiveVolumeID()
            shown = [n for n in volumes if n.GetID() == active]
            parameters.inputVolume = next(iter((*shown, *volumes)), None)

    def choose_loaded(self, node: Any) -> None:
        """Choose a volume that was just loaded, unless this module made it."""
        parameters = self._parameters()
        if parameters and node.GetScene() and node.GetImageData() and is_choosable(node):
            parameters.inputVolume = node

    def choose_shown(self) -> None:
        """Choose the CT of the study that is shown, so that the buttons act on it."""
        parameters, nodes = self._parameters(), self.analyst.face.review.study.nodes
        if parameters and nodes:
            parameters.inputVolume = nodes["ct"]

    # -- what is shown

    def show_case(self) -> None:
        """Name the case that is shown, and the CT on which the buttons act."""
        parameters, review = self._parameters(), self.analyst.face.review
        chosen = parameters and parameters.inputVolume
        shown, folder = review.study.nodes.get("ct") if review.editor else None, self.analyst.face.case_folder
        told = (
            _("Shown: {case}, CT {volume}.").format(case=folder and folder.name, volume=named(shown)) if shown else ""
        )
        if shown and chosen and chosen is not shown:
            told += " " + _("The buttons act on another CT: {volume}.").format(volume=named(chosen))
        show_text(self.ui.caseLabel, told)
        for button, text, alone in (
            (self.ui.analyzeButton, _("Analyse {}"), _("Analyse")),
            (self.ui.openButton, _("Open review of {}"), _("Open earlier review")),
            (self.ui.beginButton, _("Begin {} by hand"), _("Begin a study by hand")),
        ):
            button.text = text.format(short(chosen.GetName())).replace("&", "&&") if chosen else alone

    def show_progress(self, state: JobState | None = None, stage: str = "") -> None:
        """Show the state of a running child process, or the `stage` of other work."""
        bar, label = self.ui.progressBar, self.ui.progressLabel
        bar.visible = label.visible = bool(state or stage or self.analyst.busy)
        bar.maximum = 100 if state else 0  # 0: the share is unknown
        bar.value = round(100 * state.share) if state else 0
        label.text = (state.stage or _("starting")) if state else stage

    def show_buttons(self) -> None:
        """Enable the buttons that can be used now."""
        parameters, busy = self._parameters(), self.analyst.busy
        volume = parameters and parameters.inputVolume
        self.show_case()
        self.ui.cancelButton.visible = busy
        # First what becomes enabled: the focus leaves a disabled button for the next one, which is scrolled into view.
        for button, usable in sorted(
            ((self.ui.analyzeButton, not busy), (self.ui.cancelButton, busy)), key=lambda pair: not pair[1]
        ):
            button.enabled = usable
        self.ui.beginButton.enabled = not busy
        has_image = volume is not None and volume.GetImageData() is not None
        known = has_image and self.ui.resultsPathLineEdit.currentPath and earlier_case(volume, self.results)
        self.ui.openButton.enabled = bool(known) and not busy

    def show_missing(self) -> None:
        """Show which packages are missing for the chosen device."""
        self._checked = self.device
        needed = missing(self._purpose, "pictures")
        show_text(self.ui.missingLabel, offer(needed))
        self.ui.installButton.visible = bool(needed)

    def follow_device(self) -> None:
        """Show which packages are missing, if another device was chosen."""
        if self._checked != self.device:
            self.show_missing()

    @property
    def _purpose(self) -> Purpose:
        return purpose_of(self.device)

    def _reviewable(self) -> Any:
        node, note = reviewable(self._parameters().inputVolume)
        self._tell(note)
        return node


def is_choosable(node: Any) -> bool:
    """True if a volume node may be a CT: it is no label map, not hidden, and not made by this module."""
    ours = node.GetAttribute(ROLE) not in (None, "ct") or node.GetAttribute(COPY) or node.GetAttribute(LABELLED)
    return not (ours or node.IsA("vtkMRMLLabelMapVolumeNode") or node.GetHideFromEditors())


def named(node: Any) -> str:
    """Return the name of a node in quotation marks, short enough for one line of the panel."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{short(node.GetName(), LINE)}\N{RIGHT DOUBLE QUOTATION MARK}"


def removed_text(case: Case) -> str:
    """Return the message for a volume that left the scene during its analysis."""
    return _("The volume is no longer in the scene. Its analysis is in {}.").format(case.folder)
