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
from ..scene.adjudication_rows import decision_rows, left_text, opinion_rows
from ..scene.adjudication_start import begin_adjudication, load_adjudication
from ..scene.annotation_keys import ADJUDICATION_ACTIONS, ADJUDICATION_KEYS, REASON_KEYS
from ..scene.opening import Prepared
from .annotation_cases import AnnotationLoader
from .annotation_face import AnnotationFace
from .annotation_page import AnnotationDialogs, AnnotationPage, AnnotationSide, scripts_of
from .annotation_session import AnnotationSession
from .serve import Settings

LEGEND = (
    ("mdi-scale-balance", "the readers disagree, and you have not decided yet"),
    ("mdi-comment-outline", "has a comment"),
    ("mdi-pin", "level pinned; it stays when other levels change"),
)


class AdjudicationFace(AnnotationFace):
    """The `scene.face.Face` of an adjudication: rows say what the readers differ in, and what was decided."""

    review: AdjudicationReview
    review_type = AdjudicationReview

    def changed(self) -> None:
        """See `Face`; the readers and what they say of the selected vertebra are shown too."""
        super().changed()
        with self.state:
            self.state.update({"opinions": self._opinions(), "left": left_text(self.review)})

    def followed(self, vertebra_ids: Any) -> None:
        """See `Face`."""
        super().followed(vertebra_ids)
        with self.state:
            self.state.opinions = self._opinions()

    def _rows(self) -> list[dict[str, Any]]:
        return decision_rows(self.review)

    def _opinions(self) -> list[dict[str, Any]]:
        """Return an entry for each reader, with the colour as a page writes it."""
        return [
            {**row, "color": f"rgb({', '.join(f'{c * 255:.0f}' for c in row['color'])})"}
            for row in opinion_rows(self.review)
        ]


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
        server.state.update({"opinions": [], "left": ""})
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
                "{{ left }}",
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
                html.Span("Reader {{ o.letter }}", classes=("o.chosen ? 'mr-2 font-weight-bold' : 'mr-2'",))
                html.Span("{{ o.said }}", classes="text-caption")
                v3.VSpacer()
                v3.VBtn(
                    "Take {{ o.letter }}{{ o.key && ` (${o.key})` }}{{ o.chosen ? ' (f)' : '' }}",
                    v_if="o.there",
                    size="x-small",
                    variant="tonal",
                    classes="text-none mb-1",
                    click=(self.session.act, "['take', o.letter]"),
                    raw_attrs=[':data-test="`take_${o.letter.toLowerCase()}`"'],
                )

    def _head(self) -> None:
        with html.Thead(), html.Tr():
            for title in ("Level", "Decision", "Disagreement"):
                html.Th(title, classes="left")

    def _cells(self) -> None:
        with html.Td(classes="left", raw_attrs=['data-cell="decision"']):
            html.Span("{{ r.decided }}")
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

    keys = ADJUDICATION_KEYS
    legend = LEGEND


class AdjudicationPage(AnnotationPage):
    """Builds the page of an adjudication on a trame server; the digits take readings, and enlarge no view."""

    session: AdjudicationSession
    session_type = AdjudicationSession
    side = AdjudicationSide
    dialogs = AdjudicationDialogs
    scripts = scripts_of((*ADJUDICATION_ACTIONS, *REASON_KEYS))

    def _own(self, icon: str, title: str, script: str, pressed: str) -> None:
        super()._own(icon, title.removesuffix(" (5)"), script, pressed)
