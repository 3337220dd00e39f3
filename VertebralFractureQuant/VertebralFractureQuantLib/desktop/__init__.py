"""The desktop face: what the panels of the 3D Slicer module do; it holds no measurement of its own."""
