"""The harness fails where PythonQt fails; otherwise a module that passes here could break in Slicer."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from harness.desktop import Desktop  # noqa: E402
from harness.drag import press_and_release, where  # noqa: E402
from harness.pythonqt import UnansweredDialogError  # noqa: E402

MODULE = """
import enum
from pathlib import Path
from typing import Annotated

import ctk, qt, vtk
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.util import VTKObservationMixin
from slicer import vtkMRMLScalarVolumeNode
import toylib


class Toy(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Toy")
        parent.categories = ["Quantification"]
        slicer.app.connect("startupCompleted()", register)


def register():
    import SampleData
    SampleData.SampleDataLogic.registerCustomSampleDataSource(category="Toy", sampleName="Spine", uris="https://x/y")


class Plane(enum.Enum):
    MIDDLE = "middle"
    LEFT = "left"


@parameterNodeWrapper
class Parameters:
    volume: vtkMRMLScalarVolumeNode
    straightened: vtkMRMLScalarVolumeNode | None
    device: Annotated[str, Choice(["CPU", "GPU"])] = "CPU"
    slab: Annotated[float, WithinRange(0, 50), Default(10.0)]
    plane: Plane
    folder: Path
    follow: bool = True


class ToyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.pressed = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Toy.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.shortcut = qt.QShortcut(self.parent)
        self.shortcut.setKey(qt.QKeySequence("c"))
        self.shortcut.connect("activated()", lambda: self.pressed.append("c"))
        self.logic = ToyLogic()
        self.parameters = Parameters(self.logic.getParameterNode())
        self.gui = self.parameters.connectGui(self.ui)
        self.entered = 0

    def enter(self):
        self.entered += 1

    def cleanup(self):
        self.removeObservers()
        self.parameters.disconnectGui(self.gui)

    def onApply(self):
        with slicer.util.tryWithErrorDisplay(_("It failed."), waitCursor=True):
            self.logic.process(self.ui.inputSelector.currentNode())


class ToyLogic(ScriptedLoadableModuleLogic):
    def process(self, volume):
        if volume is None:
            raise ValueError("no volume")
        return toylib.ANSWER


class ToyTest(ScriptedLoadableModuleTest):
    pass
"""

UI = """<ui version="4.0"><class>Toy</class>
<widget class="qMRMLWidget" name="Toy"><layout class="QVBoxLayout" name="verticalLayout">
 <item><widget class="ctkCollapsibleButton" name="inputs"><property name="text"><string>Inputs</string></property>
  <layout class="QFormLayout" name="formLayout">
  <item row="0" column="1"><widget class="qMRMLNodeComboBox" name="inputSelector">
   <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
   <property name="showChildNodeTypes"><bool>false</bool></property>
   <property name="noneEnabled"><bool>true</bool></property>
   <property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
  <item row="1" column="1"><widget class="QComboBox" name="deviceBox">
   <property name="SlicerParameterName" stdset="0"><string>device</string></property></widget></item>
  <item row="2" column="1"><widget class="ctkSliderWidget" name="slabSlider">
   <property name="SlicerParameterName" stdset="0"><string>slab</string></property></widget></item>
  <item row="3" column="1"><widget class="ctkPathLineEdit" name="folderEdit">
   <property name="SlicerParameterName" stdset="0"><string>folder</string></property></widget></item>
  <item row="4" column="1"><widget class="QCheckBox" name="followBox">
   <property name="SlicerParameterName" stdset="0"><string>follow</string></property></widget></item>
  </layout></widget></item>
 <item><widget class="QPushButton" name="applyButton">
  <property name="text"><string>Apply</string></property></widget></item>
 <item><widget class="QTableWidget" name="table"/></item>
</layout></widget>
<customwidgets/>
<connections><connection><sender>Toy</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>inputSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""

LAYOUT = """<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="Straightened">
<property name="orientation" action="default">Sagittal</property></view></item>
<item><view class="vtkMRMLViewNode" singletontag="1"/></item>
<item><view class="vtkMRMLTableViewNode" singletontag="Measurements"/></item></layout>"""


def write_module(folder: Path, ui: str = UI) -> Path:
    (folder / "Resources" / "UI").mkdir(parents=True)
    (folder / "Resources" / "UI" / "Toy.ui").write_text(ui)
    (folder / "toylib.py").write_text("ANSWER = 42\n")
    (folder / "Toy.py").write_text(MODULE)
    return folder / "Toy.py"


@pytest.fixture
def desktop(tmp_path):
    made = Desktop(write_module(tmp_path))
    yield made
    made.close()


@pytest.fixture
def qt(desktop):
    import qt

    return qt


def volume(name: str = "CT"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.zeros((8, 8, 8), np.int16))
    return node


# -- names


def test_a_property_is_an_attribute_that_reaches_cpp(desktop):
    desktop.ui.applyButton.text = "Analyse"
    assert desktop.ui.applyButton._real.text() == "Analyse"
    assert desktop.ui.applyButton.text == "Analyse"


def test_calling_a_property_fails(desktop):
    with pytest.raises(TypeError, match="'str' object is not callable"):
        desktop.ui.applyButton.text()


def test_a_misspelt_property_fails_on_reading_and_on_writing(desktop):
    with pytest.raises(AttributeError):
        _ = desktop.ui.applyButton.txt
    with pytest.raises(AttributeError):
        desktop.ui.applyButton.txt = "Analyse"


def test_a_misspelt_signal_fails_on_connecting(desktop):
    for wrong in ("clikced()", "clicked(int)", "currentNodeChanged(vtkMRMLVolumeNode*)"):
        with pytest.raises(AttributeError, match="no signal"):
            desktop.ui.inputSelector.connect(wrong, print)


def test_a_misspelt_slot_of_a_receiver_fails(desktop):
    with pytest.raises(AttributeError, match="no slot"):
        desktop.ui.applyButton.connect("clicked()", desktop.ui.table, "cleer()")


def test_a_misspelt_ui_name_fails(desktop):
    with pytest.raises(AttributeError):
        _ = desktop.ui.aplyButton


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('class="QPushButton"', 'class="QPushBotton"'),
        ('name="noneEnabled"', 'name="noneEnbled"'),
        ("mrmlSceneChanged(", "mrmlSceneChange("),
        ("setMRMLScene(", "setMrmlScene("),
    ],
)
def test_a_ui_file_with_an_unknown_name_fails(tmp_path, right, wrong):
    with pytest.raises(RuntimeError), Desktop(write_module(tmp_path, UI.replace(right, wrong, 1))):
        pass


