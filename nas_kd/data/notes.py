"""What is said about data as they were read: sentences for people, and the same as counts for the run's record."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nas_kd.errors import printable

N_NAMED = 3  # of those left out for one reason


@dataclass(frozen=True)
class DataNotes:
    """Everything that is said about one data set.

    Attributes:
        sentences: what was converted, chosen, carved, left out or found twice, one sentence each.
        skipped: how many files or samples were left out, by reason.
        duplicates: how many samples of "val" and "test" are in an earlier split, too.
        layout: order of the axes of stored samples, such as "hwc"; None: does not apply.
        label_encoding: how targets were read, where it needs to be said.
        carved: splits that were taken from the training samples.
        unlabelled_duplicates: how many unlabelled samples were left out because a labelled split has them, by split.
    """

    sentences: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    duplicates: Mapping[str, int] = field(default_factory=dict)
    layout: str | None = None
    label_encoding: str | None = None
    carved: tuple[str, ...] = ()
    unlabelled_duplicates: Mapping[str, int] = field(default_factory=dict)


class LeftOut:
    """Counts what was left out by reason, and remembers the first names."""

    def __init__(self) -> None:
        """Start without any."""
        self.counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str | Path) -> None:
        """Count one.

        Args:
            reason: such as "hidden", in the singular.
            name: of the file or sample.
        """
        self.counts[reason] += 1
        names = self._names.setdefault(reason, [])
        if len(names) < N_NAMED:
            names.append(printable(name))

    def include(self, other: "LeftOut") -> None:
        """Count all that another has counted."""
        for reason, count in other.counts.items():
            self.counts[reason] += count
            names = self._names.setdefault(reason, [])
            names += other._names[reason][: N_NAMED - len(names)]

    def summary(self) -> str:
        """Reasons, counts and first names, such as `hidden: 2 (.DS_Store, .git)`; empty if nothing was left out."""
        return "; ".join(f"{reason}: {count:,} ({self._named(reason)})" for reason, count in self.counts.items())

    def _named(self, reason: str) -> str:
        more = ", ..." if self.counts[reason] > len(self._names[reason]) else ""
        return ", ".join(self._names[reason]) + more
