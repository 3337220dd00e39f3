"""The outputs of an analysis and of an evaluation: tables, Slicer markups, pictures, and the folders that hold them.

Everything is written from records (and the CT, for pictures); nothing is measured here.
"""
