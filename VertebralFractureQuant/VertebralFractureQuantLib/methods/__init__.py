"""Other methods of finding the six key points, each one file here and one entry in `registry.METHODS`.

A method finds the vertebrae along the curve that our localizer and refiner find, and ends in the same record as ours:
`ROLES` names its networks, and `find(predictors, ct, curve)` returns an `analysis.found.Found`. Nothing of this room is
imported unless another method is asked for.
"""
