"""Create the pipeline's indices and templates in `setup`, and check them before each write."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from truepixel_dagster.access import ElasticsearchAccess
from truepixel_dagster.stores.elasticsearch.connection import Connection, whole
from truepixel_dagster.stores.errors import NotSetUp
from truepixel_dagster.stores.index_templates import (
    MADE_BY_SETUP,
    TEMPLATES,
    Fault,
    index_faults,
    is_closed,
    repair,
    template,
    template_faults,
    template_of,
)

_TEMPLATE_FIELDS = ["index_templates.name", "index_templates.index_template"]
# With the UUID, which each index has, the reply leaves out no index.
_SETTINGS_OF_AN_INDEX = ("uuid", "verified_before_close", "default_pipeline", "final_pipeline")
_INDEX_FIELDS = ["*.mappings", *(f"*.settings.index.{name}" for name in _SETTINGS_OF_AN_INDEX)]
# How long a process may write to the indices that it has checked, in seconds.
_SOUND_SECONDS = 60.0


class Indices(Connection):
    """Create and check indices and templates. See `Connection` for the arguments."""

    def __init__(self, access: ElasticsearchAccess, *, exact: bool = False) -> None:
        super().__init__(access, exact=exact)
        self._sound: set[str] = set()
        self._sound_until = 0.0
        self._replicas = access.replicas

    def check(self) -> None:
        """Check that templates and indices are as this version needs them.

        Raises:
            NotSetUp: They are not; the message says what is wrong and what to do.
            Unavailable: No answer after all tries.
        """
        described = self._described(self._own(""))
        found = template_faults(self._templates(), self._namespace)
        for name in MADE_BY_SETUP:
            if self.index(name) not in described:
                found.append(Fault(f"index {self.index(name)}", "is missing", repairable=True))
        self._raise(found + self._faults_of(described))
        self._sound |= described.keys()
        self._sound_until = time.monotonic() + _SOUND_SECONDS

    def unsound(self) -> list[str]:
        """Return the faults that `setup` cannot correct, each in one line with what to do.

        Raises:
            Unavailable: No answer after all tries.
        """
        faults = template_faults(self._templates(), self._namespace)
        lines = [str(fault) for fault in _blocking(faults) if not fault.repairable]
        for index, there in sorted(self._described(self._own("")).items()):
            wrong = [fault for fault in _blocking(self._faults_of({index: there})) if not fault.repairable]
            if wrong:
                lines.append(f"{wrong[0]}: its documents must be reindexed. {_how_to_reindex(index)}")
        return lines

    def outdated(self) -> list[str]:
        """Return a line for each index that an earlier version mapped so that operators' searches find less.

        Raises:
            Unavailable: No answer after all tries.
        """
        found: list[str] = []
        for index, there in sorted(self._described(self._own("")).items()):
            old = [fault for fault in self._faults_of({index: there}) if fault.outdated]
            if old:
                found.append(f"{_first(old)}: this affects only your own searches. {_how_to_reindex(index)}")
        return found

    def body_of(self, index: str) -> dict[str, Any] | None:
        """Return the template's settings and mappings for one of the pipeline's indices; None for another index."""
        name = template_of(index, self._namespace)
        return None if name is None else dict(template(name, self._namespace, self._replicas)["template"])

    def wrong(self, index: str) -> bool:
        """Return whether an index exists and has a fault that only a reindex corrects.

        Raises:
            Unavailable: No answer after all tries.
        """
        return any(not fault.repairable for fault in self._faults_of(self._described(index)))

    def _check_targets(self, indices: Collection[str]) -> None:
        """Check indices before a write, unless they were checked lately; a new one must get a template's mapping."""
        if wrong := self.refusing(indices):
            raise NotSetUp(f"{self._server}: {next(iter(wrong.values()))}")

    def refusing(self, indices: Collection[str]) -> dict[str, str]:
        """Return why nothing must be written to indices that have, or would get, another mapping, by index.

        Raises:
            Unavailable: No answer after all tries.
        """
        if time.monotonic() >= self._sound_until:
            self._sound.clear()
            self._sound_until = time.monotonic() + _SOUND_SECONDS
        new = [index for index in indices if index not in self._sound]
        if not new:
            return {}
        described = self._described(",".join(new))
        templates = {} if described.keys() >= set(new) else self._templates()
        wrong: dict[str, str] = {}
        for index in new:
            there, name = described.get(index), template_of(index, self._namespace)
            if there:
                faults = self._faults_of({index: there})
            else:
                faults = template_faults(templates, self._namespace, [index], [name] if name else [])
            if faults := _blocking(faults):
                wrong[index] = _said(faults)
        self._sound.update(index for index in new if index not in wrong)
        return wrong

    def _check_indices(self, names: Sequence[str]) -> None:
        self._raise(self._faults_of(self._described(",".join(names))))

    def _raise(self, faults: Sequence[Fault]) -> None:
        if faults := _blocking(faults):
            raise NotSetUp(f"{self._server}: {_said(faults)}")

    def _faults_of(self, described: Mapping[str, dict[str, Any]]) -> list[Fault]:
        named = ((index, template_of(index, self._namespace), there) for index, there in described.items())
        return [fault for index, name, there in named if name for fault in index_faults(index, name, there)]

    def _templates(self) -> dict[str, dict[str, Any]]:
        reply = self._call(lambda: self.client.indices.get_index_template(filter_path=_TEMPLATE_FIELDS))
        return {each["name"]: each["index_template"] for each in reply.body.get("index_templates", ())}

    def _described(self, indices: str) -> dict[str, dict[str, Any]]:
        """Return mappings and settings of the indices of an expression, including closed and hidden ones."""
        reply = self._call(
            lambda: self.client.indices.get(
                index=indices,
                expand_wildcards="all",
                allow_no_indices=True,
                ignore_unavailable=True,
                filter_path=_INDEX_FIELDS,
            )
        )
        return dict(reply.body)

    def setup(self) -> list[str]:
        """Create or update index templates, and create the indices that are not monthly; return the changes.

        Existing indices get the fields that they lack; see `unsound` for the faults that remain.

        Raises:
            Unavailable: No answer after all tries.
        """
        there = self._templates()
        changed = [name for name in TEMPLATES if self._put_template(name, there.get(self.index(name)))]
        for name in MADE_BY_SETUP:
            index = self.index(name)
            if not self._call(lambda: self.client.indices.exists(index=index)):  # noqa: B023 (called at once)
                self._call(lambda: self.client.indices.create(index=index))  # noqa: B023 (called at once)
                changed.append(f"index {index}")
        for name in TEMPLATES:
            changed += self._repair(name, searches=name in changed)
        return changed

    def _put_template(self, name: str, known: Mapping[str, Any] | None) -> bool:
        body = template(name, self._namespace, self._replicas)
        if known and all(known.get(key) == value for key, value in body.items()):
            return False
        self._call(lambda: self.client.indices.put_index_template(name=self.index(name), **body))
        return True

    def _repair(self, name: str, *, searches: bool) -> list[str]:
        """Add new fields and search settings to existing indices, because a template applies only to new ones."""
        wanted = template(name, self._namespace, self._replicas)["template"]
        search, changed = wanted["settings"]["index"]["search"], []
        for index, there in self._described(self._own(name)).items():
            faults = self._faults_of({index: there})
            if searches and not is_closed(there):
                self._change_settings(index, {"index": {"search": search}})
            blocking = _blocking(faults)
            if blocking and all(fault.repairable for fault in blocking):
                self._change_mapping(index, repair(wanted["mappings"], there.get("mappings", {})))
                changed.append(f"mapping of {index}")
        return changed

    def _change_settings(self, index: str, settings: Mapping[str, Any]) -> None:
        self._call(lambda: self.client.indices.put_settings(index=index, settings=settings))

    def _change_mapping(self, index: str, mapping: Mapping[str, Any]) -> None:
        self._call(lambda: self.client.indices.put_mapping(index=index, **mapping))

    def async_indices(self) -> list[str]:
        """Return the indices that acknowledge a write before it is on disk.

        Raises:
            Unavailable: No answer after all tries.
        """
        name = "index.translog.durability"
        found = self._call(
            lambda: self.client.indices.get_settings(
                index=self._own(""), name=name, flat_settings=True, ignore_unavailable=True, allow_no_indices=True
            )
        )
        return sorted(index for index, own in found.items() if own["settings"].get(name) == "async")

    def indices(self, name: str) -> list[str]:
        """Return the full names of the indices `name`*, including closed ones.

        Raises:
            Unavailable: No answer after all tries.
        """
        return sorted(self._described(self._own(name)))

    def drop(self, index: str) -> None:
        """Delete one index with its documents by its full name, if it exists.

        Raises:
            Unavailable: No answer after all tries.
        """
        self._call(lambda: self.client.indices.delete(index=index, ignore_unavailable=True))

    def refresh(self) -> None:
        """Make all writes visible to searches.

        Raises:
            Unavailable: No answer after all tries, or a shard did not do it.
        """
        own = self._own("")
        refresh = self.client.indices.refresh
        self._call(lambda: whole(refresh(index=own, ignore_unavailable=True, allow_no_indices=True)))


def _blocking(faults: Sequence[Fault]) -> list[Fault]:
    return [fault for fault in faults if not fault.outdated]


def _how_to_reindex(index: str) -> str:
    return f"Stop the lanes, run `truepixel setup --reindex {index}`, and start them again"


def _said(faults: Sequence[Fault]) -> str:
    """Return the faults and the next step, in one line."""
    # A fault that `setup` cannot correct says more about the cause.
    ordered = sorted(faults, key=lambda fault: fault.repairable)
    return _first(ordered) + ("" if ":" in ordered[0].what else ": run `truepixel setup`")


def _first(faults: Sequence[Fault]) -> str:
    return f"{faults[0]}" + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
