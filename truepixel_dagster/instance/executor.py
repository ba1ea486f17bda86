"""Dagster's in-process executor for runs of thousands of steps.

After each step, Dagster's executor scans every pending step three times and sorts those that may start. This one
examines only the steps that waited for the completed one, and sorts nothing. It starts the same steps in the same order
as Dagster's executor and handles them alike, with two exceptions:

- Steps are skipped without a log line and an event for each, so that a run shows the steps that did something.
- A mapped step that yields no output ends its map: the same step of other mapping keys is skipped if it has not begun.

Private: the executor's base class, and the execution plan, which decides which steps may start. The public way,
`in_process_executor`, takes time that grows with the square of the number of steps. An executor based on the public
class `Executor` would have to repeat everything that Dagster does with a step.

If the installed version of Dagster was not tested, Dagster's own executor runs the steps.
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
    """Track which steps of a run may start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._completed: list[str] = []
        self._followers: Mapping[str, Sequence[str]] | None = None
        self._ranks: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def get_steps_to_execute(self, limit: int | None = None) -> Sequence[ExecutionStep]:
        """Return the steps to start now. If only one is requested, examine only the step with the highest priority."""
        self._update()
        if limit != 1 or self._waiting_to_retry or not self._executable:
            return super().get_steps_to_execute(limit)
        first = min(self._executable, key=self._rank)
        others, self._executable = self._executable, [first]
        taken = super().get_steps_to_execute(limit)
        self._executable = others
        if not taken:
            # Its concurrency pool is full: another step may start.
            return super().get_steps_to_execute(limit)
        others.remove(first)
        return taken

    def _rank(self, key: str) -> float:
        rank = self._ranks.get(key)
        if rank is None:
            rank = self._ranks[key] = self._sort_key_fn(self.get_step_by_key(key))
        return rank

    def plan_events_iterator(self, job_context: Any) -> Iterator[DagsterEvent]:
        """Skip steps without an event for each; yield only Dagster's own events for steps that cannot run."""
        while steps := self.get_steps_to_skip():
            for step in steps:
                self.mark_skipped(step.key)
        yield from super().plan_events_iterator(job_context)

    def mark_success(self, step_key: str) -> None:
        """Mark a step as successful; if it was mapped and yielded nothing, skip the same step of other mapping keys."""
        super().mark_success(step_key)
        name, mapped, _ = step_key.partition("[")
        outputs = self.get_step_by_key(step_key).step_output_dict
        if mapped and not any(StepOutputHandle(step_key, each) in self._step_outputs for each in outputs):
            self._skip(key for key in self._executable if key.startswith(f"{name}["))

    def _skip(self, keys: Iterable[str]) -> None:
        """Skip steps that have not started."""
        unneeded = {key for key in keys if self._retry_state.get_attempt_count(key) == 0}
        self._executable = [key for key in self._executable if key not in unneeded]
        self._pending_skip += sorted(unneeded)

    def _mark_complete(self, step_key: str) -> None:
        super()._mark_complete(step_key)
        self._completed.append(step_key)

    def _update(self) -> None:
        completed, self._completed = self._completed, []
        if self._followers is None or self._new_dynamic_mappings:
            super()._update()
            self._followers = _followers(self._pending)
        elif completed or self._waiting_to_retry:
            # A completed step may itself be pending again, for a retry.
            affected = [key for step in completed for key in (step, *self._followers.get(step, ()))]
            others = self._pending
            self._pending = {key: others.pop(key) for key in affected if key in others}
            super()._update()
            others.update(self._pending)
            self._pending = others


def _followers(pending: Mapping[str, set[str]]) -> Mapping[str, Sequence[str]]:
    """Return for each step the steps that wait for it, in the order of the plan."""
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
    """Execute all steps in this process, with the configuration of `dagster.in_process_executor`."""
    own = _core_in_process_executor_creation(context.executor_config)
    return _LongRunExecutor(own.retries, own.step_dependency_config, own.marker_to_close) if is_tested() else own
