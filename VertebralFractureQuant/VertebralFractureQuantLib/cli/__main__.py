"""`python -m VertebralFractureQuantLib.cli`: the `vfq` command, also where no such script is installed."""

from .app import app

app()
