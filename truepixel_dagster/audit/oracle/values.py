"""Read single values of a payload: text, ids, numbers, quantities, money. A value of a wrong type is a dead letter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

from truepixel_dagster.audit.oracle.records import DeadLetter, Doc

LARGEST_AMOUNT = 10**15
LARGEST_QUANTITY = 1_000_000
LONGEST_TEXT = 4_096
LONGEST_ID = 256
LARGEST_SUM = 2**63 - 1

_NO_TEXT = re.compile("[\ud800-\udfff\0]")
_GID = re.compile(r"gid://shopify/[^/?]+/([^/?]+)(?:\?.*)?", re.DOTALL)

NOBODY = {"", "undefined", "null", "none", "nan", "0", "anonymous"}

CURRENCIES_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
# ISO 4217 by the first letter of a code, with the withdrawn codes that Shopify uses and Jersey's.
CURRENCIES = {
    first + rest
    for first, all_rests in {
        "A": "ED FN LL MD NG OA RS UD WG ZN",
        "B": "AM BD DT GN HD IF MD ND OB OV RL SD TN WP YN YR ZD",
        "C": "AD DF HE HF HW LF LP NY OP OU RC UC UP VE ZK",
        "D": "JF KK OP ZD",
        "E": "EK GP RN TB UR",
        "F": "JD KP",
        "G": "BP EL HS IP MD NF TQ YD",
        "H": "KD NL RK TG UF",
        "I": "DR LS NR QD RR SK",
        "J": "EP MD OD PY",
        "K": "ES GS HR MF PW RW WD YD ZT",
        "L": "AK BP KR RD SL TL VL YD",
        "M": "AD DL GA KD MK NT OP RO RU UR VR WK XN XV YR ZN",
        "N": "AD GN IO OK PR ZD",
        "O": "MR",
        "P": "AB EN GK HP KR LN YG",
        "Q": "AR",
        "R": "ON SD UB WF",
        "S": "AR BD CR DG EK GD HP LE LL OS RD SP TD TN VC YP ZL",
        "T": "HB JS MT ND OP RY TD WD ZS",
        "U": "AH GX SD SN YI YU YW ZS",
        "V": "ED EF ES ND UV",
        "W": "ST",
        "X": "AD AF AG AU BA BB BC BD CD CG DR OF PD PF PT SU TS UA XX",
        "Y": "ER",
        "Z": "AR MK MW WG WL",
    }.items()
    for rest in all_rests.split()
}
DECIMALS = {code: decimals for decimals, codes in CURRENCIES_BY_DECIMALS.items() for code in codes.split()}


# --- Objects and lists ---


def object_(value: Any, name: str) -> Doc:
    """Return an object; null and an empty list (PHP's empty object) become an empty one."""
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise DeadLetter(f"{name}: not an object")
    return value


def inside(payload: Doc, *path: str) -> Doc:
    """Return the object at the end of the path."""
    for name in path:
        payload = object_(payload.get(name), name)
    return payload


def objects(value: Any, name: str) -> list[Doc]:
    """Return a list of objects; nulls in it are left out."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(item is None or item == [] or isinstance(item, dict) for item in value):
        raise DeadLetter(f"{name}: not a list of objects")
    return [item or {} for item in value if item is not None]


# --- Text and ids ---


def cleaned(value: str) -> str:
    """Return a text with U+FFFD instead of NUL and half surrogate pairs."""
    return _NO_TEXT.sub("\ufffd", value)


def text(value: Any, name: str) -> str | None:
    """Return a string."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise DeadLetter(f"{name}: not a string")
    return cleaned(value)


def maybe_text(value: Any) -> str | None:
    """Return a string; None for anything else."""
    return cleaned(value) if isinstance(value, str) else None


def cut(value: str | None) -> str | None:
    """Return a free text, cut as in the event's document."""
    return (value or "")[:LONGEST_TEXT] or None


def id_as_it_is(value: Any, name: str) -> str | None:
    """Return an integer or a string as a string; None if it is null or empty."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise DeadLetter(f"{name}: not an id")
    return text(value, name) or None


def id_(value: Any, name: str) -> str | None:
    """Return an id like `id_as_it_is`, with `gid://shopify/Product/123?query` as `123`."""
    whole = id_as_it_is(value, name)
    found = _GID.fullmatch(whole or "")
    short = found.group(1) if found else whole
    if len((short or "").encode("utf-8")) > LONGEST_ID:
        raise DeadLetter(f"{name}: too long")
    return short


def order_name(value: Any, name: str) -> str | None:
    """Return an order's id or token; None for words such as `undefined` and `null`, which scripts write."""
    found = id_(value, name)
    return None if found is None or is_nobody(found) else found


def is_nobody(client: str) -> bool:
    """Return whether a client id is one that many visitors share because they have none."""
    word = client.strip().lower()
    return word in NOBODY or (word.replace("-", "") == "0" * 32)


def distinct(ids: Iterable[str | None]) -> list[str]:
    """Return the ids in their order, each once."""
    return list(dict.fromkeys(id_ for id_ in ids if id_ is not None))


def email_hash(candidates: list[Any]) -> str | None:
    """Return the SHA-256 of the first address, trimmed and in lower case."""
    for candidate in candidates:
        address = (text(candidate, "email") or "").strip().lower()
        if address:
            return hashlib.sha256(address.encode("utf-8")).hexdigest()
    return None


# --- Numbers ---


def decimal(value: Any, name: str) -> Decimal | None:
    """Return a number, or the number in a text; None for an empty text."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise DeadLetter(f"{name}: not a number")
    try:
        return Decimal(value)
    except InvalidOperation:
        raise DeadLetter(f"{name}: not a number") from None


def number(value: Any, name: str) -> Decimal | None:
    """Return an amount of money: finite, not negative, at most 10^15."""
    found = decimal(value, name)
    if found is None:
        return None
    if not found.is_finite() or found < 0:
        raise DeadLetter(f"{name}: infinite or negative")
    if found > LARGEST_AMOUNT:
        raise DeadLetter(f"{name}: too large")
    return found


def whole(value: Any, name: str) -> int | None:
    """Return a whole number of 0 to 1,000,000, also written as `"2"` or `2.0`."""
    found = decimal(value, name)
    if found is None:
        return None
    if not found.is_finite() or not 0 <= found <= LARGEST_QUANTITY or found != int(found):
        raise DeadLetter(f"{name}: not a whole number of 0 to 1,000,000")
    return int(found)


def quantity(value: Any, name: str = "quantity") -> int:
    """Return a quantity; 1 if it is missing."""
    found = whole(value, name)
    return 1 if found is None else found


# --- Money ---


def currency(value: Any, name: str = "currency") -> str | None:
    """Return an ISO 4217 code in upper case."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z]{3}", value) or value.upper() not in CURRENCIES:
        raise DeadLetter(f"{name}: not in ISO 4217")
    return value.upper()


