"""Section 3, of tasks whose targets have places: scores by class, and pictures of what the winner's file says."""

import base64
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.class_tables import deployed_finalist
from nas_kd.report.report_context import ReportContext


@dataclass(frozen=True)
class SamplePicture:
    """A picture: the name of its file beside the Markdown page, its content as Base64, and what it shows."""

    file: str
    png: str
    caption: str

    @property
    def content(self) -> bytes:
        """The bytes of the PNG file."""
        return base64.b64decode(self.png)


@dataclass(frozen=True)
class ClassScoreRow:
    """One class: its name, and the score of each network with its interval, as text."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class SamplePictures:
    """Pictures of test samples, and a table of scores by class.

    Attributes:
        sentence: what they are of.
        title: of the score by class; empty: there is none.
        networks: names of the networks that have one.
        rows: a row for each class.
        pictures: of a few samples.
    """

    sentence: str
    title: str
    networks: tuple[str, ...]
    rows: tuple[ClassScoreRow, ...]
    pictures: tuple[SamplePicture, ...]


def build_sample_pictures(context: ReportContext) -> SamplePictures | None:
    """Build it; None where the record has nothing of the kind."""
    finalist, teacher, data = deployed_finalist(context), context.run.teacher, context.run.dataset
    if finalist is None or data is None or (finalist.by_class is None and not finalist.pictures):
        return None
    letter = context.letters[finalist.id]
    found = {letter: finalist.by_class, "Teacher": None if teacher is None else teacher.by_class}
    scores = {name: by_class for name, by_class in found.items() if by_class is not None}
    rows = [
        ClassScoreRow(
            name,
            tuple(fmt.accuracy_with_interval(v) if (v := s.values[n]) else "none" for s in scores.values()),
        )
        for n, name in enumerate(data.classes)
    ]
    return SamplePictures(
        sentence=f"What the exported file of {letter} (seed {finalist.deployed_seed}) says of test samples.",
        title=next((s.title for s in scores.values()), ""),
        networks=tuple(scores),
        rows=tuple(rows) if scores else (),
        pictures=tuple(
            SamplePicture(f"sample{n}.png", picture.png, picture.caption)
            for n, picture in enumerate(finalist.pictures, start=1)
        ),
    )
