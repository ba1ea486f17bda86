"""Define the channels of visits, and the conditions of a rule that gives a visit its channel."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import msgspec

Category = Literal["search", "social", "shopping", "video", "email", "ai", "sms", "affiliates", "display", "push"]
Channel = Literal[
    "paid_search",
    "organic_search",
    "paid_social",
    "organic_social",
    "paid_shopping",
    "organic_shopping",
    "email",
    "sms",
    "affiliates",
    "display",
    "video",
    "referral",
    "ai_assistant",
    "push",
    "unassigned",
]
CHANNELS = (*get_args(Channel), "direct")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a channel and its conditions, which must all hold. `ga4` says whether the rule is Google's or ours."""

    channel: Channel
    ga4: bool
    paid: bool = False
    proven: bool = False
    category: tuple[Category, ...] = ()
    source_equals: tuple[str, ...] = ()
    medium_equals: tuple[str, ...] = ()
    medium_contains: tuple[str, ...] = ()
    medium_ends: tuple[str, ...] = ()
    campaign_shop: bool = False

    def holds(self, said: Said) -> bool:
        """Return whether a visit matches this rule; an earlier matching rule wins."""
        return (
            (not self.paid or said.paid)
            and (not self.proven or said.proven)
            and (not self.category or said.category in self.category)
            and (not self.campaign_shop or said.shop)
            and (not self.source_equals or said.source in self.source_equals)
            and (not self.medium_equals or said.medium in self.medium_equals)
            and (not self.medium_contains or any(word in said.medium for word in self.medium_contains))
            and (not self.medium_ends or said.medium.endswith(self.medium_ends))
        )


class Said(NamedTuple):
    """Hold the input of rules, in lower case. `shop` says whether the campaign's name is about shopping."""

    category: str | None
    source: str
    medium: str
    shop: bool
    paid: bool
    proven: bool
