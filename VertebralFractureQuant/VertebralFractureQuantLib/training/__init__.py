"""Training of the networks on phantoms, and mixing and export of their weights."""
