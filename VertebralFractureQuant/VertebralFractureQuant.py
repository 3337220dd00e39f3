"""The scripted module: the classes that 3D Slicer looks for, thin around `VertebralFractureQuantLib`.

It imports only what Slicer bundles. The widget connects the panel to the library's `desktop` room; `Logic` measures a
volume node without a panel. Points are in RAS mm, as in MRML.
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
    """The module's title, category, help and acknowledgement, which Slicer shows before the module is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Vertebral Fracture Quantification")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["The VertebralFractureQuant authors"]
        self.parent.helpText = _(
            "Finds the spine on a CT, straightens it, places six key points on each vertebra and measures its heights, "
            "Genant ratio and grade. Drag a point to update the measurements. For research use only. Not for "
            'diagnosis. <a href="https://github.com/VertebralFractureQuant/SlicerVertebralFractureQuant">Documentation</a>'
        )
        self.parent.acknowledgementText = _(
            "The method follows Zakharov et al., Interpretable vertebral fracture quantification via anchor-free "
            "landmarks localization, Medical Image Analysis 2023."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Add a chest CT, from Slicer's own test data, to the Sample Data module."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=_("Vertebral Fracture Quantification"),
        sampleName="Chest CT with thoracic spine",
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "VertebralFractureQuant.png"),
        uris=f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{CT_CHEST_SHA256}",
        fileNames="CT-chest.nrrd",
        checksums=f"SHA256:{CT_CHEST_SHA256}",
        nodeNames="CTChest",
    )


class VertebralFractureQuantWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel; it connects Slicer, the .ui file and the library's `desktop` room."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.startProcess = None  # starts the child process of an analysis; tests replace it
        self.keyboard = None
        self._listening = False
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    # -- what Slicer calls

    def setup(self):
        """Called when the module is first opened, and after a reload."""
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
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.initializeParameterNode()
        self._say("")
        self.input.show_progress()
        self.weights.show()
        self.face.changed()
        self._do(self._resume, self.parent.property(REOPENED))
        self.parent.setProperty(REOPENED, "")
        self._listen(self.parent.isEntered)  # Slicer does not call `enter` after a reload

    def enter(self):
        """Called each time the module is opened."""
        self.initializeParameterNode()
        self._listen(True)
        self.input.show_missing()
        self.input.show_buttons()
        self.weights.show()

    def exit(self):
        """Called each time another module is opened: disable the shortcuts, end clicks and drags. The study stays."""
        self._listen(False)
        self.face.review.settle()
        self.pairing.prior.review.settle()
        self.labels.review.settle()
        self.setParameterNode(None)

    def cleanup(self):
        """Called when Slicer ends or the module is reloaded: save everything; the study stays in the scene."""
        self.setParameterNode(None)
        self.removeObservers()
        if self.keyboard:  # created last, so `setup` was complete
            self._keepSettings()
            self.analyst.cancel()
            self.keyboard.forget()
            problem = " ".join(filter(None, (self.labels.end(), self.pairing.end(), self.face.end())))
            if problem:  # the panel is gone, so a dialog reports where unsaved actions were stored
                slicer.util.errorDisplay(problem)

    def onReload(self):
        """Reload the library with the module; a property of the parent widget keeps the study's folder."""
        if self.keyboard:
            self.parent.setProperty(REOPENED, str(self.face.review.folder or ""))
        for name in [n for n in sys.modules if n.split(".")[0] == "VertebralFractureQuantLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        """Release the parameter node, which the scene removes, and end an opening; the review saves itself."""
        self.face.stop()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """Use the parameter node of the new scene and show that no study is open."""
        self.initializeParameterNode()
        self.face.changed()

    def onSceneEndImport(self, caller, event):
        """Use the parameters of the loaded scene, and resume its study if it has one."""
        self.initializeParameterNode()
        self._do(self._resume)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        """Choose a CT that is loaded while the module is open, as soon as Slicer has filled its node."""
        if node.IsA("vtkMRMLScalarVolumeNode") and not caller.IsImporting():
            qt.QTimer.singleShot(0, lambda: self.prior.choose_loaded(node))

    # -- parameters

    def initializeParameterNode(self):
        """Use the scene's parameter node; if it has no volume, choose the CT that the views show, or the first."""
        self.setParameterNode(self.logic.getParameterNode())
        self.input.choose_any()

    def setParameterNode(self, parameterNode):
        """Connect the panel to a parameter node, or disconnect it (None)."""
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
            self.display.show_palette(self._parameterNode.palette)
            self.input.follow_device()
            self.input.show_buttons()

    # -- setup

    def _makePanels(self):
        from VertebralFractureQuantLib.desktop.adjudication import AdjudicationFace, LabelFace
        from VertebralFractureQuantLib.desktop.analysing import Analyst
        from VertebralFractureQuantLib.desktop.cohort_panel import CohortPanel
        from VertebralFractureQuantLib.desktop.display_panel import DisplayPanel
        from VertebralFractureQuantLib.desktop.face import DesktopFace
        from VertebralFractureQuantLib.desktop.healthy import HealthyWindow
        from VertebralFractureQuantLib.desktop.input_panel import InputPanel
        from VertebralFractureQuantLib.desktop.keyboard import Keyboard
        from VertebralFractureQuantLib.desktop.label_panel import LabelPanel
        from VertebralFractureQuantLib.desktop.pair_panel import PairPanel
        from VertebralFractureQuantLib.desktop.report_panel import ReportPanel
        from VertebralFractureQuantLib.desktop.review_panel import ReviewPanel
        from VertebralFractureQuantLib.desktop.signing_panel import SigningPanel
        from VertebralFractureQuantLib.desktop.weights_panel import WeightsPanel

        self.face = DesktopFace(slicer.mrmlScene, getpass.getuser())
        self.panel = ReviewPanel(self.ui, self.face, self.act)
        self.face.on_changed.append(self._showState)
        self.analyst = Analyst(self.face, self.startProcess)
        self.input = InputPanel(self.ui, self.analyst, lambda: self._parameterNode, self._open)
        self.analyst.progress = self._showProgress
        self.analyst.finished = self._onFinished
        self.cohort = CohortPanel(self.ui, self.analyst, self._open)
        self.report = ReportPanel(self.ui, self.face)
        self.signing = SigningPanel(self.ui, self.analyst, self._open, self.cohort.open_next_open)
        self.prior = PairPanel(self.ui, self.input, self.cohort, self.act, self._do)
        self.pairing = self.prior.pairing
        self.ownActions = {
            **self.pairing.actions,
            "toggle_help": self.onHelp,
            "next_open": self.cohort.open_next_open,
            "complete_study": self.signing.complete_study,
            "toggle_case": self.signing.toggle_readings,
            "toggle_healthy": HealthyWindow(self.face).toggle_healthy,
        }
        window = slicer.util.mainWindow() or self.parent
        labelFaces = tuple(kind(slicer.mrmlScene, getpass.getuser()) for kind in (LabelFace, AdjudicationFace))
        for face in (self.face, *labelFaces):
            face.on_told = self._say
            face.on_busy = lambda stage: self.input.show_progress(stage=stage)
        self.labels = LabelPanel(self.ui, labelFaces, lambda: self.analyst.models(), self.face.close, window)
        self.labels.listened = lambda: self._listen(self._listening)
        self.display = DisplayPanel(self.ui, (self.face, *labelFaces), self._keepWindow)
        self.weights = WeightsPanel(self.ui, self.analyst, (self.face, *labelFaces))
        self.keyboard = Keyboard(window, self.act)
        self.pairing.on_changed.append(lambda: self.keyboard.show(bool(self.face.review.editor), self.pairing.mode))

    def _connect(self):
        from VertebralFractureQuantLib.desktop.paths import when_chosen, when_typed

        buttons = {
            "analyzeButton": self.onAnalyze,
            "openButton": self.input.open_earlier,
            "cancelButton": self.onCancel,
            "installButton": self.input.install,
            "verifyButton": self.weights.verify,
            "layoutButton": self.display.show_layout,
            "helpButton": self.onHelp,
            "beginButton": self.input.begin_by_hand,
            "analyzeAllButton": self.onAnalyzeAll,
            "stopButton": self.cohort.stop,
            "openCaseButton": self.cohort.open_selected,
            "exportButton": self.onExport,
            "saveSceneButton": self.onSaveScene,
            "folderButton": self.onShowFolder,
            "nextOpenButton": self.cohort.open_next_open,
            "galleryButton": self.cohort.show_gallery,
            "readingsButton": self.signing.toggle_readings,
            "completeButton": self.signing.complete_study,
            "laterButton": self.signing.close_question,
            "reportButton": self.report.show_report,
            "copyReportButton": self.report.copy_text,
            "pdfButton": lambda: self.report.save("pdf"),
            "htmlButton": lambda: self.report.save("html"),
            "dicomDatabaseButton": self.report.export_to_database,
            "dicomFilesButton": self.report.write_files,
        }
        for choice in ("first", "automatic", "copy"):
            buttons[f"{choice}Button"] = lambda choice=choice: self.signing.choose(choice)
        for name, handler in buttons.items():
            getattr(self.ui, name).connect("clicked()", lambda handler=handler: self._do(handler))
        for name in ("results", "scans", "cohort", "export", "labelSet"):
            getattr(self.ui, f"{name}PathLineEdit").filters = ctk.ctkPathLineEdit.Dirs
        self.ui.readerLineEdit.connect("textChanged(QString)", lambda text: self._keepReader(text))
        when_typed(self.ui.readerLineEdit, lambda: self._do(self._onReader), lambda: self.face.review.editor is None)
        self.ui.languageComboBox.connect("currentTextChanged(QString)", self._onLanguage)
        when_chosen(self.ui.resultsPathLineEdit, lambda: self._do(self._onResults))
        when_chosen(self.ui.scansPathLineEdit, lambda: self._do(self.onListCohort))
        when_chosen(self.ui.cohortPathLineEdit, lambda: self._do(self.onListCohort))
        when_chosen(self.ui.labelSetPathLineEdit, lambda: self._do(self.labels.show_dataset))
        self.ui.cohortTable.connect("cellDoubleClicked(int,int)", lambda row, _: self._do(self.cohort.open, row))
        for name in ("confirm", "reject", "undo", "redo", "add", "place", "rescue"):
            getattr(self.ui, f"{name}Button").icon = qt.QIcon(self.resourcePath(f"Icons/{name}.png"))

    def _restoreSettings(self):
        reader = slicer.util.settingsValue(f"{SETTINGS}/reader", getpass.getuser())
        results = slicer.util.settingsValue(
            f"{SETTINGS}/results", str(Path(slicer.app.defaultScenePath) / "VertebralFractureQuant")
        )
        self.face.review.restore_window(slicer.util.settingsValue(f"{SETTINGS}/window", "bone"))
        self.ui.languageComboBox.currentText = slicer.util.settingsValue(f"{SETTINGS}/language", "en")
        self.ui.readerLineEdit.text = reader
        self.ui.resultsPathLineEdit.currentPath = results
        self.ui.exportPathLineEdit.currentPath = str(Path(results) / "export")
        self._do(self._onReader)

    # -- actions

    def act(self, action, *args):
        """Call the action of this name, for a key, a button or the table."""
        self._say("")
        cases = {"next_case": 1, "previous_case": -1}
        if action in cases:
            self._do(self.cohort.open_next, cases[action])
        elif action in self.ownActions:
            self._do(self.ownActions[action])
        else:
            self.pairing.target(action).act(action, *args)
            self.pairing.acted(action)

    def onAnalyze(self):
        """Analyse the chosen volume in a child process."""
        if self.input.is_ready():
            self._keepSettings()
            self.input.analyze()

    def onCancel(self):
        """Stop the running analysis."""
        self.analyst.cancel()

    def onListCohort(self):
        """List the scans of the chosen folder; choosing a folder for the cohort lists them too."""
        self.cohort.clear()
        if not self.cohort.propose(self.input.results):
            self.cohort.show_list()

    def onAnalyzeAll(self):
        """Analyse the cohort in the background."""
        if self.input.is_ready():
            self.cohort.analyze_all(self.input.device, self.input.trusts_header)
            self.input.show_buttons()

    def onExport(self):
        """Export the current study into the chosen folder."""
        self.face.export(Path(self.ui.exportPathLineEdit.currentPath))

    def onSaveScene(self):
        """Save the whole scene in the case's folder."""
        self._say(_("The scene was saved as {}.").format(self.face.save_scene()))

    def onShowFolder(self):
        """Show the case's folder in the file manager."""
        if self.face.review.folder:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.face.review.folder)))

    def onHelp(self):
        """Show the list of keys of what is open."""
        from VertebralFractureQuantLib.desktop.keyboard import help_text

        if self.labels.is_open:
            self.labels.act("toggle_help")
        else:
            slicer.util.infoDisplay(help_text(), windowTitle=_("Keys"))

    def _listen(self, on):
        """Enable the shortcuts of what is open: of the annotation, or of the review."""
        self._listening = on
        self.keyboard.listen(on and not self.labels.is_open)
        self.labels.listen(on)

    def _do(self, handler, *args):
        """Call a handler: the panel shows the message of a `VFQError`, Slicer shows any other exception."""
        from VertebralFractureQuantLib.errors import VFQError

        with slicer.util.tryWithErrorDisplay(_("The action failed because of an unexpected error.")):
            try:
                handler(*args)
            except VFQError as error:
                self._say(error.message)

    def _onReader(self):
        self.signing.set_reader(self.ui.readerLineEdit.text)
        self.prior.choice.follow_reader()

    def _keepReader(self, name):
        qt.QSettings().setValue(f"{SETTINGS}/reader", name.strip() or getpass.getuser())

    def _keepWindow(self, preset):
        qt.QSettings().setValue(f"{SETTINGS}/window", preset)

    def _onLanguage(self, language):
        qt.QSettings().setValue(f"{SETTINGS}/language", language)
        self.report.hide()

    def _onResults(self):
        self.input.show_buttons()
        if self.cohort.cases:
            self.onListCohort()

    def _keepSettings(self):
        qt.QSettings().setValue(f"{SETTINGS}/results", self.ui.resultsPathLineEdit.currentPath)

    # -- opening

    def _onFinished(self, case, state, node):
        if not self.prior.choice.takes(case, state, node):
            self.input.finished(case, state, node)
        self.cohort.finished(case, state)
        self.input.show_buttons()

    def _open(self, opened, node=None, folder=None):
        from VertebralFractureQuantLib.desktop.input_panel import removed_text

        if node is not None and node.GetScene() is None:
            self._say(removed_text(opened.case))
            return
        self.signing.close_question()
        folder = folder or self.signing.folder_of(opened, node)
        if folder is not None:
            self.face.run(self._opening(opened, node, folder))

    def _opening(self, opened, node, folder):
        """Close the open study and open another one, in steps between which Slicer handles events."""
        from VertebralFractureQuantLib.errors import VFQError

        left = self.face.case_folder
        self.labels.close()
        yield from self.face.closing()
        if self.face.views.arrange():
            yield
        try:
            yield from self.face.review.opening(opened.prepared, folder, opened.models, node)
        except VFQError as error:
            if error.code == "study_in_use" and folder == opened.case.folder:
                self.signing.ask(opened, node, in_use=True)
            raise
        if node is None:  # the study's own node, so that a second analysis gets the case's name too
            self.face.review.study.nodes["ct"].SetName(opened.case.name)
        yield
        self.face.warm_up()
        self.input.choose_shown()
        self._onParameters()
        self.cohort.show_folders(left, opened.case.folder)

    def _resume(self, folder=None):
        """Resume the study of a loaded scene or a reloaded module; an open study is saved and closed first."""
        self.labels.close()  # its nodes look like a study's
        self.pairing.close()  # and so do those of a prior
        if self.face.review.study.another_is_here():
            self.face.close()
            self.analyst.resume(self.input.results, Path(folder) if folder else None)

    # -- showing

    def _say(self, sentence):
        from VertebralFractureQuantLib.desktop.labels import show_text

        show_text(self.ui.messageLabel, sentence)

    def _showState(self):
        from VertebralFractureQuantLib.desktop.labels import show_text

        review = self.face.review
        self.input.show_case()
        self.signing.show()
        self.report.hide()
        self.report.show_buttons()
        self.ui.outdatedLabel.visible = review.outdated
        unsaved = self.face.unsaved
        show_text(self.ui.unsavedLabel, _("Not saved yet: {}").format(unsaved) if unsaved else "")
        for name in ("exportButton", "saveSceneButton", "folderButton"):
            getattr(self.ui, name).enabled = review.editor is not None

    def _showProgress(self, state):
        self.input.show_progress(state)
        self.cohort.show_results()


