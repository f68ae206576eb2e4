"""A folder of pictures by identity: `path/<identity>/*.png`, or `path/train|val|test/<identity>/*.png`.

Unlike classes, identities of validation and test need not occur in train; where splits are carved for
`data.task = "embedding"` they do not.
"""

from nas_kd.config.options import DataOptions
from nas_kd.data.image_folder import read_folders
from nas_kd.data.source import RawData


class IdentityFolder:
    """Images of any size and 8-bit mode, brought to one size; a mirror image is of the same identity."""

    name = "identity_folder"
    summary = "a folder of images, one sub-folder an identity, optionally below train, val and test"
    uses = frozenset({"path", "image_size", "resize", "follow_links", "on_error", "cache", "cache_gb"})

    def load(self, options: DataOptions) -> RawData:
        """Decode every image; what is left out is counted and said.

        Args:
            options: `path`, and optionally `image_size`, `resize`, `follow_links`, `on_error`, `train_rows`,
                `test_rows`, `cache`, `cache_gb`.

        Raises:
            InputError: there is no such folder, no identity's folder, or a broken image.
        """
        return read_folders(options, self.name, closed=False)


PLUGIN = IdentityFolder()
