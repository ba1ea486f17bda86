"""The executor for long runs does what Dagster's own does, step by step."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.active import ActiveExecution

from truepixel_dagster.instance import executor
from truepixel_dagster.instance.executor import long_run_executor

GOOD, SKIPPED, FAILED, RETRIED, RETRIED_LATER, HOPELESS = "good", "skipped", "failed", "retried", "later", "hopeless"
TRIES = {RETRIED: 1, RETRIED_LATER: 1, HOPELESS: 9}


def _priority(value: int) -> dict[str, str]:
    return {"dagster/priority": str(value)}


@dg.op(out=dg.DynamicOut(str), config_schema=[str])
def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[str]]:
    for number, outcome in enumerate(context.op_config):
        yield dg.DynamicOutput(outcome, mapping_key=str(number))


@dg.op(out=dg.Out(str, is_required=False))
def fetch(context: dg.OpExecutionContext, outcome: str) -> Iterator[dg.Output[str]]:
    if outcome == FAILED:
        raise dg.Failure("as was asked for")
    if context.retry_number < TRIES.get(outcome, 0):
        raise dg.RetryRequested(max_retries=2, seconds_to_wait=0.05 if outcome == RETRIED_LATER else None)
    if outcome != SKIPPED:
        yield dg.Output(outcome)


@dg.op(tags=_priority(1))
def first(outcome: str) -> str:
    return outcome


@dg.op(tags=_priority(2))
def left(outcome: str) -> str:
    return outcome


@dg.op(tags=_priority(2), out=dg.Out(str, is_required=False))
def right(outcome: str) -> Iterator[dg.Output[str]]:
    yield dg.Output(outcome)


@dg.op(tags=_priority(3))
def both(left: str, right: str) -> str:
    return left + right


@dg.op
def end(outcomes: list[str]) -> int:
    return len(outcomes)


@dg.graph
def batch(outcome: str) -> str:
    done = first(fetch(outcome))
    return both(left(done), right(done))  # type: ignore[no-any-return]


@dg.job(executor_def=dg.in_process_executor)
def by_dagster() -> None:
    end(plan().map(batch).collect())


@dg.job(executor_def=long_run_executor)
def by_ours() -> None:
    end(plan().map(batch).collect())


@dg.op(tags=_priority(9), pool="narrow")
def waits_for_its_pool() -> None:
    pass


@dg.op
def makes_room(context: dg.OpExecutionContext) -> None:
    context.instance.event_log_storage.free_concurrency_slots_for_run("another")


@dg.job(executor_def=long_run_executor)
def through_a_pool() -> None:
    waits_for_its_pool()
    makes_room()


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def steps_of(job: dg.JobDefinition, outcomes: list[str]) -> list[tuple[str, str | None]]:
    """The events of a run, in order."""
    config = {**QUIET, "ops": {"plan": {"config": outcomes}}}
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.execute_job(dg.reconstructable(job), instance, run_config=config)
        return [(event.event_type_value, event.step_key) for event in done.all_events]


@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        [GOOD] * 7,
        [GOOD, GOOD, SKIPPED, SKIPPED, SKIPPED],
        [GOOD, FAILED, GOOD, SKIPPED],
        [RETRIED, GOOD],
        [GOOD, RETRIED_LATER, GOOD, GOOD],
        [HOPELESS, GOOD],
        [RETRIED, RETRIED_LATER, FAILED, HOPELESS, GOOD, SKIPPED],
    ],
    ids=",".join,
)
def test_a_run_has_the_events_of_dagsters_own_executor(outcomes: list[str]) -> None:
    ours, dagsters = steps_of(by_ours, outcomes), needed(steps_of(by_dagster, outcomes), outcomes)
    # The events between a step that waits for its retry and that retry depend on the machine's load.
    waiting = [f"[{number}]" for number, outcome in enumerate(outcomes) if outcome == RETRIED_LATER]
    for batches in ([], waiting):
        assert of_batches(ours, batches, waiting) == of_batches(dagsters, batches, waiting)
    assert ("STEP_START", "plan") in ours


def needed(steps: list[tuple[str, str | None]], outcomes: list[str]) -> list[tuple[str, str | None]]:
    """Dagster's events without those that our executor omits: skipped steps, and all after the first skipped one."""
    last = outcomes.index(SKIPPED) if SKIPPED in outcomes else len(outcomes)
    after = tuple(f"[{number}]" for number in range(last + 1, len(outcomes)))
    return [(kind, key) for kind, key in steps if kind != "STEP_SKIPPED" and not (key or "").endswith(after)]


def test_a_run_shows_no_step_that_was_not_needed() -> None:
    keys = {key for _, key in steps_of(by_ours, [GOOD, SKIPPED, GOOD, GOOD]) if key}
    whole = (f"batch.{name}[0]" for name in ("fetch", "first", "left", "right", "both"))
    assert keys == {"plan", "end", *whole, "batch.fetch[1]"}


def of_batches(
    steps: list[tuple[str, str | None]], batches: list[str], waiting: list[str]
) -> list[tuple[str, str | None]]:
    """The events of some micro-batches; if none are given, the events of all micro-batches that do not wait."""

    def is_of(key: str | None, names: list[str]) -> bool:
        return any((key or "").endswith(name) for name in names)

    return [(kind, key) for kind, key in steps if (is_of(key, batches) if batches else not is_of(key, waiting))]


def test_a_step_whose_pool_is_full_holds_no_other_back(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots("narrow", 1)
        instance.event_log_storage.claim_concurrency_slot("narrow", "another", "step")
        done = dg.execute_job(dg.reconstructable(through_a_pool), instance, run_config=QUIET)
    through = [event.step_key for event in done.all_events if event.is_step_success]
    assert through == ["makes_room", "waits_for_its_pool"]


def test_each_iteration_examines_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    examined: list[int] = []
    update = ActiveExecution._update

    def noted(self: ActiveExecution) -> None:
        examined.append(len(self._pending))
        update(self)

    monkeypatch.setattr(ActiveExecution, "_update", noted)
    steps_of(by_ours, [GOOD] * 20)
    assert sorted(examined)[-3] <= 3
    examined.clear()
    steps_of(by_dagster, [GOOD] * 20)
    assert sorted(examined)[len(examined) // 2] >= 20


def test_with_an_untested_version_dagsters_own_executor_runs_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dg, "__version__", "9.0.0")

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(executor, "_Plan", never)
    assert ("STEP_START", "batch.both[1]") in steps_of(by_ours, [GOOD, GOOD])
