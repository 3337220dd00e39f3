"""The scripted module: the classes that 3D Slicer looks for, thin around `VertebralFractureQuantLib`.

Only what Slicer bundles is imported here. The panel connects buttons to the library's `desktop` room; `Logic` measures
a volume node without any panel. Points are RAS mm, as in MRML.
"""

import getpass
import logging
import sys
from pathlib import Path

import ctk
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

SETTINGS = "VertebralFractureQuant"
REOPENED = "VertebralFractureQuantFolder"
CT_CHEST_SHA256 = "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e"


class VertebralFractureQuant(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Vertebral Fracture Quantification")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["The VertebralFractureQuant authors"]
        self.parent.helpText = _(
            "Finds the spine on a CT, shows it straightened, places six key points on every vertebra and gives its "
            "heights, Genant ratio and grade. Drag a point, and every number follows. For research use only, not for "
            'diagnosis. <a href="https://github.com/VertebralFractureQuant/VertebralFractureQuant">Documentation</a>'
        )
        self.parent.acknowledgementText = _(
            "The method follows Zakharov et al., Interpretable vertebral fracture quantification via anchor-free "
            "landmarks localization, Medical Image Analysis 2023."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer a chest CT, the one of Slicer's own tests, in the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="VertebralFractureQuant",
        sampleName="Chest CT with thoracic spine",
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "VertebralFractureQuant.png"),
        uris=f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{CT_CHEST_SHA256}",
        fileNames="CT-chest.nrrd",
        checksums=f"SHA256:{CT_CHEST_SHA256}",
        nodeNames="CTChest",
    )


class VertebralFractureQuantWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: hands what is pressed to the library's `desktop` room, and shows what that says."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.startProcess = None  # how the analysis' child process is started; a test hands in another
        self.keyboard = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    # -- what Slicer calls

    def setup(self):
        """Called when the module is first opened, and after it was reloaded."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/VertebralFractureQuant.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.logic = VertebralFractureQuantLogic()
        self._makePanels()
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._connect()
        self._restoreSettings()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()
        self._say("")
        self._showBusy("")
        self.face.changed()
        self._do(self._resume, self.parent.property(REOPENED))
        self.parent.setProperty(REOPENED, "")
        self.keyboard.listen(self.parent.isEntered)  # a module that is reloaded is not entered again

    def enter(self):
        """Called each time the module is opened."""
        self.initializeParameterNode()
        self.keyboard.listen(True)
        self._showMissing()
        self._showButtons()

    def exit(self):
        """Called each time another module is opened: the keys are Slicer's again, a drag goes on."""
        self.keyboard.listen(False)
        self.face.review.settle()
        self.setParameterNode(None)

    def cleanup(self):
        """Called when Slicer ends or the module is reloaded: everything is saved; the study stays in the scene."""
        self.setParameterNode(None)
        self.removeObservers()
        if self.keyboard:  # the last that `setup` makes
            self._keepSettings()
            self.analyst.cancel()
            self.keyboard.forget()
            problem = self.face.end()
            if problem:  # what the disk refuses lies elsewhere now: the panel is gone, so a dialog says where
                slicer.util.errorDisplay(problem)

    def onReload(self):
        """The library is loaded anew with the module; the study's folder waits in what stays of the panel."""
        if self.keyboard:
            self.parent.setProperty(REOPENED, str(self.face.review.folder or ""))
        for name in [n for n in sys.modules if n.split(".")[0] == "VertebralFractureQuantLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        """The parameter node goes with the scene; the review has saved itself."""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """A new scene: nothing is open."""
        self.initializeParameterNode()
        self.face.changed()

    def onSceneEndImport(self, caller, event):
        """A scene was loaded: its parameters, and its study, if it holds one."""
        self.initializeParameterNode()
        self._do(self._resume)

    # -- parameters

    def initializeParameterNode(self):
        """Take the scene's parameter node; the first CT of the scene where none was chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            chosen = [n for n in volumes if n.GetAttribute("VertebralFractureQuant.role") in (None, "ct")]
            self._parameterNode.inputVolume = next(iter(chosen), None)

    def setParameterNode(self, parameterNode):
        """Show another parameter node, or (None) let go of it."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._parameterNode = parameterNode
        if parameterNode:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
            self._onParameters()

    def _onParameters(self, caller=None, event=None):
        if self._parameterNode:
            self.panel.show_palette(self._parameterNode.palette)
            self._showMissing()
            self._showButtons()

    # -- making

    def _makePanels(self):
        from VertebralFractureQuantLib.desktop.analysing import Analyst
        from VertebralFractureQuantLib.desktop.cohort_panel import CohortPanel
        from VertebralFractureQuantLib.desktop.face import DesktopFace
        from VertebralFractureQuantLib.desktop.keyboard import Keyboard
        from VertebralFractureQuantLib.desktop.parameters import DEVICES
        from VertebralFractureQuantLib.desktop.review_panel import ReviewPanel

        self.face = DesktopFace(slicer.mrmlScene, getpass.getuser())
        self.ui.deviceComboBox.addItems(list(DEVICES))
        self.face.on_told = self._say
        self.face.on_busy = self._showBusy
        self.panel = ReviewPanel(self.ui, self.face, self.act)
        self.face.on_changed.append(self._showState)
        self.analyst = Analyst(self.face, self.startProcess)
        self.analyst.progress = self._showProgress
        self.analyst.finished = self._onFinished
        self.cohort = CohortPanel(self.ui, self.analyst, self._open)
        self.keyboard = Keyboard(slicer.util.mainWindow() or self.parent, self.act)

    def _connect(self):
        buttons = {
            "analyzeButton": self.onAnalyze,
            "openButton": self.onOpen,
            "cancelButton": self.onCancel,
            "installButton": self.onInstall,
            "layoutButton": self.onShowLayout,
            "helpButton": self.onHelp,
            "beginButton": self.onBegin,
            "analyzeAllButton": self.onAnalyzeAll,
            "stopButton": self.cohort.stop,
            "openCaseButton": self.cohort.open_selected,
            "exportButton": self.onExport,
            "saveSceneButton": self.onSaveScene,
            "folderButton": self.onShowFolder,
        }
        for name, handler in buttons.items():
            getattr(self.ui, name).connect("clicked()", lambda handler=handler: self._do(handler))
        for name in ("results", "scans", "export"):
            getattr(self.ui, f"{name}PathLineEdit").filters = ctk.ctkPathLineEdit.Dirs
        self.ui.readerLineEdit.connect("editingFinished()", self._onReader)
        self.ui.resultsPathLineEdit.connect("currentPathChanged(QString)", lambda path: self._do(self._onResults))
        self.ui.scansPathLineEdit.connect("currentPathChanged(QString)", lambda path: self._do(self.onListCohort))
        for name in ("confirm", "reject", "undo", "redo", "add", "place", "rescue"):
            getattr(self.ui, f"{name}Button").icon = qt.QIcon(self.resourcePath(f"Icons/{name}.png"))

    def _restoreSettings(self):
        reader = slicer.util.settingsValue(f"{SETTINGS}/reader", getpass.getuser())
        results = slicer.util.settingsValue(
            f"{SETTINGS}/results", str(Path(slicer.app.defaultScenePath) / "VertebralFractureQuant")
        )
        self.ui.readerLineEdit.text = reader
        self.ui.resultsPathLineEdit.currentPath = results
        self.ui.exportPathLineEdit.currentPath = str(Path(results) / "export")
        self._onReader()

    # -- what is pressed

    def act(self, action, *args):
        """An action of the keyboard, of a button or of the table, by its name."""
        self._say("")
        cases = {"next_case": 1, "previous_case": -1}
        if action in cases:
            self._do(self.cohort.open_next, cases[action])
        elif action == "toggle_help":
            self._do(self.onHelp)
        else:
            self.face.review.act(action, *args)

    def onAnalyze(self):
        """Analyse the chosen volume in a child process."""
        from VertebralFractureQuantLib.scene.volumes import reviewable

        if not self._isReady():
            return
        self._keepSettings()
        results = self._results()
        node, said = reviewable(self._parameterNode.inputVolume)
        self._say(said)
        self.analyst.analyze_volume(node, results, self._parameterNode.device)
        self._showButtons()

    def onOpen(self):
        """Go on with the newest review of the chosen volume."""
        from VertebralFractureQuantLib.desktop.analysing import earlier_case
        from VertebralFractureQuantLib.scene.volumes import reviewable

        case = earlier_case(self._parameterNode.inputVolume, self._results())
        if case:
            node, said = reviewable(self._parameterNode.inputVolume)
            self._say(said)
            self.analyst.open_volume(node, case, lambda opened: self._open(opened, node))

    def onBegin(self):
        """A study by hand of the chosen volume."""
        from VertebralFractureQuantLib.scene.volumes import reviewable

        results = self._results()
        node, said = reviewable(self._parameterNode.inputVolume)
        self._say(said)
        self.analyst.begin_by_hand(node, results, lambda opened: self._open(opened, node))

    def onCancel(self):
        """Stop the analysis that runs, and those that wait."""
        self.cohort.stop()
        self.analyst.cancel()

    def onInstall(self):
        """Fetch what is missing, after asking."""
        from VertebralFractureQuantLib.desktop.dependencies import install, missing, offer

        needed = missing(self._purpose(), "pictures")
        if needed and slicer.util.confirmOkCancelDisplay(offer(needed)):
            with slicer.util.WaitCursor():
                install(needed)
            if self.face.review.editor:
                self._say(_("Installed. Open the study again, so that the networks answer to clicks."))
        self._showMissing()

    def onListCohort(self):
        """The scans of the chosen folder."""
        self.cohort.list(Path(self.ui.scansPathLineEdit.currentPath), self._results())

    def onAnalyzeAll(self):
        """Analyse the cohort in the background."""
        if self._isReady():
            self.cohort.analyze_all(self._parameterNode.device)
            self._showButtons()

    def onExport(self):
        """Write the study as it stands into the chosen folder."""
        self.face.export(Path(self.ui.exportPathLineEdit.currentPath))

    def onSaveScene(self):
        """The whole scene into the case's folder."""
        self._say(_("The scene is in {}.").format(self.face.save_scene()))

    def onShowFolder(self):
        """The case's folder in the file manager."""
        if self.face.review.folder:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.face.review.folder)))

    def onShowLayout(self):
        """The module's layout, with the study's volumes in it."""
        if self.face.review.editor:
            self.face.opened()

    def onHelp(self):
        """All keys."""
        from VertebralFractureQuantLib.desktop.keyboard import help_text

        slicer.util.infoDisplay(help_text(), windowTitle=_("Keys"))

    def _do(self, handler, *args):
        """A coded failure becomes a sentence in the panel; a defect is shown by Slicer."""
        from VertebralFractureQuantLib.errors import VFQError

        with slicer.util.tryWithErrorDisplay(_("This did not work.")):
            try:
                handler(*args)
            except VFQError as error:
                self._say(error.message)

    def _onReader(self):
        self.face.set_reader(self.ui.readerLineEdit.text.strip() or getpass.getuser())

    def _onResults(self):
        self._showButtons()
        if self.cohort.cases:
            self.onListCohort()

    def _keepSettings(self):
        qt.QSettings().setValue(f"{SETTINGS}/results", self.ui.resultsPathLineEdit.currentPath)
        qt.QSettings().setValue(f"{SETTINGS}/reader", self.face.review.who)

    # -- opening

    def _onFinished(self, case, state, node):
        from VertebralFractureQuantLib.scene.opening import RESCUABLE
        from VertebralFractureQuantLib.scene.volumes import discard_copy

        told = "\n".join([*state.notes, state.message]).strip()
        if told:
            self._say(told)
        self._showBusy("")
        usable = state.status == "done" or state.code in RESCUABLE
        if node is not None and usable and node.GetScene() is not None:
            self.analyst.open_volume(node, case, lambda opened: self._open(opened, node))
        elif node is not None and usable:
            self._say(_("The volume is not in the scene any more. Its analysis is in {}.").format(case.folder))
        elif node is not None:
            discard_copy(node)
        self.cohort.finished(case, state)
        self._showButtons()

    def _open(self, opened, node=None):
        if node is not None and node.GetScene() is None:
            self._say(_("The volume is not in the scene any more. Its analysis is in {}.").format(opened.case.folder))
            return
        left = self.face.review.folder
        self._close()
        self.face.review.open(opened.prepared, opened.case.folder, opened.models, node)
        self._onParameters()
        self.cohort.show_folders(left, opened.case.folder)

    def _close(self):
        self.face.review.settle()
        self.face.save_now()
        self.face.review.close()

    def _resume(self, folder=None):
        """The study of a scene that was loaded, or of before the module was reloaded; an open one gives way, saved."""
        if self.face.review.study.another_is_here():
            self._close()
            self.analyst.resume(self._results(), Path(folder) if folder else None)

    # -- showing

    def _say(self, sentence):
        self.ui.messageLabel.text = sentence
        self.ui.messageLabel.visible = bool(sentence)

    def _showState(self):
        review = self.face.review
        self.keyboard.show(review.editor is not None, review.mode)
        self.ui.outdatedLabel.visible = review.outdated
        self.ui.unsavedLabel.text = _("Not on disk yet: {}").format(self.face.unsaved)
        self.ui.unsavedLabel.visible = bool(self.face.unsaved)
        for name in ("exportButton", "saveSceneButton", "folderButton", "layoutButton"):
            getattr(self.ui, name).enabled = review.editor is not None

    def _showBusy(self, stage):
        self._showProgress(None, stage)

    def _showProgress(self, state, stage=""):
        """`state` of the child that runs; or what another thread does meanwhile."""
        bar, label = self.ui.progressBar, self.ui.progressLabel
        bar.visible = label.visible = bool(state or stage or self.analyst.busy)
        bar.maximum = 100 if state else 0  # 0: no share is known
        bar.value = round(100 * state.share) if state else 0
        label.text = (state.stage or _("starting")) if state else stage

    def _showButtons(self):
        from VertebralFractureQuantLib.desktop.analysing import earlier_case

        volume, busy = self._parameterNode and self._parameterNode.inputVolume, self.analyst.busy
        self.ui.analyzeButton.enabled = not busy
        self.ui.cancelButton.enabled = busy
        self.ui.beginButton.enabled = not busy
        hasImage = volume is not None and volume.GetImageData() is not None
        known = hasImage and self.ui.resultsPathLineEdit.currentPath and earlier_case(volume, self._results())
        self.ui.openButton.enabled = bool(known) and not busy

    def _showMissing(self):
        from VertebralFractureQuantLib.desktop.dependencies import missing, offer

        needed = missing(self._purpose(), "pictures")
        self.ui.missingLabel.text = offer(needed)
        self.ui.missingLabel.visible = self.ui.installButton.visible = bool(needed)

    def _isReady(self):
        """Whether an analysis can run; else what is missing is said, and nothing is downloaded."""
        from VertebralFractureQuantLib.desktop.dependencies import missing, offer

        needed = missing(self._purpose())
        if needed:
            self._say(offer(needed) + " " + _("Press 'Install what is missing' to agree."))
        return not needed

    def _purpose(self):
        from VertebralFractureQuantLib.desktop.dependencies import purpose_of

        return purpose_of(self._parameterNode.device if self._parameterNode else "auto")

    def _results(self):
        from VertebralFractureQuantLib.errors import VFQError

        path = self.ui.resultsPathLineEdit.currentPath.strip()
        if not path:
            raise VFQError("output_not_writable", _("Choose a folder for the results first."))
        return Path(path)


