"""Remove one guard after the other and require that a test fails: `.venv/bin/python tests/mutations.py [NAME…]`.

Each guard is removed in a copy of the project, by replacing the text that makes it. All tests use the same servers, and
pytest stops at the first test that fails. At the end, every test that failed runs once more with all guards in place:
a test that fails then, too, has noticed nothing. Exits with 1 unless every removal was noticed.

It takes an hour on a busy machine, and is therefore not one of the tests. Names select the guards that contain them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KEPT_OUT = (".git", ".venv", ".truepixel", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__", ".hypothesis")
INTEGRATION, UNIT = "tests/integration/", "tests/unit/"
WITHOUT_SERVERS = (UNIT, INTEGRATION + "dagster/")
# The summary's lines: a test that failed, or whose fixture did, and why.
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - (.*))?$", re.MULTILINE)


class Mutation(NamedTuple):
    """A guard, the file and text that implement it, the text without it, and the tests that must fail."""

    guard: str
    file: str
    text: str
    without: str
    tests: str


P = "truepixel_dagster/"
MUTATIONS = (
    Mutation(
        "stage index: a redelivered record continues",
        P + "stages/index.py",
        "origins[position] == event.origin",
        "False",
        INTEGRATION
        + "test_dead_letters.py::test_a_rejection_stays_when_its_batch_runs_again_and_the_store_would_accept_it "
        + UNIT
        + "stages/test_index.py",
    ),
    Mutation(
        "stage index: a duplicate stops",
        P + "stages/index.py",
        "origins[position] == event.origin",
        "True",
        INTEGRATION + "test_pipeline.py::test_the_same_file_again_changes_only_the_count_of_duplicates",
    ),
    Mutation(
        "stage ad_lead: a touch is identified by its offset",
        P + "stages/ad_lead.py",
        "event.ad is None or event.origin.offset in known",
        "event.ad is None",
        UNIT + "stages/test_ad_lead.py",
    ),
    Mutation(
        "attributions: a redelivered sighting counts once",
        P + "orders/facts.py",
        "found = {(each.kafka.partition, each.kafka.offset): each for each in sightings}",
        "found = {(0, number): each for number, each in enumerate(sightings)}",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "customers: a record is applied once",
        P + "stages/customer.py",
        "if not is_applied(stored, event.origin)]",
        "]",
        UNIT + "stages/test_customer.py",
    ),
    Mutation(
        "MongoDB: documents are replaced by version",
        P + "stores/mongodb/documents.py",
        'ReplaceOne({"_id": id_, "v": version}, new, upsert=before is None)',
        'ReplaceOne({"_id": id_}, new, upsert=True)',
        INTEGRATION + "test_guards.py::test_two_writers_of_a_document_lose_no_update",
    ),
    Mutation(
        "Redis: counters and applied offset change in one call",
        P + "stores/lua/apply.lua",
        "if stale then return current end",
        "",
        INTEGRATION + "test_product_stats_buffer.py::test_a_stale_expectation_applies_nothing_at_all",
    ),
    Mutation(
        "Elasticsearch: documents are replaced by sequence number",
        P + "stores/elasticsearch/actions.py",
        "if action.if_seq_no is not None:",
        "if False:",
        INTEGRATION + "test_flush.py::test_a_suspended_flush_whose_claim_others_wrote_counts_nothing_twice",
    ),
    Mutation(
        "Elasticsearch: a document that has changed is read again",
        P + "stores/elasticsearch/documents.py",
        "left = dict.fromkeys((*done.conflicts, *unread))",
        "left = dict.fromkeys(unread)",
        UNIT + "stores/test_update.py",
    ),
    Mutation(
        "Elasticsearch: a document that could not be read is not written",
        P + "stores/elasticsearch/documents.py",
        "{place: new for place, new in changed.items() if place in found}, found)",
        "changed, {place: found.get(place) for place in changed})",
        UNIT + "stores/test_update.py",
    ),
    Mutation(
        "supervisor: a run without a lease is given up only after a grace period",
        P + "supervisor/memory.py",
        "if now - since > END_GRACE)",
        "if now >= since)",
        UNIT + "supervisor/test_memory.py",
    ),
    Mutation(
        "supervisor: a failing lane pauses",
        P + "supervisor/lanes.py",
        "        elif left > 0:",
        "        elif False:",
        UNIT + "supervisor/test_lanes.py",
    ),
    Mutation(
        "Dagster's private modules stay in instance/",
        P + "jobs/prune.py",
        "import dagster as dg\n",
        "import dagster as dg\nfrom dagster._core.events import DagsterEvent as _\n",
        INTEGRATION + "dagster/instance/test_private_dagster.py::test_nothing_outside_of_instance_imports_them",
    ),
    Mutation(
        "flush: the document stores the claim's token",
        P + "flush.py",
        'and not (document and document.source.get("last_token") == claim.token)',
        "",
        INTEGRATION + "test_flush.py::test_a_crash_anywhere_loses_nothing_and_counts_nothing_twice",
    ),
    Mutation(
        "flush: the claim is still open",
        P + "flush.py",
        "if token == claim.token and not",
        "if not",
        INTEGRATION + "test_flush.py::test_a_suspended_flush_whose_claim_others_wrote_counts_nothing_twice",
    ),
    Mutation(
        "flush: a claim stays until it is written",
        P + "stores/lua/claim.lua",
        "redis.call('RENAME', KEYS[1], KEYS[2])",
        "redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('PEXPIRE', KEYS[2], 1)",
        INTEGRATION + "test_flush.py::test_documents_are_as_the_data_contract_says",
    ),
    Mutation(
        "leases: after its lease expires, a worker stops",
        P + "stores/redis/leases.py",
        "if time.monotonic() >= self._deadline:\n            raise",
        "if False:\n            raise",
        INTEGRATION + "test_guards.py::test_a_worker_suspended_beyond_its_lease_commits_nothing_more",
    ),
    Mutation(
        "leases: every attempt of every call checks the lease",
        P + "pipeline/lane_claim.py",
        "store.guard = self._lease.check",
        "pass",
        INTEGRATION + "test_guards.py::test_a_worker_suspended_in_the_middle_of_a_stage_writes_nothing_more",
    ),
    Mutation(
        "leases: Redis confirms the lease before a commit",
        P + "stores/redis/leases.py",
        "        holder = _asking(self._client, self._take)\n        if holder",
        "        holder = None\n        if holder",
        INTEGRATION
        + "test_guards.py::test_a_lane_that_another_worker_took_is_noticed_before_the_commit_even_with_time_left",
    ),
    Mutation(
        "leases: a partition has one owner",
        P + "stores/redis/leases.py",
        "if holder and holder ~= ARGV[1] then return holder end",
        "",
        INTEGRATION + "test_guards.py::test_a_second_worker_learns_who_has_the_lane",
    ),
    Mutation(
        "commits: no offset is committed past a gap",
        P + "pipeline/ledger.py",
        "while waiting and waiting[0] in self._landed:",
        "while waiting:",
        UNIT + "pipeline/test_ledger.py",
    ),
    Mutation(
        "commits: dead letters are acknowledged before their offsets are committed",
        P + "pipeline/commits.py",
        "self._dead_letters.flush()\n            self._contiguity",
        "self._contiguity",
        INTEGRATION
        + "test_dead_letters.py::test_nothing_is_committed_past_a_dead_letter_that_kafka_has_not_acknowledged",
    ),
    Mutation(
        "handover: a standby run waits for its predecessor only",
        P + "stores/redis/leases.py",
        'raise LaneBusy(f"the lane is held by run {run}")',
        "break",
        INTEGRATION + "test_hand_over.py::test_a_standby_run_waits_for_the_run_that_its_tag_names_and_no_other",
    ),
    Mutation(
        "handover: nothing is written after it",
        P + "pipeline/runner.py",
        "        self._pool.drain()\n        self._commits.drain()\n        self._commits.commit()\n",
        "",
        INTEGRATION + "test_hand_over.py::test_the_lane_continues_where_it_was_handed_over",
    ),
    Mutation(
        "a failed micro-batch stops the lane",
        P + "pipeline/lane_guard.py",
        "if self.failure is not None:\n            raise LaneStopped",
        "if False:\n            raise LaneStopped",
        INTEGRATION + "test_guards.py::test_a_worker_suspended_beyond_its_lease_commits_nothing_more",
    ),
    Mutation(
        "customers: a reprocessed dead letter counts once",
        P + "stages/customer.py",
        "if _at(event.origin) not in known]",
        "]",
        UNIT + "stages/test_customer.py",
    ),
    Mutation(
        "dead letters: a rejected record stays rejected",
        P + "dead_letters/refusals.py",
        "        if not reasons:\n            return ()",
        "        if True:\n            return ()",
        INTEGRATION + "test_dead_letters.py -k rejection_stays",
    ),
    Mutation(
        "a record that could not be decoded stays a dead letter",
        P + "dead_letters/refusals.py",
        "return mark.reason if mark and mark.stage == stage else None",
        "return None",
        INTEGRATION + "test_dead_letters.py::test_a_record_that_an_earlier_version_refused_stays_a_dead_letter",
    ),
    Mutation(
        "rebuilt totals stop at the applied offsets",
        P + "rebuild/product_stats.py",
        "_add(totals, (row for row in own if row.offset <= applied.get(row.partition, -1)))",
        "_add(totals, own)",
        INTEGRATION + "test_rebuild.py::test_a_day_is_rebuilt_while_a_batch_is_between_two_stages",
    ),
    Mutation(
        "a rebuilt customer holds what the stream has settled",
        P + "rebuild/customers.py",
        "done = context.stream.is_committed(event.origin) or customer.is_applied(stored, event.origin)",
        "done = True",
        INTEGRATION
        + "test_rebuild.py::test_a_customer_is_rebuilt_while_only_the_later_record_of_a_batch_is_in_the_history",
    ),
    Mutation(
        "a rebuilt order holds what the stream has settled",
        P + "rebuild/attributions.py",
        "done = [event for event in group.events if context.stream.is_committed(event.origin)]",
        "done = list(group.events)",
        INTEGRATION + "test_rebuild.py::test_a_day_is_rebuilt_while_a_batch_is_between_two_stages",
    ),
    Mutation(
        "days without events are refused",
        P + "retention.py",
        "if dropped:",
        "if False:",
        INTEGRATION + "test_rebuild.py::test_documents_older_than_the_kept_events_stay_and_their_days_are_rejected",
    ),
    Mutation(
        "documents: events of an unreadable document become dead letters",
        P + "stages/ad_lead.py",
        "        except ValueError as error:\n            decided.unreadable",
        "        except ZeroDivisionError as error:\n            decided.unreadable",
        INTEGRATION + "test_documents.py::test_a_document_that_cannot_be_read_is_one_dead_letter_and_stays_unchanged",
    ),
    Mutation(
        "documents: a document of a newer version is not written",
        P + "stores/documents.py",
        "if schema > SCHEMA:",
        "if False:",
        UNIT + "stores/test_documents.py",
    ),
    Mutation(
        "documents: unknown fields survive a rewrite",
        P + "stages/attribution_document.py",
        "{**ATTRIBUTION.unknown(before), **msgspec.json.decode(msgspec.json.encode(after))}",
        "{**msgspec.json.decode(msgspec.json.encode(after))}",
        UNIT + "stores/test_documents.py",
    ),
    Mutation(
        "documents: a document without a version number can be replaced",
        P + "stores/mongodb/documents.py",
        'version = before.get("v") if before else 0',
        'version = before.get("v", 0) if before else 0',
        INTEGRATION + "test_documents.py::test_documents_without_a_version_of_ours_are_updated_too",
    ),
    Mutation(
        "dead letters: a rejection as before does not count as a try",
        P + "dead_letters/reprocess.py",
        "if dead.letter.is_refused_as_before(stage, reason):",
        "if False:",
        INTEGRATION + "test_dead_letters.py::test_reprocessing_without_a_change_uses_no_try",
    ),
    Mutation(
        "dead letters: a reopened one counts before older ones",
        P + "dead_letters/topic.py",
        "return letter.reopened, letter.tries",
        "return 0, letter.tries",
        INTEGRATION
        + "test_dead_letters.py::test_a_dead_letter_rejected_for_two_other_reasons_is_given_up_until_it_is_reopened",
    ),
    Mutation(
        "run reports: the commits of a killed run are reported once",
        P + "jobs/unreported.py",
        "if (materialization.asset_key, materialization.partition) not in known:",
        "if True:",
        INTEGRATION + "dagster/jobs/test_unreported.py::test_the_commits_of_a_run_that_lost_its_lane_are_reported_once",
    ),
    Mutation(
        "run reports: a report that Dagster does not show is repeated",
        P + "jobs/unreported.py",
        " if day is None or day in shown[asset]}",
        "}",
        INTEGRATION
        + "dagster/jobs/test_unreported.py::test_a_report_that_was_killed_between_two_files_of_sqlite_is_repeated",
    ),
    Mutation(
        "run reports: a removed note may hide a missing report",
        P + "stream/commit_notes.py",
        "return (UNKNOWN,)",
        "return ()",
        INTEGRATION + "dagster/jobs/test_unreported.py::test_partitions_whose_run_ended_early_owe_a_report",
    ),
    Mutation(
        "run reports: days written by unknown runs are reported",
        P + "jobs/unreported.py",
        "    if unknown:\n",
        "    if False:\n",
        INTEGRATION + "dagster/jobs/test_unreported.py::test_the_days_of_unknown_runs_that_are_not_shown_are_reported",
    ),
    Mutation(
        "run reports: a run that handed its lane over reports for itself",
        P + "jobs/unreported.py",
        "if not run.is_finished and any(span.handed_over for span in spans.values()):",
        "if False:",
        INTEGRATION
        + "dagster/jobs/test_unreported.py::test_a_run_that_handed_over_reports_for_itself_until_it_has_ended",
    ),
    Mutation(
        "supervisor: an unreadable cursor starts empty",
        P + "supervisor/memory.py",
        "                lost.append(name)",
        "                raise",
        UNIT + "supervisor/test_memory.py",
    ),
    Mutation(
        "webserver: every request passes the guard",
        P + "instance/webserver.py",
        "return WebserverGuard(make(*arguments, **options), hosts)",
        "return make(*arguments, **options)",
        INTEGRATION + "test_webserver_access.py::test_the_webserver_of_a_deployment_answers_to_its_names",
    ),
    Mutation(
        "webserver: `dagster dev` starts the guarded webserver",
        P + "instance/dev.py",
        'GUARDED if part == "dagster_webserver" else part',
        "part",
        INTEGRATION + "test_webserver_access.py::test_a_writable_webserver_obeys_its_own_pages_alone",
    ),
    Mutation(
        "webserver: foreign hosts are refused",
        P + "instance/webserver_guard.py",
        "if len(named) != 1 or not _goes_by(named[0].lower(), hosts):",
        "if len(named) != 1:",
        INTEGRATION + "dagster/instance/test_webserver_guard.py::test_other_names_are_refused_whatever_is_asked",
    ),
    Mutation(
        "webserver: foreign origins are refused",
        P + "instance/webserver_guard.py",
        'not own.issuperset(map(_place, headers.getlist("origin")))',
        "False",
        INTEGRATION + "dagster/instance/test_webserver_guard.py::test_pages_of_others_are_refused",
    ),
    Mutation(
        "webserver: GET changes nothing",
        P + "instance/webserver_guard.py",
        "return all(operation == OperationType.QUERY for operation in operations)",
        "return True",
        INTEGRATION + "dagster/instance/test_webserver_guard.py::test_a_get_changes_nothing",
    ),
    Mutation(
        "namespaces: searches reach only their own indices",
        P + "stores/index_templates.py",
        'return f"{full}-*.*,-{full}-*-*" if name in BY_MONTH else full',
        'return f"{full}*"',
        INTEGRATION + "test_namespaces.py::test_namespaces_that_begin_alike_hold_their_own_and_touch_nothing_else",
    ),
    Mutation(
        "namespaces: the template of the longer name wins",
        P + "stores/index_templates.py",
        'body["priority"] += len(namespace)',
        "pass",
        INTEGRATION + "test_namespaces.py::test_namespaces_that_begin_alike_hold_their_own_and_touch_nothing_else",
    ),
    Mutation(
        "Elasticsearch: a document of an unavailable shard is not absent",
        P + "stores/elasticsearch/documents.py",
        "        if INDEX_NOT_FOUND in types_of(error) and",
        "        return None\n        if",
        INTEGRATION + "test_elasticsearch_states.py -k absent",
    ),
    Mutation(
        "Elasticsearch: a missing index is not an empty one",
        P + "stores/elasticsearch/documents.py",
        ' and doc["_index"] not in map(self.index, MADE_BY_SETUP):',
        ":",
        INTEGRATION + "test_elasticsearch_states.py -k never_taken_for_empty",
    ),
    Mutation(
        "Elasticsearch: an unknown error type is an outage",
        P + "stores/elasticsearch_errors.py",
        "return Kind.POISON if first in POISON else Kind.OUTAGE",
        "return Kind.POISON",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "Elasticsearch: the causes of an error decide too",
        P + "stores/elasticsearch_errors.py",
        "if types & TRANSIENT or",
        "if first in TRANSIENT or",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "Elasticsearch: a block that it removes itself is temporary",
        P + "stores/elasticsearch_errors.py",
        '("TOO_MANY_REQUESTS/", "SERVICE_UNAVAILABLE/")',
        "()",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "Elasticsearch: a search without all shards fails",
        P + "stores/elasticsearch_errors.py",
        'if shards.get("failed"):',
        "if False:",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "Elasticsearch: only a document rejected by a valid index becomes a dead letter",
        P + "stores/elasticsearch/documents.py",
        "            self._check_indices(sorted(refusing))",
        "            pass",
        INTEGRATION + "test_index_templates.py -k strict",
    ),
    Mutation(
        "attributions: a rejected change of status becomes a dead letter",
        P + "pipeline/runner.py",
        "self._rejections.rejected(ATTRIBUTION, touched.fetched, refused, earlier)",
        "pass",
        INTEGRATION + "test_elasticsearch_states.py -k status",
    ),
    Mutation(
        "templates: a lane checks them before it writes",
        P + "pipeline/lane_claim.py",
        "        stores.elasticsearch.check()",
        "        pass",
        INTEGRATION
        + "test_index_templates.py::test_a_lane_writes_nothing_while_a_template_is_missing_that_it_needs_later",
    ),
    Mutation(
        "templates: they are checked before an index is created",
        P + "stores/elasticsearch/indices.py",
        "if wrong := self.refusing(indices):",
        "if False:",
        INTEGRATION + "test_index_templates.py -k month_that_begins",
    ),
    Mutation(
        "templates: searches check the mapping of their indices",
        P + "stores/elasticsearch/searches.py",
        "        found = self._faults_of(described)\n        missing",
        "        found = []\n        missing",
        INTEGRATION + "test_index_templates.py -k dynamic_mapping",
    ),
    Mutation(
        "Elasticsearch: a closed index is not an empty one",
        P + "stores/elasticsearch/searches.py",
        "            if is_closed(there):\n                what",
        "            if False:\n                what",
        INTEGRATION + "test_index_templates.py -k closed_index",
    ),
    Mutation(
        "MongoDB: a unique index added by hand is not a concurrent change",
        P + "stores/mongodb/errors.py",
        'and found[1] in ("_id_", _IDS)',
        "",
        UNIT + "stores/test_mongodb_errors.py",
    ),
    Mutation(
        "MongoDB: an error code that does not concern one document stops the lane",
        P + "stores/mongodb/errors.py",
        'elif error["code"] in _POISON_CODES:',
        "elif True:",
        UNIT + "stores/test_mongodb_errors.py",
    ),
    Mutation(
        "clocks: an impossible time creates no index",
        P + "events/times.py",
        "if is_old or not FIRST <= millis <= arrived + ahead:",
        "if False:",
        UNIT + "events/test_times.py",
    ),
    Mutation(
        "clocks: an invalid time of a record is ignored",
        P + "events/times.py",
        "by_record = timestamp if FIRST <= timestamp < LAST else None",
        "by_record = timestamp",
        UNIT + "events/test_times.py",
    ),
    Mutation(
        "headers: unknown headers are ignored",
        P + "events/headers.py",
        "            if known in _LOOKED_AT:",
        "            if known in _LOOKED_AT or (value or b'').decode():",
        UNIT + "events/test_headers.py",
    ),
    Mutation(
        "headers: a name that is not text crashes nothing",
        P + "stream/reading.py",
        "except SystemError:",
        "except ():",
        UNIT + "stream/test_headers.py",
    ),
    Mutation(
        "headers: a name that is not text is recognised in optimised code, too",
        P + "stream/reading.py",
        "tuple(_call_headers(record) or ())",
        "tuple(record.headers() or ())",
        UNIT + "stream/test_headers.py",
    ),
    Mutation(
        "money: currencies are those of ISO 4217",
        P + "events/money.py",
        "if code in CURRENCIES and text.isascii():",
        "if len(code) == 3 and text.isascii():",
        UNIT + "events/test_agreement.py",
    ),
    Mutation(
        "money: sums stop at 64 bits",
        P + "events/money.py",
        "return max(-MAX_SUM - 1, min(MAX_SUM, one + other))",
        "return one + other",
        UNIT + "stages/test_product_stats.py",
    ),
    Mutation(
        "attributions: a document lists a limited number of sightings",
        P + "orders/facts.py",
        "return tuple(sorted(found.values(), key=lambda each: each.order)[:most])",
        "return tuple(sorted(found.values(), key=lambda each: each.order))",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "orders: records that share an id are one order",
        P + "orders/cluster.py",
        "links.join(ids)",
        "links.join(ids[:1])",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: an id belongs to one document",
        P + "stores/mongodb/__init__.py",
        'self._make_index(ORDERS, [("ids", 1)], unique=True)',
        'self._make_index(ORDERS, [("ids", 1)])',
        INTEGRATION + "test_mongodb_refusals.py -k belongs_to_one_order",
    ),
    Mutation(
        "orders: an order that is merged into another is closed first",
        P + "orders/cluster.py",
        "    if others:\n",
        "    if False:\n",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: only the difference from the counted values is a change",
        P + "orders/cluster.py",
        "as_rows(difference(after, before))",
        "as_rows(after)",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: an order that has counted absorbs no other",
        P + "orders/cluster.py",
        "if new and not unapplied:",
        "if False:",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: the newest payload counts",
        P + "orders/facts.py",
        "by_version = sorted({version_of(payload): payload for payload in payloads}.items())",
        "by_version = list({version_of(payload): payload for payload in payloads}.items())",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: a refund in two records counts once",
        P + "orders/facts.py",
        "there = found.get(refund.refund_id)\n        found[refund.refund_id]",
        'there = None\n        found[f"{len(found)}"]',
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: the number of an order's clients is bounded",
        P + "orders/facts.py",
        "if len(clients) <= most:",
        "if True:",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "orders: the number of an order's ids is bounded",
        P + "stages/ids_per_order.py",
        "if event.source == PIXEL and adds and len(homes.keys() | ids_of(event)) > most:",
        "if False:",
        UNIT + "stages/test_ids_per_order.py",
    ),
    Mutation(
        "orders: an event belongs to the order whose id it names",
        P + "orders/division.py",
        "ids = [node.id] if node.kind == ORDER else node.order_ids",
        "ids: tuple[str, ...] = ()",
        UNIT + "orders/test_ids_agreement.py",
    ),
    Mutation(
        "orders: bots report no orders",
        P + "orders/event_facts.py",
        "if news is None or event.bot:",
        "if news is None:",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "orders: test orders do not count for products",
        P + "orders/counts.py",
        "    if order.test:\n        return found",
        "    if False:\n        return found",
        UNIT + "orders/test_counts.py",
    ),
    Mutation(
        "orders: test orders do not count for clients",
        P + "orders/counts.py",
        "if client is None or order.test:",
        "if client is None:",
        UNIT + "orders/test_counts.py",
    ),
    Mutation(
        "orders: amounts of two currencies are not added",
        P + "orders/refunds.py",
        "if money.currency == total.currency:",
        "if True:",
        UNIT + "orders/test_order.py",
    ),
    Mutation(
        "orders: a returned product counts as sold",
        P + "orders/sold.py",
        "_refunded_units(line, refunds, for_money=True)",
        "0",
        UNIT + "orders/test_order.py",
    ),
    Mutation(
        "orders: a refund that the payload contains is subtracted once",
        P + "orders/order.py",
        "if not is_known_to(payload, r))",
        ")",
        UNIT + "orders/test_order.py",
    ),
    Mutation(
        "orders: a visit after an order gets no credit for it",
        P + "stages/settling.py",
        "if event.occurred_at <= order.until)",
        "if True)",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: a client's journey ends at its last record",
        P + "orders/journey.py",
        "or touch.offset <= offset]",
        "or True]",
        UNIT + "orders/test_journey.py",
    ),
    Mutation(
        "customers: the newer record identifies the customer",
        P + "stages/customer.py",
        'if value and not (document.get(field) and _set_at(document["set_by"].get(field, "")) > moment):',
        "if value:",
        UNIT + "stages/test_customer.py",
    ),
    Mutation(
        "product statistics: only pixel events count visitors",
        P + "stages/product_stats.py",
        'if event.source == "pixel" and not event.bot and not event.anonymous:',
        "if True:",
        UNIT + "stages/test_product_stats.py",
    ),
    Mutation(
        "product statistics: the products of one event are bounded",
        P + "stages/product_stats.py",
        "if len(items) > products:",
        "if False:",
        UNIT + "stages/test_product_stats.py",
    ),
    Mutation(
        "dead letters: the limit counts clients",
        P + "dead_letters/policy.py",
        "return refused > FLOOR and refused > all_ * share",
        "return True",
        UNIT + "dead_letters/test_policy.py",
    ),
    Mutation(
        "dead letters: invented clients stop no lane",
        P + "dead_letters/policy.py",
        "return profiles is None or _too_many(len(profiles & refused), len(profiles), share)",
        "return True",
        UNIT + "dead_letters/test_policy.py",
    ),
    Mutation(
        "dead letters: one too large for Kafka refers to its record",
        P + "stream/producer.py",
        "if too_large is not None and error.code() in _TOO_LARGE:",
        "if False:",
        UNIT + "stream/test_producer.py",
    ),
    Mutation(
        "MongoDB: a value that BSON cannot hold rejects only its own document",
        P + "stores/mongodb/documents.py",
        "if (reason := unfit(document))}",
        "if (reason := None)}",
        INTEGRATION + "test_hostile_input.py -k bson",
    ),
    Mutation(
        "Elasticsearch: a request over a proxy's limit is split",
        P + "stores/elasticsearch/documents.py",
        "if not never_fits(error.status_code, reason, len(body)):",
        "if True:",
        UNIT + "stores/test_bulk_halves.py",
    ),
    Mutation(
        "Elasticsearch: a request that never fits is distinguished from full memory",
        P + "stores/too_large.py",
        "return int(found[1]) > int(found[2])",
        "return False",
        UNIT + "stores/test_too_large.py",
    ),
    Mutation(
        "log: a recreated topic is recognised by its id",
        P + "source_log.py",
        "if kept.topic_id and now.topic_id and kept.topic_id != now.topic_id:",
        "if False:",
        INTEGRATION + "test_new_log.py -k recreated_topic",
    ),
    Mutation(
        "log: another cluster is recognised by its id",
        P + "source_log.py",
        "if kept.cluster_id and now.cluster_id and kept.cluster_id != now.cluster_id:",
        "if False:",
        INTEGRATION + "test_new_log.py -k cluster",
    ),
    Mutation(
        "log: a topic that ends below the applied offsets is another log",
        P + "source_log.py",
        "if mark > ends.get(partition, mark):",
        "if False:",
        INTEGRATION + "test_new_log.py -k beyond",
    ),
    Mutation(
        "log: a running lane checks its log",
        P + "pipeline/runner.py",
        "self._watch.check()",
        "pass",
        INTEGRATION + "test_new_log.py -k running_lane_notices",
    ),
    Mutation(
        "log: records of a new log are above all older ones",
        P + "events/origin.py",
        "return generation * GENERATION",
        "return 0",
        INTEGRATION + "test_new_log.py -k counts_from_its_beginning",
    ),
    Mutation(
        "log: a new log begins only while no lane is running",
        P + "pipeline/adoption.py",
        "        lease.acquire()\n",
        "",
        INTEGRATION + "test_new_log.py -k adopted_while",
    ),
    Mutation(
        "dead letters: a rejected record stays rejected when offsets are set back",
        P + "pipeline/lane_claim.py",
        "refusals.restore(read(kafka), consumer.redelivers())",
        "pass",
        INTEGRATION + "test_new_log.py -k rejection_stays",
    ),
    Mutation(
        "commits: offsets without a record are committed",
        P + "pipeline/commits.py",
        "if offsets and not self._ledger.pending:",
        "if False:",
        INTEGRATION + "test_kafka_states.py -k aborted",
    ),
    Mutation(
        "commits: offsets without a record wait for all earlier records",
        P + "pipeline/commits.py",
        "if offsets and not self._ledger.pending:",
        "if offsets:",
        INTEGRATION + "test_kafka_states.py -k is_incomplete",
    ),
    Mutation(
        "consumer: the end of a partition may hold no record",
        P + "stream/consumer.py",
        "self._ends[partition] = record.offset()",
        "pass",
        INTEGRATION + "test_kafka_states.py -k aborted",
    ),
    Mutation(
        "retention: unread records that it removed are stored",
        P + "pipeline/runner.py",
        "keep_lost(self._stores.mongodb, found)",
        "pass",
        INTEGRATION + "test_kafka_states.py -k retention",
    ),
    Mutation(
        "retention: records that it removes during a run are counted",
        P + "stream/consumer.py",
        "self._lost.append(OffsetRange(self._kafka.topic, partition, first, last))",
        "pass",
        INTEGRATION + "test_kafka_states.py -k overtakes",
    ),
    Mutation(
        "audit: only the order of moved users is excused",
        P + "audit/scope.py",
        'if difference.kind != "differs" or difference.top_field not in _OF_ORDER.get(difference.store, ()):',
        'if difference.kind != "differs" or difference.store not in _OF_ORDER:',
        INTEGRATION + "test_kafka_states.py -k excuse_the_order",
    ),
    Mutation(
        "audit: a user who continues in two partitions is not excused",
        P + "audit/scope.py",
        "return len(left) <= 1",
        "return True",
        INTEGRATION + "test_kafka_states.py -k not_excused",
    ),
    Mutation(
        "handover: a run whose topic has grown hands its lane over",
        P + "pipeline/runner.py",
        "None if self._watch.has_grown else self._consumer.fetch()",
        "self._consumer.fetch()",
        INTEGRATION + "test_kafka_states.py -k added_under_a_run",
    ),
    Mutation(
        "text: invisible characters are shown as escapes",
        P + "text.py",
        'return "".join(c if c in keep or _visible(c) else ascii(c)[1:-1] for c in text)',
        "return text",
        UNIT + "test_text.py",
    ),
    Mutation(
        "text: table cells are not markup",
        P + "terminal.py",
        'return Text("\\n".join(printable(str(each)) for each in values), overflow="fold")',
        'return Text.from_markup("\\n".join(printable(str(each)) for each in values))',
        INTEGRATION + "test_hostile_text.py::test_no_command_prints_an_invisible_character",
    ),
    Mutation(
        "text: JSON on a terminal is escaped",
        P + "privacy/export.py",
        "return printable_json(_ENCODER.encode(item).decode()).encode()",
        "return _ENCODER.encode(item)",
        INTEGRATION + "test_hostile_text.py::test_no_command_prints_an_invisible_character",
    ),
    Mutation(
        "text: examples of a check are code in Markdown",
        P + "text.py",
        "return f\"`{printable(text).replace('`', _BACKTICK)}`\"",
        "return printable(text)",
        UNIT + "test_text.py",
    ),
    Mutation(
        "text: the file of an answer stays in its folder",
        P + "text.py",
        "_NOT_IN_NAMES.sub('-', text)[:_LONGEST_NAME]",
        "text",
        UNIT + "test_text.py",
    ),
    Mutation(
        "exporter: labels are plain names, and their number is bounded",
        P + "exporter/totals.py",
        "return text if _NAME.fullmatch(text) and len(known) < MOST_NAMES else OTHER",
        "return text",
        INTEGRATION + "dagster/exporter/test_totals.py::test_foreign_reports_give_no_label_and_break_no_sum",
    ),
    Mutation(
        "files: existing permissions are tightened",
        P + "private_files.py",
        "path.chmod(stat.S_IMODE(mode) & ~_OTHERS)",
        "pass",
        INTEGRATION + "dagster/test_private_files.py::test_existing_permissions_are_tightened_and_links_are_left_alone",
    ),
    Mutation(
        "files: a run's files are readable by their owner only",
        P + "instance/process.py",
        "            umask=UMASK,\n",
        "",
        INTEGRATION + "test_private_files.py::test_a_run_leaves_nothing_that_others_could_read",
    ),
    Mutation(
        "Redis: scripts stop when the epoch is lost",
        P + "stores/lua/epoch.lua",
        "if held[1] ~= epoch or",
        "if",
        INTEGRATION
        + "test_redis_lost.py::test_a_flush_under_way_writes_no_part_of_what_an_emptied_redis_held "
        + INTEGRATION
        + "test_redis_lost.py::test_the_heartbeat_notices_it_by_itself",
    ),
    Mutation(
        "Redis: reads stop when the epoch is lost",
        P + "stores/redis/guarded.py",
        "if expected.value and (gone := differs(self._server, expected, held, writes)):",
        "if False and (gone := None):",
        INTEGRATION + "test_redis_lost.py::test_flush_rebuild_reprocessing_and_audit_write_nothing_on_an_emptied_redis",
    ),
    Mutation(
        "Redis: an older copy is recognised by its count of writes",
        P + "stores/epoch.py",
        "and int(writes or 0) >= expected.writes",
        "",
        INTEGRATION + "test_redis_lost.py::test_a_copy_from_before_a_flush_is_not_flushed_again",
    ),
    Mutation(
        "Redis: a lane requires applied offsets up to the committed ones",
        P + "redis_state.py",
        "if not behind:",
        "if True:",
        INTEGRATION + "test_redis_lost.py::test_a_copy_from_before_some_batches_is_noticed_by_the_committed_offsets",
    ),
    Mutation(
        "Redis: dead letters of earlier stages advance no applied offset",
        P + "redis_state.py",
        "if place not in excused:",
        "if True:",
        INTEGRATION
        + "test_redis_lost.py::test_a_rejected_event_at_the_end_is_no_loss_before_and_after_it_is_reprocessed",
    ),
    Mutation(
        "Redis: applied offsets that fall during a lane are noticed",
        P + "stores/redis/leases.py",
        "if tonumber(now) < tonumber(ARGV[i + 1]) then",
        "if false then",
        INTEGRATION + "test_redis_lost.py::test_a_copy_that_takes_over_under_a_lane_is_noticed_by_its_applied_offsets",
    ),
    Mutation(
        "restore: no other process may work meanwhile",
        P + "rebuild/redis.py",
        "    stores.redis.replace_epoch(restoring)\n",
        "",
        INTEGRATION + "test_redis_lost.py::test_an_interrupted_restore_blocks_every_process_until_it_is_run_again",
    ),
    Mutation(
        "restore: reprocessed dead letters are known again",
        P + "rebuild/redis.py",
        "returned = known | _returned(stores)",
        "returned = known",
        INTEGRATION
        + "test_redis_lost.py::test_reprocessed_dead_letters_count_once_and_waiting_ones_can_be_reprocessed",
    ),
    Mutation(
        "MongoDB: a write that no majority has acknowledged is repeated",
        P + "stores/mongodb/errors.py",
        'list(details.get("writeConcernErrors", ()))',
        "[]",
        INTEGRATION + "test_server_states.py::test_writes_that_mongodb_does_not_acknowledge_are_repeated",
    ),
    Mutation(
        "leases: an expired lease is distinguished from a returned one",
        P + "stores/redis/leases.py",
        "keys = [*self._keys, *self._taken]",
        "keys = self._keys",
        INTEGRATION + "test_guards.py::test_an_expired_lease_is_distinguished_from_one_that_was_given_back",
    ),
    Mutation(
        "sensor: no first pause after an expired lease",
        P + "supervisor/lanes.py",
        "if run.run_id not in given_up:",
        "if True:",
        INTEGRATION + "dagster/sensors/test_kafka_lag.py -k given_up_at_once",
    ),
    Mutation(
        "own servers: Dagster's processes start in a folder without .env",
        P + "instance/process.py",
        'cwd=env["DAGSTER_HOME"],',
        "cwd=ROOT,",
        INTEGRATION + "test_own_servers.py::test_the_demo_works_on_its_own_servers_alone",
    ),
    Mutation(
        "own servers: a process's variable takes precedence over .env",
        P + "started_with.py",
        "os.environ.update({name: started[name] for name in replaced if name in started})",
        "pass",
        INTEGRATION
        + "dagster/test_started_with.py::test_a_variable_that_is_given_wins_and_the_others_come_from_the_file",
    ),
    Mutation(
        "own servers: a store proves its identity",
        P + "stores/store.py",
        "if reason := mistaken(self._server, self.identity(), expected):",
        "if reason := None:",
        INTEGRATION + "test_identity.py::test_a_store_of_others_is_refused_in_one_line",
    ),
    Mutation(
        "own servers: Kafka proves its identity",
        P + "stream/client_config.py",
        "if kafka.identity and meant not in _PROVEN:",
        "if False:",
        INTEGRATION + "test_identity.py::test_kafka_of_others_is_refused_in_one_line",
    ),
    Mutation(
        "own servers: a stack proves its identity before it is used",
        P + "local/ephemeral.py",
        "        _prove(stack, own)\n",
        "",
        INTEGRATION + "test_identity.py::test_a_stack_whose_addresses_others_answer_is_not_used",
    ),
    Mutation(
        "local: one demo or chaos in a data folder",
        P + "local/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        INTEGRATION + "dagster/local/test_chaos.py::test_a_second_command_in_the_same_folder_is_refused",
    ),
    Mutation(
        "chaos: a day that Dagster does not show fails",
        P + "local/chaos/report.py",
        "or self.not_recovered or self.days_not_shown",
        "or self.not_recovered",
        UNIT + "local/test_chaos_report.py",
    ),
    Mutation(
        "report: test orders do not count",
        P + "report/figures.py",
        "if order.test:",
        "if False:",
        UNIT + "report/test_figures.py",
    ),
    Mutation(
        "report: a refund is divided by the credits' weights",
        P + "report/figures.py",
        "if len(weights) == len(credited):",
        "if False:",
        UNIT + "report/test_figures.py",
    ),
    Mutation(
        "collector: signatures: the digest is compared",
        P + "collector/signature.py",
        'if secret and hmac.compare_digest(hmac.digest(secret, body, "sha256"), given):',
        "if secret:",
        UNIT + "collector/test_signature.py",
    ),
    Mutation(
        "collector: signatures: an empty secret signs nothing",
        P + "collector/signature.py",
        "if secret and hmac.compare_digest(",
        "if hmac.compare_digest(",
        UNIT + "collector/test_signature.py",
    ),
    Mutation(
        "collector: a promise waits for Kafka's acknowledgement",
        P + "collector/delivery.py",
        "        self._underway[number] = underway\n",
        "        self._underway[number] = underway\n        underway.keep()\n",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: a promise without Kafka waits for the journal's sync",
        P + "collector/delivery.py",
        "        self._journal.append(record, stored)\n",
        "        promise.keep()\n        self._journal.append(record, stored)\n",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: records wait for older ones of their key",
        P + "collector/delivery.py",
        "if self._waits[bucket] or not self._send(",
        "if not self._send(",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: a refused record returns to its place in the journal",
        P + "collector/delivery.py",
        "            self._backlog.rewind(underway.seq)\n",
        "            pass\n",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: the journal is bounded",
        P + "collector/journal.py",
        "return not self._is_failing and self._held.size + self._underway + record.size <= self.most_bytes",
        "return not self._is_failing",
        UNIT + "collector/test_journal.py",
    ),
    Mutation(
        "collector: a journal belongs to one process",
        P + "collector/journal_file.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        UNIT + "collector/test_journal.py",
    ),
    Mutation(
        "collector: rates are limited",
        P + "collector/limits.py",
        "taken = held >= wanted",
        "taken = True",
        UNIT + "collector/test_limits.py",
    ),
    Mutation(
        "collector: an older pixel token expires",
        P + "stores/connections.py",
        "for older in self.older_tokens if now < older.until}",
        "for older in self.older_tokens}",
        UNIT + "collector/test_registry.py",
    ),
    Mutation(
        "collector: Redis shows its identity",
        P + "collector/tokens.py",
        "return not self.is_proven or self._clock()",
        "return self._clock()",
        UNIT + "collector/test_tokens.py",
    ),
    Mutation(
        "collector: a certificate and its key match",
        P + "collector/certificate.py",
        "            self.check()\n",
        "",
        UNIT + "collector/test_certificate.py",
    ),
    Mutation(
        "collector: it stops if one of its parts fails",
        P + "collector/serve.py",
        "        server.leave()\n\n\nasync def _renew",
        "        pass\n\n\nasync def _renew",
        INTEGRATION + "dagster/collector/test_process.py::test_a_part_beside_the_server_that_fails_stops_the_collector",
    ),
    Mutation(
        "templates: an outdated mapping of a searched field is an error",
        P + "stores/index_templates.py",
        '(name, value) == ("enabled", False) and "properties" not in wanted',
        '(name, value) == ("enabled", False)',
        UNIT + "stores/test_index_templates.py",
    ),
    Mutation(
        "collector: Pub/Sub: the token's audience is checked",
        P + "collector/google_tokens.py",
        "audience=self._audience, ",
        "",
        UNIT + "collector/test_bridge.py",
    ),
    Mutation(
        "collector: Pub/Sub: the token's account is checked",
        P + "collector/google_tokens.py",
        "return account == self._account and",
        "return",
        UNIT + "collector/test_bridge.py",
    ),
    Mutation(
        "collector: EventBridge: the key is compared",
        P + "collector/bridge.py",
        "any(key and hmac.compare_digest(key, given) for key in keys)",
        "any(keys)",
        UNIT + "collector/test_bridge.py",
    ),
    Mutation(
        "collector: an unsigned webhook is refused",
        P + "collector/webhooks.py",
        "if not by_app and not (known and await _signed(body, says.signature, known.keys(now))):",
        "if False:",
        INTEGRATION + "test_collector.py::test_nothing_unsigned_is_written_and_it_is_counted",
    ),
    Mutation(
        "collector: a bridge authenticates the sender",
        P + "collector/bridge.py",
        'if not await self._is_authentic(scope["headers"]):',
        "if False:",
        INTEGRATION + "test_collector_bridge.py::test_nothing_is_written_without_a_token_or_a_key",
    ),
)


class Result(NamedTuple):
    """What happened without a guard: the test that failed, if any, and why; or why no test ran."""

    guard: str
    test: str = ""
    why: str = ""
    not_run: str = ""


class Trial:
    """A copy of the project in which guards are removed and tests run."""

    def __init__(self, folder: Path) -> None:
        self._copy = folder / "project"
        shutil.copytree(ROOT, self._copy, ignore=shutil.ignore_patterns(*KEPT_OUT))
        self.options: Sequence[str] = ()

    @contextmanager
    def _without(self, mutation: Mutation) -> Iterator[None]:
        file = self._copy / mutation.file
        source = file.read_text()
        file.write_text(source.replace(mutation.text, mutation.without))
        try:
            yield
        finally:
            file.write_text(source)

    def remove(self, mutation: Mutation) -> Result:
        """Run the tests of a guard without it, up to the first that fails."""
        if mutation.text not in (self._copy / mutation.file).read_text():
            return Result(mutation.guard, not_run=f"{mutation.file} has no {mutation.text!r}")
        with self._without(mutation):
            code, output = self._pytest("-x", *mutation.tests.split())
        failed = FAILED.search(output)
        if code == 1 and failed:
            return Result(mutation.guard, failed[1], failed[2] or "")
        return Result(mutation.guard, not_run="" if code == 0 else f"exit code {code}: {output[-2000:]}")

    def failing(self, tests: Sequence[str]) -> set[str]:
        """Run tests with all guards in place; return those that fail."""
        code, output = self._pytest(*tests) if tests else (0, "")
        return {test for test, _ in FAILED.findall(output)} if code in (0, 1) else set(tests)

    def _pytest(self, *arguments: str) -> tuple[int, str]:
        command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *self.options, *arguments)
        # Processes that the tests start elsewhere import the copy, too. What is compiled once stays compiled.
        env = {**os.environ, "PYTHONPATH": str(self._copy), "COLUMNS": "400"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(command, cwd=self._copy, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


def needs_servers(mutation: Mutation) -> bool:
    """Whether a test of the guard uses the servers that tests share."""
    return any(word.startswith("tests/") and not word.startswith(WITHOUT_SERVERS) for word in mutation.tests.split())


@contextmanager
def servers(folder: Path) -> Iterator[str]:
    """Start the servers; yield the option by which tests use them."""
    from truepixel_dagster.local.ephemeral import ephemeral_stack
    from truepixel_dagster.local.stack import Stack

    with ephemeral_stack(folder) as settings:
        places = [(each.address.host, each.address.port) for each in Stack(settings).servers]
        yield "--servers=" + json.dumps([str(settings.data_dir), *places])


def main() -> None:
    """Remove the guards named in the arguments, or all: first those whose tests need no servers."""
    words = sys.argv[1:]
    wanted = [each for each in MUTATIONS if not words or any(word in each.guard for word in words)]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        trial = Trial(Path(folder))
        for mutation in sorted(wanted, key=needs_servers):
            if needs_servers(mutation) and not trial.options:
                trial.options = (running.enter_context(servers(Path(folder) / "servers")),)
            found = trial.remove(mutation)
            results.append(found)
            what = "NOT RUN  " if found.not_run else "noticed  " if found.test else "UNNOTICED"
            print(what, f"{found.guard}  {found.test}  {found.why}{found.not_run}".rstrip(), sep="  ", flush=True)
        broken = trial.failing(sorted({each.test for each in results if each.test}))
    for each in results:
        if each.test in broken:
            print(f"UNNOTICED  {each.guard}  {each.test} fails with the guard, too")
    noticed = [each for each in results if each.test and each.test not in broken]
    not_run = [each for each in results if each.not_run]
    unnoticed = len(results) - len(noticed) - len(not_run)
    print(f"{len(noticed)} noticed, {unnoticed} not noticed, {len(not_run)} not run")
    sys.exit(0 if len(noticed) == len(wanted) > 0 else 1)


if __name__ == "__main__":
    main()
