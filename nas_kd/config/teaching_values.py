"""Values that options on teaching can have, for configs and for what a run records."""

from typing import Literal

Progression = Literal["none", "checkpoints", "stages"]
PROGRESSIONS: tuple[Progression, ...] = ("none", "checkpoints", "stages")
FINAL: Literal["final"] = "final"  # the teacher at the end of its training, beside the numbers of its checkpoints
