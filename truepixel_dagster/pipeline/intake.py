"""Turn received messages into events: apply privacy requests first, then decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from truepixel_dagster.dead_letters.refusals import Refusals
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.identifiers import shop_and_client
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.privacy_request import PrivacyRequest, is_privacy_request, requested, stripped
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.resources import Stores
from truepixel_dagster.stages.stage import DECODE
from truepixel_dagster.stores import privacy_requests
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stores.shops import Shops
from truepixel_dagster.stream.micro_batch import MicroBatch


class Taken(NamedTuple):
    """Hold a micro-batch's messages after redaction, their events, and the number of redacted messages."""

    messages: tuple[Message, ...]
    decoded: list[Event | Undecodable]
    redacted: int


class Intake:
    """Take in the messages of a lane.

    Arguments:
        sites: The known sites of shops.
        stores: Hold privacy requests and redactions.
        refusals: The lane's earlier rejections.
        shops: The registry of shops.
    """

    def __init__(self, sites: Sites, stores: Stores, refusals: Refusals, shops: Shops) -> None:
        self._stores = stores
        self._refusals = refusals
        self._shops = shops
        self._sites = sites
        self._redactions = Redactions(stores.mongodb, sites)

    def take(self, batch: MicroBatch) -> Taken:
        """Store the requests of its privacy webhooks, apply the redactions, and decode the rest.

        Raises:
            Unavailable: MongoDB does not answer.
        """
        asking = [message for message in batch.messages if is_privacy_request(message)]
        refused = self._keep_requests(asking) if asking else {}
        received = [stripped(message) for message in batch.messages] if asking else batch.messages
        views = self._redactions.views(received)
        redacted = sum(view is not message for view, message in zip(views, received))
        messages = tuple(view for view in views if view)
        sites = self._sites.with_shops(self._shops.read({shop_and_client(message)[0] for message in messages}))

        def decoded(message: Message) -> Event | Undecodable:
            earlier = self._refusals.reason(DECODE, message.origin) or refused.get(message.origin)
            return decode(message, sites) if earlier is None else Undecodable(message, earlier)

        return Taken(messages, [decoded(message) for message in messages], redacted)

    def _keep_requests(self, webhooks: Sequence[Message]) -> Mapping[Origin, str]:
        """Store the requests of privacy webhooks; return why the invalid ones are rejected."""
        asked: dict[str, PrivacyRequest] = {}
        refused: dict[Origin, str] = {}
        for message in webhooks:
            try:
                asked[str(message.origin)] = requested(message)
            except ValueError as error:
                refused[message.origin] = str(error)
        privacy_requests.keep(self._stores.mongodb, asked)
        return refused
