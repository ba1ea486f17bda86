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

    `clients` are those that the records of an order name, by the id of its attribution.
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
        """How many records repeat the event id of another record."""
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
    """Work out the final state. It depends on the set of records alone, not on how the partitions interleave.

    Arguments:
        records: The topic, each partition in offset order; a record that comes twice counts once.
        shops: What is known of the shops, by their ids.
        channels: The rules for visits, with what the settings add to them.
        count_bots: Whether bots count as visitors do.
        window_days: Age up to which a touch counts for an order.
        half_life_days: Age at which time decay halves a touch's weight.
        touches_kept: Newest touches kept for a user.
        touch_repeat_seconds: Time in which the same ad again is the same touch.
        sightings_kept: Sightings that an order's document names.
        products_per_event: Products of one event or order that count for product statistics, the first ones.
        lines_per_event: Lines of one event; one with more is a dead letter.
        clients_per_order: Clients that one order knows, the surest ones of more.
        winners: Event id with its shop → (partition, offset) of the record that was indexed, where partitions raced.
            An origin that cannot have come first is not believed.
        late: Records that came back from the dead letters: later ones of their partition may have come before them.
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
