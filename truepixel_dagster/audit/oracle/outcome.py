"""Compute the final state from the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from truepixel_dagster.audit.oracle.attributions import Resolved, attribution_doc
from truepixel_dagster.audit.oracle.channels import Channels
from truepixel_dagster.audit.oracle.customers import customers_of
from truepixel_dagster.audit.oracle.decoding import decoded
from truepixel_dagster.audit.oracle.duplicates import without_duplicates
from truepixel_dagster.audit.oracle.events import event_doc
from truepixel_dagster.audit.oracle.figures import figures_of
from truepixel_dagster.audit.oracle.ids import orders_of
from truepixel_dagster.audit.oracle.journeys import candidates_of
from truepixel_dagster.audit.oracle.products import product_stats
from truepixel_dagster.audit.oracle.records import Doc, Origin, Record, Shop
from truepixel_dagster.audit.oracle.touches import lead_doc, touches_of_users
from truepixel_dagster.audit.oracle.visitors import weekly_visitors


@dataclass
class Expected:
    """The final state, by document id. `dead` maps (partition, offset) to the reason; visitors are exact counts.

    `clients` has the clients that the records of an order name, by the id of its attribution.
    """

    events: dict[str, Doc] = field(default_factory=dict)
    duplicate_origins: set[Origin] = field(default_factory=set)
    dead: dict[Origin, str] = field(default_factory=dict)
    ad_leads: dict[str, Doc] = field(default_factory=dict)
    attributions: dict[str, Doc] = field(default_factory=dict)
    customers: dict[str, Doc] = field(default_factory=dict)
    product_stats: dict[str, Doc] = field(default_factory=dict)
    weekly_visitors: dict[str, int] = field(default_factory=dict)
    clients: dict[str, list[str]] = field(default_factory=dict)

    @property
    def duplicates(self) -> int:
        """Return how many records repeat the event id of another record."""
        return len(self.duplicate_origins)


def expected(
    records: Iterable[Record],
    *,
    shops: Mapping[str, Shop] | None = None,
    channels: Channels | None = None,
    count_bots: bool = False,
    window_days: int = 30,
    half_life_days: float = 7.0,
    touches_kept: int = 50,
    touch_repeat_seconds: float = 1800,
    sightings_kept: int = 50,
    products_per_event: int = 2_000,
    lines_per_event: int = 2_000,
    clients_per_order: int = 50,
    winners: Mapping[str, Origin] | None = None,
    late: AbstractSet[Origin] = frozenset(),
) -> Expected:
    """Compute the final state. It depends on the set of records alone, not on how the partitions interleave.

    Arguments:
        records: The topic, each partition in offset order; a record that occurs twice counts once.
        shops: The registry of shops by id.
        channels: The rules for visits, with the additions of the settings.
        count_bots: Whether bots count as visitors.
        window_days: The age in days up to which a touch counts for an order.
        half_life_days: The age in days at which time decay halves a touch's weight.
        touches_kept: The number of newest touches kept for a user.
        touch_repeat_seconds: The time within which a repeated ad is the same touch.
        sightings_kept: The maximum number of sightings in an order's document.
        products_per_event: The maximum number of products that count per event or order, the first ones.
        lines_per_event: The maximum number of lines of one event; an event with more is a dead letter.
        clients_per_order: The maximum number of clients per order, the surest ones.
        winners: Event id with its shop → (partition, offset) of the indexed record, where partitions raced. An origin
            that cannot have been first is ignored.
        late: Reprocessed dead letters: later records of their partition may have been indexed before them.
    """
    known_shops = shops or {}
    result = Expected()
    all_events = list(decoded(records, result.dead, known_shops, channels or Channels(), lines_per_event))
    if count_bots:
        all_events = [replace(event, bot=False) for event in all_events]
    events = without_duplicates(all_events, winners or {}, late, result.duplicate_origins)
    result.events = {event.id: event_doc(event) for event in events}

    touches = touches_of_users(events, touch_repeat_seconds * 1000)
    result.ad_leads = {user: lead_doc(own[-touches_kept:]) for user, own in touches.items()}

    orders = []
    for order in orders_of(events):
        if order.exists:
            figures = figures_of(order)
            candidates = candidates_of(order, figures, touches, touches_kept, window_days, clients_per_order)
            orders.append(Resolved(order, figures, candidates))
    result.attributions = {
        resolved.order.id: attribution_doc(resolved, window_days, half_life_days, sightings_kept) for resolved in orders
    }

    result.clients = {resolved.order.id: [candidate.client for candidate in resolved.candidates] for resolved in orders}
    result.customers = customers_of(events, orders)
    result.product_stats = product_stats(events, orders, known_shops, products_per_event)
    result.weekly_visitors = weekly_visitors(events, known_shops)
    return result
