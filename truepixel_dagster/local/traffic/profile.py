"""How often each kind of thing happens."""

from __future__ import annotations

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """Hold the share of each kind of event. A share of 0 never happens, and draws no random number."""

    # Shares of all arrivals: crawlers, and orders without a buyer's browser (`offline.py`).
    bots: float = 0.0
    offline: float = 0.015
    # Shares of those orders: at the till, from a draft, a subscription's renewal, an import, another sales channel.
    offline_kinds: tuple[float, float, float, float, float] = (0.75, 0.25, 0.0, 0.0, 0.0)

    # The share of known visitors in the other arrivals, and the share of new visitors who intend to buy.
    known: float = 0.05
    shoppers: float = 0.22
    # Shares of visitors: without a client id, with a wrong clock, with prices of another market.
    no_client: float = 0.0
    wrong_clocks: float = 0.0
    abroad: float = 0.0
    # The share of known visitors who use another device.
    second_device: float = 0.0

    # The share of visits without an ad; shares of the others: with click ids of two platforms, with hundreds of
    # parameters.
    unpaid: float = 0.36
    two_click_ids: float = 0.0
    long_urls: float = 0.0
    # Whether ads and referrers are of platforms of every kind, not only of the largest ones.
    every_platform: bool = False
    # The share of pages whose title is cut in the middle of an emoji.
    cut_titles: float = 0.0

    # The share of gift cards among the products put into a cart.
    gift_cards: float = 0.0

    # Shares of online orders: without `checkout_completed`, without any webhook, paid at once.
    no_pixel: float = 0.12
    no_webhooks: float = 0.08
    paid_at_once: float = 0.85
    # Shares of online orders: the pixel sends them again days later; their thank-you page follows a payment provider's.
    seen_again: float = 0.0
    payment_referrer: float = 0.0
    # Shares of online orders: with one token for cart and checkout, from a shared cart, with an older landing page.
    one_token: float = 0.0
    shared_carts: float = 0.0
    stale_landing: float = 0.0
    # Shares of online orders: the first of a subscription, without value, a merchant's test.
    subscribed: float = 0.0
    free: float = 0.0
    test: float = 0.0

    # The factor of the time between an order's changes.
    pace: float = 1.0
    # Shares of orders that change later. `updated` means fulfilled without another change.
    cancelled: float = 0.06
    refunded: float = 0.08
    updated: float = 0.46
    edited: float = 0.0
    upsold: float = 0.0
    # The share of orders not paid at once that are released without being cancelled.
    voided: float = 0.0
    # The share of test orders and cancelled orders that are deleted.
    deleted: float = 0.0
    # Whether there are refunds of every kind, and all webhooks of a change instead of one.
    every_change: bool = False

    # Shares of an order's webhooks: never arrive, arrive hours late, have null tokens.
    lost_webhooks: float = 0.0
    late_webhooks: float = 0.0
    null_tokens: float = 0.0
    # The share of shops that send `shop/update`.
    shop_updates: float = 0.0
    # Whether shops differ in their collectors, and send payloads with all of Shopify's current fields.
    todays_shops: bool = False


#: Traffic as it was before it had all of Shopify's kinds. Benchmarks compare commits with it, so its bytes must never
#: change.
FIRST = Profile()

#: All that happens in shops, about as often as it does.
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
    """Return the profile of a busy hour for an audience: most visitors intend to buy, and many return."""
    return msgspec.structs.replace(profile, known=0.5, shoppers=0.6)


def loyal(profile: Profile) -> Profile:
    """Return the profile of a month in which many visitors buy and return."""
    return msgspec.structs.replace(profile, known=0.3, shoppers=0.5)


PROFILES = {"first": FIRST, "full": FULL}

#: The profile that is used by default.
DEFAULT = FULL
