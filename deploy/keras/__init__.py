"""The environment apart in which Keras models become ONNX: TensorFlow would fit into none of the services'."""
