"""The device agent: measures ONNX files for searches that run elsewhere.

Runs where only Python, NumPy and ONNX Runtime are: nothing else may be imported from here, directly or not.
"""
