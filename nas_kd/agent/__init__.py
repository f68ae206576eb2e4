"""The device agent: measures ONNX files for searches that run on other machines.

It runs where only Python, NumPy, ONNX Runtime and packaging are installed: nothing else may be imported from here,
directly or indirectly.
"""
