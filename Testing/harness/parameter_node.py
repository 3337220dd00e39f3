"""A small `slicer.parameterNodeWrapper`: typed attributes in a real vtkMRMLScriptedModuleNode, bound to widgets.

Names and texts in the node, errors, and the widgets for each type are those of Slicer's
Base/Python/slicer/parameterNodeWrapper (wrapper.py, serializers.py, validators.py, guiConnectors.py). Types that are
missing here raise TypeError, even if Slicer supports them; add them when a module needs them.
"""

# ruff: noqa: N802, N815 (names of Qt and Slicer)

from __future__ import annotations

import enum
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer

PROPERTY = "SlicerParameterName"
PATHS = (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePath)


class Default:
    """The initial value of a parameter."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None):
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Validator:
    """Base class of all validators."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class Choice(Validator):
    """Accepts one of several values."""

    def __init__(self, choices: typing.Sequence[Any]):
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


class WithinRange(Validator):
    """Accepts values from minimum to maximum, both included."""

    def __init__(self, minimum: float, maximum: float):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(WithinRange):
    """Accepts values of at least `minimum`."""

    def __init__(self, minimum: float):
        super().__init__(minimum, float("inf"))


class Maximum(WithinRange):
    """Accepts values of at most `maximum`."""

    def __init__(self, maximum: float):
        super().__init__(float("-inf"), maximum)


@dataclass
class Decimals:
    """The number of decimals in a spin box."""

    value: int


@dataclass
class SingleStep:
    """The step of a spin box."""

    value: float


# -- how the node stores values


