"""What is posted about a failed run: a real HTTP server accepts the post, refuses it, or is unreachable."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.sensors.run_failure import Failed, WebhookDown, post, run_failure
from truepixel_dagster.settings import SettingsError, load_settings

SECRET = "T0/B0/hunter2"


class Webhook:
    """Receives posts at `url` and answers with the given statuses, and then always with the last one."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.received: list[Any] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.received.append((self.headers["Content-Type"], json.loads(body)))
                status = webhook.statuses.pop(0) if len(webhook.statuses) > 1 else webhook.statuses[0]
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@dg.op
def breaks() -> None:
    raise dg.Failure("Redis at host:1: <down> & out\nmore of it")


@dg.job(tags={"truepixel/lane": "2"})
def process_events() -> None:
    breaks()


@pytest.fixture
def post_failure(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], Any]:
    """Runs the sensor on a run that failed, with the webhook's address given."""

    def run(url: str | None) -> Any:
        monkeypatch.setenv("TRUEPIXEL_ALERT_WEBHOOK_URL", url or "")
        monkeypatch.setenv("TRUEPIXEL_DAGSTER_URL", "http://dagster.example/")
        with dg.DagsterInstance.ephemeral() as instance:
            result = process_events.execute_in_process(instance=instance, raise_on_error=False)
            context = dg.build_run_status_sensor_context(
                "run_failure", result.get_run_failure_event(), instance, result.dagster_run
            ).for_run_failure()
            return result.run_id, run_failure(context)

    return run


def test_a_failed_run_is_posted(webhook: Webhook, post_failure: Callable[[str | None], Any]) -> None:
    run_id, skipped = post_failure(webhook.url)
    assert skipped is None
    link = f"http://dagster.example/runs/{run_id}"
    assert webhook.received == [
        (
            "application/json",
            {
                "job": "process_events",
                "run_id": run_id,
                "lane": "2",
                "error": "Redis at host:1: <down> & out",
                "link": link,
                "text": f"process_events failed (run {run_id[:8]}, lane 2):"
                f" Redis at host:1: &lt;down&gt; &amp; out {link}",
            },
        )
    ]


def test_without_an_address_one_line_says_that_nothing_is_posted(post_failure: Callable[[str | None], Any]) -> None:
    _, skipped = post_failure(None)
    assert skipped == dg.SkipReason("TRUEPIXEL_ALERT_WEBHOOK_URL is not set: failed runs are not reported")


@pytest.mark.parametrize(
    ("statuses", "posts", "says"),
    [([500], 2, "it answers 500"), ([403], 1, "it answers 403"), ([302], 1, "it answers 302")],
)
def test_a_webhook_that_refuses_the_post_is_one_line_without_its_address(
    webhook: Webhook,
    post_failure: Callable[[str | None], Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    statuses: list[int],
    posts: int,
    says: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.statuses = statuses
    run_id, skipped = post_failure(webhook.url)
    line = f"run {run_id[:8]} was not reported to the webhook (TRUEPIXEL_ALERT_WEBHOOK_URL): {says}"
    assert skipped == dg.SkipReason(line)
    assert len(webhook.received) == posts
    captured = capfd.readouterr()
    assert "hunter2" not in caplog.text + captured.out + captured.err


def test_an_unreachable_webhook_is_one_line_without_its_address(
    post_failure: Callable[[str | None], Any], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    _, skipped = post_failure(f"http://127.0.0.1:{free_ports(1)[0]}/{SECRET}")
    assert skipped.skip_message.endswith(": ConnectionRefusedError")
    captured = capfd.readouterr()
    assert "hunter2" not in caplog.text + captured.out + captured.err + skipped.skip_message


def test_a_second_try_gets_through(webhook: Webhook) -> None:
    webhook.statuses = [503, 200]
    post(webhook.url, Failed("job", "run", "error").body())
    assert [body["text"] for _, body in webhook.received] == ["job failed (run run): error"] * 2


def test_an_address_that_cannot_be_used_is_no_stack_trace() -> None:
    with pytest.raises(WebhookDown):
        post("http://127.0.0.1:99999/", b"{}")


def test_another_scheme_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEPIXEL_ALERT_WEBHOOK_URL", f"file:///{SECRET}")
    with pytest.raises(SettingsError, match="must begin with https") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
