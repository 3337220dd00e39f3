"""One image, tabs of several sizes: how the image of a view lies in a tab, and the pixel that a tab points at.

The server renders each view once, in the size of the tab that was used last. Other tabs show the whole image with black
margins. Places in a tab are in its pixels from the lower left corner of the view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .views import ReviewViews

SMALLEST = 20  # pixels; a view that is hidden in a tab reports less, and keeps the size that it had


def to_image(place: ArrayLike, area: ArrayLike, size: ArrayLike) -> np.ndarray:
    """Return the pixel `(2,)` of an image of `size` that is at a place of a tab's view.

    place : x and y in the view.
    area : width and height of the view; the image fills it as far as its shape allows, in its middle.
    """
    at, whole, pixels = (np.asarray(pair, float) for pair in (place, area, size))
    pixel: np.ndarray = pixels / 2 + (at - whole / 2) / (whole / pixels).min()
    return pixel


class Sizes:
    """Lets several tabs show and use the same views.

    Parameters
    ----------
    views : the views of the page.
    state : the page's state; `size_of` is the tab whose size the views have.
    """

    def __init__(self, views: ReviewViews, state: Any):
        self._state = state
        self._views = {view.get_singleton_tag(): view for view in views.with_prior}
        self._adapters = {name: _adapter(views, name) for name in self._views}
        for adapter in self._adapters.values():
            _receive(adapter)
        state.size_of = ""

    def claim(self, tab: str, sizes: Mapping[str, Mapping[str, float]]) -> None:
        """Give the views the sizes that they have in a tab: for each name `w`, `h` and `p`, the pixel ratio."""
        for name, size in sizes.items():
            self._adapters[name].update_size(tab, size)
        with self._state:
            self._state.size_of = tab

    def pinch(
        self, name: str, before: Sequence[float], after: Sequence[float], factor: float, area: Sequence[float]
    ) -> None:
        """Zoom and move a view: what was under the place `before` is then under `after`, `factor` times larger."""
        node = self._views[name].get_view_node()
        size = np.array(node.GetDimensions()[:2], float)
        field = np.array(node.GetFieldOfView())
        larger = field.copy()
        larger[:2] /= factor
        share, goal = (to_image(place, area, size) / size - 0.5 for place in (before, after))
        origin = np.array(node.GetXYZOrigin())
        origin[:2] += field[:2] * share - larger[:2] * goal
        node.SetFieldOfView(*larger)
        node.SetXYZOrigin(*origin)


def _adapter(views: ReviewViews, name: str) -> Any:
    """Return what receives a view's events and sends its images."""
    factories = views.app.view_manager._factories
    return next(f.get_factory_view(name).view_adapter for f in factories if f.has_view(name))


def _receive(adapter: Any) -> None:
    """Make an adapter ignore the sizes of hidden views, and take events from tabs of any size."""
    resize, interact = adapter.update_size, adapter.on_interaction

    def update_size(origin: str, size: Mapping[str, float]) -> None:
        """Resize the view, unless it is hidden in the tab; a tab that was just opened needs the image in any case."""
        asked = (int(size["w"]), int(size["h"]), size["p"])
        if asked == adapter._current_size:
            adapter.schedule_render()
        elif min(asked[:2]) >= SMALLEST:
            resize(origin, size)

    def on_interaction(origin: str, event: dict[str, Any]) -> None:
        """Pass an event on; the adapter itself scales its place to pixels of the image."""
        if "x" in event and "w" in event:
            size = np.array(adapter.image_size) / adapter.scale_factor
            x, y = to_image((event["x"], event["y"]), (event["w"], event["h"]), size)
            event |= {"x": float(x), "y": float(y), "w": float(size[0]), "h": float(size[1])}
        interact(origin, event)

    adapter.update_size, adapter.on_interaction = update_size, on_interaction
