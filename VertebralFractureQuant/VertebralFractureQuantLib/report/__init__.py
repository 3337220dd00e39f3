"""What is handed on after an analysis: table, Slicer markups, picture and the folder that holds them.

Everything here is written from a `SpineAnalysis` alone (and the CT, for pictures); nothing is measured here.
"""
