"""The tables of platforms, hosts, click ids and channels are consistent, and accept an operator's additions."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from importlib.resources import files
from pathlib import Path

import pytest

from tests.unit.events.data_tables import table
from truepixel_dagster.events.channel_rules import CHANNELS
from truepixel_dagster.events.hosts import host_of, normal, registered
from truepixel_dagster.events.source_additions import SourcesError, additions, name_key
from truepixel_dagster.events.sources import DEFAULT, Sources, load
from truepixel_dagster.events.visits import visit

DATA = files("truepixel_dagster.events") / "data"
NAMES = ("platforms", "ga4_sources", "inside", "click_ids", "channels")


@pytest.mark.parametrize("name", NAMES)
def test_each_table_says_where_it_is_from(name: str) -> None:
    found = table(name)
    assert found["source"]
    assert found["licence"]
    assert date.fromisoformat(found["date"]) >= date(2023, 1, 1)


def test_no_name_host_or_app_is_of_two_platforms() -> None:
    platforms = table("platforms")["platforms"]
    names = Counter(key for name, entry in platforms.items() for key in {name_key(name), *entry.get("aliases", ())})
    hosts = Counter(host for entry in platforms.values() for host in entry.get("hosts", ()))
    apps = Counter(app for entry in platforms.values() for app in entry.get("apps", ()))
    for counted in (names, hosts, apps):
        assert [name for name, count in counted.items() if count > 1] == []
    for entry in platforms.values():
        assert [alias for alias in entry.get("aliases", ()) if alias != name_key(alias)] == []


def test_hosts_are_written_as_they_are_looked_up() -> None:
    inside, platforms = table("inside"), table("platforms")
    hosts = [*inside["hosts"], *(host for entry in platforms["platforms"].values() for host in entry.get("hosts", ()))]
    hosts += [name for name in platforms["places"] if "." in name]
    for host in hosts:
        assert host == normal(host) == str(host_of(f"https://{host}/x")).removeprefix("www.")
    # No list names a whole top-level domain or a host of many sites.
    assert [host for host in inside["hosts"] if registered(host) == host and "." not in host] == []


def test_places_and_click_ids_are_of_platforms() -> None:
    platforms = table("platforms")
    for place in platforms["places"].values():
        assert place["platform"] in platforms["platforms"]
    for entry in table("click_ids")["click_ids"]:
        assert {entry["platform"], *entry.get("family", ())} <= set(platforms["platforms"])


def test_every_channel_but_direct_has_a_rule_and_the_last_rule_takes_all() -> None:
    rules = table("channels")["rules"]
    assert {rule["channel"] for rule in rules} | {"direct"} == set(CHANNELS)
    assert rules[-1] == {"channel": "unassigned", "ga4": True}


def test_a_name_is_looked_up_however_it_is_written() -> None:
    for name in ("Google Ads", "google-ads", " GOOGLE_ADS ", "googleads"):
        assert DEFAULT.named(name).platform == "google"


def test_our_list_precedes_googles_which_gives_the_rest_a_category() -> None:
    assert DEFAULT.named("bebo").platform == DEFAULT.at("www.bebo.com").platform == "bebo"
    assert DEFAULT.at("www.bebo.com").category == "social"
    assert DEFAULT.at("news.google.com").category == "search"
    assert DEFAULT.at("out.reddit.com").platform == "reddit"
    assert DEFAULT.at("academia.edu").platform == "academia.edu"


MORE = {
    "platforms": {
        "facebook": {"aliases": ["Meta Prospecting"]},
        "hats-weekly": {"category": "email", "aliases": ["hw"], "hosts": ["hats-weekly.example"], "source": "hats"},
    },
    "places": {"deals.google.com": {"platform": "google", "category": "shopping"}},
    "click_ids": [
        {"name": "hwid", "platform": "hats-weekly", "paid": "never"},
        {"name": "fbclid", "platform": "facebook", "paid": "always"},
    ],
    "inside": ["pay.example"],
    "paid_mediums": ["Ads"],
}


def test_an_operator_adds_to_the_tables() -> None:
    more = Sources(additions(json.dumps(MORE)))

    def said(query: str, referrer: str | None = None) -> tuple[str | None, ...] | None:
        ad = visit(f"https://shop.test/?{query}", None, referrer, sources=more)
        return (ad.platform, ad.source, ad.channel) if ad else None

    assert said("utm_source=meta-prospecting&utm_medium=ads") == ("facebook", "meta-prospecting", "paid_social")
    assert said("utm_source=fb") == ("facebook", "fb", "organic_social")
    assert said("utm_source=HW") == ("hats-weekly", "HW", "email")
    assert said("hwid=1") == ("hats-weekly", None, "email")
    assert said("fbclid=1") == ("facebook", None, "paid_social")
    assert said("", "https://www.hats-weekly.example/1") == ("hats-weekly", "hats", "email")
    assert said("", "https://deals.google.com/") == ("google", "google", "organic_shopping")
    assert said("", "https://www.pay.example/") is None
    # The default tables are unchanged.
    assert DEFAULT.named("hw").platform == "hw"
    assert visit("/?hwid=1", None, None) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "Expected `object`"),
        ("{", "Input data was truncated"),
        ('{"click_id": []}', "unknown field `click_id`"),
        ('{"click_ids": [{"name": "x", "platform": "y"}]}', "missing required field `paid`"),
        ('{"click_ids": [{"name": "x", "platform": "y", "paid": "sometimes"}]}', "Invalid enum value 'sometimes'"),
        ('{"platforms": {"x": {"category": "serach"}}}', "Invalid enum value 'serach'"),
        ('{"platforms": {"x": {"hosts": ["https://x.example/"]}}}', "'https://x.example/' is not a host"),
        ('{"inside": ["a b"]}', "'a b' is not a host"),
        ('{"platforms": {" ": {}}}', "' ' is not a name"),
        ('{"platforms": {"x": {"aliases": ["a@b"]}}}', "'a@b' contains an @"),
    ],
)
def test_invalid_additions_are_rejected_with_the_reason(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "sources.json"
    file.write_text(text)
    with pytest.raises(SourcesError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert reason in str(error.value)


def test_without_a_file_the_tables_are_as_they_are(tmp_path: Path) -> None:
    assert load(None) is DEFAULT
    with pytest.raises(SourcesError, match="No such file"):
        load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.shop.co.uk", "shop.co.uk"),
        ("shop.example", "shop.example"),
        ("a.b.myshopify.com", "b.myshopify.com"),
        ("com", "com"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_the_registered_domain_of_a_host(host: str, domain: str) -> None:
    assert registered(host) == domain


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://WWW.Shop.Example.:8443/x", "www.shop.example"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("http://[2001:DB8::1]:80/", "[2001:db8::1]"),
        ("android-app://com.Example.Reader/https/x", "com.example.reader"),
        ("https://a,b.example/", None),
        ("https://\u00a8.example/", None),
        ("https://%2e/", None),
        ("ftp://shop.example/", None),
        ("https://" + "a" * 254, None),
    ],
)
def test_the_host_of_an_address(address: str, host: str | None) -> None:
    assert host_of(address) == host
