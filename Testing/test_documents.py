"""The documents tell the truth: links, commands, options, figures, keys and paths in them exist, and agree with the
code. `python Testing/documents.py --write` brings the generated parts up to date."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from documents import PAGES, ROOT, Command, commands, generated, refreshed, shown_key
from VertebralFractureQuantLib import __version__
from VertebralFractureQuantLib.errors import CODES, meaning
from VertebralFractureQuantLib.scene.annotation_keys import ADJUDICATION_KEYS, ANNOTATION_KEYS
from VertebralFractureQuantLib.scene.keys import KEYS, LAYOUT_KEYS
from VertebralFractureQuantLib.scene.pair_keys import PAIR_KEYS

MODULE = ROOT / "VertebralFractureQuant"
LIBRARY = MODULE / "VertebralFractureQuantLib"
DOCUMENTATION = ROOT / "Documentation"
README_LINES, COLUMNS = 150, 120
PICTURE_BYTES = 400_000

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
NUMBER = re.compile(r"\d+\.\d+")
KEY = re.compile(r"<kbd>(.*?)</kbd>")
ELLIPSIS = "..."
EXAMPLE_OPTION = "--quiet"  # the worked example of CONTRIBUTING adds it
OTHER_OPTIONS = {"--help", "--write"}  # of every command; of Testing/documents.py


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def text_today(page: Path) -> str:
    """Return the text of a page about this version; of the changelog, only the unreleased changes."""
    text = text_of(page)
    return "\n## [".join(text.split("\n## [")[:2]) if page.name == "CHANGELOG.md" else text


def prose(text: str) -> str:
    """A page without its fenced code."""
    return FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    return [" ".join(found.split()) for found in CODE.findall(prose(text))]


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# --- links and pictures


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    plain = [
        re.sub(r"[`*]|<[^>]+>", "", LINK.sub(lambda found: found[0].split("]")[0].strip("!["), h)) for h in headings
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@each_page
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(prose(text_of(page))):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: there is no {link}"
        if anchor:
            assert anchor in anchors(text_of(target)), f"{name_of(page)}: {link} has no such heading"


def test_every_page_can_be_reached_from_the_index():
    linked = {
        (DOCUMENTATION / link.split("#")[0]).resolve() for link in LINK.findall(text_of(DOCUMENTATION / "README.md"))
    }
    assert not set(PAGES) - linked - {DOCUMENTATION / "README.md"}
    assert "Documentation/README.md" in LINK.findall(text_of(ROOT / "README.md"))


def test_every_picture_of_the_documentation_is_shown_and_is_small():
    shown = {(p.parent / link).resolve() for p in PAGES for link in LINK.findall(text_of(p))}
    pictures = set((DOCUMENTATION / "images").iterdir())
    assert pictures and pictures <= shown
    assert all(picture.stat().st_size < PICTURE_BYTES for picture in pictures)


# --- commands and options


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each `vfq ...` in a page, in fenced shell code and in inline code, from `vfq` on."""
    shell = [body for language, body in FENCE.findall(text) if language in ("sh", "bash", "shell", "")]
    lines = [line for body in shell for line in body.replace("\\\n", " ").splitlines()]
    for line in (*lines, *inline_code(text)):
        if "vfq" not in line:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # an apostrophe: no command
            continue
        while "vfq" in words:
            words = words[words.index("vfq") :]
            end = next((i for i, word in enumerate(words) if word in ("&&", "||", "|", ";")), len(words))
            yield words[:end]
            words = words[end:]


