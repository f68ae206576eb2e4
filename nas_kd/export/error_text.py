"""Turns other libraries' long errors into one line."""

import re

LONGEST = 300
# What ONNX Runtime puts before what it has to say: error class, code, and the place in its source with the signature.
_CODE = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PLACE = re.compile(r"/onnxruntime_src/\S+ .*?\) ")


def first_line(error: BaseException) -> str:
    """The error's first line that says something, at most 300 characters; its type's name where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:LONGEST]


def plain(line: str) -> str:
    """What a line of ONNX Runtime's says without where in ONNX Runtime it is said, at most 300 characters."""
    return _PLACE.sub("", _CODE.sub("", line)).strip()[:LONGEST]