def test_functions_that_are_no_slots_in_ctks_header_cannot_be_called(desktop):
    with pytest.raises(AttributeError):
        desktop.ui.slabSlider.setRange(0, 1)
    with pytest.raises(AttributeError):
        desktop.ui.inputs.fold(True)  # a function of the stand-in only
    desktop.ui.slabSlider.maximum = 30
    assert desktop.ui.slabSlider.maximum == 30


def test_a_name_that_qt_does_not_have_fails(qt):
    for name in ("QPushBotton", "Signal", "Property"):
        with pytest.raises(AttributeError):
            getattr(qt, name)
    with pytest.raises(AttributeError):
        _ = qt.Qt.Cheked


# -- calls


def test_keyword_arguments_fail(qt, desktop):
    with pytest.raises(ValueError, match="keyword"):
        qt.QLabel(text="x")
    with pytest.raises(ValueError, match="keyword"):
        desktop.ui.table.setRowCount(rows=3)


def test_wrong_arguments_are_a_value_error(qt, desktop):
    with pytest.raises(ValueError, match="overload"):
        desktop.ui.table.setRowCount("three")
    with pytest.raises(ValueError, match="constructor"):
        qt.QLabel(3.5, 2)


def test_enumerators_are_ints_and_ints_are_enumerators(qt, desktop):
    assert qt.Qt.Checked == 2 and isinstance(qt.Qt.Checked, int)
    assert (qt.Qt.AlignLeft | qt.Qt.AlignTop) == 0x21
    desktop.ui.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    desktop.ui.table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
    label, item = qt.QLabel("T12"), qt.QTableWidgetItem("T12")
    label.setAlignment(0x84)
    item.setFlags(33)
    assert label.alignment == 0x84
    assert item.flags() == 33
    assert desktop.ui.table.selectionBehavior == 1


def test_properties_are_coerced_as_loosely_as_in_pythonqt(desktop):
    button = desktop.ui.applyButton
    button.text, button.enabled = None, "False"
    assert (button.text, button.enabled) == ("None", True)


