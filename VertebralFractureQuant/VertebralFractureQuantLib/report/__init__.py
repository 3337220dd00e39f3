"""The outputs of an analysis and of an evaluation: tables, Slicer markups, images, and the folders that hold them.

Everything is written from records (and the CT, for images); nothing is measured here.
"""
