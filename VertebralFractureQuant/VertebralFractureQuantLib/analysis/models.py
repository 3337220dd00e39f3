"""The networks of an analysis: localizer, refiner and detector, loaded on one device, with their identities.

Each network is a function from arrays to arrays (`networks.predictor`). The device and the weights are chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import VFQError
from ..spine.butterfly import import_shapely
from ..spine.record import ModelStamp

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..networks.predictor import Predictor
    from ..spine.curve import SpineCurve
    from .found import Found

ROLES = ("localizer", "refiner", "detector")

Finder = Callable[["CTVolume", "SpineCurve"], "Found"]


@dataclass(frozen=True)
class Models:
    """The networks, loaded on a device, and their identities (`stamps`).

    finder : another method (see the room `methods`) that finds the vertebrae along a curve instead of the detector.
    """

    localizer: Predictor
    refiner: Predictor
    detector: Predictor
    stamps: tuple[ModelStamp, ...]
    device: str
    notes: tuple[str, ...] = ()  # decisions made while loading, in sentences for the user
    finder: Finder | None = None


def load_models(
    device: str = "auto", weights: Path | None = None, threads: int | None = None, others: Sequence[str] = ()
) -> Models:
    """Load the networks; if the GPU has too little free memory, load them on the CPU, with a note.

    weights : folder with files ROLE.safetensors, which replace the shipped weights of these roles; None for the weights
        in use (`networks.installed`), which are the shipped ones unless the user chose others.
    threads : threads that compute them on a CPU; None for one on each core.
    others : further roles of which the folder may have weights; they are not loaded here.
    VFQError `bad_weights`, `unknown_weights`, `no_device`, `missing_dependency`.
    """
    from ..networks.devices import DeviceMemoryError, check_free_memory
    from ..networks.installed import chosen

    device = choose_device(device)
    weights = weights or chosen()
    try:
        check_free_memory(device)
        return _loaded(device, weights, threads, others)
    except DeviceMemoryError as lack:
        return replace(_loaded("cpu", weights, threads, others), notes=(instead_on_cpu(lack),))


def choose_device(device: str = "auto") -> str:
    """Return the device for "auto" | "cpu" | "cuda" | "mps". VFQError `no_device` if it is not available."""
    from ..networks.devices import accelerators

    if device == "cpu":
        return device
    there = accelerators()
    if device == "auto":
        return next((name for name, unfit in there.items() if not unfit), "cpu")
    unfit = there.get(device, f"The device {device!r} is not available here. Use the device auto or cpu.")
    if unfit:
        raise VFQError("no_device", unfit)
    return device


def instead_on_cpu(lack: VFQError) -> str:
    """Return the note for an analysis that ran on the CPU because the GPU lacked memory."""
    return f"{lack.message} The CPU was used instead; it takes longer."


def _loaded(device: str, folder: Path | None, threads: int | None, others: Sequence[str]) -> Models:
    import scipy.ndimage  # slow to import: with the networks, which are loaded while a scan is read
    import scipy.special  # noqa: F401

    from ..networks.loading import load

    import_shapely()  # the detection needs it: fail now rather than after the work
    known = (*ROLES, *others)
    given = {role: folder / f"{role}.safetensors" for role in known} if folder else {}
    given = {role: path for role, path in given.items() if path.is_file()}
    if folder and not given:
        name, roles = folder.resolve().name, ", ".join(known)
        raise VFQError(
            "bad_weights",
            f"The folder {name!r} has no file ROLE.safetensors, where ROLE is one of {roles}. Give the folder with the "
            "weights, or a name that vfq weights list shows.",
        )
    with engine_needed():
        loaded = [load(role, device, given.get(role), threads) for role in ROLES]
    localizer, refiner, detector = (network for network, _ in loaded)
    return Models(localizer, refiner, detector, tuple(stamp for _, stamp in loaded), device)


@contextmanager
def engine_needed() -> Iterator[None]:
    """Turn the ImportError of a missing engine into VFQError `missing_dependency`."""
    try:
        yield
    except ImportError as error:
        raise VFQError(
            "missing_dependency",
            f"A package that the networks need is missing: {error}. On a CPU install openvino: pip install openvino; "
            "in 3D Slicer's Python console slicer.util.pip_install('openvino'). On a GPU, and for weights without an "
            ".onnx file beside them, install torch and safetensors.",
        ) from error
