"""Stand-ins for CTK's widgets: real QWidgets that declare the properties, signals and slots of CTK's headers.

Each class names its header in github.com/commontk/CTK. A plain C++ function there (not a property, signal, slot or
Q_INVOKABLE) is not a slot here, so the module cannot call it, as under PythonQt. Enumerator properties are ints.
"""

# ruff: noqa: N801, N802, N815 (names of Qt and Slicer)

from __future__ import annotations

import enum
from typing import Any

from PySide6.QtCore import Property, QRect, QSize, Qt, Signal, Slot
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QSlider,
    QWidget,
)


def stored(kind: Any, name: str, first: Any) -> Property:
    """Return a property that only stores its value."""
    key = f"_{name}"
    return Property(
        kind, lambda self: self.__dict__.get(key, first), lambda self, value: self.__dict__.update({key: value})
    )


class Folding:
    """A widget that hides its children while it is collapsed."""

    def fold(self: Any, expanded: bool) -> None:
        if not expanded:
            self._folded = [c for c in self.children() if isinstance(c, QWidget) and not c.isHidden()]
        for child in self._folded:
            child.setVisible(expanded)
        self.updateGeometry()


class ctkCollapsibleButton(QAbstractButton, Folding):
    """Libs/Widgets/ctkCollapsibleButton.h"""

    contentsCollapsed = Signal(bool)
    collapsedHeight = stored(int, "collapsedHeight", 10)
    flat = stored(bool, "flat", False)
    contentsFrameShape = stored(int, "contentsFrameShape", 0)
    contentsFrameShadow = stored(int, "contentsFrameShadow", 16)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    contentsMidLineWidth = stored(int, "contentsMidLineWidth", 0)
    buttonTextAlignment = stored(int, "buttonTextAlignment", 0x81)
    indicatorAlignment = stored(int, "indicatorAlignment", 0x81)

    def __init__(self, *args: Any):
        texts = [each for each in args if isinstance(each, str)]
        super().__init__(next((each for each in args if not isinstance(each, str)), None))
        self.setText("".join(texts))
        self._folded: list[QWidget] = []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._toggle)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    collapsed = Property(
        bool, lambda self: not self.isChecked(), lambda self, c: self.setChecked(not c), notify=contentsCollapsed
    )

    def _toggle(self, expanded: bool) -> None:
        self.fold(expanded)
        self.contentsCollapsed.emit(not expanded)

    def _title_height(self) -> int:
        return self.fontMetrics().height() + 10

    def sizeHint(self) -> QSize:
        title = QSize(self.fontMetrics().horizontalAdvance(self.text()) + 30, self._title_height())
        return title.expandedTo(self.layout().sizeHint()) if self.layout() and self.isChecked() else title

    minimumSizeHint = sizeHint

    def paintEvent(self, _: Any) -> None:
        painter = QPainter(self)
        title = QRect(0, 0, self.width(), self._title_height())
        painter.fillRect(title, self.palette().button())
        painter.setPen(self.palette().buttonText().color())
        arrow = "\u25be" if self.isChecked() else "\u25b8"
        painter.drawText(title.adjusted(8, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, f"{arrow}  {self.text()}")

    def hitButton(self, position: Any) -> bool:
        return position.y() < self._title_height()

    def event(self, event: Any) -> bool:
        """Keep room for the title above the contents."""
        if event.type() == event.Type.LayoutRequest and self.layout():
            left, _, right, bottom = self.layout().getContentsMargins()
            self.layout().setContentsMargins(left, self._title_height() + 4, right, bottom)
        return super().event(event)


class ctkCollapsibleGroupBox(QGroupBox, Folding):
    """Libs/Widgets/ctkCollapsibleGroupBox.h"""

    collapsedHeight = stored(int, "collapsedHeight", 14)

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._folded: list[QWidget] = []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self.fold)

    collapsed = Property(
        bool, lambda self: not self.isChecked(), lambda self, collapsed: self.setChecked(not collapsed)
    )


