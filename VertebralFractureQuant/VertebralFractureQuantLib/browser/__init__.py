"""The review page: the straightened spine and the table of vertebrae in a browser, with points that can be moved."""