def minor_units(amount: Decimal, code: str) -> int:
    """Return the amount in the currency's minor units, halves rounded up."""
    decimals = DECIMALS.get(code, 2)
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP, context=Context(prec=60))
    return int(rounded * 10**decimals)


def minor(amount: Decimal, code: str) -> int:
    """Return the amount like `minor_units`; an amount beyond 10^15 is a dead letter."""
    units = minor_units(amount, code)
    if units > LARGEST_AMOUNT:
        raise DeadLetter("amount: too large")
    return units


def money(amount: Any, code: str | None, name: str = "amount") -> Doc | None:
    """Return `{amount, currency}` in minor units; None if the amount or the currency is missing."""
    found = number(amount, name)
    if found is None or code is None:
        return None
    return {"amount": minor(found, code), "currency": code}


def shop_money(payload: Doc, name: str) -> Doc | None:
    """Return the shop's part of a money bag such as `total_price_set`."""
    bag = inside(payload, name, "shop_money")
    return money(bag.get("amount"), currency(bag.get("currency_code"), f"{name} currency_code"), name)


def bounded(total: int) -> int:
    """Return a sum limited to 64 bits, as every store does."""
    return min(max(total, -LARGEST_SUM - 1), LARGEST_SUM)


def add(sums: Doc, value: Doc | None) -> None:
    """Add an amount to the sum of its currency."""
    if value is not None:
        sums[value["currency"]] = bounded(sums.get(value["currency"], 0) + value["amount"])


def share(amount: int, part: int, of: int) -> int:
    """Return amount × part ÷ of in whole units, halves rounded up."""
    return (2 * amount * part + of) // (2 * of)
