"""The study as MRML nodes, in a scene that is handed in: desktop Slicer's, or slicer-core's behind a browser."""
