"""The `vfq` command, one file a family of commands. It reads arguments, calls the library and prints results."""
