"""Other methods beside ours, each with its own files; see Documentation."""
