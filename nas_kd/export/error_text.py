"""Shortens other libraries' long error messages to one line."""

import re

MAX_LENGTH = 300
# Prefixes of ONNX Runtime's messages: error class and code, then the place in its source with the signature.
_CODE = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PLACE = re.compile(r"/onnxruntime_src/\S+ .*?\) ")


def first_line(error: BaseException) -> str:
    """First non-empty line of an error's message, at most 300 characters; its type's name if there is none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:MAX_LENGTH]


def plain(line: str) -> str:
    """Strip error class, code and source location from a line of ONNX Runtime's; at most 300 characters."""
    return _PLACE.sub("", _CODE.sub("", line)).strip()[:MAX_LENGTH]
