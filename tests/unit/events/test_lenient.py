"""JSON of a type, and the variants that scripts write: the same value, or an error that names the field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.events.lenient import Reader


class Line(msgspec.Struct):
    quantity: int | None = None
    price: Decimal | None = None
    id: int | str | None = None


class Order(msgspec.Struct):
    lines: list[Line | None] | None = None
    first: Line | None = None
    note: Any = None
    rest: msgspec.Raw = msgspec.Raw(b"null")


READER: Reader[Order | None] = Reader(Order | None)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('{"lines":[{"quantity":"2","price":""},[],null]}', Order([Line(2), None, None])),
        ('{"first":{"quantity":2.0,"price":"1.10"}}', Order(first=Line(2, Decimal("1.10")))),
        ('{"first":{"quantity":"","price":1e400}}', Order(first=Line(None, Decimal("1e400")))),
        ('{"first":{"quantity":20e-1}}', Order(first=Line(2))),
        ('{"first":{"quantity":"-1e0"}}', Order(first=Line(-1))),
        ('{"first":[ ],"note":[],"x":[1]}', Order(note=[])),
        ('{"first":[],"note":1.50,"rest":{"first":[]}}', Order(note=1.5, rest=msgspec.Raw(b'{"first":[]}'))),
        ("[]", None),
        ("null", None),
        ('{"first":{"id":""},"lines":[]}', Order([], Line(id=""))),
    ],
)
def test_accepted_variants_of_values(written: str, meant: Order | None) -> None:
    assert READER.decode(written.encode()) == meant


@pytest.mark.parametrize(
    ("written", "field"),
    [
        ('{"first":{"quantity":"two"}}', "`$.first.quantity`"),
        ('{"first":{"quantity":2.5}}', "`$.first.quantity`"),
        ('{"first":{"quantity":"1e999999999"}}', "`$.first.quantity`"),
        ('{"first":{"quantity":"NaN"}}', "`$.first.quantity`"),
        ('{"first":{"quantity":true}}', "`$.first.quantity`"),
        ('{"first":{"price":" "}}', "`$.first.price`"),
        ('{"first":{"id":[]}}', "`$.first.id`"),
        ('{"first":[1]}', "`$.first`"),
        ('{"first":"x"}', "`$.first`"),
        ('{"lines":{}}', "`$.lines`"),
        # A readable value does not hide an unreadable one.
        ('{"lines":[{"quantity":"2"},{"quantity":"two"}],"first":[]}', "`$.lines[1].quantity`"),
    ],
)
def test_a_rejection_names_the_field(written: str, field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refusal:
        READER.decode(written.encode())
    assert field.replace("[1]", "[...]") in str(refusal.value).replace("[1]", "[...]")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["lines", "first", "quantity", "price", "id", "note"]), inner, max_size=4)
    ),
)


WHOLE_NUMBER = st.integers(-(2**63), 2**63 - 1)
LINE = st.fixed_dictionaries({}, optional={"quantity": st.none() | WHOLE_NUMBER, "id": st.text() | WHOLE_NUMBER})
ORDER = st.fixed_dictionaries({}, optional={"lines": st.lists(st.none() | LINE), "first": LINE, "note": JSON})


@given(JSON | ORDER)
def test_a_value_of_the_type_is_read_as_by_msgspec(value: Any) -> None:
    raw = msgspec.json.encode(value)
    try:
        strict = msgspec.json.decode(raw, type=Order | None)
    except msgspec.ValidationError:
        return
    assert READER.decode(raw) == strict


@given(st.binary(max_size=60))
def test_other_bytes_raise_nothing_else(raw: bytes) -> None:
    try:
        READER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
