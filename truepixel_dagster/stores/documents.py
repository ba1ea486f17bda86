"""Read stored documents of any version, keep their unknown fields, and refuse unreadable ones.

Each document has the number of the version that wrote it (`schema`; without it, version 1). Documents of this version
and older ones are read: missing fields get defaults, and unknown fields survive a rewrite. A document with a field of
another type, or of a newer version, raises `Unreadable` and is never overwritten; the events that need it become dead
letters, and all other events continue.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")
LOG = logging.getLogger(__name__)
Document = Mapping[str, Any]

# Increment it with each change of a document's fields, and keep documents of the previous version in
# tests/samples/documents.
SCHEMA = 3
FIRST_SCHEMA = 1
# Documents of this version and later ones are of the second edition of the data contract.
SECOND_EDITION = 3
# Queries for documents of the current and of earlier editions; a document without a number is of the first version.
NEWER: Document = {"range": {"schema": {"gte": SECOND_EDITION}}}
OLDER: Document = {"bool": {"must_not": NEWER}}
_AGAIN = "then run `truepixel dead-letters replay`, or materialize its day"
_WHERE_AND_WHY = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)


class Unreadable(ValueError):
    """Raised when a stored document cannot be read; the message names document, field, reason and next step."""

    def __init__(self, where: str, why: str, repair: str = "correct or delete the document") -> None:
        super().__init__(f"{where} cannot be read: {why}; {repair}, {_AGAIN}")


class Reader(Generic[T]):
    """Read the documents of one kind.

    Arguments:
        kind: The type that a document is converted to.
        name: The names of store and collection, for messages.
        fill: Adds defaults for missing fields; called only if a document cannot be read unchanged.
    """

    def __init__(self, kind: type[T], name: str, fill: Callable[[dict[str, Any]], Any] = lambda found: found) -> None:
        self._kind = kind
        self._name = name
        self._fill = fill
        self.known = frozenset(field.name for field in msgspec.structs.fields(kind)) | {"schema"}  # type: ignore[arg-type]
        # msgspec inspects a type at its first use, and two threads that do so at once crash the process.
        with suppress(msgspec.ValidationError):
            msgspec.convert({}, kind)

    def read(self, id_: str, document: Document) -> T:
        """Return a document converted to the type.

        Raises:
            Unreadable: A field is of another type, or a newer version wrote the document.
        """
        self.check_schema(id_, document)
        try:
            return msgspec.convert(document, self._kind)
        except msgspec.ValidationError as error:
            as_it_is = error
        try:
            return msgspec.convert(self._fill(tidied(document)), self._kind)
        except msgspec.ValidationError as error:
            raise self.unreadable(id_, error) from None
        except (TypeError, AttributeError, ValueError):
            # A value of another type is in the place of a missing field, so report the first error.
            raise self.unreadable(id_, as_it_is) from None

    def usable(self, id_: str, document: Document) -> Document:
        """Return a document with its known fields in this version's form, and its unknown fields unchanged.

        Raises:
            Unreadable: As for `read`.
        """
        self.check_schema(id_, document)
        with suppress(msgspec.ValidationError):
            msgspec.convert(document, self._kind)
            return document
        own = tidied({name: value for name, value in document.items() if name in self.known})
        self.read(id_, own)
        return {**self.unknown(document), **own}

    def check_schema(self, id_: str, document: Document) -> None:
        """Refuse a document that a newer version wrote.

        Raises:
            Unreadable: A newer version wrote it, or its version is not a number.
        """
        schema = document.get("schema", FIRST_SCHEMA)
        if schema in (SCHEMA, 2, FIRST_SCHEMA, None):
            return
        if not isinstance(schema, (int, float)):
            raise Unreadable(self.where(id_), f"field schema is not a number but {str(schema)[:40]!r}")
        if schema > SCHEMA:
            newer = f"its schema {schema} is newer than this version's {SCHEMA}"
            raise Unreadable(self.where(id_), newer, "upgrade TruePixel")

    def unreadable(self, id_: str, error: Exception) -> Unreadable:
        """Return an error as one line that names the document and the field."""
        if isinstance(error, Unreadable):
            return error
        found = _WHERE_AND_WHY.fullmatch(str(error))
        return Unreadable(self.where(id_), f"field {found[2]}: {found[1]}" if found else str(error))

    def where(self, id_: str) -> str:
        """Return the name of a document for messages."""
        return f"{self._name} document {id_!r}"

    def unknown(self, document: Document) -> dict[str, Any]:
        """Return the fields of a document that this version does not know."""
        return {name: value for name, value in document.items() if name not in self.known}


def read_all(reader: Reader[T], documents: Mapping[str, Document]) -> tuple[dict[str, T], dict[str, str]]:
    """Return the converted documents, and the reasons why others cannot be read, which are logged; both by id."""
    found: dict[str, T] = {}
    unreadable: dict[str, str] = {}
    for id_, document in documents.items():
        try:
            found[id_] = reader.read(id_, document)
        except Unreadable as error:
            unreadable[id_] = str(error)
            report(error)
    return found, unreadable


def report(reason: object) -> None:
    """Log why a document is skipped."""
    LOG.warning("skipped: %s", reason)


def is_older(document: Document) -> bool:
    """Return whether a document is of an earlier edition of the data contract."""
    schema = document.get("schema")
    return not isinstance(schema, (int, float)) or schema < SECOND_EDITION


def tidied(value: Any) -> Any:
    """Return a value without nulls, with whole floats as integers: some clients write every number with a fraction."""
    if isinstance(value, Mapping):
        return {name: tidied(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [tidied(item) for item in value if item is not None]
    return int(value) if isinstance(value, float) and value.is_integer() else value
