"""Turns other libraries' long errors into one line."""


def first_line(error: BaseException) -> str:
    """The error's first line that says something, at most 300 characters; its type's name where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
