"""The words of a report: Jinja2 templates and dictionaries of a language, which a site can replace.

`Resources/Report` holds page.html.j2, and for each language a folder with report.txt.j2, the sentences, and words.json,
single words. A site's folder with files of the same names takes their place, one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import VFQError
from ..spine.genant import ratio_text
from ..spine.levels import NAMES
from .findings import Findings
from .prior import CHANGED, Prior, PriorRow

SENTENCES, WORDS, PAGE = "report.txt.j2", "words.json", "page.html.j2"
HEADING = "# "


@dataclass(frozen=True)
class Section:
    """A heading, "" for what stands before the first one, and its paragraphs."""

    heading: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class TableRow:
    """One vertebra of the table: its cells in the order of the columns, and how it is shown."""

    cells: tuple[str, ...]
    color: str
    counts: bool
    fractured: bool


@dataclass(frozen=True)
class Changes:
    """The table of changes since a prior examination.

    Attributes
    ----------
    title : what stands above it.
    columns : names of the columns.
    rows : (cells, True if it has changed beyond the error of measurement) of each vertebra.
    legend : what stands below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], bool], ...]
    legend: str


def languages() -> tuple[str, ...]:
    """Return the codes of the languages that are shipped, such as "en"."""
    return tuple(sorted(folder.name for folder in resources().iterdir() if folder.is_dir()))


def resources() -> Path:
    """The module's Resources in a checkout or in Slicer, the package itself after pip."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "Resources" / "Report"
    return beside if beside.is_dir() else package / "report_templates"


class Wording:
    """The words of one language.

    language : one of `languages`.
    site : a folder whose files replace the shipped ones of the same name.

    Raises
    ------
    VFQError
        `missing_dependency` without jinja2.
        `bad_template`: no such language or folder, or a file with an error, which is named with its line.
    """

    def __init__(self, language: str = "en", site: Path | None = None):
        try:
            from jinja2 import FileSystemLoader, StrictUndefined
            from jinja2.sandbox import SandboxedEnvironment
        except ImportError as error:
            message = "The words of a report need the package jinja2. Install it with pip install jinja2."
            raise VFQError("missing_dependency", message) from error
        if language not in languages():
            known = ", ".join(languages())
            raise VFQError("bad_template", f"There is no report in the language {language!r}, only in {known}.")
        if site is not None and not site.is_dir():
            raise VFQError("bad_template", f"{site.name}: this is not a folder. Give a folder with templates.")
        if site is not None and not any((site / name).exists() for name in (SENTENCES, WORDS, PAGE)):
            raise VFQError(
                "bad_template",
                f"{site.name}: the folder holds no template. Name the files {SENTENCES}, {WORDS} or {PAGE}.",
            )
        self.language = language
        folders = [*([site] if site else []), resources() / language, resources()]
        self.words = _words(folders)
        loader = FileSystemLoader(folders)
        options: dict[str, Any] = {"loader": loader, "undefined": StrictUndefined, "keep_trailing_newline": True}
        self._text = SandboxedEnvironment(autoescape=False, **options)
        self._page = SandboxedEnvironment(autoescape=True, **options)
        for environment in (self._text, self._page):
            environment.filters.update(
                number=self.number,
                signed=self.signed,
                level=self.level,
                moment=_moment,
                doubt=partial(_word, self.words["doubts"]),
            )

    def sections(self, found: Findings) -> tuple[Section, ...]:
        """Return the sentences of a report, from report.txt.j2."""
        words = {k: self.words[k] for k in ("grades", "shapes", "heights", "reasons", "changes")}
        text = _rendered(self._text, SENTENCES, f=found, names=self.names, **words)
        sections: list[tuple[str, list[str]]] = [("", [])]
        for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
            if line.startswith(HEADING):
                sections.append((line.removeprefix(HEADING), []))
            else:
                sections[-1][1].append(line)
        return tuple(Section(heading, tuple(told)) for heading, told in sections if told)

    def changes(self, prior: Prior) -> Changes:
        """Return the table of changes since a prior examination."""
        words = self.words["prior"]
        return Changes(
            words["title"],
            tuple(words["columns"]),
            tuple((self._change(row), row.verdict in CHANGED) for row in prior.rows),
            words["legend"],
        )

    def _change(self, row: PriorRow) -> tuple[str, ...]:
        verdict = self.words["changes"][row.verdict]
        if row.height is None or row.before_mm is None or row.now_mm is None or row.difference_mm is None:
            return (self.level(row.name), "", "", "", "", "", verdict)
        return (
            self.level(row.name),
            self.words["heights"][row.height],
            f"{self.number(row.before_mm, 1)} → {self.number(row.now_mm, 1)}",
            f"{self.signed(row.difference_mm, 1)} ± {self.number(row.error_mm or 0, 1)}",
            f"{self.ratio(row.before_ratio or 0)} → {self.ratio(row.now_ratio or 0)}",
            f"{row.before_grade} → {row.now_grade}" if row.before_grade != row.now_grade else f"{row.now_grade}",
            verdict,
        )

    def signed(self, value: float, decimals: int) -> str:
        """Write a number with its sign, "+0.4"; a minus sign is the typographic one."""
        return f"{value:+.{decimals}f}".replace(".", self.words["decimal"]).replace("-", "\N{MINUS SIGN}")

    def page(self, **values: Any) -> str:
        """Return the HTML of a report, from page.html.j2."""
        return _rendered(self._page, PAGE, language=self.language, words=self.words["page"], **values)

    def number(self, value: float, decimals: int) -> str:
        """Write a number with the decimal sign of the language."""
        return f"{value:.{decimals}f}".replace(".", self.words["decimal"])

    def ratio(self, value: float) -> str:
        """Write G as the pictures do: with two decimals, or three near the threshold of a grade."""
        return ratio_text(value).replace(".", self.words["decimal"])

    def level(self, name: str) -> str:
        """Write the name of a level as the language does: "L1", "LWK 1"."""
        return str(self.words["levels"][name[0]]) + name[1:]

    def names(self, levels: Sequence[str]) -> str:
        """Join names of levels, stretches of three or more as "T4 to T6"."""
        stretches: list[list[str]] = []
        for name in levels:
            last = stretches[-1][-1] if stretches else None
            follows = last in NAMES and name in NAMES and NAMES.index(name) - NAMES.index(last) in _steps(last)
            stretches[-1].append(name) if follows else stretches.append([name])
        parts = [part for stretch in stretches for part in self._stretch(stretch)]
        return f" {self.words['and']} ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))

    def _stretch(self, stretch: Sequence[str]) -> list[str]:
        if len(stretch) < 3:
            return [self.level(name) for name in stretch]
        return [f"{self.level(stretch[0])} {self.words['to']} {self.level(stretch[-1])}"]


def plain(sections: Sequence[Section]) -> str:
    """Return the sentences as plain text, ready to be pasted into a report system."""
    blocks = ["\n".join(filter(None, (section.heading.upper(), *section.paragraphs))) for section in sections]
    return "\n\n".join(blocks) + "\n"


def _steps(name: str) -> tuple[int, ...]:
    return (1, 2) if name in ("T12", "L5") else (1,)  # T13 is rare


def _words(folders: Sequence[Path]) -> dict[str, Any]:
    """Return words.json of the language, with what the site's file replaces."""
    words: dict[str, Any] = {}
    for file in (folder / WORDS for folder in reversed(folders)):
        if file.exists():
            try:
                given = json.loads(file.read_text(encoding="utf-8"))
                words = _replaced(words, given) if words else given
            except (OSError, ValueError, TypeError) as error:
                raise VFQError("bad_template", f"{file.name} cannot be read: {error}. Correct the file.") from error
    return words


