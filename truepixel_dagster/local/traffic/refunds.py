"""Refunds: of everything, of some lines, of an amount, in several steps, and without an amount."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate

from truepixel_dagster.local.payloads.model import Order, Refund, ReturnedLine
from truepixel_dagster.local.traffic.chance import HOUR, shopify_id
from truepixel_dagster.local.traffic.changes import Change, Webhooks, given_back, in_buyers_money
from truepixel_dagster.local.traffic.world import World


def refunds_of(world: World, at: int) -> list[tuple[int, Change]]:
    """Plan the refunds of an order.

    Arguments:
        world: The source of chance and its profile.
        at: The time of the first refund, in milliseconds since the epoch.
    """
    if not world.profile.every_change:
        return [(at, everything)]
    kind = bisect(_SHARES, world.rng.random() * _SHARES[-1])
    if kind < len(_KINDS):
        return [(at, _KINDS[kind])]
    first, last = world.rng.choice((some_lines, an_amount)), world.rng.choice((everything, some_lines, an_amount))
    later = at + int(world.rng.uniform(0.5, 20) * HOUR)
    return [(at, first), (later, last)]


def everything(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Refund all that is left of the order."""
    lines = tuple(ReturnedLine(line, line.left) for line in order.purchase.lines if line.left)
    return given_back(world, order, _refund(world, order, at, lines, order.left))


def some_lines(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Return units of a line, and refund their price."""
    returned = _some(world, order)
    price = sum(each.line.share(each.quantity) for each in returned)
    return given_back(world, order, _refund(world, order, at, returned, min(price, order.left)))


def an_amount(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Refund 5 to 30 percent of what is left as compensation, without a returned line."""
    amount = order.left * (5 + int(world.rng.random() * 26)) // 100
    return given_back(world, order, _refund(world, order, at, (), amount))


def no_money(world: World, order: Order, at: int) -> tuple[Order, Webhooks]:
    """Return units for an exchange or a voucher: Shopify records a refund without a transaction."""
    return given_back(world, order, _refund(world, order, at, _some(world, order), 0))


def _some(world: World, order: Order) -> tuple[ReturnedLine, ...]:
    """Choose units of a line that the order still has."""
    lines = [line for line in order.purchase.lines if line.left]
    if not lines:
        return ()
    line = world.rng.choice(lines)
    return (ReturnedLine(line, 1 + int(world.rng.random() * line.left)),)


def _refund(world: World, order: Order, at: int, lines: tuple[ReturnedLine, ...], amount: int) -> Refund:
    rng = world.rng
    number = shopify_id(rng)
    if not world.profile.every_change:
        return Refund(number, at, lines, amount)
    presented = in_buyers_money(world, order)
    return Refund(number, at, lines, amount, presented=presented, failed=amount > 0 and rng.random() < 0.04)


_KINDS: tuple[Change, ...] = (everything, some_lines, an_amount, no_money)
# Cumulative; the last share is that of several refunds.
_SHARES = list(accumulate((40, 27, 13, 8, 12)))
