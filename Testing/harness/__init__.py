"""A stand-in for the desktop application, to test the scripted module without 3D Slicer and without a window.

MRML, the slice views and their markups widget (slicer-core), Qt (PySide6, offscreen) and most of `slicer.util` are
real. Stand-ins replace PythonQt's behaviour (`pythonqt`), ctk and qMRML widgets (`ctk_widgets`, `mrml_widgets`), the
application (`application`, `layout`), and the Python code of Slicer that slicer-core lacks (`scripted`,
`parameter_node`, `installing`). Tests use `desktop.Desktop`. The harness fails where PythonQt would fail.
"""
