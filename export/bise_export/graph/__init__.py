"""The decoder as an ONNX graph (DESIGN's contract of inputs and outputs), built once its spec and recipe are known."""
