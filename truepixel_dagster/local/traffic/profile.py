"""How often each kind of thing happens."""

from __future__ import annotations

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """Shares, each of what its comment says. Of a share of 0 nothing happens, and no random number is drawn for it."""

    # Of all arrivals: crawlers, and orders that no browser of a buyer places (see `offline`).
    bots: float = 0.0
    offline: float = 0.015
    # Of those orders, one in so many is from: the till, a draft, a subscription's renewal, an import, another channel.
    offline_kinds: tuple[float, float, float, float, float] = (0.75, 0.25, 0.0, 0.0, 0.0)

    # Of the others: visitors who were here before, and of new visitors those who mean to buy.
    known: float = 0.05
    shoppers: float = 0.22
    # Of visitors: without an id of their browser; with a clock that is wrong; who see prices of another market.
    no_client: float = 0.0
    wrong_clocks: float = 0.0
    abroad: float = 0.0
    # Of visitors who were here before: who come by another device.
    second_device: float = 0.0

    # Of visits: not by an ad; and of the others with click ids of two platforms, with hundreds of parameters.
    unpaid: float = 0.36
    two_click_ids: float = 0.0
    long_urls: float = 0.0
    # Ads and referrers of every kind of platform, not of the largest alone.
    every_platform: bool = False
    # Of pages: whose title is cut in half an emoji.
    cut_titles: float = 0.0

    # Of products put into a cart: gift cards.
    gift_cards: float = 0.0

    # Of online orders: without `checkout_completed`; without any webhook; paid at once.
    no_pixel: float = 0.12
    no_webhooks: float = 0.08
    paid_at_once: float = 0.85
    # Of online orders: whose pixel fires again days later; whose thank-you page is opened from a payment provider's.
    seen_again: float = 0.0
    payment_referrer: float = 0.0
    # Of online orders: with one token for cart and checkout; a second order from the same cart; an older landing page.
    one_token: float = 0.0
    shared_carts: float = 0.0
    stale_landing: float = 0.0
    # Of online orders: the first of a subscription, of no value, a test of the merchant's.
    subscribed: float = 0.0
    free: float = 0.0
    test: float = 0.0

    # How long people take for it, of the usual.
    pace: float = 1.0
    # Of orders: what happens to them later. `updated` is a fulfilment and nothing else.
    cancelled: float = 0.06
    refunded: float = 0.08
    updated: float = 0.46
    edited: float = 0.0
    upsold: float = 0.0
    # Of orders that are not paid at once: released without being cancelled.
    voided: float = 0.0
    # Of test orders and cancelled ones.
    deleted: float = 0.0
    # Refunds of every kind, and every webhook that belongs to a change, not just one for it.
    every_change: bool = False

    # Of an order's webhooks: that never come, that come hours late, whose tokens are null.
    lost_webhooks: float = 0.0
    late_webhooks: float = 0.0
    null_tokens: float = 0.0
    # Of shops: which tell when they change (`shop/update`).
    shop_updates: float = 0.0
    # Shops differ in how their webhooks come to the topic, and send payloads with all that Shopify has today.
    todays_shops: bool = False


#: What traffic was before it had all of Shopify's kinds. Benchmarks use it, so that its bytes must never change:
#: commits are compared with it.
FIRST = Profile()

#: Everything that shops have, about as often as they have it.
FULL = Profile(
    bots=0.225,
    offline=0.02,
    offline_kinds=(0.45, 0.12, 0.28, 0.07, 0.08),
    no_client=0.03,
    wrong_clocks=0.015,
    abroad=0.2,
    second_device=0.2,
    unpaid=0.5,
    two_click_ids=0.04,
    long_urls=0.005,
    every_platform=True,
    cut_titles=0.005,
    gift_cards=0.02,
    no_pixel=0.30,
    no_webhooks=0.01,
    paid_at_once=0.92,
    seen_again=0.02,
    payment_referrer=0.1,
    one_token=0.3,
    shared_carts=0.01,
    stale_landing=0.3,
    subscribed=0.03,
    free=0.01,
    test=0.01,
    pace=0.35,
    cancelled=0.03,
    refunded=0.08,
    updated=0.6,
    edited=0.01,
    upsold=0.03,
    voided=0.15,
    deleted=0.15,
    every_change=True,
    lost_webhooks=0.02,
    late_webhooks=0.01,
    null_tokens=0.03,
    shop_updates=0.2,
    todays_shops=True,
)


def busy(profile: Profile) -> Profile:
    """The same in a good hour, when most visitors mean to buy and many come back, for somebody who watches."""
    return msgspec.structs.replace(profile, known=0.5, shoppers=0.6)


def loyal(profile: Profile) -> Profile:
    """The same in a month of which many visitors buy and come back."""
    return msgspec.structs.replace(profile, known=0.3, shoppers=0.5)


PROFILES = {"first": FIRST, "full": FULL}

#: What is generated where nobody asks for a profile.
DEFAULT = FULL