class VertebralFractureQuantLogic(ScriptedLoadableModuleLogic):
    """From a volume node to a measured spine, without any panel."""

    def getParameterNode(self):
        """The scene's parameters, typed."""
        from VertebralFractureQuantLib.desktop.parameters import VertebralFractureQuantParameterNode

        return VertebralFractureQuantParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))

    def analyze(self, volumeNode, device="auto"):
        """The `SpineAnalysis` of a vtkMRMLScalarVolumeNode that holds a CT, computed in this process.

        Raises
        ------
        VFQError : with a code and a message that says what to do, when it cannot be measured.
        """
        from VertebralFractureQuantLib.analysis import analyze, load_models
        from VertebralFractureQuantLib.analysis.models import instead_on_cpu
        from VertebralFractureQuantLib.networks.devices import DeviceMemoryError

        ct = self.ctFromNode(volumeNode)
        try:
            return analyze(ct, load_models(device))
        except DeviceMemoryError as lack:
            logging.warning(instead_on_cpu(lack))
            return analyze(ct, load_models("cpu"))

    def ctFromNode(self, volumeNode):
        """The node's voxels and geometry as a checked `CTVolume`; a linear parent transform is applied."""
        from VertebralFractureQuantLib.scene.volumes import ct_of

        return ct_of(volumeNode)

    def show(self, analysis, volumeNode):
        """An analysis of the node as MRML nodes (straightened volume, markups, table) in its scene; a `StudyScene`."""
        from VertebralFractureQuantLib.scene.opening import prepare
        from VertebralFractureQuantLib.scene.study import StudyScene
        from VertebralFractureQuantLib.scene.views import Views

        prepared = prepare(self.ctFromNode(volumeNode), analysis, analysis.case)
        study = StudyScene(volumeNode.GetScene(), Views())
        study.open(prepared.ct, prepared.made, prepared.analysis, volumeNode)
        return study

    def export(self, analysis, volumeNode, folder):
        """Write `folder/<case>/` with analysis.json, measurements.csv, key points and pictures; the folder's path."""
        from VertebralFractureQuantLib.report.outputs import write_outputs

        return write_outputs(analysis, self.ctFromNode(volumeNode), Path(folder))


