"""Writes decoded pictures one after the other: (N, C, H, W) uint8, in three channels from the first colour on."""

import os
from pathlib import Path
from types import TracebackType

import numpy as np

from nas_kd.data.picture_steps import Pixels, Size

CHUNK_BYTES = 2**26  # copied at a time when grey pictures get three channels
COLOURS = 3


class PictureFile:
    """A file of pictures of one size, open for writing; on disk for certain once it is closed."""

    def __init__(self, path: Path, size: Size) -> None:
        """Create the file.

        Args:
            path: where.
            size: height and width of all pictures.

        Raises:
            OSError: it cannot be written.
        """
        self._path, self._size = path, size
        self._count, self._channels = 0, 1
        self._file = path.open("wb")

    def __enter__(self) -> "PictureFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of what was written."""
        return (self._count, self._channels, *self._size)

    def append(self, pixels: Pixels) -> None:
        """Write one picture, (H, W) or (H, W, 3).

        Raises:
            OSError: the disk is full.
        """
        planes = pixels.transpose(2, 0, 1) if pixels.ndim == COLOURS else pixels[None]
        if len(planes) > self._channels:
            self._become_colour()
        self._file.write(np.ascontiguousarray(np.broadcast_to(planes, (self._channels, *self._size))).data)
        self._count += 1

    def _become_colour(self) -> None:
        """Give the grey pictures so far three channels."""
        self._channels = COLOURS
        if not self._count:
            return
        self._file.close()
        grey, plane = self._path.with_suffix(".grey"), self._size[0] * self._size[1]
        self._path.replace(grey)
        self._file = self._path.open("wb")
        with grey.open("rb") as before:
            while some := before.read(max(1, CHUNK_BYTES // plane) * plane):
                planes = np.frombuffer(some, np.uint8).reshape(-1, 1, plane)
                self._file.write(np.repeat(planes, COLOURS, axis=1).data)
        grey.unlink()
