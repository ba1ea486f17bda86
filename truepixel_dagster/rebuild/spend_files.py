"""Find, read and import files of spend and rates as a whole, and update their tables at once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from truepixel_dagster.answers.grid import Line, NoGrid, lines_of
from truepixel_dagster.answers.spend import BadRow, File, Unrecognised, read
from truepixel_dagster.events.shop_time import ShopDays
from truepixel_dagster.lake.errors import NotImported
from truepixel_dagster.lake.files import lake_of
from truepixel_dagster.lake.imports import Imports
from truepixel_dagster.lake.storage import Storage
from truepixel_dagster.rebuild.answers import RATES_MAKER, SPEND_MAKER
from truepixel_dagster.rebuild.lake import Tools, make
from truepixel_dagster.resources import open_stores, sites_of
from truepixel_dagster.settings import Settings

#: The file types that a watched folder may hold; others are ignored.
ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
_LARGEST = 64 * 1024 * 1024
_PARQUET = b"PAR1"
_SHOWN = 20


class Imported(msgspec.Struct, frozen=True):
    """Describe an import: the kind of file, the number of rows, their days, and the skipped bad lines."""

    form: str
    rows: int
    days: list[str]
    bad: tuple[BadRow, ...] = ()


class Watched(msgspec.Struct, frozen=True):
    """Hold a file of the watched folder. `version` changes with its content."""

    path: str
    version: str


def import_spend(
    settings: Settings,
    address: str,
    shop: str | None = None,
    currency: str | None = None,
    *,
    skip_bad_rows: bool = False,
) -> Imported:
    """Import all rows of a file, or none, and write its days of `ad_spend` or `rates` again at once.

    Arguments:
        settings: The lake's address and the registry of shops.
        address: A path, or an address in fsspec's form.
        shop: The shop's id, if no column has it.
        currency: ISO 4217 code of the amounts, if no column has it.
        skip_bad_rows: Whether to import the other rows if some are bad.

    Raises:
        NotImported: The form is unknown, a row is bad, or there is no row.
        LakeError: The address of the file or of the lake cannot be used.
        OSError: The file cannot be read, or the lake cannot be written.
    """
    sources = sites_of(settings).of(shop or "", None).sources

    def platform_of(name: str) -> str:
        return sources.named(name).platform if name else ""

    try:
        file = read(_lines(_content(address)), shop, currency, platform_of)
    except (NoGrid, Unrecognised) as error:
        raise NotImported(f"{address}: {error}") from None
    if file.bad and not skip_bad_rows:
        raise NotImported(_listed(address, file))
    if not (file.spend or file.rates):
        raise NotImported(f"{address}: no row to import" + (f"; {_listed(address, file)}" if file.bad else ""))
    days = Imports(lake_of(settings)).add(file)
    with open_stores(settings) as stores:
        tools = Tools(settings, stores, lake_of(settings), ShopDays(), {})
        make(tools, RATES_MAKER if file.rates else SPEND_MAKER, days)
    return Imported(file.form, len(file.spend) + len(file.rates), days, file.bad)


def import_watched(settings: Settings, path: str) -> Imported:
    """Import a file of the watched folder; in a subfolder named by a shop's id, it belongs to that shop.

    Raises:
        NotImported, LakeError, OSError: As for `import_spend`.
    """
    root = Storage(settings.spend_url or "")
    inside = PurePosixPath(path).parts
    shop = inside[0] if len(inside) > 1 else None
    return import_spend(settings, f"{root.url}/{path}", shop)


def watched(settings: Settings) -> Iterator[Watched]:
    """Yield the files of the watched folder by their path within it; none if the folder does not exist.

    Raises:
        OSError, LakeError: The folder or bucket cannot be read.
    """
    folder = Storage(settings.spend_url or "")
    root = folder.path("")
    for path, about in sorted(folder.below(root).items()):
        if path.lower().endswith(ENDINGS):
            version = about.get("ETag") or about.get("etag") or about.get("mtime") or about.get("LastModified") or ""
            yield Watched(path[len(root) :].lstrip("/"), f"{version}:{about.get('size')}")


def _content(address: str) -> bytes:
    file = Storage(address)
    content = file.content(file.path(""), _LARGEST + 1)
    if len(content) > _LARGEST:
        raise NotImported(f"{address} is larger than {_LARGEST >> 20} MiB: export fewer days at once")
    return content


def _lines(content: bytes) -> list[Line]:
    if not content.startswith(_PARQUET):
        return lines_of(content)
    try:
        table = pq.read_table(io.BytesIO(content))
    except pa.ArrowException as error:
        raise NoGrid(f"the file is not Parquet: {error}") from None
    rows = zip(*(column.to_pylist() for column in table.columns))
    cells = [tuple("" if value is None else str(value) for value in row) for row in rows]
    return [Line(number, row) for number, row in enumerate([tuple(table.column_names), *cells])]


def _listed(address: str, file: File) -> str:
    shown = "".join(f"\n  line {each.line}: {each.reason}" for each in file.bad[:_SHOWN])
    more = f"\n  and {len(file.bad) - _SHOWN} more" if len(file.bad) > _SHOWN else ""
    return (
        f"{address}: nothing was imported because of {len(file.bad)} bad lines; correct them, or skip them with"
        f" --skip-bad-rows:{shown}{more}"
    )
