"""The names under which train, val and test are found in folders, files and archives."""

SPLITS = ("train", "val", "test")
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}


def split_named(word: str) -> str | None:
    """The split that a word names, in any case; None: it names none.

    Examples:
        >>> split_named("Validation"), split_named("cat")
        ('val', None)
    """
    return _SPLIT_OF.get(word.lower())
