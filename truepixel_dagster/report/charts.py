"""Draw a report's charts as SVG or PNG with Vega-Lite.

vl-convert contains Vega-Lite, so nothing is fetched, and the pictures need no script. In a page, the colours are the
page's CSS variables, so that one picture fits light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from truepixel_dagster.events.money import decimals
from truepixel_dagster.text import printable

OTHER = "other"
_MOST_CHANNELS = 7
_ROAS_DAYS = 7
_LEAST_SPEND = 0.05
_HEIGHT = 240
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 3], [10, 4], [3, 6])

Spec = dict[str, Any]


class Colours(NamedTuple):
    """Hold the colours of a chart: text, labels, lines, and one for each channel."""

    text: str
    muted: str
    line: str
    channels: tuple[str, ...]


#: The variables of the page.
OF_PAGE = Colours("var(--text)", "var(--muted)", "var(--line)", tuple(f"var(--c{number})" for number in range(1, 9)))
#: On white, for a picture without a page.
ON_WHITE = Colours(
    "#1f2328", "#57606a", "#d0d7de",
    ("#1f6feb", "#b35900", "#1a7f37", "#8250df", "#bf3989", "#cf222e", "#0e7490", "#57606a"),
)  # fmt: skip


class Series(NamedTuple):
    """Hold amounts by day and channel, in major units: `channels` in the order of their revenue, at most eight."""

    channels: list[str]
    values: list[dict[str, Any]]


def series_of(rows: Iterable[Mapping[str, Any]], currency: str) -> Series:
    """Return revenue, spend and ROAS by day and channel; the smallest channels are summed up as `other`.

    ROAS is over the seven days up to each day: an order follows its visits by days.

    Arguments:
        rows: Of `marketing_daily`, by day and channel; amounts in minor units.
        currency: ISO 4217 code of the amounts.
    """
    # vl-convert aborts the process at control characters in a text.
    found = [{**row, "channel": printable(row["channel"])} for row in rows]
    totals: dict[str, int] = {}
    for row in found:
        totals[row["channel"]] = totals.get(row["channel"], 0) + row["revenue"] + row["spend"]
    ordered = sorted((name for name in totals if totals[name]), key=lambda name: (-totals[name], name))
    kept = ordered
    # One more channel is as good as `other`, which orders of other sales channels have as their own.
    if len(ordered) > _MOST_CHANNELS + 1:
        kept = [name for name in ordered if name != OTHER][:_MOST_CHANNELS]
    sums: dict[tuple[date, str], list[int]] = {}
    for row in found:
        if totals[row["channel"]]:
            own = sums.setdefault((row["day"], row["channel"] if row["channel"] in kept else OTHER), [0, 0])
            own[0] += row["revenue"]
            own[1] += row["spend"]
    unit = 10 ** decimals(currency)
    values = [
        {
            "day": day.isoformat(),
            "channel": channel,
            "revenue": revenue / unit,
            "spend": spend / unit,
            "roas": _roas(sums, day, channel),
        }
        for (day, channel), (revenue, spend) in sorted(sums.items())
    ]
    return Series([*kept, *([OTHER] if len(kept) < len(ordered) else [])], values)


def _roas(sums: Mapping[tuple[date, str], Sequence[int]], day: date, channel: str) -> float | None:
    """Return revenue for each unit of spend over the days up to one, of those that the report has."""
    days = [sums.get((day - timedelta(days=number), channel), (0, 0)) for number in range(_ROAS_DAYS)]
    revenue, spend = (sum(each[part] for each in days) for part in (0, 1))
    return revenue / spend if spend else None


def revenue_by_day(series: Series, currency: str, width: int, colours: Colours) -> Spec:
    """Return stacked bars of revenue by day and channel."""
    values = [{"day": each["day"], "channel": each["channel"], "amount": each["revenue"]} for each in series.values]
    bars = {"type": "bar", "width": {"band": 0.8}}
    return _chart(values, series.channels, bars, f"revenue, {currency}", width, colours)


def roas_by_day(series: Series, width: int, colours: Colours) -> Spec | None:
    """Return lines of ROAS by day of the channels that `advertised`; None if there are none."""
    paid = advertised(series)
    if not paid:
        return None
    values = [
        {"day": each["day"], "channel": each["channel"], "amount": each["roas"]}
        for each in series.values
        if each["channel"] in paid and each["roas"] is not None
    ]
    by_channel = dict(zip(series.channels, colours.channels))
    own = colours._replace(channels=tuple(by_channel[name] for name in paid))
    spec = _chart(values, paid, {"type": "line", "point": True, "strokeWidth": 2}, "ROAS", width, own)
    # A dash beside the colour, for readers who cannot distinguish colours.
    dashes = {"domain": paid, "range": list(_DASHES[: len(paid)])}
    spec["encoding"]["strokeDash"] = {"field": "channel", "type": "nominal", "scale": dashes, "legend": None}
    return spec


def advertised(series: Series) -> list[str]:
    """Return the channels with a twentieth of the spend or more: the ROAS of a few cents says nothing."""
    spend = dict.fromkeys(series.channels, 0.0)
    for each in series.values:
        spend[each["channel"]] += each["spend"]
    total = sum(spend.values())
    return [channel for channel, own in spend.items() if own and own >= total * _LEAST_SPEND]


def svg(spec: Spec) -> str:
    """Return a chart as SVG, to be put into a page; texts in it are escaped."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


def png(spec: Spec) -> bytes:
    """Return a chart as PNG on white."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png({**spec, "background": "white"}))


def _chart(
    values: Sequence[Mapping[str, Any]],
    channels: Sequence[str],
    mark: Mapping[str, Any],
    title: str,
    width: int,
    colours: Colours,
) -> Spec:
    scale = {"domain": list(channels), "range": list(colours.channels[: len(channels)])}
    legend = {"orient": "bottom", "title": None, "columns": max(2, width // 170), "columnPadding": 24}
    labels = {"labelColor": colours.muted, "titleColor": colours.muted, "labelFontSize": 12, "titleFontSize": 12}
    lines = {"gridColor": colours.line, "domainColor": colours.line, "tickColor": colours.line}
    return {
        "width": width,
        "height": _HEIGHT,
        "background": None,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"values": list(values)},
        "mark": dict(mark),
        "encoding": {
            "x": {
                "field": "day",
                "type": "temporal",
                "timeUnit": "utcyearmonthdate",
                "title": None,
                "axis": {
                    "format": "%b %-d",
                    "labelOverlap": "greedy",
                    "labelSeparation": 8,
                    "tickCount": width // 90,
                    "grid": False,
                },
            },
            "y": {"field": "amount", "type": "quantitative", "title": title, "axis": {"tickCount": 5}},
            "color": {"field": "channel", "type": "nominal", "scale": scale, "legend": legend},
        },
        "config": {
            "font": "system-ui, sans-serif",
            "axis": {**labels, **lines},
            "legend": {"labelColor": colours.text, "labelFontSize": 12},
            "view": {"stroke": None},
        },
    }
