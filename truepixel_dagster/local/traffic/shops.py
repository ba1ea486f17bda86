"""Shops: their markets, their products, and how their records reach the topic."""

from __future__ import annotations

from random import Random
from typing import Any

from truepixel_dagster.local.payloads.model import Collector, Market, Presentment, Product, Shop
from truepixel_dagster.local.payloads.pixel import variant
from truepixel_dagster.local.payloads.text import DECIMALS
from truepixel_dagster.local.traffic.profile import Profile


def shop_of(rng: Random, profile: Profile, rank: int) -> Shop:
    """Return the shop of a rank; the first shop has the most products."""
    market = MARKETS[rank % len(MARKETS)]
    name = f"{rng.choice(_ADJECTIVES)}-{rng.choice(_NOUNS)}-{rank + 1}".lower()
    domain = f"{name}.myshopify.com"
    host = f"www.{name}.example" if profile.todays_shops and rank % 2 == 0 else domain
    abroad = _abroad(market, rank) if profile.abroad else ()
    products = tuple(_product(rng, market, host, abroad) for _ in range(max(6, 120 // (rank + 1))))
    if profile.gift_cards:
        products += (_product(rng, market, host, abroad, gift_card=True),)
    campaigns = tuple(rng.sample(_CAMPAIGNS, 4))
    return Shop(
        id=str(60_000_000_000 + rng.getrandbits(33)),
        domain=domain,
        host=host,
        market=market,
        passes_client=rank % 3 != 1,
        sends_cart_webhooks=rank % 2 == 0,
        products=products,
        campaigns=campaigns,
        abroad=abroad,
        **_todays(rank) if profile.todays_shops else {},
    )


def _todays(rank: int) -> dict[str, Any]:
    """Return the fields in which shops differ: their theme, and the collector that writes webhooks to the topic."""
    return {
        "full_payloads": True,
        "client_note": _CLIENT_NOTES[rank % len(_CLIENT_NOTES)],
        "collector": Collector(
            headers=("ours", "X-Shopify-", "ours", "Shopify-")[rank % 4],
            upper_case=rank % 4 >= 2,
            shared_ids=rank % 4 == 2,
            keyed_by_client=rank % 5 != 2,
        ),
        "counts_orders": rank % 3 == 2,
    }


def _abroad(market: Market, rank: int) -> tuple[Presentment, ...]:
    """Return two other markets with rates that are not round."""
    others = [other for other in MARKETS if other.currency != market.currency]
    return tuple(Presentment(others[n % len(others)], _rate(market, others[n % len(others)])) for n in (rank, rank + 3))


def _rate(of: Market, to: Market) -> float:
    scale = 10.0 ** (DECIMALS.get(to.currency, 2) - DECIMALS.get(of.currency, 2))
    return round(to.price_level / of.price_level * scale * 1.0137, 6)


def _product(
    rng: Random, market: Market, host: str, abroad: tuple[Presentment, ...], *, gift_card: bool = False
) -> Product:
    adjective, noun = rng.choice(_ADJECTIVES), rng.choice(_NOUNS)
    number = rng.getrandbits(40)
    fields: dict[str, Any] = {
        "id": 7_000_000_000_000 + number,
        "variant_id": 40_000_000_000_000 + number,
        "handle": "gift-card" if gift_card else f"{adjective}-{noun}".lower(),
        "title": "Gift Card" if gift_card else f"{adjective} {noun}",
        "variant_title": rng.choice(("Default Title", "S", "M", "L / Blue", None)),
        "vendor": rng.choice(_VENDORS),
        "sku": f"{noun[:3].upper()}-{number % 9999:04d}" if rng.random() < 0.9 else None,
        "price": price(market, 6 + rng.random() ** 2 * 180),
    }
    seen = {
        there.currency: variant(there.currency, host, **fields | {"price": there.of(fields["price"])})
        for there in abroad
    }
    return Product(**fields, pixel=variant(market.currency, host, **fields), abroad=seen, gift_card=gift_card)


def price(market: Market, dollars: float) -> int:
    """Return a price in minor units: like 19.99 with cents, round without cents, like 5.250 in dinars."""
    decimals = DECIMALS.get(market.currency, 2)
    amount = dollars * market.price_level
    if decimals == 0:
        return max(1, int(amount / 10)) * 10
    return max(1, int(amount)) * 100 - 1 if decimals == 2 else max(1, int(amount * 4)) * 250


_US = Market(
    "USD", -300, 1, False, "en-US", "United States", "US", "New York", "NY", "New York", "10013", "33 Spring St"
)
MARKETS = (
    _US,
    Market("EUR", 60, 0.9, True, "de-DE", "Germany", "DE", "Berlin", "BE", "Berlin", "10119", "Torstraße 12"),
    Market("GBP", 0, 0.8, True, "en-GB", "United Kingdom", "GB", "England", "ENG", "Leeds", "LS1 4AP", "4 Park Row"),
    Market("JPY", 540, 150, True, "ja-JP", "Japan", "JP", "Tokyo", "JP-13", "渋谷区", "150-0001", "神宮前1-2-3"),
    _US,
    Market("KWD", 180, 0.3, True, "ar-KW", "Kuwait", "KW", "Al Asimah", "KU", "Kuwait City", "13001", "Fahad St 7"),
    Market(
        "CAD", -480, 1.4, False, "en-CA", "Canada", "CA", "British Columbia", "BC", "Vancouver", "V6B 1A1", "9 Main"
    ),
    Market("EUR", 60, 0.9, True, "fr-FR", "France", "FR", "Rhône", "69", "Lyon", "69002", "5 rue Mercière"),
    Market("AUD", 600, 1.5, True, "en-AU", "Australia", "AU", "Victoria", "VIC", "Melbourne", "3000", "1 Swan St"),
    Market("INR", 330, 84, True, "en-IN", "India", "IN", "Karnataka", "KA", "Bengaluru", "560001", "12 MG Road"),
    Market("KRW", 540, 1300, True, "ko-KR", "South Korea", "KR", "Seoul", "KR-11", "강남구", "06236", "테헤란로 152"),
    Market("CHF", 60, 0.9, True, "de-CH", "Switzerland", "CH", "Zürich", "ZH", "Zürich", "8001", "Rennweg 3"),
)
#: The markets' time zones, by country.
ZONES = {
    "US": "America/New_York",
    "DE": "Europe/Berlin",
    "GB": "Europe/London",
    "JP": "Asia/Tokyo",
    "KW": "Asia/Kuwait",
    "CA": "America/Vancouver",
    "FR": "Europe/Paris",
    "AU": "Australia/Melbourne",
    "IN": "Asia/Kolkata",
    "KR": "Asia/Seoul",
    "CH": "Europe/Zurich",
}

# Cart attributes as themes and tracking apps name them.
_CLIENT_NOTES = (
    "_truepixel_client_id",
    "tp_client_id",
    "clientId",
    "_shopify_y",
    "shopify-client-id",
    "pixel_client_id",
)
_CAMPAIGNS = (
    "spring_sale",
    "brand-search",
    "retargeting 30d",
    "prospecting_lookalike",
    "bundles & sets",
    "été-2026",
    "1203948571029",
    "new arrivals",
)
_ADJECTIVES = ("Linen", "Oak", "Everyday", "Midnight", "Alpine", "Organic", "Copper", "Wool", "Solar", "Pocket")
_NOUNS = ("Shirt", "Lamp", "Mug", "Backpack", "Notebook", "Candle", "Sneaker", "Blanket", "Kettle", "Scarf")
_VENDORS = ("Acme", "Northwind Goods", "Atelier Lumen", "Kumo Works")
