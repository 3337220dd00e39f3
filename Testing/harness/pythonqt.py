"""PySide6 with PythonQt's behaviour: properties are attributes, signals and slots are named by their C++ signature.

The module under test holds wrappers; `_real` is the PySide6 object (for a wrapper class: the PySide6 class) behind a
wrapper. Each property, signal and slot is looked up in the real Qt meta-object. A signal that does not exist raises,
where PythonQt only prints. An exception in a slot is stored in `slot_errors`, where PythonQt prints it and continues;
the test then fails at its end.
"""

# ruff: noqa: N802 (names of Qt and Slicer)

from __future__ import annotations

import enum
import functools
import re
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import shiboken6
from PySide6 import QtCore

slot_errors: list[Exception] = []
answers: dict[str, Any] = {}  # set by a test: the result of a dialog, or a function of its arguments
asked: list[tuple[str, tuple[Any, ...]]] = []  # the dialogs that were opened
BLOCKING = {
    "QMessageBox": ("information", "question", "warning", "critical", "about"),
    "QFileDialog": ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"),
    "QInputDialog": ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"),
    "QColorDialog": ("getColor",),
}
_classes: dict[type, QtType] = {}
_alive: weakref.WeakValueDictionary[int, QtObject] = weakref.WeakValueDictionary()
_connections: dict[int, list[tuple[str, Any, Any]]] = {}


class UnansweredDialogError(AssertionError):
    """A dialog was opened that would wait for a user for ever."""


class EnumInt(int):
    """An enumerator: an int, as in PythonQt, that PySide6 accepts too."""

    _real: enum.Enum

    @classmethod
    def of(cls, real: enum.Enum) -> EnumInt:
        made = cls(real.value)
        made._real = real
        return made

    def __or__(self, other: int) -> int:
        same = isinstance(other, EnumInt) and type(other._real) is type(self._real)
        return EnumInt.of(self._real | other._real) if same and isinstance(self._real, enum.Flag) else int(self) | other


# -- converting values between PythonQt and PySide6


def to_python(value: Any) -> Any:
    """Convert a value of Qt as PythonQt does: wrappers, ints for enumerators, tuples for lists."""
    if isinstance(value, enum.Enum):
        return EnumInt.of(value)
    if isinstance(value, (list, tuple)):
        return tuple(to_python(each) for each in value)
    return wrap(value) if isinstance(value, shiboken6.Object) else value


def to_qt(value: Any) -> Any:
    """Convert a value of the module under test for PySide6."""
    if isinstance(value, QtObject):
        return value._living()
    if isinstance(value, EnumInt):
        return value._real
    if isinstance(value, QtType):
        return value._real
    if isinstance(value, (list, tuple)):
        return [to_qt(each) for each in value]
    return guarded(value) if callable(value) and not isinstance(value, type) else value


def wrap(real: Any) -> QtObject:
    """Return the wrapper of a PySide6 object; the same wrapper as long as it is referenced."""
    if not isinstance(real, QtCore.QObject):
        return _new_wrapper(real)
    if isinstance(getattr(real, "_wrapper", None), QtObject):
        return real._wrapper
    pointer = shiboken6.getCppPointer(real)[0]
    known = _alive.get(pointer)
    if known is None or not shiboken6.isValid(known._real):
        known = _alive[pointer] = _new_wrapper(real)
    return known


def _new_wrapper(real: Any) -> QtObject:
    made = object.__new__(class_of(type(real)))
    object.__setattr__(made, "_real", real)
    return made


def class_of(real: type) -> QtType:
    """Return the wrapper class of a PySide6 class or a stand-in; wrapper classes do not inherit from each other."""
    if real not in _classes:
        _classes[real] = QtType(real.__name__, (QtObject,), {"_real": real, "__doc__": real.__doc__})
    return _classes[real]


def is_native(real: type) -> bool:
    """Return True for a class of PySide6, False for a stand-in."""
    return real.__module__.startswith("PySide6")


# -- calls


def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call Qt. ValueError for keyword arguments and for arguments that no overload accepts."""
    if kwargs:
        raise ValueError(f"{_name(function)} takes no keyword arguments in PythonQt: {', '.join(kwargs)}")
    try:
        return to_python(_called(function, [to_qt(each) for each in args]))
    except TypeError as e:
        if not _is_refusal(e):
            raise
        raise ValueError(f"No overload of {_name(function)} accepts {args}: {e}") from e


def _called(function: Callable[..., Any], args: list[Any]) -> Any:
    try:
        return function(*args)
    except TypeError as e:
        with_enums = _with_enums(str(e), args)
        if with_enums is None:
            raise
        return function(*with_enums)


def _is_refusal(error: TypeError) -> bool:
    """True if the call itself was wrong, not the code that it ran."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code.co_filename == __file__


