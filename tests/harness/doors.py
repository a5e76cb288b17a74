"""Which gRPC doors of the predictor can be tried here: both where the native one is built."""

import importlib.util

DOORS = ("python", "native") if importlib.util.find_spec("services.predictor.wire.native") else ("python",)

SETTING = "LEPTON_PREDICTOR_DOOR"