def test_lists_come_back_as_tuples(desktop):
    assert desktop.ui.inputSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert isinstance(desktop.ui.inputs.children(), tuple)


def test_wrappers_do_not_inherit_from_one_another(qt, desktop):
    assert not isinstance(desktop.ui.applyButton, qt.QWidget)
    assert isinstance(desktop.ui.applyButton, qt.QPushButton)
    assert desktop.ui.applyButton.inherits("QWidget")


def test_children_are_found_by_class_name_and_name(desktop):
    assert desktop.widget.parent.findChild("QPushButton", "applyButton") == desktop.ui.applyButton
    assert desktop.widget.parent.findChild("QLabel", "applyButton") is None


def test_a_dynamic_property_is_an_attribute(desktop):
    assert desktop.ui.slabSlider.SlicerParameterName == "slab"
    assert desktop.ui.slabSlider.property("nothing") is None


def test_a_destroyed_widget_equals_none_but_is_not_none(qt, desktop):
    label = qt.QLabel("x", desktop.widget.parent)
    label.deleteLater()
    desktop.events()
    assert label == None and label is not None and not label  # noqa: E711
    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text


def test_a_python_class_overrides_virtual_functions_of_qt_and_accepts_new_attributes(qt, desktop):
    class Filter(qt.QObject):
        def eventFilter(self, watched, event):  # noqa: N802
            self.seen = event.type() if event.type() == qt.QEvent.ToolTip else self.__dict__.get("seen")
            return qt.QObject.eventFilter(self, watched, event)

    spy = Filter(desktop.widget.parent)
    desktop.ui.applyButton.installEventFilter(spy)
    qt.QApplication.sendEvent(desktop.ui.applyButton, qt.QEvent(qt.QEvent.ToolTip))
    assert spy.seen == qt.QEvent.ToolTip


def test_a_python_class_overrides_nothing_of_ctk_and_qmrml(qt, desktop):
    def made(base):
        return type("Wide", (base,), {"sizeHint": lambda self: qt.QSize(777, 7)})()

    import ctk

    assert made(qt.QWidget)._real.sizeHint().width() == 777
    assert made(ctk.ctkPathLineEdit)._real.sizeHint().width() != 777
    assert made(slicer.qMRMLWidget)._real.sizeHint().width() != 777


def test_super_to_a_qt_class_fails(qt, desktop):
    class Dialog(qt.QDialog):
        def accept(self):
            super().accept()

    with pytest.raises(AttributeError):
        Dialog(desktop.widget.parent).accept()


# -- slots


def test_a_slot_gets_the_arguments_of_its_signature_without_surplus(desktop):
    button, got = desktop.ui.applyButton, []
    button.disconnect("clicked(bool)")
    button.connect("clicked()", lambda *args: got.append(args))
    button.connect("clicked(bool)", lambda *args: got.append(args))
    button.connect("clicked(bool)", lambda: got.append("cut"))
    button.click()
    assert got == [(), (False,), "cut"]


def test_a_partial_gets_all_arguments_and_fails(desktop):
    desktop.ui.applyButton.disconnect("clicked(bool)")
    desktop.ui.applyButton.connect("clicked(bool)", functools.partial(lambda name: None, "T12"))
    with desktop.expected(TypeError):
        desktop.press("applyButton")


def test_a_slot_that_is_connected_twice_is_called_twice_until_disconnected(desktop):
    button, got = desktop.ui.followBox, []
    for _ in range(2):
        button.connect("toggled(bool)", got.append)
    button.toggle()
    assert len(got) == 2
    assert button.disconnect("toggled(bool)", got.append)
    button.toggle()
    assert len(got) == 3
    assert not button.disconnect("toggled(bool)", print)


def test_an_exception_in_a_slot_fails_the_test_at_its_end(tmp_path):
    desktop = Desktop(write_module(tmp_path))
    desktop.press("applyButton")
    with pytest.raises(AssertionError, match="no volume"):
        desktop.close()


def test_an_exception_in_an_observer_fails_the_test_at_its_end(tmp_path):
    desktop = Desktop(write_module(tmp_path))
    node = volume()
    node.AddObserver("ModifiedEvent", lambda *_: 1 / 0)
    node.SetName("other")
    with pytest.raises(AssertionError, match="ZeroDivision"):
        desktop.close()


