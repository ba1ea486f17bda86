"""Compare index templates and indices with the ones that the pipeline needs. No I/O.

A template or index may have additional fields, of an operator or a newer version. The fields that this version writes
and searches must have its mapping; otherwise a search finds nothing, without an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec

TEMPLATES = ("events", "attributions", "product-stats", "weekly-visitors")
#: The indices that `setup` creates; Elasticsearch creates the others with their first document.
MADE_BY_SETUP = ("attributions",)
#: Their indices end with the month: `events-2026.01`.
BY_MONTH = frozenset({"events", "product-stats"})
_A_MONTH = "-2026.01"
# Elasticsearch's defaults for a field's parameters.
_PARAMETERS: Mapping[str, Any] = {"index": True, "doc_values": True, "enabled": True, "format": None}
# Parameters that a field may have in addition: they cost time and disk, but no search finds less.
_MORE = frozenset({("index", True), ("doc_values", True)})
_UPDATABLE: Mapping[str, Any] = {"ignore_above": None}
Body = dict[str, Any]


class Fault(msgspec.Struct, frozen=True):
    """Describe a fault of a template or an index, and whether `setup` can correct it without a reindex.

    An `outdated` field has the mapping of an earlier version. The pipeline writes and reads it as before; only
    operators' own searches find less than in a new index, until the documents are reindexed.
    """

    where: str
    what: str
    repairable: bool
    outdated: bool = False

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


@cache
def _text(name: str) -> str:
    return resources.files("truepixel_dagster.stores").joinpath(f"templates/{name}.json").read_text()


def template(name: str, namespace: str, replicas: int) -> Body:
    """Return the index template `name` as `setup` writes it."""
    body: Body = msgspec.json.decode(_text(name).replace("NAMESPACE", namespace))
    body["template"]["settings"]["index"]["number_of_replicas"] = str(replicas)
    # A pattern cannot exclude the indices of a namespace that begins with ours; their own template has priority.
    body["priority"] += len(namespace)
    return body


def template_of(index: str, namespace: str) -> str | None:
    """Return the name of an index's template; None for an index that is not the pipeline's."""
    for name in TEMPLATES:
        full = f"{namespace}-{name}"
        month = index.removeprefix(f"{full}-")
        if index == full or (name in BY_MONTH and month != index and "." in month and "-" not in month):
            return name
    return None


def nested_path(name: str, field: str) -> str | None:
    """Return the nested object of a template that contains a field, which only a nested aggregation finds; else None.

    >>> nested_path("attributions", "credits.linear.campaign"), nested_path("attributions", "ad.campaign")
    ('credits.linear', None)
    """
    *objects, _ = field.split(".")
    fields = template(name, "", 0)["template"]["mappings"]["properties"]
    for number, each in enumerate(objects, start=1):
        own = fields.get(each, {})
        if own.get("type") == "nested":
            return ".".join(objects[:number])
        fields = own.get("properties", {})
    return None


def own_indices(namespace: str, name: str) -> str:
    """Return the index expression of a request for the indices `name`* of one namespace only.

    `shop-events-*` would include the indices of a namespace `shop-events` or `shop-events-eu`. Those have either no
    month or one more part before it.
    """
    name = name.rstrip("-")
    if not name:
        return ",".join(own_indices(namespace, each) for each in TEMPLATES)
    full = f"{namespace}-{name}"
    return f"{full}-*.*,-{full}-*-*" if name in BY_MONTH else full


def template_faults(
    there: Mapping[str, Body], namespace: str, new: Collection[str] = (), names: Collection[str] = TEMPLATES
) -> list[Fault]:
    """Return the faults of the index templates of a cluster.

    Arguments:
        there: All of the cluster's templates, by name.
        namespace: The pipeline's namespace.
        new: Indices that are about to be created.
        names: The templates to check.
    """
    found: list[Fault] = []
    for name in names:
        found += _template_faults(name, there, namespace)
        made = [index for index in new if template_of(index, namespace) == name]
        found += _shadows(
            there, f"{namespace}-{name}", [f"{namespace}-{name}{_A_MONTH if name in BY_MONTH else ''}", *made]
        )
    return found


def _template_faults(name: str, there: Mapping[str, Body], namespace: str) -> Iterator[Fault]:
    full, wanted = f"{namespace}-{name}", template(name, namespace, 0)
    where = f"index template {full}"
    own = there.get(full)
    if own is None:
        yield Fault(where, "is missing", repairable=True)
        return
    made = own.get("template", {})
    if not set(wanted["index_patterns"]) <= set(own.get("index_patterns", ())) or "data_stream" in own:
        yield Fault(where, "is for other indices", repairable=True)
    for fault in mapping_faults(where, wanted["template"]["mappings"], made.get("mappings", {})):
        yield Fault(where, fault.what, repairable=True, outdated=fault.outdated)
    settings = made.get("settings", {}).get("index", {})
    if settings.get("translog", {}).get("durability") != "request":
        yield Fault(where, "has no index.translog.durability: request", repairable=True)
    if pipeline := _pipeline(settings):
        yield Fault(where, f"has the ingest pipeline {pipeline}, which may change or drop documents", repairable=True)


def _shadows(there: Mapping[str, Body], own: str, indices: Collection[str]) -> Iterator[Fault]:
    priority = there.get(own, {}).get("priority", 0)
    for name, other in there.items():
        if name == own or other.get("priority", 0) <= priority:
            continue
        for index in indices:
            if any(_matches(pattern, index) for pattern in other.get("index_patterns", ())):
                yield Fault(
                    f"index template {name}",
                    f"overrides {own} for {index}: delete it, or give it a priority below {priority}",
                    repairable=False,
                )
                break


def _matches(pattern: str, index: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), index) is not None


def index_faults(index: str, name: str, there: Body) -> list[Fault]:
    """Return the faults of an index, as the cluster describes it.

    Arguments:
        index: The index's full name.
        name: The name of its template.
        there: Its mappings and settings.
    """
    wanted = template(name, "", 0)["template"]["mappings"]
    where = f"index {index}"
    found = mapping_faults(where, wanted, there.get("mappings", {}))
    if pipeline := _pipeline(there.get("settings", {}).get("index", {})):
        found.append(Fault(where, f"has the ingest pipeline {pipeline}: set it to _none", repairable=False))
    return found


def is_closed(there: Body) -> bool:
    """Return whether an index is closed: a search by a pattern omits it without an error."""
    return str(there.get("settings", {}).get("index", {}).get("verified_before_close")) == "true"


def _pipeline(settings: Mapping[str, Any]) -> str | None:
    names = (settings.get(key) for key in ("default_pipeline", "final_pipeline"))
    return next((str(name) for name in names if name and name != "_none"), None)


def mapping_faults(where: str, wanted: Mapping[str, Any], there: Mapping[str, Any], path: str = "") -> list[Fault]:
    """Return how a mapping differs from the wanted one, in the fields that this version writes and searches."""
    if wanted.get("dynamic") and str(there.get("dynamic")) != wanted["dynamic"]:
        of = f" of {path[:-1]}" if path else ""
        # Faults of the fields inside are more specific, so they come first.
        last = [Fault(where, f"is not dynamic: {wanted['dynamic']}{of}", repairable=True)]
    else:
        last = []
    found: list[Fault] = []
    fields = there.get("properties", {})
    for name, own in wanted.get("properties", {}).items():
        if name not in fields:
            found.append(Fault(where, f"lacks the field {path}{name}", repairable=True))
        else:
            found += _field_faults(where, own, fields[name], f"{path}{name}")
    return found + last


def _field_faults(where: str, wanted: Mapping[str, Any], there: Mapping[str, Any], path: str) -> list[Fault]:
    kind, own = wanted.get("type", "object"), there.get("type", "object")
    if (kind, own) == ("nested", "object"):
        found = [Fault(where, f"has {path} as object instead of nested", repairable=False, outdated=True)]
    elif kind != own:
        return [Fault(where, f"has {path} as {own} instead of {kind}", repairable=False)]
    else:
        found = _parameter_faults(where, wanted, there, path)
        if found or not _is_object(wanted):
            return found
    return found + mapping_faults(where, wanted, there, f"{path}.")


def _is_object(field: Mapping[str, Any]) -> bool:
    return "properties" in field or "dynamic" in field


def _parameter_faults(where: str, wanted: Mapping[str, Any], there: Mapping[str, Any], path: str) -> list[Fault]:
    for parameters, repairable in ((_PARAMETERS, False), (_UPDATABLE, True)):
        for name, default in parameters.items():
            value, ours = there.get(name, default), wanted.get(name, default)
            if value != ours and (name, value) not in _MORE:
                said = f"has {path} with {name} {value} instead of {ours}"
                return [Fault(where, said, repairable=repairable, outdated=_is_outdated(wanted, name, value))]
    return []


def _is_outdated(wanted: Mapping[str, Any], name: str, value: Any) -> bool:
    """Return whether a parameter has an earlier version's value: only the first format, or sums not enabled."""
    earlier = str(wanted["format"]).partition("||")[0] if name == "format" else None
    return value == earlier if earlier else (name, value) == ("enabled", False) and "properties" not in wanted


def repair(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> Body:
    """Return the part of a mapping that an index lacks and can get without a reindex.

    Arguments:
        wanted: The mapping of the template, or of one of its fields with properties.
        there: The mapping of the index.
    """
    known, fields = there.get("properties", {}), {}
    for name, own in wanted.get("properties", {}).items():
        field = known.get(name)
        if field is None:
            fields[name] = own
        elif _is_object(own) and field.get("enabled", True):
            fields[name] = {**({"type": field["type"]} if "type" in field else {}), **repair(own, field)}
        elif any(field.get(each) != own.get(each) for each in _UPDATABLE):
            kept = {key: value for key, value in field.items() if key not in _UPDATABLE}
            fields[name] = kept | {each: own[each] for each in _UPDATABLE if each in own}
    return {**({"dynamic": wanted["dynamic"]} if "dynamic" in wanted else {}), "properties": fields}
