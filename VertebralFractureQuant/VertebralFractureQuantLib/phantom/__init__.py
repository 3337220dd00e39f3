"""Synthetic CT with exact truth: random patients, painted and scanned (`make_phantom`)."""

from .options import PhantomOptions
from .volume import PhantomTruth, make_phantom, phantom_traits

__all__ = ["PhantomOptions", "PhantomTruth", "make_phantom", "phantom_traits"]
