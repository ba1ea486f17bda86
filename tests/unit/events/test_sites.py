"""A shop's own hosts decide which referrers are outside of it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop import Shop
from truepixel_dagster.events.sites import NOTHING_KNOWN, Sites
from truepixel_dagster.events.source_additions import additions
from truepixel_dagster.events.sources import Sources
from truepixel_dagster.rebuild.history import event_of
from truepixel_dagster.resources import sites_of
from truepixel_dagster.settings import Settings, SettingsError
from truepixel_dagster.stages.index import document

SITES = Sites(
    Sources(additions('{"click_ids": [{"name": "hwid", "platform": "hats-weekly", "paid": "always"}]}')),
    {"1": (["hats.example", "bank.example"], {"Flyer 26": "print"})},
)


def page(
    url: str, referrer: str = "", shop: str = "1", headers: tuple[tuple[str, bytes], ...] = (), agent: str = ""
) -> Message:
    document = {"location": {"href": url}, "referrer": referrer}
    context = {"document": document, "navigator": {"userAgent": agent}}
    payload = {"id": "e", "name": "page_viewed", "timestamp": "2026-11-24T12:00:00Z", "context": context}
    given = (("source", b"pixel"), *headers)
    return Message(Origin("t", 0, 0), f"{shop}:anna".encode(), json.dumps(payload).encode(), given, 1_795_521_600_000)


def platform(message: Message, sites: Sites = SITES) -> str | None:
    event = decode(message, sites)
    assert isinstance(event, Event)
    return event.ad.platform if event.ad else None


def test_hosts_of_the_shop_are_no_referrers_from_outside() -> None:
    for host in ("www.hats.example", "secure.bank.example"):
        message = page("https://shop.test/", f"https://{host}/")
        assert platform(message) is None
        assert platform(message, NOTHING_KNOWN) == host.removeprefix("www.")
        assert platform(page("https://shop.test/", f"https://{host}/", shop="2")) == host.removeprefix("www.")


def test_the_headers_domain_is_the_shops() -> None:
    referrer = "https://other.example/"
    assert platform(page("https://shop.test/", referrer)) == "other.example"
    assert platform(page("https://shop.test/", referrer, headers=(("shop_domain", b"other.example"),))) is None
    long = (("shop_domain", b"o" * 100_000),)
    assert platform(page("https://shop.test/", referrer, headers=long)) == "other.example"


def test_a_shops_names_and_an_operators_tables_are_used() -> None:
    assert platform(page("https://shop.test/?utm_source=flyer-26")) == "print"
    assert platform(page("https://shop.test/?utm_source=flyer-26", shop="2")) == "flyer-26"
    assert platform(page("https://shop.test/?hwid=1")) == "hats-weekly"
    assert platform(page("https://shop.test/?hwid=1"), NOTHING_KNOWN) is None


def test_a_shop_of_many_domains_takes_no_more_memory_for_each() -> None:
    sites = Sites()
    for number in range(10_000):
        assert sites.of("1", f"shop-{number}.example").own_domains == {f"shop-{number}.example"}
    assert len(sites._known) <= 4096
    assert sites.of("1", "shop.example") is sites.of("1", "shop.example")


def test_the_history_keeps_the_shops_domain_of_the_headers() -> None:
    headers = (("shop_domain", b"Other.Example."),)
    event = decode(page("https://shop.test/", "https://other.example/", headers=headers))
    assert isinstance(event, Event)
    assert event.shop_domain == "other.example"
    again = event_of(msgspec.json.decode(document(event)))
    assert (again.ad, again.shop_domain) == (None, "other.example")


def test_bots_count_as_people_where_an_operator_says_so() -> None:
    message = page("https://shop.test/?gclid=1", agent="curl/8.4.0")
    event, counted = decode(message), decode(message, Sites(count_bots=True))
    assert isinstance(event, Event)
    assert isinstance(counted, Event)
    assert (event.bot, event.ad, counted.bot, counted.ad) == (True, None, False, event.visit)


def test_a_file_of_settings_is_read(tmp_path: Path) -> None:
    file = tmp_path / "sources.json"
    file.write_text('{"platforms": {"print": {"aliases": ["Flyer"]}}}')
    sites = sites_of(Settings(sources_file=str(file), count_bots=True))
    assert sites.count_bots
    assert platform(page("https://shop.test/?utm_source=flyer"), sites) == "print"
    file.write_text("{}}")
    with pytest.raises(SettingsError, match=r"^TRUEPIXEL_SOURCES_FILE: .*sources\.json: JSON is malformed"):
        sites_of(Settings(sources_file=str(file)))
    with pytest.raises(ValueError, match="is not a readable file"):
        Settings(sources_file=str(tmp_path / "none.json"))


def test_the_registry_supplies_a_shops_hosts_and_aliases() -> None:
    shop = Shop(
        domains=frozenset({"hats.example"}), payment_hosts=frozenset({"bank.example"}), aliases={"Flyer": "print"}
    )
    sites = Sites(count_bots=True).with_shops({"1": shop, "2": Shop()})
    assert sites.count_bots
    assert sites.of("1", None).own_domains == {"hats.example", "bank.example"}
    assert platform(page("https://shop.test/?utm_source=flyer"), sites) == "print"
    assert platform(page("https://shop.test/", "https://hats.example/"), sites) is None
    assert platform(page("https://shop.test/", "https://hats.example/", shop="2"), sites) == "hats.example"
