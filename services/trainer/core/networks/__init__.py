"""One module a kind of network: how it is built, what it answers, and the ONNX operators it becomes."""
