"""The two networks of the method and their weights; torch is imported by the modules inside, not here."""
