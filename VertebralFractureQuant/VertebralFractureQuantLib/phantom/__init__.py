"""Synthetic CT with exact answers: a random patient, painted and scanned (`make_phantom`)."""

from .anatomy import PhantomOptions
from .volume import PhantomTruth, make_phantom, phantom_traits

__all__ = ["PhantomOptions", "PhantomTruth", "make_phantom", "phantom_traits"]
