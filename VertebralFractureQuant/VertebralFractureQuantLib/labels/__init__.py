"""Label sets: readings of cases by several readers on disk, their exchange with other programs, and agreement."""
