"""Ad data in a URL's query string: UTM parameters and the click ids of the ad platforms."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_plus, urlencode

import msgspec

# A click id names its platform even where there is no utm_source. The order decides where a URL carries several.
CLICK_ID_PLATFORMS = {
    "gclid": "google",
    "gbraid": "google",
    "wbraid": "google",
    "fbclid": "facebook",
    "ttclid": "tiktok",
    "msclkid": "microsoft",
    "ScCid": "snapchat",
    "epik": "pinterest",
    "twclid": "twitter",
}
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_NAMES = {name.lower(): name for name in (*CLICK_ID_PLATFORMS, *_UTM)}
_MAX_VALUE = 512
# Only the parameters that matter, and names that may be ours in disguise: an address may be megabytes of others.
_PARAMETER = re.compile(rf"(?:^|&)({'|'.join(_NAMES)}|[^&=%]*%[^&=]*)=([^&]+)", re.IGNORECASE)


class Ad(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a URL says of the ad behind it; every field but the platform may be missing."""

    platform: str
    source: str | None = None
    medium: str | None = None
    campaign: str | None = None
    content: str | None = None
    term: str | None = None
    click_id: str | None = None
    click_id_type: str | None = None
    campaign_id: str | None = None
    channel: str | None = None

    def same_as(self, other: Ad) -> bool:
        """Whether both are the same ad: the same click id, or with none the same source, medium and campaign."""
        if self.click_id or other.click_id:
            return (self.click_id, self.click_id_type) == (other.click_id, other.click_id_type)
        return (self.source, self.medium, self.campaign) == (other.source, other.medium, other.campaign)


def query_of(url: str | None) -> str:
    """What stands between the first question mark of an address and its fragment; empty where nothing does."""
    return url.partition("#")[0].partition("?")[2] if url and "?" in url else ""


def ad_from_url(url: str | None) -> Ad | None:
    """The ad data of a URL (absolute, or a path such as a webhook's `landing_site`); None where there is none."""
    query = query_of(url)
    return ad_of(query) if query else None


def ad_of(query: str) -> Ad | None:
    """The ad data of a query string; None where there is none."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(query):
        name = _NAMES.get(unquote_plus(match[1]).lower())
        if name and name not in found and (value := unquote_plus(match[2]).strip()[:_MAX_VALUE]):
            found[name] = value
    click_id_type = next((name for name in CLICK_ID_PLATFORMS if name in found), None)
    source = found.get("utm_source")
    medium, campaign = found.get("utm_medium"), found.get("utm_campaign")
    content, term = found.get("utm_content"), found.get("utm_term")
    if click_id_type is None and not (source or medium or campaign or content or term):
        return None
    platform = CLICK_ID_PLATFORMS[click_id_type] if click_id_type else (source or "unknown").lower()
    return Ad(
        platform=platform,
        source=source,
        medium=medium,
        campaign=campaign,
        content=content,
        term=term,
        click_id=found[click_id_type] if click_id_type else None,
        click_id_type=click_id_type,
    )


def anonymous_ad(ad: Ad, alias: Callable[[str, str], str]) -> Ad:
    """The same ad, its click id, content and term by aliases."""

    def named(name: str, value: str | None) -> str | None:
        # An address in a campaign's name is somebody's, too.
        return alias(name, value) if value and "@" in value else value

    def personal(name: str, value: str | None) -> str | None:
        return alias(name, value) if value else value

    source = named("source", ad.source)
    return msgspec.structs.replace(
        ad,
        # A platform that no table has is the source in lower case.
        platform=(source or "").lower() if ad.source and ad.platform == ad.source.lower() else ad.platform,
        source=source,
        medium=named("medium", ad.medium),
        campaign=named("campaign", ad.campaign),
        content=personal("utm_content", ad.content),
        term=personal("utm_term", ad.term),
        click_id=personal(ad.click_id_type or "", ad.click_id),
        campaign_id=named("campaign_id", ad.campaign_id),
    )


def anonymous_query(url: str | None, alias: Callable[[str, str], str]) -> str | None:
    """A query string that names the ad of a URL as `anonymous_ad` has it; None where there is no ad."""
    found = ad_from_url(url)
    if found is None:
        return None
    ad = anonymous_ad(found, alias)
    pairs = {
        "utm_source": ad.source,
        "utm_medium": ad.medium,
        "utm_campaign": ad.campaign,
        "utm_content": ad.content,
        "utm_term": ad.term,
        ad.click_id_type or "": ad.click_id,
    }
    return "?" + urlencode({name: value for name, value in pairs.items() if value})