class ctkPathLineEdit(QWidget):
    """Libs/Widgets/ctkPathLineEdit.h"""

    validInputChanged = Signal(bool)
    currentPathChanged = Signal(str)
    label = stored(str, "label", "")
    filters = stored(int, "filters", 7)
    options = stored(int, "options", 0)
    settingKey = stored(str, "settingKey", "")
    showBrowseButton = stored(bool, "showBrowseButton", True)
    showHistoryButton = stored(bool, "showHistoryButton", True)
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 0)
    minimumContentsLength = stored(int, "minimumContentsLength", 0)
    nameFilters = stored("QStringList", "nameFilters", [])

    class Filter(enum.IntFlag):
        Dirs, Files, Drives, NoSymLinks, AllEntries = 0x1, 0x2, 0x4, 0x8, 0x7
        Readable, Writable, Executable, Hidden, NoDotAndDotDot = 0x10, 0x20, 0x40, 0x100, 0x1000

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._combo = QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setSizePolicy(self._combo.sizePolicy().Policy.Expanding, self._combo.sizePolicy().verticalPolicy())
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.editTextChanged.connect(self.currentPathChanged)

    @Slot(str)
    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    currentPath = Property(str, lambda self: self._combo.currentText(), setCurrentPath)

    @Slot()
    def browse(self) -> None:
        raise NotImplementedError("The harness has no file dialog. Set currentPath instead.")

    @Slot()
    def retrieveHistory(self) -> None:
        pass

    @Slot()
    def addCurrentPathToHistory(self) -> None:
        self._combo.addItem(self._combo.currentText())

    @Slot(result=QComboBox)
    def comboBox(self) -> QComboBox:
        return self._combo


class ctkSliderWidget(QWidget):
    """Libs/Widgets/ctkSliderWidget.h; the slider counts in hundredths."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    pageStep = stored(float, "pageStep", 10.0)
    tickInterval = stored(float, "tickInterval", 0.0)
    tickPosition = stored(int, "tickPosition", 0)
    synchronizeSiblings = stored(int, "synchronizeSiblings", 3)
    spinBoxAlignment = stored(int, "spinBoxAlignment", 4)
    popupSlider = stored(bool, "popupSlider", False)
    invertedAppearance = stored(bool, "invertedAppearance", False)
    invertedControls = stored(bool, "invertedControls", False)

    def __init__(self, parent: QWidget | None = None):
        super().__init__(parent)
        self._slider = QSlider(Qt.Orientation.Horizontal, self)
        self._spin = QDoubleSpinBox(self)
        self._first = 0.0
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(self._follow)
        self._slider.valueChanged.connect(lambda value: self._spin.setValue(value / 100))
        self._bound(0.0, 99.0)

    def _bound(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
        self._slider.setRange(round(max(minimum, -1e7) * 100), round(min(maximum, 1e7) * 100))

    def _follow(self, value: float) -> None:
        self._slider.blockSignals(True)
        self._slider.setValue(round(value * 100))
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    minimum = Property(float, lambda s: s._spin.minimum(), lambda s, value: s._bound(value, s._spin.maximum()))
    maximum = Property(float, lambda s: s._spin.maximum(), lambda s, value: s._bound(s._spin.minimum(), value))
    singleStep = Property(float, lambda s: s._spin.singleStep(), lambda s, value: s._spin.setSingleStep(value))
    prefix = Property(str, lambda s: s._spin.prefix(), lambda s, value: s._spin.setPrefix(value))
    suffix = Property(str, lambda s: s._spin.suffix(), lambda s, value: s._spin.setSuffix(value))
    tracking = Property(bool, lambda s: s._slider.hasTracking(), lambda s, value: s._slider.setTracking(value))

    @Slot()
    def reset(self) -> None:
        self._spin.setValue(self._first)

    @Slot(float)
    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    @Slot(bool)
    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin.setVisible(visible)

    @Slot(int)
    def setDecimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    value = Property(float, lambda s: s._spin.value(), setValue)
    decimals = Property(int, lambda s: s._spin.decimals(), setDecimals, notify=decimalsChanged)
    spinBoxVisible = Property(bool, lambda s: not s._spin.isHidden(), setSpinBoxVisible)


class ctkComboBox(QComboBox):
    """Libs/Widgets/ctkComboBox.h"""

    returnRelease = Signal()
    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)
    elideMode = stored(int, "elideMode", 1)
    scrollWheelEffect = stored(int, "scrollWheelEffect", 1)

    @Slot(str)
    def setCurrentUserDataAsString(self, data: str) -> None:
        self.setCurrentIndex(self.findData(data))

    currentUserDataAsString = Property(str, lambda s: str(s.currentData() or ""), setCurrentUserDataAsString)


class ctkPushButton(QPushButton):
    """Libs/Widgets/ctkPushButton.h"""

    buttonTextAlignment = stored(int, "buttonTextAlignment", 0x84)
    iconAlignment = stored(int, "iconAlignment", 0x81)
    elideMode = stored(int, "elideMode", 3)


class ctkMenuButton(ctkPushButton):
    """Libs/Widgets/ctkMenuButton.h"""


class ctkCheckBox(QCheckBox):
    """Libs/Widgets/ctkCheckBox.h"""


class ctkMessageBox(QMessageBox):
    """Libs/Widgets/ctkMessageBox.h"""

    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


class ctkSearchBox(QLineEdit):
    """Libs/Widgets/ctkSearchBox.h"""

    showSearchIcon = stored(bool, "showSearchIcon", False)


ALL = [each for name, each in dict(globals()).items() if name.startswith("ctk")]
