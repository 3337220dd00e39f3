"""Many scans: the worklist, measuring one scan into its folder, and doing so in a child process."""
