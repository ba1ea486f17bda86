"""Visitors: people with their browsers, and crawlers."""

from __future__ import annotations

from random import Random

import msgspec

from truepixel_dagster.local.payloads.model import Customer, History, Presentment, Shop, Visitor
from truepixel_dagster.local.payloads.pixel import navigator
from truepixel_dagster.local.traffic.chance import DAY, HOUR, MINUTE, happens, shopify_id, uuid
from truepixel_dagster.local.traffic.profile import Profile


def visitor_of(rng: Random, profile: Profile, shop: Shop) -> Visitor:
    """Return a new visitor."""
    agent, width, height = rng.choice(_BROWSERS)
    client, customer = uuid(rng), customer_of(rng)
    seen_in = rng.choice(shop.abroad) if happens(rng, profile.abroad) else Presentment(shop.market)
    is_none = happens(rng, profile.no_client)
    clock_error = rng.choice(_CLOCK_ERRORS) if happens(rng, profile.wrong_clocks) else 0
    return Visitor(
        shop=shop,
        client_id=rng.choice(_NO_CLIENTS) if is_none else client,
        customer=customer,
        navigator=navigator(agent, seen_in.market.language),
        viewport=(width, height),
        presentment=seen_in,
        history=History(),
        clock_error=clock_error,
        anonymous=is_none,
    )


def by_another_device(rng: Random, visitor: Visitor) -> Visitor:
    """Return the same person with a new browser."""
    agent, width, height = rng.choice(_BROWSERS)
    new = navigator(agent, visitor.presentment.market.language)
    return msgspec.structs.replace(
        visitor, client_id=uuid(rng), navigator=new, viewport=(width, height), clock_error=0, anonymous=False
    )


def crawler_of(rng: Random, shop: Shop) -> Visitor:
    """Return a crawler. It runs the shop's scripts, so the pixel reports it."""
    return Visitor(
        shop=shop,
        client_id=uuid(rng),
        customer=customer_of(rng),
        navigator=navigator(rng.choice(_CRAWLERS), "en-US"),
        viewport=(1024, 768),
        presentment=Presentment(shop.market),
        history=History(),
    )


def customer_of(rng: Random) -> Customer:
    """Return a new customer."""
    first, last = rng.choice(_FIRST_NAMES), rng.choice(_LAST_NAMES)
    # People write their address in different ways; it is one customer.
    written = f"{first}.{last}" if rng.random() < 0.2 else f"{first}.{last}".lower()
    email = f"{written}{int(rng.random() * 900)}@example.com"
    phone = f"+1555{int(rng.random() * 10**7):07d}" if rng.random() < 0.4 else None
    return Customer(shopify_id(rng), email, first, last, phone)


# What collectors write into the key if the pixel has no client id; half of them follow JavaScript.
_NO_CLIENTS = (
    "undefined",
    "undefined",
    "undefined",
    "null",
    "",
    "NaN",
    "00000000-0000-0000-0000-000000000000",
    "anonymous",
)
# Errors of minutes are common; after an empty battery a clock begins in 1970.
_CLOCK_ERRORS = (
    -3 * MINUTE,
    4 * MINUTE,
    20 * MINUTE,
    -2 * HOUR,
    11 * HOUR,
    2 * DAY,
    -45 * DAY,
    61 * 365 * DAY,
    -56 * 365 * DAY,
)

_BROWSERS = (
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1"
        " Mobile/15E148 Safari/604.1",
        390,
        664,
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile"
        " Safari/537.36",
        412,
        785,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
        " Safari/537.36",
        1512,
        823,
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
        " Safari/537.36 Edg/131.0.0.0",
        1536,
        730,
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", 1920, 947),
)
_CRAWLERS = (
    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/131.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
    " Chrome/116.0.1938.76 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4"
    " Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 11; moto g power (2022)) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
    " Mobile Safari/537.36 Chrome-Lighthouse",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
)
_FIRST_NAMES = ("Ada", "Bao", "Chloé", "Diego", "Elif", "Fatima", "Grace", "Hiro", "Ines", "Jonas", "Kwame", "Lena")
_LAST_NAMES = ("Abe", "Brown", "Costa", "Dubois", "Evans", "Fischer", "Garcia", "Haddad", "Ito", "Jensen", "Kim")
