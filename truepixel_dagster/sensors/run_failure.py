"""Post every failed run to a webhook, as JSON with a `text` that Slack and similar services show.

The webhook's address is a secret that an error's message may contain, so logs contain only the error's type.
"""

from __future__ import annotations

import html
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

import dagster as dg
import msgspec

from truepixel_dagster.asset_keys import LANE_TAG
from truepixel_dagster.retrying import retrying
from truepixel_dagster.settings import Settings, SettingsError, load_settings
from truepixel_dagster.text import printable

# Dagster passes up to five runs to a tick of the sensor, and allows the tick a minute. The timeout applies to
# connecting and to the answer separately.
TIMEOUT_SECONDS, TRIES = 2.5, 2
LONGEST_ERROR = 500


class WebhookDown(Exception):
    """The webhook did not accept a message; the reason does not contain the address."""


class Refused(WebhookDown):
    """The webhook rejected the message, and would reject it again."""


class Failed(msgspec.Struct, frozen=True):
    """Hold what is posted about a failed run, besides the `text` that is made from it."""

    job: str
    run_id: str
    error: str
    lane: str | None = None
    link: str | None = None

    @property
    def text(self) -> str:
        """Return everything in one line, with markup escaped."""
        lane = "" if self.lane is None else f", lane {self.lane}"
        link = "" if self.link is None else f" {self.link}"
        return html.escape(f"{self.job} failed (run {self.run_id[:8]}{lane}): {self.error}", quote=False) + link

    def body(self) -> bytes:
        """Return the JSON to post."""
        return msgspec.json.encode({**msgspec.structs.asdict(self), "text": self.text})


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treat a redirect as an error: a redirected POST would arrive without its body."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def post(url: str, body: bytes) -> None:
    """Post JSON, with two tries within about ten seconds.

    Raises:
        WebhookDown: The webhook did not accept the message.
    """
    opener = urllib.request.build_opener(_NoRedirect)

    def once() -> None:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 (a setting, http)
        try:
            opener.open(request, timeout=TIMEOUT_SECONDS).close()
        except HTTPError as error:
            error.close()
            kind = Refused if error.code < 500 and error.code != 429 else WebhookDown
            raise kind(f"it answers {error.code}") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise WebhookDown(type(reason).__name__) from None

    retrying(once, transient=lambda error: not isinstance(error, Refused), attempts=TRIES)


def failed(run: dg.DagsterRun, error: str, settings: Settings) -> Failed:
    """Return what is posted about a run."""
    link = f"{settings.dagster_url.rstrip('/')}/runs/{run.run_id}" if settings.dagster_url else None
    lines = error.strip().splitlines() or ["unknown"]
    return Failed(run.job_name, run.run_id, printable(lines[0])[:LONGEST_ERROR], run.tags.get(LANE_TAG), link)


def error_of(context: dg.RunFailureSensorContext) -> str:
    """Return the error of the first failed step, else the message about the run."""
    steps = context.instance.get_records_for_run(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1
    ).records
    for record in steps:
        data = record.event_log_entry.get_dagster_event().step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            return data.user_failure_data.description
        if data.error:
            return data.error.message
    return context.failure_event.message or ""


@dg.run_failure_sensor(
    name="run_failure",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Posts each failed run to the webhook TRUEPIXEL_ALERT_WEBHOOK_URL, if it is set.",
)
def run_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Post one failed run; if the webhook is down, the message is lost, but the sensor does not fail."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return dg.SkipReason(printable(str(error)))
    if settings.alert_webhook_url is None:
        return dg.SkipReason("TRUEPIXEL_ALERT_WEBHOOK_URL is not set: failed runs are not reported")
    failure = failed(context.dagster_run, error_of(context), settings)
    try:
        post(settings.alert_webhook_url.get_secret_value(), failure.body())
    except WebhookDown as error:
        line = f"run {failure.run_id[:8]} was not reported to the webhook (TRUEPIXEL_ALERT_WEBHOOK_URL): {error}"
        context.log.warning(printable(line))
        return dg.SkipReason(printable(line))
    return None