def test_a_timer_calls_a_function_later(qt, desktop):
    got = []
    qt.QTimer.singleShot(0, lambda: got.append(1))
    assert not got
    desktop.wait(lambda: got)


def test_a_property_hides_a_static_function_of_the_same_name(qt, desktop):
    timer, got = qt.QTimer(), []
    timer.singleShot, timer.interval = True, 1
    timer.connect("timeout()", lambda: got.append(timer.active))
    timer.start()
    desktop.wait(lambda: got)
    assert got == [False]


def test_a_process_reports_its_output_and_its_exit(qt, desktop):
    process, said, ended = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()", lambda: said.append(bytes(process.readAllStandardOutput().data())))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append((code, status)))
    process.start(sys.executable, ["-c", "print('half'); raise SystemExit(3)"])
    desktop.wait(lambda: ended)
    assert b"half" in b"".join(said) and ended == [(3, qt.QProcess.NormalExit)]


# -- dialogs


def test_an_error_is_displayed_and_raised(desktop):
    with desktop.expected(ValueError):
        desktop.press("applyButton")
    assert [(m.kind, m.text) for m in desktop.messages] == [("error", "It failed.\n\nno volume")]


def test_a_question_is_answered_by_the_test_or_fails(desktop):
    with pytest.raises(UnansweredDialogError):
        slicer.util.confirmOkCancelDisplay("Overwrite?")
    for answer in (True, False):
        desktop.answers["confirm"] = answer
        assert slicer.util.confirmOkCancelDisplay("Overwrite?") is answer
        assert slicer.util.confirmYesNoDisplay("Overwrite?") is answer


def test_a_static_dialog_returns_a_plain_value(qt, desktop):
    desktop.answers["getSaveFileName"] = "/tmp/a.csv"
    assert qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), "Export", "", "CSV (*.csv)") == "/tmp/a.csv"


def test_a_dialog_that_would_wait_for_ever_is_answered(qt, desktop):
    desktop.answers["exec"] = lambda dialog: dialog.accept() or dialog.result()
    assert qt.QDialog(desktop.widget.parent).exec_() == 1


# -- ctk and qMRML


def test_a_node_combo_box_follows_the_scene(desktop):
    desktop.widget.parameters.disconnectGui(desktop.widget.gui)
    selector, seen = desktop.ui.inputSelector, []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    node = volume()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert selector.nodeCount() == 1 and selector.currentNode() is None
    selector.setCurrentNode(node)
    assert selector.currentNodeID == node.GetID()
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None and selector.nodeCount() == 0
    assert seen == [node, None]


def test_a_node_combo_box_without_none_takes_the_first_node(desktop):
    selector = desktop.ui.inputSelector
    selector.noneEnabled = False
    node = volume()
    assert selector.currentNode() is node


def test_hidden_nodes_and_those_without_the_attribute_are_not_listed(desktop):
    hidden = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    hidden.SetHideFromEditors(True)
    slicer.mrmlScene.AddNode(hidden)
    assert desktop.ui.inputSelector.nodeCount() == 0
    volume().SetAttribute("modality", "CT")
    volume()
    desktop.ui.inputSelector.addAttribute("vtkMRMLScalarVolumeNode", "modality", "CT")
    assert desktop.ui.inputSelector.nodeCount() == 1


def test_a_collapsed_section_hides_its_contents(desktop):
    desktop.ui.inputs.collapsed = True
    assert not desktop.ui.inputSelector.visible
    desktop.ui.inputs.collapsed = False
    assert desktop.ui.inputSelector.visible


# -- parameters


def test_parameters_are_in_the_node_and_in_their_widgets(desktop):
    parameters, ui = desktop.widget.parameters, desktop.ui
    node = volume()
    ui.inputSelector.setCurrentNode(node)
    ui.deviceBox.currentIndex = 1
    ui.slabSlider.value = 12.5
    ui.folderEdit.currentPath = "/data"
    assert (parameters.volume, parameters.device, parameters.slab) == (node, "GPU", 12.5)
    assert parameters.folder == Path("/data")
    parameters.follow = False
    assert ui.followBox.checked is False
    in_node = parameters.parameterNode
    assert in_node.GetNodeReferenceID("volume") == node.GetID()
    assert [in_node.GetParameter(n) for n in ("device", "plane", "follow")] == ["GPU", "MIDDLE", "False"]


