"""Geometry and measurement of the spine: key points, heights, grades, levels, curve, straightening, the record.

Plain numpy in patient RAS mm. No network, no scene.
"""
