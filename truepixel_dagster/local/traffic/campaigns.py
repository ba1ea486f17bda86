"""The sources of visits: ads with campaigns and click ids, and unpaid sources."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from truepixel_dagster.local.payloads.model import Shop
from truepixel_dagster.local.traffic.chance import SECOND, happens
from truepixel_dagster.local.traffic.profile import Profile

_T = TypeVar("_T")


class Source(NamedTuple):
    """The source of a visit: the referring page, and the query string of the landing page."""

    referrer: str
    query: str


class _Ad(NamedTuple):
    """An ad: its referring page, the parameter of its click id, `utm_source` and `utm_medium`."""

    referrer: str
    click_id: str | None
    source: str
    medium: str


def source_of(rng: Random, profile: Profile, shop: Shop, at: int) -> Source:
    """Choose an ad, with a campaign, a click id or both, or an unpaid source.

    Arguments:
        rng: The source of chance.
        profile: How often each kind is chosen.
        shop: The shop, which has the campaigns.
        at: The time of the click, in milliseconds since the epoch.
    """
    if rng.random() < profile.unpaid:
        return _unpaid(rng) if profile.every_platform else Source(rng.choice(_UNPAID_REFERRERS), "")
    ad = _ads_of(rng) if profile.every_platform else _weighted(rng, _ADS, _AD_WEIGHTS)
    query = _query(rng, shop, ad, at)
    if happens(rng, profile.two_click_ids):
        # As if an ad's link were shared on Facebook, or had Google's newer parameters beside the older ones.
        other = rng.choice(("fbclid", "gbraid"))
        query |= {"gad_source": "1"} if other == "gbraid" else {}
        query[other] = _click_id(rng, other, at)
    if happens(rng, profile.long_urls):
        query = {f"p{number}": f"{rng.getrandbits(40):x}" for number in range(150 + int(rng.random() * 250))} | query
    return Source(ad.referrer, urlencode(query))


def _query(rng: Random, shop: Shop, ad: _Ad, at: int) -> dict[str, str]:
    shape = rng.random()
    query: dict[str, str] = {}
    if not ad.click_id or shape < 0.75:
        query["utm_source"] = ad.source
        query["utm_medium"] = ad.medium
        query["utm_campaign"] = rng.choice(shop.campaigns)
        if shape < 0.3:
            query["utm_content"] = f"creative-{int(rng.random() * 9)}"
        if shape < 0.1:
            query["utm_term"] = rng.choice(("running shoes", "gift ideas", "naïve art", "linen shirt"))
    if ad.click_id and shape > 0.1:
        query[ad.click_id] = _click_id(rng, ad.click_id, at)
    return query


def _click_id(rng: Random, kind: str, at: int) -> str:
    value = f"{rng.getrandbits(200):050x}"
    if kind == "gclid":
        return f"Cj0KCQiA{value}_BwE"
    if kind in ("gad_campaignid", "utm_id"):
        return str(20_000_000_000 + int(value[:8], 16))
    if kind == "fbclid":
        return f"IwAR{at // SECOND:x}{value}"
    return f"{kind[0].upper()}.{value}" if kind == "ttclid" else value[:36]


def _unpaid(rng: Random) -> Source:
    """Choose an unpaid source, mostly none or a search engine. Links on Facebook and free listings have click ids."""
    referrer, query = _weighted(rng, _UNPAID, _UNPAID_WEIGHTS)
    return Source(referrer, query.format(id=f"{rng.getrandbits(100):025x}") if query else "")


def _ads_of(rng: Random) -> _Ad:
    """Choose an ad: mostly one of the largest platforms, else of the others or with a link tagged by hand."""
    return _weighted(rng, _ADS, _AD_WEIGHTS) if rng.random() < 0.8 else rng.choice(_OTHER_ADS)


def _weighted(rng: Random, items: Sequence[_T], weights: Sequence[int]) -> _T:
    """Choose an item; `weights` are cumulative."""
    return items[bisect(weights, rng.random() * weights[-1])]


# The weights are the ads' shares of all paid visits.
_ADS = (
    _Ad("https://www.google.com/", "gclid", "google", "cpc"),
    _Ad("https://www.google.com/", "gbraid", "google", "cpc"),
    _Ad("https://www.google.com/", "wbraid", "google", "cpc"),
    _Ad("https://l.facebook.com/", "fbclid", "facebook", "paid_social"),
    _Ad("https://l.instagram.com/", "fbclid", "instagram", "paid_social"),
    _Ad("https://www.tiktok.com/", "ttclid", "tiktok", "paid_social"),
    _Ad("https://www.bing.com/", "msclkid", "bing", "cpc"),
    _Ad("https://www.pinterest.com/", "epik", "pinterest", "paid_social"),
    _Ad("https://www.snapchat.com/", "ScCid", "snapchat", "paid_social"),
    _Ad("https://t.co/", "twclid", "twitter", "paid_social"),
    _Ad("", None, "klaviyo", "email"),
    _Ad("", None, "influencer", "referral"),
)
_AD_WEIGHTS = list(accumulate((24, 3, 2, 22, 7, 13, 6, 5, 4, 2, 9, 3)))
_OTHER_ADS = (
    _Ad("https://l.facebook.com/", "fbclid", "fb", "paid"),
    _Ad("https://m.facebook.com/", "fbclid", "Facebook", "Paid Social"),
    _Ad("https://l.instagram.com/", "fbclid", "ig", "paid"),
    _Ad("https://www.google.com/", "gclid", "Google", "CPC"),
    _Ad("https://www.google.com/", "gad_campaignid", "google", "cpc"),
    _Ad("https://www.google.com/", "gclid", "google", "shopping"),
    _Ad("https://www.youtube.com/", "wbraid", "youtube", "paid_video"),
    _Ad("https://googleads.g.doubleclick.net/", "dclid", "dv360", "display"),
    _Ad("https://www.linkedin.com/", "li_fat_id", "linkedin", "paid_social"),
    _Ad("https://www.reddit.com/", "rdt_cid", "reddit", "cpc"),
    _Ad("https://taboola.com/", "tblci", "taboola", "native"),
    _Ad("https://outbrain.com/", "dicbo", "outbrain", "cpc"),
    _Ad("", "irclickid", "impact", "affiliate"),
    _Ad("", "mc_cid", "mailchimp", "email"),
    _Ad("", "_kx", "Klaviyo", "Email"),
    _Ad("", "utm_id", "postscript", "sms"),
    _Ad("", None, "attentive", "sms"),
    _Ad("", None, "pushowl", "push"),
)
_UNPAID_REFERRERS = ("", "", "https://www.google.com/", "https://duckduckgo.com/", "https://www.reddit.com/")
_UNPAID = (
    ("", ""),
    ("https://www.google.com/", ""),
    ("https://www.google.de/", ""),
    ("https://www.bing.com/", ""),
    ("https://duckduckgo.com/", ""),
    ("android-app://com.google.android.googlequicksearchbox/", ""),
    ("https://www.google.com/", "srsltid=AfmBOo{id}"),
    ("https://l.facebook.com/", "fbclid=IwZXh0{id}"),
    ("https://l.instagram.com/", "fbclid=PAZXh0{id}"),
    ("https://www.youtube.com/", ""),
    ("https://www.reddit.com/", ""),
    ("https://www.pinterest.com/", ""),
    ("https://chatgpt.com/", "utm_source=chatgpt.com"),
    ("https://www.perplexity.ai/", ""),
    ("https://mail.google.com/", ""),
    ("https://www.etsy.com/", ""),
    ("https://www.nytimes.com/wirecutter/", ""),
    ("https://blog.example.org/best-of-2026?from=list", ""),
)
_UNPAID_WEIGHTS = list(accumulate((40, 18, 4, 4, 2, 3, 3, 6, 4, 3, 2, 2, 3, 1, 1, 1, 1, 2)))