def test_parameters_come_back_with_the_scene(desktop, tmp_path):
    desktop.widget.parameters.volume = volume()
    desktop.widget.parameters.straightened = volume("Straightened")
    desktop.widget.parameters.slab = 33.0
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    desktop.close_scene()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    again = type(desktop.widget.parameters)(desktop.widget.logic.getParameterNode())
    assert (again.volume.GetName(), again.straightened.GetName(), again.slab) == ("CT", "Straightened", 33.0)


def test_a_parameter_refuses_invalid_values(desktop):
    parameters = desktop.widget.parameters
    for name, wrong, error in (("slab", 51.0, ValueError), ("slab", "x", TypeError), ("device", "TPU", ValueError)):
        with pytest.raises(error):
            setattr(parameters, name, wrong)
    with pytest.raises(TypeError):
        parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")


def test_a_disconnected_widget_is_left_alone(desktop):
    desktop.widget.parameters.disconnectGui(desktop.widget.gui)
    desktop.widget.parameters.slab = 40.0
    assert desktop.ui.slabSlider.value == 10.0


# -- the views


@pytest.fixture
def laid_out(desktop):
    manager = slicer.app.layoutManager()
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(901, LAYOUT)
    manager.setLayout(901)
    return desktop


def test_a_layout_makes_its_views(laid_out):
    manager = slicer.app.layoutManager()
    assert (manager.layout, manager.sliceViewNames()) == (901, ("Straightened",))
    assert (manager.threeDViewCount, manager.tableViewCount) == (1, 1)
    assert manager.sliceWidget("Straightened").mrmlSliceNode().GetOrientation() == "Sagittal"
    assert manager.sliceWidget("Strightened") is None
    manager.threeDWidget(0).threeDView().resetFocalPoint()
    slicer.util.forceRenderAllViews()


@pytest.mark.parametrize(
    "wrong", ["<layout", LAYOUT.replace("SliceNode", "SlizeNode"), LAYOUT.replace("singletontag", "tag")]
)
def test_a_layout_that_would_lose_a_view_fails(desktop, wrong):
    manager = slicer.app.layoutManager()
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(902, wrong)
    manager.layoutLogic().GetLayoutNode().SetLayoutDescription(902, wrong)
    with pytest.raises(ValueError):
        manager.setLayout(902)


def test_a_real_drag_in_a_real_view_moves_a_real_point(laid_out):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    node.CreateDefaultDisplayNodes()
    node.AddControlPoint(0.0, 10.0, -5.0)
    events = []
    node.AddObserver(slicer.vtkMRMLMarkupsNode.PointModifiedEvent, lambda *_: events.append("moved"))
    node.AddObserver(slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent, lambda *_: events.append("ended"))
    laid_out.drag("Straightened", node, 0, by=(0, 40))
    moved = np.array(node.GetNthControlPointPosition(0))
    assert moved[2] > -5.0 and moved[:2] == pytest.approx([0.0, 10.0], abs=0.5)
    assert events.count("moved") >= 5 and events[-1] == "ended"


def test_a_view_can_be_saved_as_an_image(laid_out, tmp_path):
    laid_out.picture("Straightened", tmp_path / "view.png")
    assert (tmp_path / "view.png").stat().st_size > 100


def test_a_locked_point_cannot_be_dragged(laid_out):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    node.CreateDefaultDisplayNodes()
    node.AddControlPoint(0.0, 10.0, -5.0)
    node.SetLocked(True)
    with pytest.raises(AssertionError, match="picked"):
        laid_out.drag("Straightened", node, 0, by=(0, 40))


def test_a_click_places_a_point(laid_out):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    node.CreateDefaultDisplayNodes()
    slicer.modules.markups.logic().SetActiveListID(node)
    slicer.modules.markups.logic().StartPlaceMode(False)
    press_and_release("Straightened", np.array([200.0, 250.0]))
    assert node.GetNumberOfControlPoints() == 1
    assert where("Straightened", node, 0) == pytest.approx([200, 250], abs=1)


def test_views_keep_their_orientation_when_the_scene_is_closed(laid_out):
    laid_out.close_scene()
    assert slicer.app.layoutManager().layout == 901
    assert slicer.app.layoutManager().sliceWidget("Straightened").sliceOrientation == "Sagittal"


