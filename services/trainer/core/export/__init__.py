"""The exported model: one ONNX graph from validated fields to decoded answers, and proof that it answers as torch."""
