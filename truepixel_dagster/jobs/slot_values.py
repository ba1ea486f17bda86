"""The IO manager of the stream: values stay in the process's memory and are forgotten when their slot commits."""

from __future__ import annotations

from typing import Any

import dagster as dg


class SlotValues(dg.IOManager):
    """Hands values from op to op within one process.

    A retried op loads its inputs again, so that a value may only be forgotten when its slot is through.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, str], Any]] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Keep a value; what a `commit` step says ends its slot."""
        slot, step = _slot(context.step_key)
        if step == "commit":
            self._values.pop(slot, None)
        self._values.setdefault(slot if step != "commit" else "", {})[context.step_key, context.name] = obj

    def load_input(self, context: dg.InputContext) -> Any:
        """The value of the step before."""
        upstream = context.upstream_output
        if upstream is None:
            raise dg.DagsterInvariantViolationError("a value in memory has no upstream step")
        slot, step = _slot(upstream.step_key)
        return self._values[slot if step != "commit" else ""][upstream.step_key, upstream.name]

    @property
    def held(self) -> int:
        """The number of slots whose values are held."""
        return sum(1 for slot in self._values if slot)


def _slot(step_key: str) -> tuple[str, str]:
    """`slot.fetch[s7]` → (`s7`, `fetch`)."""
    name, _, key = step_key.partition("[")
    return key.rstrip("]"), name.rpartition(".")[2]


@dg.io_manager
def slot_values(_context: dg.InitResourceContext) -> SlotValues:
    """One store of values for each run."""
    return SlotValues()
