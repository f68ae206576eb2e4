"""Mean average precision of boxes of which half is enough: of overlap 0.5, as in PASCAL VOC."""

from typing import ClassVar

from nas_kd.scores.map50_95 import Map50To95


class Map50(Map50To95):
    """1/C sum_c AP_c over the classes that occur; a box is right from an overlap of 0.5 on."""

    name = "map50"
    title = "mAP50"
    unit = "mean over classes of average precision at overlap 0.5, 0..1"
    summary = "mean average precision of boxes that overlap true ones by half"
    thresholds: ClassVar[slice] = slice(0, 1)


PLUGIN = Map50()
