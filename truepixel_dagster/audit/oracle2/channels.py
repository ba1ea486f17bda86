"""Where a visit comes from: its platform, source, medium, campaign and channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from truepixel_dagster.audit.oracle2.records import Doc, present

LONGEST_PARAMETER = 512
UTM = ("source", "medium", "campaign", "content", "term")


@dataclass(frozen=True)
class Channels:
    """The rules for visits. Stands in until the tables are in the tree."""

    def visit(
        self,
        url: str | None,
        search: str | None,
        referrer: str | None,
        own: Iterable[str],
        aliases: Mapping[str, str],  # noqa: ARG002
    ) -> Doc | None:
        """The ad of a visit, None where the page is none."""
        query = _query(url) or _query("?" + (search or "").lstrip("?"))
        found: dict[str, str] = {}
        for name, value in parse_qsl(query):
            cut = value.strip()[:LONGEST_PARAMETER]
            if cut:
                found.setdefault(name.lower(), cut)
        ad = {name: found.get(f"utm_{name}") for name in UTM}
        if "gclid" in found:
            return present(
                platform="google", **ad, click_id=found["gclid"], click_id_type="gclid", channel="paid_search"
            )
        if "fbclid" in found:
            channel = "paid_social" if ad["medium"] else "organic_social"
            return present(platform="facebook", **ad, click_id=found["fbclid"], click_id_type="fbclid", channel=channel)
        if any(ad.values()):
            return present(platform=(ad["source"] or "unknown").lower(), **ad, channel="unassigned")
        host = host_of(referrer)
        if host and host not in set(own):
            return {"platform": host, "source": host, "medium": "referral", "channel": "referral"}
        return None


def _query(url: str | None) -> str:
    return (url or "").partition("#")[0].partition("?")[2]


def host_of(url: str | None) -> str | None:
    """The host of an absolute URL in lower case."""
    try:
        return urlsplit(url or "").hostname
    except ValueError:
        return None