class VertebralFractureQuantLogic(ScriptedLoadableModuleLogic):
    """Measures the spine in a volume node, without a panel."""

    def getParameterNode(self):
        """Return the scene's parameter node with typed attributes."""
        from VertebralFractureQuantLib.desktop.parameters import VertebralFractureQuantParameterNode

        return VertebralFractureQuantParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))

    def analyze(self, volumeNode, device="auto"):
        """Return the `SpineAnalysis` of a vtkMRMLScalarVolumeNode that holds a CT, computed in this process.

        Raises
        ------
        VFQError
            If the CT cannot be measured; the code and the message say why and what to do.
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
        """Return the node's voxels and geometry as a checked `CTVolume`, with a linear parent transform applied."""
        from VertebralFractureQuantLib.scene.volumes import ct_of

        return ct_of(volumeNode)

    def show(self, analysis, volumeNode):
        """Show an analysis as nodes (straightened volume, markups, table) in the volume's scene.

        Returns the `StudyScene`.
        """
        from VertebralFractureQuantLib.scene.opening import prepare
        from VertebralFractureQuantLib.scene.study import StudyScene
        from VertebralFractureQuantLib.scene.views import Views

        prepared = prepare(self.ctFromNode(volumeNode), analysis, analysis.case)
        study = StudyScene(volumeNode.GetScene(), Views())
        study.open(prepared.ct, prepared.made, prepared.analysis, volumeNode)
        return study

    def export(self, analysis, volumeNode, folder):
        """Write analysis.json, measurements.csv, key points and images to `folder/<case>/`, and return that path."""
        from VertebralFractureQuantLib.report.outputs import write_outputs

        return write_outputs(analysis, self.ctFromNode(volumeNode), Path(folder))

    def exportDicom(self, caseFolder, volumeNode, output):
        """Write the case in `caseFolder` as DICOM objects into `output`, add them to Slicer's DICOM database.

        Returns their paths. The volume must have been loaded from the database, which has the patient's identity.

        Raises
        ------
        VFQError
            `no_identity`, and others that say what to do.
        """
        from DICOMLib import DICOMUtils
        from VertebralFractureQuantLib.desktop.dicom_database import export_loaded

        written = export_loaded(Path(caseFolder), volumeNode, slicer.dicomDatabase, Path(output))
        DICOMUtils.importDicom(str(output), slicer.dicomDatabase)
        return written

    def showReport(self, path, volumeNode):
        """Show a structured report that `exportDicom` or `vfq dicom` wrote on its CT; return the `StudyScene`.

        Raises
        ------
        VFQError
            `not_an_analysis`, `newer_schema` or `other_ct`.
        """
        from VertebralFractureQuantLib.dicom.back import read_report

        return self.show(read_report(Path(path)), volumeNode)


class VertebralFractureQuantTest(ScriptedLoadableModuleTest):
    """Slicer's self test: a node's geometry is kept, and a vertebra is measured in patient space."""

    def setUp(self):
        """Clear the scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all tests; called by Slicer's self test."""
        for test in (self.test_geometry, self.test_measurement):
            self.setUp()
            test()

    def test_geometry(self):
        """The CT has the voxels, spacing and origin of the volume node."""
        import numpy as np

        node, voxels = self._volume()
        ct = VertebralFractureQuantLogic().ctFromNode(node)
        np.testing.assert_array_equal(ct.voxels, voxels)
        np.testing.assert_allclose(ct.spacing_mm, (2.0, 0.8, 0.7))
        np.testing.assert_allclose(ct.ijk_to_ras[:3, 3], (10, 20, 30))

    def test_measurement(self):
        """The record and the scene's table have the Genant ratio of points in patient space."""
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
