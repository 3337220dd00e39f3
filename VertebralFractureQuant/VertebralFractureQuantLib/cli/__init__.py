"""The `vfq` command: one file for each family of commands, which reads arguments, calls the library, prints results."""
