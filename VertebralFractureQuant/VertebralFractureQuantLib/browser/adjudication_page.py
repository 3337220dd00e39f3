"""The page of an adjudication: that of an annotation with the readers' points, who are A, B, ..., and decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3

from ..analysis import Models
from ..cohort.worklist import Case
from ..errors import VFQError
from ..labels.dataset import Dataset
from ..labels.store import Slot
from ..scene.adjudication_review import AdjudicationReview
from ..scene.adjudication_start import begin_adjudication, load_adjudication
from ..scene.annotation_keys import ADJUDICATION_ACTIONS, ADJUDICATION_KEYS, REASON_KEYS
from ..scene.keys import LAYOUT_KEYS
from ..scene.opening import Prepared
from ..scene.opinions import style
from .annotation_cases import AnnotationLoader
from .annotation_face import AnnotationFace
from .annotation_page import AnnotationDialogs, AnnotationPage, AnnotationSide, scripts_of
from .annotation_session import AnnotationSession
from .serve import Settings

SIGNS = {"circle": "\N{BLACK CIRCLE}", "square": "\N{BLACK SQUARE}"}
SIGNS |= {"triangle": "\N{BLACK UP-POINTING TRIANGLE}", "diamond": "\N{BLACK DIAMOND}"}
TAKE = ("take_a", "take_b", "take_c", "take_d")
LEGEND = (
    ("mdi-scale-balance", "the readers disagree, and you have not decided yet"),
    ("mdi-comment-outline", "has a comment"),
    ("mdi-pin", "level pinned; it stays when other levels change"),
)
TAKEN = "['A', 'B', 'C', 'D'].includes(r.decision) ? `reader ${r.decision}` : r.decision"


class AdjudicationFace(AnnotationFace):
    """The `scene.face.Face` of an adjudication: rows say what the readers differ in, and what was decided."""

    review: AdjudicationReview
    review_type = AdjudicationReview

    def changed(self) -> None:
        """See `Face`; the readers and what they say of the selected vertebra are shown too."""
        super().changed()
        with self.state:
            self.state.update({"opinions": self._opinions(), "left": self._left()})

    def followed(self, vertebra_ids: Any) -> None:
        """See `Face`."""
        super().followed(vertebra_ids)
        with self.state:
            self.state.opinions = self._opinions()

    def _rows(self) -> list[dict[str, Any]]:
        annotation, study = self.review.annotation, self.review.study
        if annotation is None or self.review.editor is None:
            return []
        found = {i: annotation.disputes.get(i) for i in study.order}
        told = {i: d.text if d else "placed by you" for i, d in found.items()}
        return [
            {**row, "decision": annotation.decision(study, row["id"]), "told": told[row["id"]]}
            for row in super()._rows()
        ]

    def _opinions(self) -> list[dict[str, Any]]:
        """Return an entry for each reader: letter, sign, colour, and what this reader says of the selected vertebra."""
        annotation = self.review.annotation
        dispute = annotation.disputes.get(self.review.selected or "") if annotation else None
        shown = []
        for at, letter in enumerate(annotation.letters if annotation else ()):
            (red, green, blue), shape = style(letter)
            there = bool(dispute and letter in dispute.points)
            said = (dispute.levels[letter] or "level?") if dispute and there else ""
            if dispute and letter in dispute.excluded:
                said = "not assessable"
            elif dispute and letter in dispute.absent:
                said = "not marked"
            color = f"rgb({red * 255:.0f}, {green * 255:.0f}, {blue * 255:.0f})"
            take = TAKE[at] if at < len(TAKE) and there else ""
            shown.append(
                {"letter": letter, "sign": SIGNS[shape], "color": color, "said": said, "take": take, "key": at + 1}
            )
        return shown

    def _left(self) -> int:
        annotation = self.review.annotation
        return len(annotation.waiting(self.review.study)) if annotation and self.review.editor else 0


class AdjudicationLoader(AnnotationLoader):
    """Reads cases of a label set, with the curve of one of their readers."""

    def _load(self, case: Case) -> Prepared:
        return load_adjudication(self._dataset, self._slots[case.name], self._networks())


class AdjudicationSession(AnnotationSession):
    """One reader's adjudications of a label set. The page calls its public methods."""

    face: AdjudicationFace
    face_type = AdjudicationFace
    loader_type = AdjudicationLoader
    key_actions = ADJUDICATION_ACTIONS

    def __init__(
        self,
        server: Any,
        views: Any,
        cases: Sequence[Case],
        settings: Settings,
        dataset: Dataset,
        slots: Mapping[str, Slot],
    ):
        server.state.update({"opinions": [], "left": 0})
        super().__init__(server, views, cases, settings, dataset, slots)

    def _begin(self, slot: Slot, prepared: Prepared) -> None:
        self.face.review.begin_adjudication(self.dataset, begin_adjudication(self.dataset, slot, prepared))

    def networks(self) -> Models | VFQError:
        """Return why there are none."""
        return VFQError("blinded_protocol", "An adjudication shows no automatic points.")


