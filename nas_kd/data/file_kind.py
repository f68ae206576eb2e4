"""Names what a file is by its first bytes, for messages about a file of another kind than was wanted."""

from pathlib import Path

_STARTS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "an .npy file, which holds one array"),
    (b"\x1f\x8b", "compressed by gzip (decompress it first)"),
    (b"BZh", "compressed by bzip2 (decompress it first)"),
    (b"\xfd7zXZ", "compressed by xz (decompress it first)"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd (decompress it first)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB", "a MATLAB file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself (`git lfs pull` gets it)"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
)
_SAMPLE = 512  # bytes


def describe_file(path: Path) -> str:
    """Say what a file is, such as "a text file".

    Args:
        path: of a file that can be read.
    """
    with path.open("rb") as file:
        start = file.read(_SAMPLE)
    if not start:
        return "empty"
    known = next((name for magic, name in _STARTS if start.startswith(magic)), None)
    if known is not None:
        return known
    if start[257:262] == b"ustar":
        return "a tar archive"
    return "a text file" if b"\0" not in start and _is_text(start) else "of an unknown kind"


def _is_text(start: bytes) -> bool:
    try:
        start[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
