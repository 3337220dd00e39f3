"""What a worker of a cohort does with one scan: from its files to the finished folder of the case.

It is one function of plain data, `work_on`, the same on this computer and on a cluster. It measures by `measure_study`,
as `vfq analyze` does. A process holds at most two scans: one is read while the other one is measured.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import VFQError, as_coded
from ..methods.registry import OURS, check_weights, roles_of
from .engine import Engine, Progress
from .sources import content, files_of, signature
from .studies import Study, measure_study, without_paths

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..spine.record import SpineAnalysis

CASES, THUMBNAILS = "cases", Path("gallery", "thumbnails")
MOST_SCANS = 2  # that a process holds at a time


@dataclass(frozen=True)
class Task:
    """One scan to be measured.

    Attributes
    ----------
    case, path, files : as in the plan (`state.Planned`).
    known : hash of the content from which the existing result was made; the scan is not measured again if it is equal.
    alone : the process holds no other scan in the meantime, as a worker died while it had this one.
    """

    case: str
    path: str
    files: tuple[str, ...] | None = None
    known: str | None = None
    alone: bool = False


@dataclass(frozen=True)
class Settings:
    """What is the same for all scans of a run; the worker refuses if it would compute something else.

    Attributes
    ----------
    folder : the folder of the cohort, absolute.
    engine : the library functions to use; hashable, and importable by the worker.
    device : as for `load_models`.
    weights : folder of networks that replace the shipped ones.
    identity : role and SHA-256 of each network.
    trust_header : see `analysis.analyze`.
    method : how vertebrae are found (`methods.registry`).
    version : version of this program.
    """

    folder: str
    engine: Engine
    device: str = "auto"
    weights: str | None = None
    identity: tuple[tuple[str, str], ...] = ()
    trust_header: bool = False
    method: str = OURS
    version: str = __version__

    @property
    def key(self) -> str:
        """A hash of all that changes results: method, networks, options. The device and the version are left out."""
        method = () if self.method == OURS else (self.method,)  # results of before there were others stay valid
        told = json.dumps([self.identity, self.trust_header, *method])
        return hashlib.sha256(told.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Finished:
    """The result of one scan, as the state stores it.

    Attributes
    ----------
    status, message : "ok" or a failure code, and its sentence.
    unchanged : the content is that of the existing result, which stays.
    signature, content : of the files that were read, see `sources`.
    stamp, patient, rows : see `rows`.
    notes : decisions, such as which DICOM series was chosen and why others were not; they may contain UIDs.
    seconds : time by step.
    """

    case: str
    status: str = "ok"
    message: str = ""
    unchanged: bool = False
    signature: str = ""
    content: str = ""
    stamp: str = ""
    patient: dict[str, Any] = field(default_factory=dict)
    rows: bytes = b""
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


class _Slots:
    """Lets at most `MOST_SCANS` scans into a process; one that is alone takes all of them."""

    def __init__(self) -> None:
        self._free = MOST_SCANS
        self._changed = threading.Condition()

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Wait for `count` free slots, and hold them."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()


SLOTS = _Slots()
MEASURING = threading.Lock()  # one scan is measured at a time; the next one is read meanwhile


def work_on(task: Task, settings: Settings) -> Finished:
    """Measure one scan into `folder/cases/<case>/`, with its thumbnail. A failure is a result too."""
    with SLOTS.take(MOST_SCANS if task.alone else 1):
        try:
            return _work(task, settings)
        except Exception as error:
            failure = as_coded(error)
            return Finished(task.case, failure.code, without_paths(failure.message, Path(task.path)))


def _work(task: Task, settings: Settings) -> Finished:
    check_same_program(settings)
    started = time.perf_counter()
    files = files_of(Path(task.path), task.files)
    before, held = signature(files), content(files)
    hashed = time.perf_counter()
    if held == task.known:
        return Finished(task.case, unchanged=True, signature=before, content=held)
    engine = _ReadBefore(settings.engine, task, settings.trust_header)
    if signature(files_of(Path(task.path), task.files)) != before:
        raise VFQError(
            "scan_changed", "The scan changed while it was read. Run the same command again when it is complete."
        )
    read = time.perf_counter()
    seconds = {"hash": hashed - started, "read": read - hashed, "load": 0.0}
    with MEASURING:
        done = _measured(task, settings, engine, seconds)
    return replace(done, signature=before, content=held)


def _measured(task: Task, settings: Settings, engine: Engine, seconds: dict[str, float]) -> Finished:
    from .rows import case_rows, packed, stamp

    begun = time.perf_counter()
    output, notes = Path(settings.folder, CASES), list[str]()
    study = Study(Path(task.path), task.case, output, overwrite=True, trust_header=settings.trust_header, managed=True)
    networks = partial(_timed, _networks, settings.engine, settings.device, seconds=seconds)
    outcome = measure_study(study, engine, networks, note=notes.append)
    record, measured = outcome.record, time.perf_counter()
    steps = {**seconds, **{k: v for k, v in record.timing_s.items() if k not in ("read", "total")}}
    analysed = record.timing_s.get("total", 0.0) - record.timing_s.get("read", 0.0)
    steps["write"] = measured - begun - seconds["load"] - analysed
    if record.status != "ok":
        return Finished(task.case, record.status, record.message, notes=tuple(notes), seconds=steps)
    notes += thumbnail(output / task.case, Path(settings.folder, THUMBNAILS, f"{task.case}.jpg"))
    steps["thumbnail"] = time.perf_counter() - measured
    patient, rows = case_rows(output / task.case)
    told = stamp(output / task.case)
    return Finished(task.case, stamp=told, patient=patient, rows=packed(rows), notes=tuple(notes), seconds=steps)


class _ReadBefore:
    """An engine whose scan was read when it was made; a failure to read is raised when the scan is asked for."""

    def __init__(self, engine: Engine, task: Task, trust_header: bool):
        self._engine: Any = engine
        self._read: CTVolume | Exception
        try:
            self._read = engine.read_ct(Path(task.path), None, trust_header, files=task.files)
        except Exception as error:
            self._read = error

    def read_ct(self, *_: Any, **__: Any) -> CTVolume:
        """Return the scan."""
        if isinstance(self._read, Exception):
            raise self._read
        return self._read

    def load_models(self, device: str) -> Any:
        """See `Engine`."""
        return _networks(self._engine, device)

    def analyze(
        self, ct: CTVolume, models: Any, progress: Progress | None = None, trust_header: bool = False
    ) -> SpineAnalysis:
        """See `Engine`."""
        return self._engine.analyze(ct, models, progress, trust_header)


@lru_cache(maxsize=2)
def _networks(engine: Any, device: str) -> Any:
    """Load the networks once in a process."""
    return engine.load_models(device)


def _timed(load: Callable[..., Any], *arguments: Any, seconds: dict[str, float]) -> Any:
    """Return what `load` returns, and add the time that it took."""
    begun = time.perf_counter()
    loaded = load(*arguments)
    seconds["load"] = time.perf_counter() - begun
    return loaded


def thumbnail(folder: Path, path: Path) -> list[str]:
    """Draw the thumbnail of the case in `folder`; if that fails, return a note: the case is measured nevertheless."""
    try:
        from .thumbnails import write_thumbnail

        write_thumbnail(folder, path)
    except Exception as error:
        return [f"There is no thumbnail ({type(error).__name__})."]
    return []


def check_same_program(settings: Settings) -> None:
    """Raise VFQError `versions_differ` unless this process has the version and the networks of `settings`."""
    if settings.version != __version__:
        raise VFQError(
            "versions_differ",
            f"A worker has version {__version__} of this program, but the run was started by {settings.version}. "
            "Install the same version on all computers.",
        )
    if settings.identity and _identity(settings.weights, settings.method) != settings.identity:
        raise VFQError(
            "versions_differ",
            "A worker has other network weights than the computer that started the run. Install the same weights on "
            "all computers.",
        )


def networks_identity(weights: Path | None, method: str = OURS) -> tuple[tuple[str, str], ...]:
    """Return role and SHA-256 of a method's networks in the folder `weights`, with the shipped ones where it has none.

    weights : None for those in use.
    VFQError `bad_weights` if a file cannot be read, `unknown_weights`, `unknown_method`, `no_method_weights`.
    """
    from ..networks.installed import chosen
    from ..networks.weights import sha256, weights_folder

    found, weights = [], weights or chosen()
    check_weights(method, weights)
    for role in roles_of(method):
        given = weights / f"{role}.safetensors" if weights else None
        path = given if given and given.is_file() else weights_folder() / f"{role}.safetensors"
        try:
            found.append((role, sha256(path.read_bytes())))
        except OSError as error:
            raise VFQError(
                "bad_weights", f"The {role} weights cannot be read ({error.strerror}). Reinstall the program."
            ) from error
    return tuple(found)


@lru_cache(maxsize=2)
def _identity(weights: str | None, method: str) -> tuple[tuple[str, str], ...]:
    return networks_identity(Path(weights) if weights else None, method)
