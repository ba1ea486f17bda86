"""Malicious text in every field that outsiders fill, through the real commands and through Dagster."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest

from tests.integration.driving import drain, flush, record, send, set_environment
from tests.integration.test_cli import run
from tests.integration.test_dead_letters import refuse
from tests.integration.test_pipeline import completed, pixel
from truepixel_dagster.definitions import definitions
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.elasticsearch import Action
from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS
from truepixel_dagster.text import printable

# Rich's markup, a terminal's escapes in both forms, a false direction, no width, own lines, Markdown, HTML.
EVIL = (
    "[/] [b]\x1b[31m\x1b]0;owned\x07\x9b2J\u202egpj\u200b\u2028`![a](//b.example/c.png)<b>&amp;\r\nError: all is lost"
)
# Characters below the space in a key are rejected with their event; these are not.
SHOP = "[/]\x9b31m\u202e`![](//a.b)`\u2028"
CLIENT = "client\u200b[/red]"
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def unseen(text: str) -> set[str]:
    return {ascii(c) for c in text if c != "\n" and unicodedata.category(c) in UNSEEN}


@pytest.fixture
def attacked(settings: Settings, stores: Stores) -> Settings:
    """A shop, a client, a campaign, a product, an order and junk of such texts, processed."""
    key = f"{SHOP}:{CLIENT}"
    product = {"product": {"id": EVIL}, "price": {"amount": 5.0, "currencyCode": "USD"}}
    query = f"?utm_source={quote(EVIL)}&utm_medium=cpc&utm_campaign={quote(EVIL)}"
    send(
        settings,
        [
            record(key, pixel(f"view{EVIL}", query=query) | {"clientId": CLIENT}),
            record(key, pixel("seen", "product_viewed", productVariant=product) | {"clientId": CLIENT}),
            record(key, completed("done", f"token{EVIL}") | {"clientId": CLIENT}),
            # Refused for its key, and for what it is.
            record(f"{SHOP}:\x1b[31m{CLIENT}", pixel("refused")),
            record(key, f"no JSON {EVIL}".encode(), **{"x-evil": EVIL, f"h{EVIL}": "v"}),
        ],
    )
    settings = settings.model_copy(update={"dead_letter_share": 1.0})
    # MongoDB's refusal quotes what it refused.
    refuse(stores, "customers", "client")
    drain(settings)
    flush(stores)
    return settings


def test_no_command_prints_an_invisible_character(attacked: Settings, stores: Stores, tmp_path: Path) -> None:
    tamper(stores)
    exported = tmp_path / "exported.jsonl"
    bad = tmp_path / "bad.jsonl"
    bad.write_text(f'{{"key": 1, "{EVIL}"')
    (partition, offset) = letter(attacked)
    for arguments in (
        ("report", "--shop", SHOP),
        ("report", "--shop", SHOP, "--json"),
        # This shop has no documents: the busiest shops are named.
        ("report", "--shop", EVIL),
        ("dead-letters", "list"),
        ("dead-letters", "list", "--json"),
        ("dead-letters", "show", f"{partition}/{offset}"),
        ("dead-letters", "show", f"{partition}/{offset}", "--json"),
        ("dead-letters", "show", EVIL),
        ("audit",),
        ("audit", "--json"),
        ("lag",),
        ("replay", "--from", "2h"),
        ("replay", "--from", EVIL),
        ("produce", str(bad)),
        ("privacy", "export", "--shop", SHOP),
        ("privacy", "export", "--shop", SHOP, "--client", CLIENT, "--output", str(exported)),
        ("privacy", "redact", "--shop", SHOP, "--client", CLIENT, "--dry-run"),
        ("privacy", "redact", "--shop", SHOP, "--client", EVIL),
        ("privacy", "redact", "--shop", SHOP, "--client", CLIENT, "--yes"),
        ("privacy", "requests"),
        ("privacy", "requests", "--json"),
    ):
        done = run(attacked, *arguments)
        said = done.stdout + done.stderr
        assert unseen(said) == set(), f"{arguments!a}: {said!a}"
        assert "Traceback" not in said, f"{arguments!a}: {said}"
        assert done.returncode in (0, 1, 2), ascii(arguments)
    assert unseen(exported.read_text()) == set()
    assert all(json.loads(line) for line in exported.read_text().splitlines())


def test_json_is_exact_and_tables_show_it_escaped(attacked: Settings) -> None:
    report = json.loads(run(attacked, "report", "--shop", SHOP, "--json").stdout)
    assert report["shop"] == SHOP
    assert [product["product_id"] for product in report["products"]] == ["p1", EVIL], report
    assert report["sources"], report
    campaign = report["sources"][0]["campaign"]
    assert "\x1b]0;owned\x07" in campaign
    shown = "".join(run(attacked, "report", "--shop", SHOP).stdout.split())
    # Folded into a narrow cell: the beginning is enough.
    assert printable(SHOP).split()[0][:8] in shown
    assert r"[/]" in shown
    exported = run(attacked, "privacy", "export", "--shop", SHOP).stdout.splitlines()
    documents = [json.loads(line)["document"] for line in exported]
    assert any(document.get("product_id") == EVIL for document in documents)
    letters = json.loads(run(attacked, "dead-letters", "list", "--json").stdout)
    in_full = [json.loads(run(attacked, "dead-letters", "show", one["origin"], "--json").stdout) for one in letters]
    (whole,) = [one for one in in_full if one["value"].startswith("no JSON")]
    assert whole["value"] == f"no JSON {EVIL}"
    assert ["x-evil", EVIL] in whole["headers"]


def test_dagster_shows_text_alone(attacked: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, attacked)
    tamper(stores)
    failed = 0
    with dg.DagsterInstance.ephemeral() as instance:
        for job in ("check_health", "audit", "process_events", "flush", "privacy"):
            result = definitions.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False)
            for entry in instance.all_logs(result.run_id):
                assert unseen(entry.user_message) == set(), ascii(entry.user_message)
            for evaluation in result.get_asset_check_evaluations():
                failed += not evaluation.passed
                shown = [evaluation.description or "", *(str(value) for value in texts(evaluation.metadata))]
                assert unseen("".join(shown)) == set(), ascii(shown)
                # Text from outside is shown as code, which Markdown does not turn into a picture or a link.
                outside_code = (evaluation.description or "").split("`")[::2]
                assert not any("![" in part or "[/]" in part for part in outside_code), ascii(shown)
    assert failed


def test_an_answer_to_a_data_request_is_a_file_in_its_folder(attacked: Settings, stores: Stores) -> None:
    asked = "../../../" + EVIL * 10
    request = {"topic": "customers/data_request", "shop_id": SHOP, "client_id": CLIENT}
    document = {"_id": asked, "topic": request["topic"], "state": "waiting", "asked_at": 1}
    stores.mongodb.collection(PRIVACY_REQUESTS).insert_one({**document, "request": request})
    done = run(attacked, "privacy", "run")
    assert (done.returncode, unseen(done.stdout + done.stderr)) == (0, set()), ascii(done.stdout + done.stderr)
    (answer,) = (attacked.data_dir / "privacy").iterdir()
    assert answer.name.startswith("data-request-")
    assert answer.name.isascii()
    assert len(answer.name) < 200


def texts(metadata: Any) -> list[object]:
    return [value.value for value in metadata.values()]


def letter(settings: Settings) -> tuple[str, str]:
    origins = [entry["origin"] for entry in json.loads(run(settings, "dead-letters", "list", "--json").stdout)]
    return origins[0].split("/")[1], origins[0].split("/")[2]


def tamper(stores: Stores) -> None:
    """Make every store differ from the oracle, so that the audit and the checks report much."""
    stores.elasticsearch.refresh()
    for name in ("attributions", "product-stats-"):
        for hit in stores.elasticsearch.scan(name):
            source = json.loads(json.dumps(hit["_source"]))
            if name == "attributions":
                source["credits"]["linear"] = []
            else:
                source["views"] += 1
            body = json.dumps(source).encode()
            stores.elasticsearch.bulk([Action("index", hit["_index"], hit["_id"], body)])
    for user in list(stores.mongodb.collection("ad_leads").find()):
        stores.mongodb.collection("ad_leads").update_one({"_id": user["_id"]}, {"$set": {"touches": []}})
