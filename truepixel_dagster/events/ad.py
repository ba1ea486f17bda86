"""The source of a visit, whether or not it is an ad."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Ad(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold the source of a visit; every field except the platform may be missing.

    `source` and `medium` are as written in the URL, or GA4's names if only a referrer gives the source. `channel` is
    one of GA4's default groups. `campaign_id` is the platform's number of the campaign.
    """

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
        """Return whether both are equal: by click id or, without one, by platform, source, medium and campaign."""
        if self.click_id or other.click_id:
            return (self.click_id, self.click_id_type) == (other.click_id, other.click_id_type)
        own, others = (self.platform, self.source, self.medium), (other.platform, other.source, other.medium)
        return own == others and self.campaign == other.campaign


def anonymous_ad(ad: Ad, alias: Callable[[str, str], str]) -> Ad:
    """Return the ad with aliases for its click id, content and term."""

    def named(name: str, value: str | None) -> str | None:
        # An e-mail address in a campaign's name is personal data too.
        return alias(name, value) if value and "@" in value else value

    def personal(name: str, value: str | None) -> str | None:
        return alias(name, value) if value else value

    source = named("source", ad.source)
    return msgspec.structs.replace(
        ad,
        # The platform of an unknown source is the source in lower case.
        platform=(source or "").lower() if ad.source and ad.platform == ad.source.lower() else ad.platform,
        source=source,
        medium=named("medium", ad.medium),
        campaign=named("campaign", ad.campaign),
        content=personal("utm_content", ad.content),
        term=personal("utm_term", ad.term),
        click_id=personal(ad.click_id_type or "", ad.click_id),
        campaign_id=named("campaign_id", ad.campaign_id),
    )
