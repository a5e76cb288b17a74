"""When a model answers: what it takes for a predictor to serve a version, and what became of a run that gave none."""

from collections.abc import Mapping
from typing import Final

from lepton.errors import Invalid, LeptonError, Missing, Refused, Unavailable
from lepton_ai._models import Run
from lepton_ai._monitor.health import health_from
from lepton_ai._progress import Progress
from lepton_ai._runs.verbs import LOOK_EVERY_S, AsyncRuns
from lepton_ai._transport import Transport

_FAILURES: Final[Mapping[str, type[LeptonError]]] = {"data": Invalid, "parameter": Invalid, "resource": Unavailable}


async def answers_with(transport: Transport, model: str, version: int) -> bool:
    """Whether a predictor that is ready answers with this version."""
    health = health_from(model, version, {}, await transport.get("/v1/status"), [])
    return any(one.serves and one.version == version for one in health.replicas)


async def served(transport: Transport, model: str, seconds: float, progress: Progress) -> int:
    """The champion's version, once a predictor answers with it.

    Raises Missing for a pipeline there is not; what became of the newest run, where it ended without a champion; and
    Unavailable after `seconds`.
    """
    await transport.get(f"/v1/pipelines/{model}")
    deadline = transport.clock.monotonic() + seconds
    while True:
        # Read before the model: a run seen as over has left its version to be seen.
        runs = await AsyncRuns(transport).list(model, limit=1)
        champion = await _champion(transport, model)
        if champion and await answers_with(transport, model, champion):
            return champion
        if runs and runs[0].ended and runs[0].state != "succeeded" and not champion:
            raise not_trained(runs[0])
        stands = f"{runs[0].run_id} is {runs[0].state}" if runs else "no run has begun"
        if transport.clock.monotonic() > deadline:
            raise Unavailable(f"{model} does not answer yet: {stands}", remedy="see `lepton runs list` and "
                              f"`lepton get rows {model}`: a run begins once enough labelled rows are there")
        progress.show(f"{model}: version {champion} is being loaded" if champion else f"{model}: {stands}")
        await transport.clock.sleep(LOOK_EVERY_S)


def not_trained(run: Run) -> LeptonError:
    """What became of a run that published nothing."""
    if run.state == "failed":
        outcome = _FAILURES.get(run.failure_class, LeptonError)
        return outcome(run.failure or "the run failed", place=f"run {run.run_id}", remedy=run.remedy or None)
    measured = ", ".join(f"{name} {value:.4g}" for name, value in sorted(run.metrics.items()))
    why = f"the candidate did not pass its gate ({measured})" if run.state == "rejected" else f"the run was {run.state}"
    return Refused(why, place=f"run {run.run_id}")


async def _champion(transport: Transport, model: str) -> int:
    try:
        return int((await transport.get(f"/v1/models/{model}"))["champion"])
    except Missing:
        return 0