def _replaced(words: dict[str, Any], given: Any) -> dict[str, Any]:
    """Return `words` with those of `given`; TypeError if one is unknown or of another kind."""
    if not isinstance(given, dict):
        raise TypeError("it holds no names and values")
    for key, value in given.items():
        if type(value) is not type(words.get(key)):
            raise TypeError(f"{key!r} is not a name of the shipped file, or has a value of another kind")
    return {
        k: _replaced(v, given[k]) if k in given and isinstance(v, dict) else given.get(k, v) for k, v in words.items()
    }


def _rendered(environment: Any, name: str, **values: Any) -> str:
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        return str(environment.get_template(name).render(**values))
    except TemplateSyntaxError as error:
        where = f"{Path(error.filename or name).name}, line {error.lineno}"
        raise VFQError("bad_template", f"{where}: {error.message}. Correct the template.") from error
    except (TemplateError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise VFQError("bad_template", f"{name}{_line(error, name)}: {error}. Correct the template.") from error


def _line(error: BaseException, name: str) -> str:
    """Return ", line 7" of the template in which an error arose; "" if it is not known."""
    trace, line = error.__traceback__, ""
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == name:
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _word(words: dict[str, str], code: str) -> str:
    return words.get(code, code)  # a newer program's code has no words yet


def _moment(text: str) -> str:
    """Write a time in UTC to the minute: "2026-11-30 09:15 UTC"."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M} UTC"
