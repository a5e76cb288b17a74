"""What a Pipeline says of processes and precision, as far as the weights of a run."""

from tests.unit.trainer.world import SPEC, World, state_of


async def test_what_the_pipeline_says_of_shares_and_precision_reaches_the_run(world: World) -> None:
    for number, wanted in enumerate(("", ", processes: 2", ", precision: bfloat16")):
        world.pipelines["tumours"] = state_of(SPEC.replace("every_rows: 50", f"every_rows: 50{wanted}"))
        if not number:
            await world.rows(0, 200)
        await world.train(f"c{number}")
    versions = (await world.stores.models.state("tumours")).versions
    assert len({one.manifest.lineage.weights_sha256 for one in versions}) == 3


async def test_float16_ends_as_a_parameter_where_runs_learn_on_a_cpu(world: World) -> None:
    world.pipelines["tumours"] = state_of(SPEC.replace("every_rows: 50", "every_rows: 50, precision: float16"))
    await world.rows(0, 200)
    ended = await world.train("c0")
    assert ended.progress.failure.name == "no_float16_here"
