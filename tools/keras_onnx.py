"""Turns one `.keras` file into one ONNX file; runs in the environment of requirements/keras.lock, and nowhere else.

    python -I tools/keras_onnx.py IN.keras OUT.onnx

Keras's safe mode stands, and the model's compilation is not read. Inputs keep their names.
"""

import sys

import keras
import onnx
import tensorflow
import tf2onnx

OPSET = 18


def main(source: str, target: str) -> None:
    model = keras.saving.load_model(source, compile=False, safe_mode=True)
    signature = [tensorflow.TensorSpec(one.shape, one.dtype, name=one.name) for one in model.inputs]

    def answer(*given: object) -> object:
        return model(given[0] if len(given) == 1 else list(given), training=False)
    function = tensorflow.function(answer, input_signature=signature)
    made, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    # What an adapted layer knows is no variable to TensorFlow, and tf2onnx leaves it as something to be given.
    known = {inner.name: outer for outer, inner in function.get_concrete_function().graph.captures}
    for one in [one for one in made.graph.input if one.name in known]:
        made.graph.input.remove(one)
        made.graph.initializer.append(onnx.numpy_helper.from_array(known[one.name].numpy(), one.name))
    onnx.save(made, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
