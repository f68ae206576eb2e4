"""True accept rate at a false accept rate of 0.001, see `nas_kd.scores.tar_at_far`."""

from nas_kd.scores.tar_at_far import TarAtFar


class TarAtFar1e3(TarAtFar):
    """With fewer than 1,000 pairs of two identities none of these may be accepted."""

    name = "tar_at_far_1e3"
    title = "TAR at FAR 0.001"
    summary = "share of pairs of one identity that are accepted where 0.1 % of the pairs of two are"
    far = 0.001


PLUGIN = TarAtFar1e3()