def wrong_with(words: list[str], known: dict[str, Command]) -> str:
    """What is wrong with a command line; "" if nothing is."""
    name, rest = "vfq", words[1:]
    while rest and f"{name} {rest[0]}" in known:
        name, rest = f"{name} {rest[0]}", rest[1:]
    command = known[name]
    if not command.parameters or name == "vfq":
        if rest and rest[0] not in (*command.options, "--help", ELLIPSIS, "COMMAND"):
            return f"{name} has no command {rest[0]}"
        return ""
    for i, word in enumerate(rest):
        option, _, value = word.partition("=")
        if not re.match(r"--?[a-z]", option) or option == "--help":
            continue
        if option not in command.options:
            return f"{name} has no option {option}"
        choices = command.options[option].choices
        value = value or (rest[i + 1] if choices and i + 1 < len(rest) else "")
        if choices and value and value not in choices:
            return f"{name} {option} takes one of {choices}, not {value}"
    positional = next((p for p in command.parameters if not p.names and p.choices), None)
    if positional and rest and not rest[0].startswith("-") and rest[0] not in positional.choices:
        return f"{name} takes one of {positional.choices}, not {rest[0]}"
    return ""


@each_page
def test_every_command_line_uses_commands_and_options_that_exist(page):
    known = commands()
    for words in command_lines(text_today(page)):
        assert not wrong_with(words, known), f"{name_of(page)}: {' '.join(words)}: {wrong_with(words, known)}"


@pytest.mark.parametrize(
    "line",
    [
        "vfq analyse scan.nii.gz",
        "vfq analyze scan.nii.gz --fast",
        "vfq train localiser --output runs",
        "vfq analyze scan.nii.gz --device gpu",
        "vfq evaluate everything",
    ],
)
def test_a_command_line_that_cannot_be_is_found(line):
    assert wrong_with(shlex.split(line), commands())


@each_page
def test_every_option_named_alone_exists(page):
    known = {option for command in commands().values() for option in command.options} | OTHER_OPTIONS
    named = {code.split()[0].split("=")[0] for code in inline_code(text_today(page)) if code.startswith("--")}
    assert named - known <= ({EXAMPLE_OPTION} if page.name == "CONTRIBUTING.md" else set()), name_of(page)


