"""The methods by name, and the networks of an analysis with one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import VFQError

if TYPE_CHECKING:
    from ..analysis import Models

OURS = "anchor-free"
FOR_COMPARISON = (
    "The method {name} is here to be compared with ours. How far its networks are trained, and how well it measures, "
    "is in Documentation/methods.md."
)
METHODS = {"anchor-boxes": "anchor_boxes", "m-scn": "m_scn"}  # name: module of this room
CURVE_ROLES = ("localizer", "refiner")  # networks that all methods share


def method(name: str) -> ModuleType:
    """Return the module of a method. VFQError `unknown_method`."""
    if name not in METHODS:
        known = ", ".join((OURS, *METHODS))
        raise VFQError("unknown_method", f"There is no method {name!r}. Use one of {known}.")
    return import_module(f".{METHODS[name]}", __package__)


def roles_of(name: str) -> tuple[str, ...]:
    """Return the roles of the networks that a method uses. VFQError `unknown_method`."""
    return (*CURVE_ROLES, *(("detector",) if name == OURS else method(name).ROLES))


def method_of(roles: Iterable[str]) -> str | None:
    """Return the method that used networks of these roles; None if no network found vertebrae."""
    held = [role for role in roles if role not in CURVE_ROLES]
    if not held:
        return None
    return next((name for name in METHODS if held[0].startswith(name)), OURS)


def check_weights(name: str, weights: Path | None = None) -> None:
    """Raise VFQError `unknown_method` or `no_method_weights` unless the method `name` can run with these weights."""
    if name != OURS:
        for role in method(name).ROLES:
            _weights_of(name, role, weights)


def load_method(name: str, device: str = "auto", weights: Path | None = None, threads: int | None = None) -> Models:
    """Load the networks of an analysis with the method `name`; `analysis.load_models` for ours.

    The stamps name the networks that the method uses: those of our curve, and its own.
    weights : folder of networks that replace the shipped ones, as for `analysis.load_models`.
    VFQError `unknown_method`, `no_method_weights`, and those of `analysis.load_models`.
    """
    from ..analysis.models import engine_needed, load_models
    from ..networks.loading import load

    if name == OURS:
        return load_models(device, weights, threads)
    used = method(name)
    paths = {role: _weights_of(name, role, weights) for role in used.ROLES}
    models = load_models(device, weights, threads, used.ROLES)
    with engine_needed():
        loaded = [load(role, models.device, paths[role], threads) for role in used.ROLES]
    ours = tuple(stamp for stamp in models.stamps if stamp.role != "detector")
    finder: Callable = partial(used.find, tuple(network for network, _ in loaded))
    notes = (*models.notes, FOR_COMPARISON.format(name=name))
    return replace(models, stamps=(*ours, *(stamp for _, stamp in loaded)), finder=finder, notes=notes)


def _weights_of(name: str, role: str, folder: Path | None) -> Path | None:
    """Return the user's weights of a role, or None for the shipped ones. VFQError `no_method_weights`."""
    from ..networks.weights import weights_folder

    own = folder / f"{role}.safetensors" if folder else None
    if own and own.is_file():
        return own
    if (weights_folder() / f"{role}.safetensors").is_file():
        return None
    raise VFQError(
        "no_method_weights",
        f"The method {name} has no weights: {role}.safetensors is missing. Train it (vfq train {role} --output FOLDER) "
        "and give the folder with all its networks as --weights, or use the method anchor-free.",
    )
