"""The attribution document of an order."""

from __future__ import annotations

from dataclasses import dataclass

from truepixel_dagster.audit.oracle.credits import credits_of, credits_of_nobody
from truepixel_dagster.audit.oracle.events import Event, kafka
from truepixel_dagster.audit.oracle.figures import Figures
from truepixel_dagster.audit.oracle.ids import Order
from truepixel_dagster.audit.oracle.journeys import Candidate, landing_touch
from truepixel_dagster.audit.oracle.records import Doc, present
from truepixel_dagster.audit.oracle.times import iso
from truepixel_dagster.audit.oracle.touches import Touch, touch_doc


@dataclass(frozen=True)
class Resolved:
    """An order with its figures and the clients that its records name, its own client first."""

    order: Order
    figures: Figures
    candidates: list[Candidate]

    @property
    def client(self) -> str | None:
        return self.candidates[0].client if self.candidates else None

    @property
    def counts(self) -> bool:
        """Return whether it counts for customers and products; test orders and deleted ones do not."""
        return self.order.exists and not self.figures.test


def attribution_doc(resolved: Resolved, window_days: int, half_life_days: float, sightings_kept: int) -> Doc:
    """Return the order's document."""
    order, figures = resolved.order, resolved.figures
    journey = _journey(resolved)
    amount = figures.value["amount"] if figures.value else 0
    platform = "direct" if figures.sales_channel == "online" else figures.sales_channel
    return present(
        shop_id=order.shop,
        order_id=order.known_order_id,
        checkout_token=order.checkout_token,
        cart_token=order.cart_token,
        client_id=resolved.client,
        occurred_at=iso(figures.at),
        value=figures.value,
        value_from=figures.value_from,
        net=_money(figures.net, figures),
        refunded=_money(figures.refunded, figures),
        status=figures.status,
        test=figures.test or None,
        sales_channel=figures.sales_channel,
        new_customer=figures.new_customer,
        touches=[touch_doc(touch) for touch in journey],
        window_days=window_days,
        credits=credits_of(journey, figures.at, amount, figures.net, half_life_days)
        if journey
        else credits_of_nobody(platform, amount, figures.net),
        sightings=[_sighting(event) for event in sightings_of(order)[:sightings_kept]],
    )


def _journey(resolved: Resolved) -> list[Touch]:
    """Return the journey of an order that was placed online; other orders have none."""
    if resolved.figures.sales_channel != "online":
        return []
    own = resolved.candidates[0].journey if resolved.candidates else []
    return own or landing_touch(resolved.order, resolved.figures)


def _money(amount: int, figures: Figures) -> Doc | None:
    return {"amount": amount, "currency": figures.value["currency"]} if figures.value else None


def sightings_of(order: Order) -> list[Event]:
    """Return the records that report the order, earliest first."""
    return sorted([*order.payloads, *order.completed], key=lambda event: (event.occurred_at, event.event_id))


def _sighting(event: Event) -> Doc:
    return {"source": event.source, "event_id": event.event_id, "kafka": kafka(event)}