@dataclass
class Kind:
    """How one type is written and read; `types` are the accepted Python types."""

    types: tuple[type, ...]
    first: Any
    read: Callable[[Any, str], Any]
    write: Callable[[Any, str, Any], None]

    def check(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")
        if not isinstance(value, self.types):
            raise TypeError(f"Value must be of type {self.types}, is {type(value)} value {value}")

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class NodeKind(Kind):
    """A reference to another node; None is accepted."""

    def __init__(self, kind: type):
        super().__init__((kind,), None, lambda node, name: node.GetNodeReference(name), _write_node)

    def check(self, value: Any) -> None:
        if value is not None:
            super().check(value)

    def remove(self, node: Any, name: str) -> None:
        super().remove(node, name)
        node.RemoveNodeReferenceIDs(name)


def _write_node(node: Any, name: str, value: Any) -> None:
    node.SetParameter(name, "")
    node.SetNodeReferenceID(name, value.GetID() if value is not None else None)


def _text(types: tuple[type, ...], first: Any, parse: Callable[[str], Any], text: Callable[[Any], str] = str) -> Kind:
    return Kind(
        types,
        first,
        lambda node, name: parse(node.GetParameter(name)),
        lambda node, name, value: node.SetParameter(name, text(value)),
    )


def kind_of(wanted: Any) -> Any:
    """Return how a type is stored. TypeError if the harness does not support it."""
    if wanted in PATHS:
        return _text((wanted,), wanted(), wanted)
    simple = {str: ((str,), "", str), int: ((int,), 0, int), float: ((int, float), 0, float)}
    if wanted in simple:
        return _text(*simple[wanted])
    if wanted is bool:
        return _text((bool,), False, lambda text: text == "True")
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return _text((wanted,), next(iter(wanted)), lambda text: wanted[text], lambda value: value.name)
    if isinstance(wanted, type) and issubclass(wanted, slicer.vtkMRMLNode):
        return NodeKind(wanted)
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return Union([kind_of(_split(each)[0]) for each in typing.get_args(wanted)])
    if wanted is type(None):
        return Kind((type(None),), None, lambda node, name: None, lambda node, name, _: node.SetParameter(name, "True"))
    raise TypeError(f"The harness supports no parameter of type {wanted}")


class Union:
    """One of several types; each has a separate name in the node: `name.0`, `name.1`."""

    def __init__(self, kinds: list[Any]):
        self.kinds = kinds
        self.first = None if len(kinds) == 2 and kinds[1].types == (type(None),) else kinds[0].first

    def _fitting(self, value: Any) -> int:
        for i, kind in enumerate(self.kinds):
            if isinstance(value, kind.types):
                return i
        raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def check(self, value: Any) -> None:
        self._fitting(value)

    def has(self, node: Any, name: str) -> bool:
        return any(node.HasParameter(f"{name}.{i}") for i in range(len(self.kinds)))

    def read(self, node: Any, name: str) -> Any:
        i = next(i for i in range(len(self.kinds)) if node.HasParameter(f"{name}.{i}"))
        return self.kinds[i].read(node, f"{name}.{i}")

    def write(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            for i, kind in enumerate(self.kinds):
                kind.remove(node, f"{name}.{i}")
            i = self._fitting(value)
            self.kinds[i].write(node, f"{name}.{i}", value)


class Parameter:
    """An attribute: its name, type and annotations."""

    def __init__(self, name: str, annotated: Any, given: Default | None):
        self.name, self.annotated = name, annotated
        self.type, self.annotations = _split(annotated)
        self.kind = kind_of(self.type)
        self.default = given or self.annotation(Default) or Default(self.kind.first)
        self.validators = [a for a in self.annotations if isinstance(a, Validator)]

    def annotation(self, kind: type) -> Any:
        return next((a for a in self.annotations if isinstance(a, kind)), None)

    def has(self, node: Any) -> bool:
        return self.kind.has(node, self.name) if isinstance(self.kind, Union) else node.HasParameter(self.name)

    def read(self, node: Any) -> Any:
        if not self.has(node):
            self.write(node, self.default.value)
        return self.kind.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        if value is None and isinstance(self.kind, Kind):
            self.kind.check(value)
        for validator in self.validators:
            validator.validate(value)
        self.kind.check(value)
        self.kind.write(node, self.name, value)


def _split(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    flat = typing.get_args(typing.Annotated[annotated, None])
    return flat[0], flat[1:-1]


# -- the decorated class


class Wrapper:
    """The methods of each decorated class."""

    allParameters: dict[str, Parameter]

    def setup(self, node: Any) -> None:
        self.parameterNode = node
        self._guis: dict[int, tuple[list[Binding], int]] = {}
        self._showing = False
        for parameter in self.allParameters.values():
            if not parameter.has(node):
                parameter.write(node, parameter.default.value)

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def dataType(self, name: str) -> Any:
        return self._parameter(name).annotated

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(self.allParameters)}")
        return self.allParameters[name]

    # -- widgets

    def connectGui(self, gui: Any) -> int:
        """Bind each widget with a dynamic property `SlicerParameterName`."""
        widget = getattr(gui, "isWidgetType", lambda: False)()
        every = gui.findChildren("QWidget") if widget else gui.__dict__.values()
        return self.connectParametersToGui({w.property(PROPERTY): w for w in every if w.property(PROPERTY)})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        bindings = [Binding(self._parameter(name), widget) for name, widget in mapping.items()]
        tag = max(self._guis, default=-1) + 1
        for binding in bindings:
            binding.show(self.getValue(binding.parameter.name))
            binding.listen(self._take)
        self._guis[tag] = bindings, self.AddObserver("ModifiedEvent", lambda *_: self._show())
        return tag

    def disconnectGui(self, tag: int) -> None:
        if tag in self._guis:
            bindings, observer = self._guis.pop(tag)
            self.RemoveObserver(observer)
            for binding in bindings:
                binding.stop()

    def _take(self, binding: Binding) -> None:
        if not self._showing:
            self.setValue(binding.parameter.name, binding.value())

    def _show(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            for bindings, _ in self._guis.values():
                for binding in bindings:
                    binding.show(self.getValue(binding.parameter.name))
        finally:
            self._showing = False

    # -- methods of the node

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, before: int) -> None:
        self.parameterNode.EndModify(before)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(decorated: Any = None) -> Any:
    """Decorate a class, with or without brackets."""
    return _wrapped if decorated is None else _wrapped(decorated)


def _wrapped(decorated: type) -> type:
    parameters = {}
    for name, annotated in typing.get_type_hints(decorated, include_extras=True).items():
        given = Default(getattr(decorated, name)) if hasattr(decorated, name) else None
        parameters[name] = Parameter(name, annotated, given)
        setattr(decorated, name, _attribute(name))
    reserved = {n for n in vars(Wrapper) if not n.startswith("__")} - {"setup"}
    for name in reserved & set(vars(decorated)):
        raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
    for name in reserved - {"allParameters"}:
        setattr(decorated, name, vars(Wrapper)[name])
    decorated.allParameters = parameters
    decorated.__init__ = Wrapper.setup
    return decorated


def _attribute(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


# -- one widget that shows one parameter


class Binding:
    """A parameter shown by a widget. RuntimeError if that widget class cannot show the parameter's type."""

    def __init__(self, parameter: Parameter, widget: Any):
        self.parameter, self.widget = parameter, widget
        found = self._by_class().get(widget.className())
        if found is None:
            raise RuntimeError(f"Unable to create GUI connector from '{parameter.annotated}' to {widget.className()}")
        self._property, self._signal = found
        self._slot: Any = None
        self._prepare()

    def _by_class(self) -> dict[str, tuple[str, str]]:
        """The widget classes for the parameter's type, with their property and signal."""
        kind = self.parameter.type
        number = {n: ("value", "valueChanged") for n in ("QDoubleSpinBox", "ctkSliderWidget", "ctkDoubleSpinBox")}
        if kind is bool:
            return {
                "QCheckBox": ("checked", "toggled"),
                "ctkCheckBox": ("checked", "toggled"),
                "QPushButton": ("checked", "toggled"),
            }
        if kind is int:
            return {**number, **{n: ("value", "valueChanged") for n in ("QSpinBox", "QSlider")}, **self._combo()}
        if kind is str:
            edits = {"QLineEdit": ("text", "textChanged"), "QTextEdit": ("plainText", "textChanged")}
            return {**edits, "QLabel": ("text", ""), **self._combo()}
        if kind is float:
            return {**number, **self._combo()}
        if kind in PATHS:
            return {"ctkPathLineEdit": ("currentPath", "currentPathChanged")}
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._combo()
        return {"qMRMLNodeComboBox": ("", "currentNodeChanged")} if _node_types(self.parameter.kind) else {}

    def _combo(self) -> dict[str, tuple[str, str]]:
        return {n: ("currentIndex", "currentIndexChanged") for n in ("QComboBox", "ctkComboBox")}

    def _prepare(self) -> None:
        """Set the widget's choices, range or node types, as Slicer's connectors do."""
        name = self.widget.className()
        if name == "qMRMLNodeComboBox":
            self.widget.nodeTypes = _node_types(self.parameter.kind)
        elif name in ("QComboBox", "ctkComboBox"):
            self.widget.clear()
            for choice in self._choices():
                self.widget.addItem(_label(choice))
        elif self._property == "value":
            self._prepare_number(name)
        elif name == "QPushButton":
            self.widget.checkable = True

    def _choices(self) -> list[Any]:
        choice = self.parameter.annotation(Choice)
        if choice is None and not issubclass(self.parameter.type, enum.Enum):
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        return list(choice.choices) if choice else list(self.parameter.type)

    def _prepare_number(self, name: str) -> None:
        limits = [a for a in self.parameter.annotations if isinstance(a, WithinRange)]
        least = max((a.minimum for a in limits), default=float("-inf"))
        most = min((a.maximum for a in limits), default=float("inf"))
        if name in ("ctkSliderWidget", "QSlider") and float("inf") in (most, -least):
            raise RuntimeError(f"Cannot have a connection to {name} where the type is unbounded.")
        whole = name in ("QSpinBox", "QSlider")
        self.widget.minimum = max(least, -(2**31)) if whole else least
        self.widget.maximum = min(most, 2**31 - 1) if whole else most
        if not whole and self.parameter.type is int:
            self.widget.decimals = 0
        for kind, attribute in ((Decimals, "decimals"), (SingleStep, "singleStep")):
            if self.parameter.annotation(kind):
                setattr(self.widget, attribute, self.parameter.annotation(kind).value)

    def value(self) -> Any:
        if not self._property:
            return self.widget.currentNode()
        raw = getattr(self.widget, self._property)
        if self._property == "currentIndex":
            return self._choices()[raw]
        return self.parameter.type(raw)

    def show(self, value: Any) -> None:
        if not self._property:
            self.widget.setCurrentNode(value)
        elif self._property == "currentIndex":
            self.widget.currentIndex = self._choices().index(value)
        elif self._property != "text" or self.widget.text != value:
            setattr(self.widget, self._property, value if isinstance(value, (bool, int, float)) else str(value))

    def listen(self, take: Callable[[Binding], None]) -> None:
        self._slot = lambda: take(self)
        if self._signal:
            getattr(self.widget, self._signal).connect(self._slot)

    def stop(self) -> None:
        if self._signal:
            getattr(self.widget, self._signal).disconnect(self._slot)


def _label(choice: Any) -> str:
    if isinstance(choice, enum.Enum):
        return choice.label() if hasattr(choice, "label") else choice.name
    return str(choice)


def _node_types(kind: Any) -> tuple[str, ...]:
    if isinstance(kind, Union):
        own = tuple(k for k in kind.kinds if k.types != (type(None),))
        return tuple(k.types[0].__name__ for k in own) if all(isinstance(k, NodeKind) for k in own) else ()
    return (kind.types[0].__name__,) if isinstance(kind, NodeKind) else ()
