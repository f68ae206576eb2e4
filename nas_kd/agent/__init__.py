"""The device agent: measures ONNX files for searches that run elsewhere.

Runs where only Python, NumPy, ONNX Runtime and packaging are: nothing else may be imported from here, directly or not.
"""