def test_the_table_view_shows_the_active_table(laid_out):
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    slicer.util.updateTableFromArray(table, np.array([0.75, 0.5]), "G")
    slicer.app.applicationLogic().GetSelectionNode().SetActiveTableID(table.GetID())
    slicer.app.applicationLogic().PropagateTableSelection()
    view = slicer.app.layoutManager().tableWidget(0).tableView()
    assert view.mrmlTableNode() is table
    assert [view.model().index(i, 0).data() for i in range(2)] == ["0.75", "0.5"]


def test_the_slice_views_show_a_volume(desktop):
    node = volume()
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == node.GetID()


# -- loading, entering and reloading the module


def test_the_module_is_loaded_entered_and_left(desktop):
    assert desktop.module.title == "Toy" and desktop.module.path == str(desktop.path)
    assert desktop.samples[0]["sampleName"] == "Spine"
    assert slicer.util.selectedModule() == "Toy"
    assert desktop.widget.entered == 1
    desktop.select("Data")
    assert not desktop.widget.parent.isEntered
    desktop.select()
    assert desktop.widget.entered == 2 and desktop.widget.parent.isEntered


def test_a_key_reaches_the_shortcut(desktop):
    desktop.key("c")
    assert desktop.widget.pressed == ["c"]


def test_a_disabled_button_cannot_be_pressed(desktop):
    desktop.ui.applyButton.enabled = False
    with pytest.raises(AssertionError, match="applyButton"):
        desktop.press("applyButton")


def test_a_reload_makes_a_new_widget_of_the_new_code_on_the_same_scene(desktop):
    old, node = desktop.widget, volume()
    (desktop.path.parent / "toylib.py").write_text("ANSWER = 4242\n")
    desktop.reload(afresh=("toylib",))
    assert desktop.widget is not old and desktop.widget.ui.applyButton is not old.ui.applyButton
    assert desktop.widget.logic.process(node) == 4242
    assert slicer.mrmlScene.GetNodeByID(node.GetID()) is node


def test_connections_that_cleanup_forgot_are_listed(desktop):
    slicer.app.layoutManager().connect("layoutChanged(int)", print)
    assert desktop.left_connections() == [sys.modules["Toy"].register, print]


def test_nothing_is_left_in_the_interpreter_after_closing(tmp_path):
    with Desktop(write_module(tmp_path)):
        assert slicer.app.applicationName == "Slicer"
    assert not {"qt", "ctk", "Toy", "SampleData"} & set(sys.modules)
    assert not hasattr(slicer, "app")


def test_a_panel_can_be_saved_as_an_image(desktop, tmp_path):
    desktop.screenshot(tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 1000


# -- packages


def test_packages_are_recorded_and_not_installed(desktop, tmp_path):
    (tmp_path / "requirements.txt").write_text("# needed\nnumpy>=1.20\nno-such-package>=3\n")
    wanted = slicer.packaging.load_requirements(tmp_path / "requirements.txt")
    slicer.packaging.pip_ensure(wanted, requester="Toy")
    assert desktop.installed == [("pip_ensure", ["no-such-package>=3"])]
    with pytest.raises(TypeError):
        slicer.packaging.pip_ensure(wanted, asker="Toy")


def test_a_user_can_decline_an_installation_and_pip_can_fail(desktop):
    desktop.answers["pip_ensure"] = False
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure("no-such-package", requester="Toy")
    desktop.answers["pip_install"] = lambda requirements: 1 / 0
    with pytest.raises(ZeroDivisionError):
        slicer.util.pip_install("no-such-package")


def test_an_older_slicer_has_no_packaging(tmp_path):
    with Desktop(write_module(tmp_path), with_packaging=False) as desktop:
        with pytest.raises(ImportError):
            importlib.import_module("slicer.packaging")
        assert not hasattr(slicer, "packaging")
        slicer.util.pip_install("numpy")
        assert desktop.installed == [("pip_install", "numpy")]
        with pytest.raises(TypeError):
            slicer.util.pip_install("numpy", requester="Toy")


def test_logic_works_without_a_main_window(tmp_path):
    with Desktop(write_module(tmp_path), main_window=False, open=False):
        import Toy

        assert slicer.util.mainWindow() is None and slicer.app.layoutManager() is None
        assert Toy.ToyLogic().process(volume()) == 42
