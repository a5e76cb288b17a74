"""Which recovery commands the predictor carries out itself, and by which verb of the flow.

None in this slice: a restart is the actuator's, a roll back the trainer's, and the predictor follows the registry.
"""

from collections.abc import Awaitable, Callable, Mapping

from lepton.contracts.pb import recovery_pb2

VERBS: Mapping["recovery_pb2.RecoveryAction.ValueType", Callable[[recovery_pb2.RecoveryCommand], Awaitable[str]]] = {}
"""Action -> what executes it and returns the evidence for the result."""
