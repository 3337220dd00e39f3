"""Vertebral fracture quantification on CT: spine curve, straightened image, six key points, Genant ratio.

World coordinates are RAS millimetres everywhere inside; LPS exists only at file boundaries.
Importing the package needs nothing but what 3D Slicer bundles (numpy, SimpleITK);
torch and the rest are imported where they are used.
"""

__version__ = "0.1.0"