def _with_enums(refusal: str, args: list[Any]) -> list[Any] | None:
    """PythonQt accepts ints as enumerators: convert them as the signatures in PySide6's error message require."""
    for signature in re.findall(r"^\s+\S+?\((.*)\)$", refusal.partition("Supported signatures:")[2], re.MULTILINE):
        wanted = [(part.partition(":")[2] or part).partition("=")[0].strip() for part in _split(signature)]
        if len(wanted) < len(args):
            continue
        made = [_as_enum(arg, name) for arg, name in zip(args, wanted, strict=False)]
        if made != args or [type(m) for m in made] != [type(a) for a in args]:
            return made
    return None


def _split(signature: str) -> list[str]:
    return [part for part in re.split(r",\s*(?![^\[]*\])", signature) if part not in ("/", "*")]


def _as_enum(value: Any, names: str) -> Any:
    if isinstance(value, enum.Enum) and "int" in names and "PySide6" not in names:
        return int(value.value)
    for name in re.findall(r"PySide6\.[\w.]+", names) if isinstance(value, int) and type(value) is not bool else ():
        found = functools.reduce(lambda at, part: getattr(at, part, None), name.split(".")[2:], _module(name))
        if isinstance(found, enum.EnumMeta):
            return found(value)
    return value


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(".".join(name.split(".")[:2]))


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function))


def guarded(function: Callable[..., Any]) -> Callable[..., None]:
    """Wrap a slot as PythonQt calls it: functions and methods get no surplus arguments; exceptions do not propagate."""
    if not callable(function):
        raise TypeError(f"Not callable: {function!r}")

    def slot(*args: Any) -> None:
        try:
            function(*to_python(args)[: _capacity(function)])
        except Exception as e:
            traceback.print_exc()
            slot_errors.append(e)

    return slot


def _capacity(function: Any) -> int | None:
    """The largest number of arguments that a slot gets; None for all, as for partials and other callable objects."""
    if not isinstance(function, (types.FunctionType, types.MethodType)):
        return None
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & 0x04:
        return None
    return code.co_argcount - isinstance(function, types.MethodType)


