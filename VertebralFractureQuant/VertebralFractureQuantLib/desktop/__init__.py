"""The desktop face: the panels of the 3D Slicer module. They show and edit a study, but measure nothing themselves."""
