"""What networks and preparations write their ONNX operators into."""
