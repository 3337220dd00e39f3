"""The generated parts of the documents: python Testing/documents.py [--write]

A page marks such a part as `<!-- generated: NAME -->` ... `<!-- end of generated part -->`. The names: `commands`,
`vfq COMMAND` (the options of that command), `codes`, `doubts`, `problems`, `keys`, `mouse`. Without --write, names the
pages that differ from the code and ends with status 1.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("Documentation/**/*.md"), ROOT / "Testing" / "README.md"]
    + [ROOT / "VertebralFractureQuant" / "Resources" / "Weights" / "README.md"]
)
PART = re.compile(r"^(<!-- generated: ([\w ]+) -->\n)(.*?)^(<!-- end of generated part -->)", re.DOTALL | re.MULTILINE)
WIDTH = 120  # columns of a page
VALUES = {Path: "path", str: "text", int: "integer", float: "number"}
KEY_NAMES = {" ": "Space", "ArrowDown": "Down", "ArrowUp": "Up", "ArrowLeft": "Left", "ArrowRight": "Right"}


class Parameter(NamedTuple):
    """An argument or option of a command; `names` is empty for an argument."""

    metavar: str
    names: tuple[str, ...]
    choices: tuple[str, ...]
    value: str
    default: str
    required: bool
    help: str


class Command(NamedTuple):
    """A command, by its full name ("vfq evaluate predictions")."""

    name: str
    help: str
    parameters: tuple[Parameter, ...]

    @property
    def options(self) -> dict[str, Parameter]:
        """The options, by each of their names."""
        return {name: p for p in self.parameters for name in p.names}


def commands() -> dict[str, Command]:
    """Return every command of `vfq` by its full name, `vfq` itself included, in the order of its help."""
    from VertebralFractureQuantLib.cli.app import app

    return {command.name: command for command in _commands(app, "vfq")}


def _commands(app: typer.Typer, name: str) -> Iterator[Command]:
    root = app.registered_callback
    yield _command(name, root.callback if root else None, str(app.info.help))
    for info in app.registered_commands:
        assert info.callback
        yield _command(f"{name} {info.name or info.callback.__name__.replace('_', '-')}", info.callback)
    for group in app.registered_groups:
        assert group.typer_instance
        yield from _commands(group.typer_instance, f"{name} {group.typer_instance.info.name}")


def _command(name: str, function: Callable[..., Any] | None, help_text: str = "") -> Command:
    if function is None:
        return Command(name, help_text, ())
    hints = {name: _annotated(hint) for name, hint in get_type_hints(function, include_extras=True).items()}
    defaults = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    told = [_parameter(p, hints[p], default) for p, default in defaults.items() if get_origin(hints[p]) is Annotated]
    return Command(name, help_text or inspect.getdoc(function) or "", tuple(told))


def _annotated(hint: Any) -> Any:
    """Undo what Python 3.10 does to a parameter whose default is None: it makes its annotation optional."""
    inside = [a for a in get_args(hint) if get_origin(a) is Annotated] if get_origin(hint) is Union else []
    return inside[0] if inside else hint


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    annotated, info = get_args(hint)[:2]
    assert isinstance(info, (ArgumentInfo, OptionInfo))
    kind, several = _kind(annotated)
    plain = name.replace("_", "-")
    names: list[str] = []
    if isinstance(info, OptionInfo):
        # typer keeps the first name of an annotated option as its default
        told = [d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str)] or [f"--{plain}"]
        names = [part for name in told for part in name.split("/")]
    choices = tuple(str(c.value) for c in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()
    required = default is inspect.Parameter.empty
    shown = "" if required or default is None or default is False else str(default.value if choices else default)
    value = ", ".join(f"`{c}`" for c in choices) or ("" if kind is bool else VALUES[kind] + _range(info))
    if several:
        value += ", several times" if names else ", one or more"
    if default is True:
        shown = names[0]
    return Parameter(info.metavar or name.upper(), tuple(names), choices, value, shown, required, info.help or "")


def _kind(annotated: Any) -> tuple[Any, bool]:
    """Return the type of a value, and whether several may be given."""
    if get_origin(annotated) in (Union, types.UnionType):
        (annotated,) = (a for a in get_args(annotated) if a is not type(None))
    if get_origin(annotated) is list:
        return get_args(annotated)[0], True
    return annotated, False


def _range(info: ArgumentInfo | OptionInfo) -> str:
    if info.min is None:
        return ""
    return f", {info.min} or more" if info.max is None else f", {info.min} to {info.max}"


def generated(name: str) -> str:
    """Return the text of the part `name`, with a newline at its end. KeyError for an unknown name."""
    if name.startswith("vfq"):
        return _options(commands()[name])
    parts = {"commands": _list_of_commands, "codes": _codes, "problems": _problems, "keys": _keys, "mouse": _mouse}
    return {**parts, "doubts": _doubts}[name]()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace("|  |", "| |").replace("|  |", "| |")


def _options(command: Command) -> str:
    def row(p: Parameter) -> tuple[str, str, str, str]:
        name = ", ".join(f"`{n}`" for n in p.names) or f"`{p.metavar}`"
        return name, p.value, "required" if p.required else f"`{p.default}`" if p.default else "", _sentence(p.help)

    text = fill(" ".join(_sentence(command.help).split()), WIDTH, break_on_hyphens=False) + "\n"
    if not command.parameters:
        return text
    return text + "\n" + _table(("option", "value", "default", "meaning"), [row(p) for p in command.parameters])


def _list_of_commands() -> str:
    def row(command: Command) -> tuple[str, str]:
        first = command.help.split("\n\n")[0]
        return f"[`{command.name}`](#{command.name.replace(' ', '-')})", _sentence(" ".join(first.split()))

    told = [c for c in commands().values() if c.parameters and c.name != "vfq"]
    return _table(("command", "what it does"), [row(c) for c in told])


def _codes() -> str:
    from VertebralFractureQuantLib.errors import CODES

    rows = [(f"`{code}`", _sentence(f.meaning), f.remedy) for code, f in CODES.items()]
    return _table(("code", "what it means", "what to do"), rows)


def _doubts() -> str:
    from VertebralFractureQuantLib.spine.quality import CODES

    rows = [(f"`{code}`", _sentence(d.meaning), d.remedy) for code, d in CODES.items()]
    return _table(("code", "what it means", "what to do"), rows)


def _problems() -> str:
    from VertebralFractureQuantLib.evaluation.problems import PROBLEMS

    rows = [(f"`{code}`", _sentence(p.meaning), p.remedy) for code, p in PROBLEMS.items()]
    return _table(("code", "what it means", "what to do"), rows)


def _keys() -> str:
    from VertebralFractureQuantLib.scene.keys import KEYS, LAYOUT_KEYS
    from VertebralFractureQuantLib.scene.pair_keys import PAIR_KEYS

    entries = (*KEYS, *PAIR_KEYS, *LAYOUT_KEYS)
    rows = [(", ".join(shown_key(k) for k in entry.keys), _sentence(entry.what)) for entry in entries]
    return _table(("key", "what it does"), rows)


def shown_key(key: str) -> str:
    """A key of `scene.keys.KEYS` as the documents show it: "Ctrl+z" as `<kbd>Ctrl+Z</kbd>`."""
    *held, last = key.split("+") if len(key) > 1 else [key]
    last = KEY_NAMES.get(last, last)
    return f"<kbd>{escape('+'.join([*held, last.upper() if held else last]))}</kbd>"


def _mouse() -> str:
    from VertebralFractureQuantLib.scene.keys import MOUSE, PAGE_MOUSE

    return _table(("mouse", "what it does"), [(_sentence(a)[:-1], _sentence(b)) for a, b in (*MOUSE, *PAGE_MOUSE)])


def _sentence(text: str) -> str:
    text = text.strip()
    first = text.split(maxsplit=1)[0]
    text = text if "." in first[:-1] else text[:1].upper() + text[1:]  # not the name of a file
    return text + ("" if text.endswith((".", "!", "?")) else ".")


def refreshed(text: str) -> str:
    """Return a page with its generated parts brought up to date."""
    return PART.sub(lambda found: found[1] + generated(found[2]) + found[4], text)


def main(write: bool) -> int:
    """Write or report the pages that differ, and return the exit status."""
    stale = [page for page in PAGES if refreshed(old := page.read_text(encoding="utf-8")) != old]
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'written' if write else 'differs from the code; run with --write'}")
        if write:
            page.write_text(refreshed(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
