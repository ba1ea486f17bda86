"""Dagster's in-process executor for runs of thousands of steps.

After each step Dagster's own looks three times at every step that is still to come, and sorts those that may begin.
This one looks at the steps that waited for what is through, and sorts nothing. Which step is next, and what happens to
it, is as with Dagster's own, except for what is not needed:

- Steps are skipped without a log line and an event for each, so that a run shows the steps that did something.
- A mapped step that yields no output ends its map: the same step of other mapping keys is skipped unless it has begun.

Private: the executor that it derives from, and the plan that tells it which steps may begin. The public way,
`in_process_executor`, takes time that grows with the square of the steps. An executor on the public class `Executor`
would have to repeat everything that Dagster does with a step.

With a version of Dagster that it was not tested with it leaves everything to Dagster's own executor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG, _core_in_process_executor_creation
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.outputs import StepOutputHandle
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.executor.in_process import InProcessExecutor

from truepixel_dagster.instance.event_log import is_tested


class _Steps(ActiveExecution):
    """Which steps of a run may begin."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._through: list[str] = []
        self._followers: Mapping[str, Sequence[str]] | None = None
        self._ranks: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def get_steps_to_execute(self, limit: int | None = None) -> Sequence[ExecutionStep]:
        """The steps to begin now; where only one is asked for, it alone is looked at closely."""
        self._update()
        if limit != 1 or self._waiting_to_retry or not self._executable:
            return super().get_steps_to_execute(limit)
        first = min(self._executable, key=self._rank)
        others, self._executable = self._executable, [first]
        taken = super().get_steps_to_execute(limit)
        self._executable = others
        if not taken:
            # Its pool is full: there may be another.
            return super().get_steps_to_execute(limit)
        others.remove(first)
        return taken

    def _rank(self, key: str) -> float:
        rank = self._ranks.get(key)
        if rank is None:
            rank = self._ranks[key] = self._sort_key_fn(self.get_step_by_key(key))
        return rank

    def plan_events_iterator(self, job_context: Any) -> Iterator[DagsterEvent]:
        """Skip what has to be skipped, silently; events are only those of Dagster's own for steps that cannot run."""
        while steps := self.get_steps_to_skip():
            for step in steps:
                self.mark_skipped(step.key)
        yield from super().plan_events_iterator(job_context)

    def mark_success(self, step_key: str) -> None:
        """Note that a step has ended; skip its siblings if it was mapped and yielded nothing."""
        super().mark_success(step_key)
        name, mapped, _ = step_key.partition("[")
        outputs = self.get_step_by_key(step_key).step_output_dict
        if mapped and not any(StepOutputHandle(step_key, each) in self._step_outputs for each in outputs):
            self._skip(key for key in self._executable if key.startswith(f"{name}["))

    def _skip(self, keys: Iterable[str]) -> None:
        """Skip steps that have not begun."""
        unneeded = {key for key in keys if self._retry_state.get_attempt_count(key) == 0}
        self._executable = [key for key in self._executable if key not in unneeded]
        self._pending_skip += sorted(unneeded)

    def _mark_complete(self, step_key: str) -> None:
        super()._mark_complete(step_key)
        self._through.append(step_key)

    def _update(self) -> None:
        through, self._through = self._through, []
        if self._followers is None or self._new_dynamic_mappings:
            super()._update()
            self._followers = _followers(self._pending)
        elif through or self._waiting_to_retry:
            # What is through itself may be there again: for another try.
            looked_at = [key for done in through for key in (done, *self._followers.get(done, ()))]
            others = self._pending
            self._pending = {key: others.pop(key) for key in looked_at if key in others}
            super()._update()
            others.update(self._pending)
            self._pending = others


def _followers(pending: Mapping[str, set[str]]) -> Mapping[str, Sequence[str]]:
    """For each step those that wait for it, in the order of the plan."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, awaited in pending.items():
        for step in awaited:
            found[step].append(key)
    return found


class _Plan(ExecutionPlan):
    def start(self, *args: Any, **kwargs: Any) -> ActiveExecution:
        return _Steps(self, *args, **kwargs)


class _LongRunExecutor(InProcessExecutor):
    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        plan = _Plan(**execution_plan._asdict())
        context = PlanOrchestrationContext(
            plan_data=plan_context.plan_data._replace(execution_plan=plan),
            log_manager=plan_context.log,
            executor=plan_context.executor,
            output_capture=plan_context.output_capture,
            resume_from_failure=plan_context.resume_from_failure,
        )
        return super().execute(context, plan)


@dg.executor(name="in_process", config_schema=IN_PROC_CONFIG)
def long_run_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """All steps in this process, as with `dagster.in_process_executor` and its configuration."""
    own = _core_in_process_executor_creation(context.executor_config)
    return _LongRunExecutor(own.retries, own.step_dependency_config, own.marker_to_close) if is_tested() else own
