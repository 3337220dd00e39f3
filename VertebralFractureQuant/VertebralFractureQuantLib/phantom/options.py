"""The options of a phantom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhantomOptions:
    """Options of a phantom; an option that is None is drawn at random.

    Attributes
    ----------
    scoliosis_deg : Cobb angle of the largest lateral curve.
    fracture_rate : share of the vertebrae T4 to L5 that are fractured. One in six of the others is still slightly
        wedged or hollow (G <= 0.8).
    field_of_view : "whole", "chest", "abdomen" or "spine" (a tight crop around the spine).
    spacing_mm : pixel size in the slice, and distance between slices.
    noise_hu : approximate standard deviation of the noise.
    healed : make the same patient before the fractures; all else is drawn as with them.
    pathology : factor on the frequency of cement, metal, Schmorl nodes and similar findings; 0 gives none.
    later : seed of a later examination of the same patient (`follow_up`): other posture, scanner and field of view, and
        new fractures. None gives the first examination.
    new_fracture_rate : share of the vertebrae T4 to L5 without a fracture that are fractured until then.
    """

    scoliosis_deg: float | None = None
    fracture_rate: float = 0.2
    field_of_view: str | None = None
    spacing_mm: tuple[float, float] | None = None
    noise_hu: float | None = None
    healed: bool = False
    pathology: float = 1.0
    later: int | None = None
    new_fracture_rate: float = 0.15
