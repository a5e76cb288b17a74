"""What several predictors did with one model, as if it had been one."""

from collections.abc import Iterable

from lepton.contracts.pb import grpc_service_pb2 as inference

_REQUEST_STEPS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_BATCH_STEPS = ("compute_input", "compute_infer", "compute_output")


def merged(answers: Iterable[inference.ModelStatisticsResponse]) -> inference.ModelStatisticsResponse:
    """One entry for each version, by name and version: counts and times in sum, and the latest last inference."""
    found: dict[tuple[str, str], inference.ModelStatistics] = {}
    for answer in answers:
        for told in answer.model_stats:
            key = (told.name, told.version)
            if key in found:
                _add(found[key], told)
            else:
                found[key] = told
    return inference.ModelStatisticsResponse(model_stats=[found[key] for key in sorted(found)])


def catalogue(answers: Iterable[inference.RepositoryIndexResponse]) -> inference.RepositoryIndexResponse:
    """One entry for each version: READY where one predictor has it so, else as the last one says."""
    found: dict[tuple[str, str], inference.RepositoryIndexResponse.ModelIndex] = {}
    for answer in answers:
        for told in answer.models:
            key = (told.name, told.version)
            if key not in found or found[key].state != "READY":
                found[key] = told
    served = {name for name, version in found if version}
    return inference.RepositoryIndexResponse(
        models=[found[key] for key in sorted(found) if key[1] or key[0] not in served])


def _add(total: inference.ModelStatistics, told: inference.ModelStatistics) -> None:
    total.last_inference = max(total.last_inference, told.last_inference)
    total.inference_count += told.inference_count
    total.execution_count += told.execution_count
    for step in _REQUEST_STEPS:
        _sum(getattr(total.inference_stats, step), getattr(told.inference_stats, step))
    sizes = {one.batch_size: one for one in total.batch_stats}
    for one in told.batch_stats:
        if one.batch_size not in sizes:
            total.batch_stats.append(one)
            continue
        for step in _BATCH_STEPS:
            _sum(getattr(sizes[one.batch_size], step), getattr(one, step))
    total.batch_stats.sort(key=lambda one: one.batch_size)


def _sum(total: inference.StatisticDuration, told: inference.StatisticDuration) -> None:
    total.count += told.count
    total.ns += told.ns
