"""`python -m VertebralFractureQuantLib.cli`: the `vfq` command where no script of that name is installed."""

from .app import app

app()
