"""ONNX files that were trained elsewhere: opened with suspicion, fitted to a Pipeline, measured like any candidate."""
