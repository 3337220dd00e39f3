"""The panel's choice of weights: which are in use, another set, whether all are intact, and what measured the study.

The sets, the choice and the checks are those of `vfq weights` (`networks.installed`); an open study gets the networks
of another choice at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from ..analysis import Models
from ..errors import VFQError
from ..networks import installed
from ..scene.machine import Machine
from ..scene.state import record_of
from ..spine.record import ModelStamp
from .analysing import NO_NETWORKS, Analyst
from .face import DesktopFace
from .label_face import LabelFace
from .labels import show_text

HASH_DIGITS = 8


class WeightsPanel:
    """Shows the weights in the widgets `ui`, and chooses others.

    Parameters
    ----------
    ui : the widgets of the .ui file.
    analyst : loads the networks, and runs the analyses that use them.
    faces : the faces whose open study uses the networks.
    """

    def __init__(self, ui: Any, analyst: Analyst, faces: Sequence[DesktopFace]):
        self.ui = ui
        self._analyst = analyst
        self._faces = faces
        self._tell = analyst.face.tell
        self._turn = 0
        self._loading = False
        self._used = self._shown = ""
        self._networks: tuple[ModelStamp, ...] = ()  # in use; none if they are damaged or gone
        self._known: tuple[tuple[bool, tuple[ModelStamp, ...]] | None, str] = (None, "")  # of the open study, in words
        ui.weightsComboBox.connect("textActivated(QString)", self.choose)
        for face in faces:
            face.on_changed.append(self.follow)

    def show(self) -> None:
        """List the sets anew, as they may have been installed or chosen elsewhere; an open study follows."""
        self._list()
        if self._networks and any(self._is_outdated(face) for face in self._faces):
            self._load(self.ui.weightsComboBox.currentText)

    def follow(self) -> None:
        """Show what measured the open study; it gets the networks in use if it was being opened with others."""
        self._show_measured()
        if self._networks and not self._loading and any(self._is_outdated(face) for face in self._faces):
            self.show()

    def _list(self) -> None:
        box, known = self.ui.weightsComboBox, installed.names()
        if [box.itemText(i) for i in range(box.count)] != known:
            box.clear()
            box.addItems(known)
        try:
            used = installed.in_use()
            self._networks = installed.networks_of(used)
            box.currentIndex = known.index(used.name)
            self._used = _("In use: {}.").format(named(self._networks))
        except VFQError as error:
            self._networks = ()
            box.currentIndex = -1
            self._used = error.message
        self._shown, self._known = "", (None, "")
        self._show_measured()

    def choose(self, name: str) -> None:
        """Use a set from now on, here and wherever no other one is given, as `vfq weights use`; load its networks.

        Errors are reported to the user; the weights in use are then as they were.
        """
        if self._analyst.busy:
            self._tell(_("An analysis with the weights in use is running. Choose others when it has ended."))
        elif name != self._name_in_use():
            try:
                installed.use(name)
            except VFQError as error:
                self._tell(error)
            else:
                self._load(name)
        self._list()

    def verify(self) -> None:
        """Check every file of all sets, as `vfq weights verify`, in another thread."""
        names = installed.names()
        self._analyst.face.work(
            _("checking the weights"), lambda: " ".join(_checked(name) for name in names), self._tell
        )

    def _show_measured(self) -> None:
        text = " ".join(filter(None, (self._used, self._measured())))
        if text != self._shown:
            self._shown = text
            show_text(self.ui.weightsLabel, text)

    def _name_in_use(self) -> str:
        try:
            return installed.in_use().name
        except VFQError:
            return ""  # it is gone or damaged: any choice is another one

    def _is_outdated(self, face: DesktopFace) -> bool:
        """True if the open study has other networks than those in use."""
        models = face.review.editor.machine.models if face.review.editor else None
        return models is not None and not installed.are_same(models.stamps, self._networks)

    def _load(self, name: str) -> None:
        self._turn += 1
        turn = self._turn
        self._loading = True

        def use(models: Models | VFQError) -> None:
            """Give the networks to the open study, unless others were chosen meanwhile."""
            if turn != self._turn:
                return
            self._loading = False
            for face in self._faces:
                if face.review.editor and wants_networks(face.review.editor.machine):
                    face.review.editor.machine.use(models)
            if isinstance(models, VFQError):
                self._tell(_("{} is in use from now on, but cannot be loaded. {}").format(name, models.message))
            else:
                self._tell(_("{} is in use from now on.").format(name))

        self._analyst.face.work(_("loading the networks"), self._analyst.models, use)

    def _measured(self) -> str:
        face = next((f for f in self._faces if f.review.editor and f.review.study.nodes), None)
        if face is None:
            return ""
        labelled, stamps = isinstance(face, LabelFace), record_of(face.review.study.nodes["study"].GetText()).models
        if (labelled, stamps) != self._known[0]:
            self._known = (labelled, stamps), self._told(labelled, stamps)
        return self._known[1]

    def _told(self, labelled: bool, stamps: tuple[ModelStamp, ...]) -> str:
        if not stamps:
            return "" if labelled else _("No network measured the open study.")
        if installed.are_same(stamps, self._networks):
            return _("They found the spine of the open case.") if labelled else _("They measured the open study.")
        known = installed.set_of(stamps)
        others = _("others, the weights {}: {}").format(known, named(stamps)) if known else named(stamps)
        if labelled:
            return _("The spine of the open case was found by {}.").format(others)
        return _(
            "The open study was measured by {}. Clicks on it use those in use. Analyse the CT again to measure it with "
            "them."
        ).format(others)


def named(stamps: Sequence[ModelStamp]) -> str:
    """Return the networks by role, name and the first digits of their SHA-256, in words."""
    told = (s.name if s.role in s.name else f"{s.role} {s.name}" for s in stamps)
    return ", ".join(f"{name} ({s.sha256[:HASH_DIGITS]})" for name, s in zip(told, stamps, strict=True))


def wants_networks(machine: Machine) -> bool:
    """True unless the study does without networks on purpose: begun by hand, or labelled by a blinded reader."""
    why = machine.why
    return why is None or not (why.code == "blinded_protocol" or why.message == NO_NETWORKS)


def _checked(name: str) -> str:
    """Return whether a set is intact, in a sentence."""
    try:
        return _("{}: {} networks are intact.").format(name, len(installed.verify(installed.folder_of(name))))
    except VFQError as error:
        return f"{name}: {error.message}"
    except ImportError as error:
        return _("{}: its files fit their model cards. Loading them was not tried: {}.").format(name, error)
