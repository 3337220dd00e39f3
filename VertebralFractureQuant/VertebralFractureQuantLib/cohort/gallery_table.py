"""The columns of the gallery's table and the options of DataTables, which draws it; rows are made by `gallery_rows`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gallery_tables import Tables

PAGES = [24, 48, 96]  # cases on a page
FEW = 12  # a covariate with at most this many different values is a filter
WORDS = {
    "info": "_START_ to _END_ of _TOTAL_ cases",
    "infoEmpty": "no case",
    "infoFiltered": "(of _MAX_)",
    "zeroRecords": "No case fits the filters.",
    "lengthMenu": "_MENU_ on a page",
    "buttons": {"colvis": "Columns"},
    "searchBuilder": {"button": {"0": "Conditions", "_": "Conditions (%d)"}, "title": "Conditions"},
    "searchPanes": {"title": {"0": "Filters", "_": "Filters (%d)"}, "clearMessage": "Clear"},
}


@dataclass(frozen=True)
class Column:
    """A column of the page.

    Attributes
    ----------
    name : of the column in the rows, and its class in the style sheet.
    title : its heading.
    listed : its values are a filter beside the cases.
    ordered : it is sorted by the form `sort` of its cells.
    plain : its cells have one form.
    given : it is a covariate of the manifest.
    """

    name: str
    title: str
    listed: bool = False
    ordered: bool = False
    plain: bool = False
    given: bool = False


OWN = (
    Column("picture", "", plain=True),
    Column("case", "Case", plain=True),
    Column("grade", "Worst grade", listed=True, ordered=True),
    Column("deformity", "Deformities", listed=True, ordered=True),
    Column("look", "Needs a look", listed=True, ordered=True),
    Column("sdi", "SDI", ordered=True),
    Column("levels", "Levels", ordered=True),
    Column("doubt", "Doubts", listed=True),
    Column("outcome", "Outcome", listed=True),
    Column("review", "Review", listed=True),
)
COMMAND = Column("command", "Command", plain=True)
FIXED = ("picture", "command")  # neither sorted nor searched
NUMBERS = ("sdi", "levels")
SEARCHED = {**dict.fromkeys(NUMBERS, "sort"), **dict.fromkeys(("grade", "outcome", "review"), "facets")}


def table_columns(tables: Tables) -> list[Column]:
    """Return the columns: our own, the covariates, the command."""
    given = [
        Column(f"x{i}", title, listed=tables.patients[f"x{i}"].n_unique() <= FEW, plain=True, given=True)
        for i, title in enumerate(tables.covariates)
    ]
    return [*OWN, *given, COMMAND]


def table_options(columns: list[Column]) -> dict[str, Any]:
    """Return the options of DataTables."""
    return {
        "columns": [_options(column) for column in columns],
        "order": [],  # the rows come in the order in which they need a look
        "autoWidth": False,
        "orderClasses": False,
        "pageLength": PAGES[0],
        "lengthMenu": PAGES,
        "language": WORDS,
        "layout": {
            "top2": {"searchPanes": _filters(columns)},
            "topStart": [{"buttons": [{"extend": "searchBuilder", "config": _conditions(columns)}, "colvis"]}, "info"],
            "topEnd": "search",
            "bottomStart": "pageLength",
            "bottomEnd": "paging",
        },
    }


def _filters(columns: list[Column]) -> dict[str, Any]:
    """The filters beside the cases, the need of a look first."""
    listed = {column.title: i for i, column in enumerate(columns) if column.listed}
    order = sorted(listed, key=lambda title: title != "Needs a look")
    return {"layout": "columns-1", "columns": [*listed.values()], "order": order, "controls": False, "collapse": False}


def _conditions(columns: list[Column]) -> dict[str, Any]:
    """Conditions such as "age between 60 and 70" on names, numbers and covariates."""
    return {"columns": [i for i, c in enumerate(columns) if c.given or c.name in ("case", *NUMBERS)]}


def _options(column: Column) -> dict[str, Any]:
    options: dict[str, Any] = {"data": column.name, "className": column.name, "defaultContent": ""}
    if column.given:
        options["className"] += " given"
    if column.name in FIXED:
        options |= {"orderable": False, "searchable": False}
    if column.ordered:
        options["type"] = "html-num"
    if column.listed:
        options["searchPanes"] = {"orthogonal": "_" if column.plain else "sp", "dtOpts": {"order": [[1, "desc"]]}}
    return options if column.plain else options | {"render": _forms(column)}


def _forms(column: Column) -> dict[str, str]:
    """The form of a cell for each use; "_" is what is shown and searched, "sp" what the filters list."""
    forms = {"_": "html"}
    if column.ordered:
        forms["sort"] = "sort"
    if column.name in SEARCHED:
        forms["filter"] = SEARCHED[column.name]
    if column.listed:
        forms["sp"] = "facets"
    return forms
