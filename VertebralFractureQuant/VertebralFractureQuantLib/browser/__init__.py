"""The review in a browser: a page of the straightened spine, its table, and the points that a mouse moves."""
