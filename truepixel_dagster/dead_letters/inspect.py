"""Inspect dead letters: list them, show what happened to each, and show one in full."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.topic import Letter
from truepixel_dagster.events.event import Message, iso
from truepixel_dagster.events.origin import Origin, base_of
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import known
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from typing_extensions import Unpack

WAITING, REPLAYED, GIVEN_UP = "waiting", "replayed", "given up"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"([0-9]{1,6})([smhdw])")


class Wanted(TypedDict, total=False):
    """Select dead letters; by default all of them.

    The filters are: one stage; the earliest write time (milliseconds since the epoch); one shop; certain records; text
    in the error, in any case.
    """

    stage: str | None
    since: int | None
    shop: str | None
    origins: Collection[Origin]
    error: str | None


def is_wanted(letter: Letter, wanted: Wanted) -> bool:
    """Return whether a dead letter matches the filters."""
    origins = wanted.get("origins")
    return (
        wanted.get("stage") in (None, letter.stage)
        and letter.written_at >= (wanted.get("since") or 0)
        and wanted.get("shop") in (None, letter.shop)
        and (not origins or letter.origin in origins)
        and (wanted.get("error") or "").lower() in letter.error.lower()
    )


class Listed(msgspec.Struct, frozen=True):
    """Hold a dead letter and its state: `waiting`, `replayed` or `given up`.

    `older` marks a record of an older log. It can be reprocessed all the same: the dead letter contains the record.
    """

    letter: Letter
    state: str
    older: bool = False


def parse_since(text: str, now: datetime) -> int:
    """Parse an ISO 8601 date or time (UTC by default) or an age (`90m`, `2h`, `3d`) into epoch milliseconds.

    Raises:
        ValueError: The text is neither of them.
    """
    age = _AGE.fullmatch(text)
    try:
        if age:
            moment = now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        else:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1000)
    except (ValueError, OverflowError):
        shown = text[:40]
        raise ValueError(f"{shown!r} is neither a time such as 2026-01-31T09:30 nor an age such as 2h or 3d") from None


def listed(settings: Settings, stores: Stores, **wanted: Unpack[Wanted]) -> list[Listed]:
    """Return the current dead letter of every record, the newest first.

    Memory grows with the number of dead letters, about 1 KiB each.

    Arguments:
        settings: The pipeline's settings.
        stores: The stores; Redis marks the reprocessed records.
        wanted: The filters.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    letters = dead_letters.newest(dead_letters.read(settings.kafka())).values()
    done = stores.redis.replayed()
    found = [letter for letter in letters if is_wanted(letter, wanted)]
    found.sort(key=lambda letter: (-letter.written_at, letter.origin))
    base = _base(stores)
    return [Listed(letter, _state(letter, done), letter.origin.offset < base) for letter in found]


def _base(stores: Stores) -> int:
    """Return where the offsets of the current log begin."""
    kept = known(stores.mongodb)
    return base_of(kept.generation) if kept else 0


def _state(letter: Letter, done: set[tuple[int, int]]) -> str:
    if (letter.origin.partition, letter.origin.offset) in done:
        return REPLAYED
    return GIVEN_UP if letter.given_up else WAITING


def find(settings: Settings, stores: Stores, origin: Origin) -> tuple[Listed, Message] | None:
    """Return the current dead letter of one record, with the record; None if there is none.

    If the dead letter is by reference and the topic no longer holds the record, the message has no value.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    own = (dead for dead in dead_letters.read(settings.kafka()) if dead.letter.origin == origin)
    letter = dead_letters.newest(own).get(origin)
    if letter is None:
        return None
    entry = Listed(letter, _state(letter, stores.redis.replayed()), letter.origin.offset < _base(stores))
    found = next((dead.message for dead in dead_letters.reread(settings.kafka(), [letter])), None)
    if found is None and letter.sha256:
        found = Message(origin, None, None)
    return (entry, found) if found else None


def as_row(entry: Listed) -> dict[str, Any]:
    """Return the row of a dead letter in a list."""
    letter = entry.letter
    return {
        "origin": str(letter.origin),
        "stage": letter.stage,
        "tries": letter.tries,
        "time": iso(letter.written_at),
        "state": f"{entry.state}, of an older log" if entry.older else entry.state,
        "error": letter.error,
    } | ({"refers_to": f"{letter.size} bytes, SHA-256 {letter.sha256}"} if letter.sha256 else {})


def as_document(entry: Listed, message: Message) -> dict[str, Any]:
    """Return a dead letter in full for JSON: bytes that are not UTF-8 are escaped, and the exact bytes are added."""
    return {
        **as_row(entry),
        "key": _readable(message.key),
        "headers": [[name, _readable(value)] for name, value in message.headers],
        "value": _readable(message.value),
        "value_base64": None if message.value is None else base64.b64encode(message.value).decode(),
    }


def as_text(entry: Listed, message: Message) -> str:
    """Return a dead letter in full as lines: JSON is indented, and control characters cannot reach the terminal."""
    lines = [f"{name}: {printable(str(value))}" for name, value in as_row(entry).items()]
    lines.append(f"key: {printable(_readable(message.key) or '–')}")
    lines += [f"header {printable(name)}: {printable(_readable(value) or '')}" for name, value in message.headers]
    return "\n".join([*lines, "", printable(_readable(_laid_out(message.value)) or "(no value)", keep="\n")])


def _readable(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")


def _laid_out(value: bytes | None) -> bytes | None:
    try:
        # Format the original text: parsing and serializing it would lose repeated keys.
        return msgspec.json.format(value) if value else value
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return value