def test_the_command_guide_has_every_command_with_its_options_and_an_example():
    text = text_of(DOCUMENTATION / "command.md")
    headings = re.findall(r"^##+ (vfq.*)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(commands())
    examples = [" ".join(words) for words in command_lines(text)]
    for name, command in commands().items():
        section = re.split(rf"^##+ {name}$", text, flags=re.MULTILINE)[1].split("\n## ")[0]
        assert f"<!-- generated: {name} -->" in section
        if name != "vfq" and command.parameters:
            assert any(example.startswith(f"{name} ") for example in examples), name


def test_the_two_commands_of_the_readme_are_each_one_line():
    lines = [body for _, body in FENCE.findall(text_of(ROOT / "README.md"))]
    start = "python3 -m venv .venv && . .venv/bin/activate && pip install "
    assert f"{start}'.[review]' && vfq demo --output demo\n" in lines
    assert f"{start}-e '.[test]' && pytest\n" in lines


# --- what is generated


@each_page
def test_generated_parts_are_what_the_code_gives(page):
    assert text_of(page) == refreshed(text_of(page)), "run: python Testing/documents.py --write"


def test_the_pages_have_their_generated_parts():
    for page, parts in {
        "troubleshooting": ("codes", "problems"),
        "review": ("keys", "mouse"),
        "command": ("commands",),
    }.items():
        text = text_of(DOCUMENTATION / f"{page}.md")
        assert all(f"<!-- generated: {part} -->\n{generated(part)}<!-- end" in text for part in parts)


def raised_codes() -> set[str]:
    """Every code that the library gives to a VFQError, by a call, a `code=`, or the default of a parameter `code`."""
    found = set()
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                given = [k.value for k in node.keywords if k.arg == "code"]
                if called in ("VFQError", "itk_name"):
                    given += node.args[:2]
                found |= {g.value for g in given if isinstance(g, ast.Constant) and isinstance(g.value, str)}
    return {code for code in found if re.fullmatch(r"[a-z0-9_]+", code)}


def test_every_code_that_is_raised_has_a_meaning_and_every_code_is_raised():
    assert raised_codes() == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_meaning_is_a_clause_and_a_remedy_says_what_to_do_with_options_that_exist(code):
    clause, remedy = CODES[code]
    assert meaning(code) == clause and clause[0].islower() and not clause.endswith(".")
    assert remedy[0].isupper() and remedy.endswith(".")
    known = {option for command in commands().values() for option in command.options}
    assert set(re.findall(r"--[a-z][a-z-]+", remedy)) <= known


def test_a_status_that_is_no_code_has_another_meaning_or_none():
    assert (meaning("ok"), meaning("of_a_newer_version", "failed")) == ("", "failed")


# --- figures


def rows(text: str) -> dict[tuple[str, str], str]:
    """The cells of all tables of a page, by the names of their row and column."""
    cells: dict[tuple[str, str], str] = {}
    head: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            head = []
            continue
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if not head:
            head = row
        elif set("".join(row)) - set("-: "):
            cells |= {(row[0], column): cell for column, cell in zip(head[1:], row[1:], strict=True)}
    return cells


def measured() -> str:
    """The section of the README with its figures."""
    return text_of(ROOT / "README.md").split("## How well it measures")[1].split("\n## ")[0]


def test_the_figures_of_the_readme_are_those_of_the_validation():
    short, full = rows(measured()), rows(text_of(DOCUMENTATION / "validation.md"))
    assert len(short) >= 15
    for place, cell in short.items():
        assert full.get(place) == cell, f"{place}: {cell} in README, {full.get(place)} in validation.md"


@pytest.mark.parametrize(
    "sentence",
    [
        r"standard deviation (?:of|is) (\d\.\d+)",
        r"differ by (\d\.\d+)",
        r"Slices of (\d) mm and more",
        r"turned by (\d+) degrees",
        r"512 x 512 x 400 CT in memory takes (\d\.\d+) s",
    ],
)
def test_the_limits_in_the_readme_have_the_figures_of_the_validation(sentence):
    full, limits = (" ".join(text.split()) for text in (text_of(DOCUMENTATION / "validation.md"), measured()))
    assert len(re.findall(sentence, limits)) == 1
    assert set(re.findall(sentence, limits)) <= set(re.findall(sentence, full))


def test_no_decimal_of_the_readme_is_missing_in_the_validation():
    limits = "\n".join(line for line in measured().splitlines() if not line.startswith("|"))
    assert set(NUMBER.findall(limits)) <= set(NUMBER.findall(text_of(DOCUMENTATION / "validation.md")))


# --- the keys


def test_the_review_guide_has_the_keys_of_the_code():
    text = text_of(DOCUMENTATION / "review.md")
    table = text.split("<!-- generated: keys -->")[1].split("<!-- end")[0]
    known = {shown_key(key) for entry in (*KEYS, *PAIR_KEYS, *LAYOUT_KEYS) for key in entry.keys}
    assert set(re.findall(r"<kbd>.*?</kbd>", table)) == known


@each_page
def test_every_key_that_is_named_exists(page):
    known = {
        shown_key(key)
        for entry in (*KEYS, *PAIR_KEYS, *LAYOUT_KEYS, *ANNOTATION_KEYS, *ADJUDICATION_KEYS)
        for key in entry.keys
    }
    assert {f"<kbd>{key}</kbd>" for key in KEY.findall(prose(text_of(page)))} <= known


def test_the_buttons_of_the_slicer_guide_are_those_of_the_panel():
    """Bold names in the list of sections: a section, or a button."""
    panel = (MODULE / "Resources" / "UI" / "VertebralFractureQuant.ui").read_text(encoding="utf-8")
    listed = text_of(DOCUMENTATION / "slicer.md").split("## The panel")[1].split("\n## ")[0]
    named = {" ".join(name.split()).rstrip(".") for name in re.findall(r"\*\*(.+?)\*\*", listed, re.DOTALL)}
    assert len(named) > 8
    assert named <= set(re.findall(r"<string>(.*?)</string>", panel))


# --- paths, rooms, sizes


def named_files(text: str) -> list[str]:
    """Files and folders of the repository in inline code, in shell code and in diagrams."""
    suffixes = r"(?:\.(?:py|md|toml|cff|ui)|CMakeLists\.txt)"
    named = [c for c in inline_code(text) if re.fullmatch(rf"[\w./-]+(?:{suffixes}|(?<=[a-z])/)", c)]
    for language, body in FENCE.findall(text):
        if language == "mermaid":
            named += re.findall(r"\b[a-z_]+/[a-z_]+\.py\b", body)
        if language == "sh":
            named += re.findall(r"\b(?:Testing|Examples)/\w+\.py\b", body)
    return named


@each_page
def test_every_file_that_is_named_exists(page):
    for path in named_files(text_of(page)):
        bases = (ROOT, MODULE, LIBRARY, page.parent)
        assert any((base / path).exists() for base in bases), f"{name_of(page)}: there is no {path}"


def test_the_pages_for_developers_name_files():
    assert len(named_files(text_of(ROOT / "CONTRIBUTING.md"))) > 15
    assert len(named_files(text_of(DOCUMENTATION / "architecture.md"))) > 20


def test_the_rooms_of_the_architecture_are_those_of_the_contract_in_its_order():
    contract = re.search(r"^layers = \[(.*?)\]", text_of(ROOT / "pyproject.toml"), re.DOTALL | re.MULTILINE)
    assert contract
    layers = [layer.split(" | ") for layer in re.findall(r'"(.*?)"', contract[1])]
    text = text_of(DOCUMENTATION / "architecture.md")
    table = re.findall(r"^\| `([a-z]+)(?:/|\.py)` \|", text, re.MULTILINE)
    assert table == [room for layer in layers for room in layer]
    frames = re.findall(r"^ +subgraph ([a-z]+)$", text, re.MULTILINE)
    assert frames and set(frames) <= set(table)
    diagram = text.split("## The rooms")[1].split("```")[1]
    boxes = re.findall(r'\["(.*?)"\]', diagram)
    assert [box.split(" &nbsp;|&nbsp; ") for box in boxes] == layers


@pytest.mark.parametrize("name", [name_of(page) for page in PAGES])
def test_lines_outside_of_tables_have_at_most_120_columns(name):
    long = [line for line in text_of(ROOT / name).splitlines() if len(line) > COLUMNS and not line.startswith("|")]
    assert not long


def test_the_readme_is_short_and_says_that_it_is_for_research_only():
    text = text_of(ROOT / "README.md")
    assert len(text.splitlines()) <= README_LINES
    assert "**For research use only. It is not a medical device and must not be used for diagnosis.**" in text


# --- citation and changes


def test_the_citation_names_this_version_and_the_references_of_the_method():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([a-z-]+): *(.*)$", text, re.MULTILINE))
    assert {"cff-version", "message", "title", "version", "license", "type", "authors"} <= set(fields)
    assert fields["cff-version"] == "1.2.0" and fields["version"] == __version__
    listed = text_of(DOCUMENTATION / "method.md").split("## References")[1]
    titles = re.findall(r'^    title: "?(.*?)"?$', text, re.MULTILINE)
    assert len(titles) == len(re.findall(r"^- ", listed, re.MULTILINE))
    assert all(title in " ".join(listed.split()) for title in titles)


def test_the_citation_is_yaml():
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert read["version"] == __version__ and read["license"] == "Apache-2.0"
    assert all(reference["authors"] for reference in (read, *read["references"]))


def test_the_changelog_has_an_unreleased_part_in_the_form_of_keep_a_changelog():
    text = text_of(ROOT / "CHANGELOG.md")
    versions = re.findall(r"^## \[(.*?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
