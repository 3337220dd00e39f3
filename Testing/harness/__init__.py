"""A stand-in for the desktop application, so that the scripted module is tested without 3D Slicer and without a window.

Real are: MRML, the slice views and their markups widget (slicer-core), Qt (PySide6, offscreen) and most of
`slicer.util`. Stand-ins are: PythonQt's manners (`pythonqt`), ctk and qMRML widgets (`ctk_widgets`, `mrml_widgets`),
the application (`application`, `layout`), and the Python that Slicer has and slicer-core lacks (`scripted`,
`parameter_node`, `installing`). `desktop.Desktop` is what tests hold. It is made to fail where PythonQt would fail.
"""
