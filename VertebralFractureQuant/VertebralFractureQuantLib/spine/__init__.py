"""Geometry and measurement of the spine: key points, heights, grades, levels, curve, straightening, the record.

Patient RAS mm in numpy arrays, polygons by shapely; no networks, no scene.
"""