class VertebralFractureQuantTest(ScriptedLoadableModuleTest):
    """Slicer's self test: geometry survives the way from a node; a placed vertebra is measured in the patient."""

    def setUp(self):
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Called by Slicer's self-test."""
        for test in (self.test_geometry, self.test_measurement):
            self.setUp()
            test()

    def test_geometry(self):
        """A volume node's voxels, spacing and origin are the CT's."""
        import numpy as np

        node, voxels = self._volume()
        ct = VertebralFractureQuantLogic().ctFromNode(node)
        np.testing.assert_array_equal(ct.voxels, voxels)
        np.testing.assert_allclose(ct.spacing_mm, (2.0, 0.8, 0.7))
        np.testing.assert_allclose(ct.ijk_to_ras[:3, 3], (10, 20, 30))

    def test_measurement(self):
        """Points in the patient give the Genant ratio, in the record and in the scene's table."""
        import numpy as np
        from VertebralFractureQuantLib.spine.genant import measure
        from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra

        node, _voxels = self._volume()
        wedge = np.array([[[30, 45 + a, 90 + h], [30, 45 + a, 90 - h]] for a, h in ((15, 7), (0, 9), (-15, 10))], float)
        curve = np.array([[30.0, 45.0, s] for s in np.linspace(140, 40, 30)])
        analysis = SpineAnalysis("test", curve=curve, vertebrae=(Vertebra(wedge, measure(wedge)),))
        study = VertebralFractureQuantLogic().show(analysis, node)
        self.assertAlmostEqual(study.vertebra(study.order[0]).measurement.genant_ratio, 0.7)
        table = study.nodes["measurements"].GetTable()
        self.assertAlmostEqual(table.GetColumnByName("G").GetValue(0), 0.7)

    def _volume(self):
        import numpy as np

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        voxels = np.linspace(-1000, 900, 60 * 70 * 80).astype(np.int16).reshape(60, 70, 80)
        slicer.util.updateVolumeFromArray(node, voxels)
        node.SetSpacing(0.7, 0.8, 2.0)
        node.SetOrigin(10, 20, 30)
        return node, voxels
