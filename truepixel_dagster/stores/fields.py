"""List the fields of documents with their types: of an index by its mapping, of a struct by its annotations.

>>> from truepixel_dagster.stores.fields import fields_of_mapping
>>> money = {"properties": {"amount": {"type": "long"}, "currency": {"type": "keyword"}}}
>>> fields_of_mapping({"properties": {"value": money, "payload": {"type": "object", "enabled": False}}})
{'value.amount': 'long', 'value.currency': 'keyword', 'payload': 'object, not indexed'}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import inspect

Parts = Mapping[str, type]
NO_PARTS: Parts = MappingProxyType({})
_WORDS: Mapping[type, str] = {
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
}


def fields_of_mapping(mapping: Mapping[str, Any], parts: Parts = NO_PARTS) -> dict[str, str]:
    """Return the types of a mapping's fields, those of an object with its name in front.

    Arguments:
        mapping: Elasticsearch's, with `properties`.
        parts: Structs by name: an object with the same fields is not opened, and its type is that name.
    """
    names = {frozenset(fields_of(kind, parts)): name for name, kind in parts.items()}
    return dict(_mapped(mapping, names, ""))


def _mapped(mapping: Mapping[str, Any], parts: Mapping[frozenset[str], str], path: str) -> Iterator[tuple[str, str]]:
    for name, own in mapping["properties"].items():
        if "properties" not in own:
            hidden = own.get("enabled") is False or own.get("index") is False
            yield path + name, own["type"] + (", not indexed" if hidden else "")
        elif part := parts.get(frozenset(own["properties"])):
            yield path + name, f"{own['type']} {part}" if "type" in own else part
        else:
            yield from _mapped(own, parts, f"{path}{name}.")


def fields_of(kind: type, parts: Parts = NO_PARTS) -> dict[str, str]:
    """Return the types of a struct's fields, those of a nested struct with its name in front.

    Arguments:
        kind: The struct.
        parts: Structs by name that are not opened: their type is that name.
    """
    return dict(_fields(inspect.type_info(kind), {own: name for name, own in parts.items()}, ""))


def _fields(struct: Any, parts: Mapping[type, str], path: str) -> Iterator[tuple[str, str]]:
    for field in struct.fields:
        own, many = _without_none(field.type), ""
        if isinstance(own, (inspect.VarTupleType, inspect.ListType)):
            own, many = own.item_type, "list of "
        if isinstance(own, inspect.StructType) and own.cls not in parts:
            yield from _fields(own, parts, f"{path}{field.name}.")
        else:
            yield path + field.name, many + _word(own, parts)


def _word(kind: Any, parts: Mapping[type, str]) -> str:
    if isinstance(kind, inspect.StructType):
        return parts[kind.cls]
    if isinstance(kind, inspect.DictType):
        of_any = isinstance(kind.value_type, inspect.AnyType)
        return "object" if of_any else f"object of {_word(kind.value_type, parts)}"
    return _WORDS.get(type(kind), "list")


def _without_none(kind: Any) -> Any:
    if not isinstance(kind, inspect.UnionType):
        return kind
    (own,) = (each for each in kind.types if not isinstance(each, inspect.NoneType))
    return own
