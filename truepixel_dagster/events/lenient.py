"""Decode JSON of a type, and common variants of it that scripts write.

    >>> import msgspec
    >>> from truepixel_dagster.events.lenient import Reader
    >>> class Line(msgspec.Struct):
    ...     quantity: int | None = None
    >>> Reader(Line).decode(b'{"quantity": "2"}'), Reader(Line).decode(b'{"quantity": ""}')
    (Line(quantity=2), Line(quantity=None))

These variants are accepted: an integer as a text or with decimals (`"2"`, `2.0`), an empty text instead of a missing
number, and an empty list instead of a missing object, as PHP writes it. Everything else is refused with a message that
names the field.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")
# Larger than any limit for an integer field.
_BOUND = 10**20
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_STR = msgspec.json.Decoder(str)
_NULL = b"null"


class Reader(Generic[T]):
    """Decode JSON of a type. JSON that has the type already costs nothing more."""

    def __init__(self, type_: Any) -> None:
        """Prepare to decode a type: a `Struct`, or a `Struct` or null."""
        self._strict: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)
        self._plan = _plan(inspect.type_info(type_))

    def decode(self, raw: bytes | msgspec.Raw) -> T:
        """Return the value.

        Raises:
            msgspec.DecodeError: The text is not JSON, or not of the type; the message names the field.
        """
        try:
            return self._strict.decode(raw)
        except msgspec.ValidationError:
            mended = _mended(bytes(raw), self._plan)
            if mended is None:
                raise
        return self._strict.decode(mended)


class _Fields(msgspec.Struct):
    """Fields of an object that may need mending."""

    by_name: dict[str, _Plan]
    names: frozenset[str]


class _Items(msgspec.Struct):
    of: _Plan


class _Whole(msgspec.Struct):
    """A whole number."""


class _Amount(msgspec.Struct):
    """Any number."""


# How to mend a type; None if there is nothing to mend.
_Plan = _Fields | _Items | _Whole | _Amount | None


def _plan(type_: inspect.Type) -> _Plan:
    if isinstance(type_, inspect.UnionType):
        plans = [_plan(each) for each in type_.types if not isinstance(each, inspect.NoneType)]
        # An id may be a number or a text, so there is nothing to mend.
        return plans[0] if len(plans) == 1 else None
    if isinstance(type_, inspect.StructType):
        found = {field.encode_name: _plan(field.type) for field in type_.fields}
        return _Fields({name: plan for name, plan in found.items() if plan}, frozenset(found))
    if isinstance(type_, inspect.ListType):
        plan = _plan(type_.item_type)
        return _Items(plan) if plan else None
    if isinstance(type_, inspect.IntType):
        return _Whole()
    return _Amount() if isinstance(type_, inspect.DecimalType) else None


def _mended(raw: bytes, plan: _Plan) -> bytes | None:
    """Return the JSON in the type's form, without fields that the type lacks; None if nothing could be mended."""
    first = raw.lstrip()[:1]
    if isinstance(plan, _Fields):
        if first == b"[":
            return None if _LIST.decode(raw) else _NULL
        return _mended_object(raw, plan) if first == b"{" else None
    if isinstance(plan, _Items):
        return _mended_list(raw, plan.of) if first == b"[" else None
    if isinstance(plan, _Whole):
        return _whole(raw, first)
    return _NULL if isinstance(plan, _Amount) and raw == b'""' else None


def _mended_object(raw: bytes, plan: _Fields) -> bytes | None:
    fields = {name: bytes(value) for name, value in _OBJECT.decode(raw).items() if name in plan.names}
    mended = {name: new for name, own in plan.by_name.items() if name in fields and (new := _mended(fields[name], own))}
    if not mended:
        return None
    members = (msgspec.json.encode(name) + b":" + value for name, value in {**fields, **mended}.items())
    return b"{" + b",".join(members) + b"}"


def _mended_list(raw: bytes, plan: _Plan) -> bytes | None:
    items = [bytes(item) for item in _LIST.decode(raw)]
    mended = [_mended(item, plan) for item in items]
    if not any(mended):
        return None
    return b"[" + b",".join(new or item for new, item in zip(mended, items)) + b"]"


def _whole(raw: bytes, first: bytes) -> bytes | None:
    text = _STR.decode(raw) if first == b'"' else raw.decode()
    if not text:
        return _NULL
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    # Compare first, so that a number such as 1e999999999 is not written out in full.
    if not number.is_finite() or not -_BOUND < number < _BOUND or number != int(number):
        return None
    return str(int(number)).encode()