class Method:
    """A method of a Qt object, bound to its wrapper."""

    def __init__(self, owner: QtObject, name: str):
        self.__self__ = owner
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return call(getattr(self.__self__._living(), self.__name__), args, kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and (self.__self__, self.__name__) == (other.__self__, other.__name__)

    def __hash__(self) -> int:
        return hash((self.__self__, self.__name__))


class BoundSignal:
    """A signal as an attribute, `spin.valueChanged.connect(f)`; a call emits it."""

    def __init__(self, owner: QtObject, name: str):
        self._owner = owner
        self._signature = next(s for s in signatures(owner._real) if s.partition("(")[0] == name)
        self._signal = getattr(owner._real, name)

    def connect(self, function: Any) -> bool:
        return self._owner.connect(self._signature, function)

    def disconnect(self, function: Any) -> bool:
        return self._owner.disconnect(self._signature, function)

    def emit(self, *args: Any) -> None:
        self._signal.emit(*to_qt(args))

    __call__ = emit


# -- the meta-object


def declared(real: QtCore.QObject) -> set[str]:
    """Return the names of the signals, slots and invokable methods in an object's meta-object."""
    return {each.partition("(")[0] for each in _methods(real)}


def signatures(real: QtCore.QObject) -> list[str]:
    """Return the signatures of an object's signals, as written in the C++ header."""
    meta = real.metaObject()
    aliases = _aliases(type(real))
    signal = QtCore.QMetaMethod.MethodType.Signal
    found = [each for i, each in enumerate(_methods(real)) if meta.method(i).methodType() == signal]
    return [next((c for c, s in aliases.items() if s == each), each) for each in found]


def _methods(real: QtCore.QObject) -> list[str]:
    meta = real.metaObject()
    return [meta.method(i).methodSignature().data().decode() for i in range(meta.methodCount())]


def _aliases(real: type) -> dict[str, str]:
    """A stand-in's C++ signatures with VTK classes, and the signatures with Python objects in its meta-object."""
    written = [s for base in real.__mro__ for s in base.__dict__.get("SIGNATURES", ())]
    return {s: re.sub(r"vtk\w+\*|qMRML\w+\*", "PyObject", s) for s in written}


def signal_in_meta_object(real: QtCore.QObject, signature: str) -> str:
    """Return a signal's signature in the meta-object. AttributeError if it is missing; PythonQt would only print."""
    normal = QtCore.QMetaObject.normalizedSignature(signature)
    normal = normal if isinstance(normal, str) else bytes(normal).decode()
    if normal not in signatures(real):
        near = [s for s in signatures(real) if s.partition("(")[0] == normal.partition("(")[0]]
        raise AttributeError(f"{class_name(real)} has no signal {signature}; near: {near or signatures(real)}")
    return _aliases(type(real)).get(normal, normal)


def slot_in_meta_object(real: QtCore.QObject, signature: str) -> str:
    """Return a slot's name. AttributeError if the meta-object has no such slot."""
    normal = _aliases(type(real)).get(signature, signature)
    if real.metaObject().indexOfMethod(normal) < 0:
        raise AttributeError(f"{class_name(real)} has no slot {signature}")
    return signature.partition("(")[0]


def class_name(real: QtCore.QObject) -> str:
    """Return the name of an object's C++ class, also for a Python subclass."""
    return next(c.__name__ for c in type(real).__mro__ if not c.__dict__.get("_is_delegate"))


def find_property(real: QtCore.QObject, name: str) -> QtCore.QMetaProperty | None:
    """Return the declared property of that name; "name" is short for "objectName"."""
    meta = real.metaObject()
    for each in (name, "objectName") if name == "name" else (name,):
        index = meta.indexOfProperty(each)
        if index >= 0:
            return meta.property(index)
    return None


def read_property(real: QtCore.QObject, name: str) -> Any:
    """Return a property's value, by its getter if PySide6 does not know the type."""
    try:
        return to_python(real.property(name))
    except RuntimeError:
        capital = name[0].upper() + name[1:]
        getter = next(g for g in (name, "is" + capital, "has" + capital) if hasattr(real, g))
        return to_python(getattr(real, getter)())


def write_property(real: QtCore.QObject, found: QtCore.QMetaProperty, value: Any) -> None:
    """Write a declared property, with PythonQt's loose conversion. AttributeError if that is impossible."""
    if not found.isWritable():
        raise AttributeError(f"{class_name(real)}.{found.name()} is read-only")
    try:
        done = real.setProperty(found.name(), _coerced(found, value))
    except (TypeError, ValueError) as e:
        raise AttributeError(f"{class_name(real)}.{found.name()} cannot be {value!r}: {e}") from e
    if not done:
        raise AttributeError(f"{class_name(real)}.{found.name()} cannot be {value!r}")


def _coerced(found: QtCore.QMetaProperty, value: Any) -> Any:
    if found.isEnumType():
        return int(value)
    kind = {"QString": str, "bool": bool, "int": int, "double": float, "QStringList": _strings}.get(found.typeName())
    return kind(value) if kind else to_qt(value)


def _strings(values: Any) -> list[str]:
    if isinstance(values, str):
        raise TypeError("expected a list of strings")
    return [str(each) for each in values]


# -- wrappers


class QtType(type):
    """A Qt class, whose attributes are enumerators, static functions and unbound methods."""

    _real: type

    def __getattr__(cls, name: str) -> Any:
        real = cls.__dict__.get("_real") or next(b.__dict__["_real"] for b in cls.__mro__ if "_real" in b.__dict__)
        if name in BLOCKING.get(real.__name__, ()):
            return functools.partial(ask, name)
        if name in enumerators(real):
            return enumerators(real)[name]
        found = None if name.startswith("__") else getattr(real, name, None)
        if isinstance(found, type) and not isinstance(found, enum.EnumMeta):
            return class_of(found)
        if not callable(found):
            raise AttributeError(f"{cls.__name__} has no attribute {name}")
        return lambda *args, **kwargs: call(found, args, kwargs)


@functools.cache
def enumerators(real: type) -> dict[str, EnumInt]:
    """Return all enumerators of a class and its bases in one dictionary."""
    found: dict[str, EnumInt] = {}
    for name in dir(real):
        kind = getattr(real, name, None)
        if isinstance(kind, enum.EnumMeta):
            found |= {member: EnumInt.of(value) for member, value in kind.__members__.items()}
    return found


def ask(name: str, *args: Any, **kwargs: Any) -> Any:
    """Open a dialog that waits for a user; the test answers it."""
    if kwargs:
        raise ValueError(f"{name} takes no keyword arguments in PythonQt: {', '.join(kwargs)}")
    asked.append((name, args))
    if name not in answers:
        raise UnansweredDialogError(f"{name}{args} was opened, but the test has no answer for it")
    answer = answers[name]
    return answer(*args) if callable(answer) else answer


class QtObject(metaclass=QtType):
    """Any Qt object or value. Subclasses of the module override virtual functions of Qt's classes."""

    _real: Any

    def __init__(self, *args: Any, **kwargs: Any):
        generated = next(c for c in type(self).__mro__ if "_real" in c.__dict__)
        maker = generated._real if generated is type(self) else _delegate(type(self), generated._real)
        if kwargs:
            raise ValueError(f"{generated.__name__} takes no keyword arguments in PythonQt: {', '.join(kwargs)}")
        try:
            real = _called(maker, [to_qt(each) for each in args])
        except TypeError as e:
            raise ValueError(f"No constructor of {generated.__name__} accepts {args}: {e}") from e
        object.__setattr__(self, "_real", real)
        if generated is not type(self):
            real._wrapper = self
        elif isinstance(real, QtCore.QObject):
            _alive[shiboken6.getCppPointer(real)[0]] = self

    def _living(self) -> Any:
        if not shiboken6.isValid(self._real):
            raise ValueError(f"The {type(self).__name__} was destroyed")
        return self._real

    # -- attributes

    def __getattr__(self, name: str) -> Any:
        if name == "_real" or name.startswith("__"):
            raise AttributeError(name)
        real = self._living()
        if not isinstance(real, QtCore.QObject):
            return self._value_attribute(name)
        found = find_property(real, name)
        if found:
            return read_property(real, found.name())
        if name in ("exec_", "exec") and hasattr(real, "exec"):
            return functools.partial(ask, "exec", self)
        if self._offers(name):
            signal = isinstance(getattr(real, name), QtCore.SignalInstance)
            return BoundSignal(self, name) if signal else Method(self, name)
        return self._dynamic(name)

    def _offers(self, name: str) -> bool:
        """True for all methods of Qt's classes; for ctk and qMRML only for signals, slots and invokable methods."""
        for base in type(self._real).__mro__:
            if name in base.__dict__ and not base.__dict__.get("_is_delegate"):
                return is_native(base) or name in declared(self._real)
        return False

    def _value_attribute(self, name: str) -> Any:
        if name in enumerators(type(self._real)):
            return enumerators(type(self._real))[name]
        if not hasattr(self._real, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return Method(self, name)

    def _dynamic(self, name: str) -> Any:
        """Return a dynamic property, a child by its name, or an enumerator."""
        real = self._real
        if name.encode() in [bytes(each) for each in real.dynamicPropertyNames()]:
            return to_python(real.property(name))
        for child in real.children():
            if child.objectName() == name:
                return wrap(child)
        if name in enumerators(type(real)):
            return enumerators(type(real))[name]
        raise AttributeError(f"{class_name(real)} has no attribute {name}")

    def __setattr__(self, name: str, value: Any) -> None:
        real = self.__dict__.get("_real")
        found = find_property(self._living(), name) if isinstance(real, QtCore.QObject) else None
        if found:
            write_property(real, found, value)
        elif "_real" not in type(self).__dict__:  # a class of the module under test
            object.__setattr__(self, name, value)
        elif isinstance(real, QtCore.QObject) and name.encode() in [bytes(n) for n in real.dynamicPropertyNames()]:
            real.setProperty(name, to_qt(value))
        else:
            raise AttributeError(f"{type(self).__name__} has no property {name}")

    # -- methods that PythonQt adds to each QObject

    def connect(self, signal: str, *slot: Any) -> bool:
        """Connect a signal to a function, or to another object's slot by its signature."""
        function, written = _slot(slot)
        real = self._living()
        in_meta = signal_in_meta_object(real, signal)
        made = QtCore.QObject.connect(real, QtCore.SIGNAL(in_meta), guarded(function))
        _kept(real).append((in_meta, written, made))
        return True

    def disconnect(self, signal: str, *slot: Any) -> bool:
        """Undo `connect`, for all connections of the signal without a function. False if there was none."""
        real = self._living()
        in_meta = signal_in_meta_object(real, signal)
        written = _slot(slot)[1] if slot else None
        gone = [c for c in _kept(real) if c[0] == in_meta and (written is None or c[1] == written)]
        for each in gone if written is None else gone[:1]:
            QtCore.QObject.disconnect(each[2])
            _kept(real).remove(each)
        return bool(gone)

    def className(self) -> str:
        return class_name(self._living())

    def inherits(self, name: str) -> bool:
        return name in {c.__name__ for c in type(self._living()).__mro__ if not c.__dict__.get("_is_delegate")}

    def findChild(self, kind: Any, name: str = "") -> QtObject | None:
        return next((c for c in self._descendants(kind) if not name or c.objectName == name), None)

    def findChildren(self, kind: Any, name: str = "") -> tuple[QtObject, ...]:
        return tuple(c for c in self._descendants(kind) if not name or c.objectName == name)

    def _descendants(self, kind: Any) -> Iterator[QtObject]:
        wanted = kind if isinstance(kind, str) else kind.__name__
        for child in map(wrap, self._living().findChildren(QtCore.QObject)):
            if child.inherits(wanted):
                yield child

    def property(self, name: str) -> Any:
        real = self._living()
        found = real.metaObject().indexOfProperty(name) >= 0 or name.encode() in map(bytes, real.dynamicPropertyNames())
        return read_property(real, name) if found else None

    def delete(self) -> None:
        shiboken6.delete(self._living())

    # -- comparing

    def __eq__(self, other: object) -> bool:
        if other is None:
            return not shiboken6.isValid(self._real)
        if not isinstance(other, QtObject):
            return NotImplemented
        both = self._real, other._real
        return both[0] is both[1] or (not isinstance(both[0], QtCore.QObject) and both[0] == both[1])

    def __hash__(self) -> int:
        return hash(id(self._real))

    def __bool__(self) -> bool:
        if not shiboken6.isValid(self._real):
            return False
        value = not isinstance(self._real, QtCore.QObject)
        empty = "isNull" if value else "isEmpty" if self.inherits("QLayout") else ""
        return not getattr(self._real, empty)() if hasattr(self._real, empty) else True

    def __or__(self, other: Any) -> Any:
        return to_python(self._real | to_qt(other))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper>"


def _slot(slot: tuple[Any, ...]) -> tuple[Any, Any]:
    """The function to call, and the original arguments: a callable, or a receiver and its slot's signature."""
    if len(slot) == 1 and callable(slot[0]):
        return slot[0], slot[0]
    if len(slot) == 2 and isinstance(slot[0], QtObject):
        return Method(slot[0], slot_in_meta_object(slot[0]._living(), slot[1])), slot
    raise ValueError(f"Neither a callable nor a receiver and its slot: {slot}")


def _kept(real: QtCore.QObject) -> list[tuple[str, Any, Any]]:
    pointer = shiboken6.getCppPointer(real)[0]
    if pointer not in _connections:
        _connections[pointer] = []
        real.destroyed.connect(lambda *_: _connections.pop(pointer, None))
    return _connections[pointer]


def _delegate(written: type, real: type) -> type:
    """A PySide6 class with the virtual functions of the module's class; ctk and qMRML classes ignore them."""
    own = [c for c in written.__mro__ if isinstance(c, QtType) and "_real" not in c.__dict__ and c is not QtObject]
    names = {n for c in own for n, f in c.__dict__.items() if callable(f) and hasattr(real, n) and n[:2] != "__"}
    overrides = {n: _override(n, real) for n in names} if is_native(real) else {}
    return type(written.__name__, (real,), {"_is_delegate": True, "_wrapper": None, **overrides})


def _override(name: str, real: type) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Any:
        if self._wrapper is None:
            return getattr(real, name)(self, *args)
        try:
            return to_qt(getattr(self._wrapper, name)(*to_python(args)))
        except Exception as e:
            traceback.print_exc()
            slot_errors.append(e)
            return getattr(real, name)(self, *args)

    return method


# -- the modules


class FlatModule(types.ModuleType):
    """A module such as `qt`: the wrapper classes of several PySide6 modules or stand-ins, in one namespace."""

    def __init__(self, name: str, *sources: Any):
        super().__init__(name)
        self._sources = sources

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for source in self._sources:
            found = getattr(source, name, None)
            if isinstance(found, type) and issubclass(found, shiboken6.Object):
                return class_of(found)
            if callable(found) and not isinstance(found, type):
                return lambda *args, **kwargs: call(found, args, kwargs)
        raise AttributeError(f"module {self.__name__} has no attribute {name}")


def forget(real: QtCore.QObject) -> None:
    """Remove all connections that Python made to an object that outlives a test."""
    for _, _, made in _kept(real):
        QtCore.QObject.disconnect(made)
    _kept(real).clear()
