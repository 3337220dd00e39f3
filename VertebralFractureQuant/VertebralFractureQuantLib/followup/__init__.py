"""Two examinations of one patient, vertebra by vertebra: which belong together, and what has changed between them."""