class AdjudicationSide(AnnotationSide):
    """Builds the side of the page where it is created."""

    session: AdjudicationSession
    title = "Adjudication"

    def _above(self) -> None:
        with html.Div(v_if="opinions.length", classes="px-2 pt-1", raw_attrs=['data-test="opinions"']):
            html.Div(
                "{{ left ? `${left} to be decided, the worst first` : 'All disagreements are decided' }}",
                classes="text-caption",
                raw_attrs=['data-test="left_to_decide"'],
            )
            with html.Div(
                v_for="o in opinions",
                key="o.letter",
                classes="d-flex align-center",
                raw_attrs=[':data-reader="o.letter"'],
            ):
                html.Span("{{ o.sign }}", style=("{color: o.color, width: '18px'}",))
                html.Span("Reader {{ o.letter }}", classes="mr-2")
                html.Span("{{ o.said }}", classes="text-caption")
                v3.VSpacer()
                v3.VBtn(
                    "Take {{ o.letter }} ({{ o.key }})",
                    v_if="o.take",
                    size="x-small",
                    variant="tonal",
                    classes="text-none mb-1",
                    click=(self.session.act, "[o.take]"),
                    raw_attrs=[':data-test="o.take"'],
                )

    def _head(self) -> None:
        with html.Thead(), html.Tr():
            for title in ("Level", "Decision", "Disagreement"):
                html.Th(title, classes="left")

    def _cells(self) -> None:
        with html.Td(classes="left", raw_attrs=['data-cell="decision"']):
            html.Span(f"{{{{ {TAKEN} }}}}")
            v3.VIcon("mdi-scale-balance", v_if="r.waits", size=14, title="To be decided")
            v3.VIcon("mdi-comment-outline", v_if="r.comment", size=14, v_bind_title="r.comment")
        html.Td("{{ r.told }}", classes="left text-caption", raw_attrs=['data-cell="told"'])

    def _buttons(self) -> None:
        self._action("Mean (m)", "take_mean")
        self._action("As shown (c)", "confirm")
        self._always("Six points (b)", "start_placing")
        self._always("Not assessable (x)", "ask_reason")


class AdjudicationDialogs(AnnotationDialogs):
    """What opens over the page."""

    keys = (*ADJUDICATION_KEYS, *LAYOUT_KEYS[1:])
    legend = LEGEND


class AdjudicationPage(AnnotationPage):
    """Builds the page of an adjudication on a trame server; the digits take readings, and enlarge no view."""

    session: AdjudicationSession
    session_type = AdjudicationSession
    side = AdjudicationSide
    dialogs = AdjudicationDialogs
    scripts = scripts_of((*ADJUDICATION_ACTIONS, *REASON_KEYS))
