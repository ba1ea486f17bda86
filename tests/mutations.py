"""Remove one guard after the other and demand that a test fails: `.venv/bin/python tests/mutations.py [NAME…]`.

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
    """A guard, the file and the text that make it, what stands there without it, and the tests that must fail."""

    guard: str
    file: str
    text: str
    without: str
    tests: str


P = "truepixel_dagster/"
MUTATIONS = (
    Mutation(
        "origin: a replay runs on",
        P + "stages/index.py",
        "origins[position] == event.origin",
        "False",
        INTEGRATION
        + "test_dead_letters.py::test_a_rejection_stays_when_its_batch_runs_again_and_the_store_would_accept_it "
        + UNIT
        + "stages/test_index.py",
    ),
    Mutation(
        "origin: a duplicate stops",
        P + "stages/index.py",
        "origins[position] == event.origin",
        "True",
        INTEGRATION + "test_pipeline.py::test_the_same_file_again_changes_only_the_count_of_duplicates",
    ),
    Mutation(
        "touches by offset",
        P + "stages/ad_lead.py",
        "event.ad is None or event.origin.offset in known",
        "event.ad is None",
        UNIT + "stages/test_ad_lead.py",
    ),
    Mutation(
        "a sighting is in the attribution once",
        P + "orders/facts.py",
        "found = {(each.kafka.partition, each.kafka.offset): each for each in sightings}",
        "found = {(0, number): each for number, each in enumerate(sightings)}",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "applied offsets in customers",
        P + "stages/customer.py",
        "if not is_applied(stored, event.origin)]",
        "]",
        UNIT + "stages/test_customer.py",
    ),
    Mutation(
        "versions of MongoDB documents",
        P + "stores/mongodb.py",
        'ReplaceOne({"_id": id_, "v": version}, new, upsert=before is None)',
        'ReplaceOne({"_id": id_}, new, upsert=True)',
        INTEGRATION + "test_guards.py::test_two_writers_of_a_document_lose_no_update",
    ),
    Mutation(
        "applied offset inside the Lua call",
        P + "stores/lua/apply.lua",
        "if stale then return current end",
        "",
        INTEGRATION + "test_product_stats_buffer.py::test_a_stale_expectation_applies_nothing_at_all",
    ),
    Mutation(
        "sequence numbers in Elasticsearch",
        P + "stores/elasticsearch/actions.py",
        "if action.if_seq_no is not None:",
        "if False:",
        INTEGRATION + "test_flush.py::test_a_flush_that_slept_while_others_wrote_its_claim_counts_nothing_twice",
    ),
    Mutation(
        "Elasticsearch: a document that another writer changed is read again",
        P + "stores/elasticsearch/documents.py",
        "left = dict.fromkeys((*done.conflicts, *unread))",
        "left = dict.fromkeys(unread)",
        UNIT + "stores/test_update.py",
    ),
    Mutation(
        "Elasticsearch: nothing is written where nothing was read",
        P + "stores/elasticsearch/documents.py",
        "{place: new for place, new in changed.items() if place in found}, found)",
        "changed, {place: found.get(place) for place in changed})",
        UNIT + "stores/test_update.py",
    ),
    Mutation(
        "supervisor: a run without a lease is given up only after a grace",
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
        "claim token in the document",
        P + "flush.py",
        'and not (document and document.source.get("last_token") == claim.token)',
        "",
        INTEGRATION + "test_flush.py::test_a_crash_anywhere_loses_nothing_and_counts_nothing_twice",
    ),
    Mutation(
        "claim still open",
        P + "flush.py",
        "if token == claim.token and not",
        "if not",
        INTEGRATION + "test_flush.py::test_a_flush_that_slept_while_others_wrote_its_claim_counts_nothing_twice",
    ),
    Mutation(
        "claim kept until it is written",
        P + "stores/lua/claim.lua",
        "redis.call('RENAME', KEYS[1], KEYS[2])",
        "redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('PEXPIRE', KEYS[2], 1)",
        INTEGRATION + "test_flush.py::test_documents_are_as_the_data_contract_says",
    ),
    Mutation(
        "fencing: a lease that ran out",
        P + "stores/leases.py",
        "if time.monotonic() >= self._deadline:\n            raise",
        "if False:\n            raise",
        INTEGRATION + "test_guards.py::test_a_worker_that_slept_past_its_lease_commits_nothing_more",
    ),
    Mutation(
        "fencing: before every try of every call",
        P + "pipeline/lane_claim.py",
        "store.guard = self._lease.check",
        "pass",
        INTEGRATION + "test_guards.py::test_a_worker_that_slept_in_the_middle_of_a_stage_writes_nothing_more",
    ),
    Mutation(
        "fencing: Redis is asked before a commit",
        P + "stores/leases.py",
        "        holder = _asking(self._client, self._take)\n        if holder",
        "        holder = None\n        if holder",
        INTEGRATION
        + "test_guards.py::test_a_lane_that_another_worker_took_is_noticed_before_the_commit_even_with_time_left",
    ),
    Mutation(
        "one owner",
        P + "stores/leases.py",
        "if holder and holder ~= ARGV[1] then return holder end",
        "",
        INTEGRATION + "test_guards.py::test_a_second_worker_learns_who_has_the_lane",
    ),
    Mutation(
        "contiguous commits",
        P + "pipeline/ledger.py",
        "while waiting and waiting[0] in self._landed:",
        "while waiting:",
        UNIT + "pipeline/test_ledger.py",
    ),
    Mutation(
        "letters are acknowledged before their offsets are committed",
        P + "pipeline/commits.py",
        "self._dead_letters.flush()\n            self._contiguity",
        "self._contiguity",
        INTEGRATION
        + "test_dead_letters.py::test_nothing_is_committed_past_a_dead_letter_that_kafka_has_not_acknowledged",
    ),
    Mutation(
        "a run waits behind its predecessor only",
        P + "stores/leases.py",
        'raise LaneBusy(f"the lane is held by run {run}")',
        "break",
        INTEGRATION + "test_hand_over.py::test_a_standby_run_waits_for_the_run_that_its_tag_names_and_no_other",
    ),
    Mutation(
        "nothing is written after a hand-over",
        P + "pipeline/runner.py",
        "        self._pool.drain()\n        self._commits.drain()\n        self._commits.commit()\n",
        "",
        INTEGRATION + "test_hand_over.py::test_the_lane_continues_where_it_was_handed_over",
    ),
    Mutation(
        "a failed slot stops the lane",
        P + "pipeline/runner.py",
        "if self.failure is not None:\n            raise LaneStopped",
        "if False:\n            raise LaneStopped",
        INTEGRATION + "test_guards.py::test_a_worker_that_slept_past_its_lease_commits_nothing_more",
    ),
    Mutation(
        "a reprocessed letter is counted once in customers",
        P + "stages/customer.py",
        "if _at(event.origin) not in known]",
        "]",
        UNIT + "stages/test_customer.py",
    ),
    Mutation(
        "refusals stick",
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
        INTEGRATION + "test_rebuild.py::test_what_is_older_than_the_kept_events_stays_and_its_days_are_refused",
    ),
    Mutation(
        "documents: one that cannot be read is a letter",
        P + "stages/ad_lead.py",
        "        except ValueError as error:\n            decided.unreadable",
        "        except ZeroDivisionError as error:\n            decided.unreadable",
        INTEGRATION + "test_documents.py::test_a_document_that_cannot_be_read_is_one_dead_letter_and_stays_unchanged",
    ),
    Mutation(
        "documents: a newer version's is not written",
        P + "stores/documents.py",
        "if schema > SCHEMA:",
        "if False:",
        UNIT + "stores/test_documents.py",
    ),
    Mutation(
        "documents: what is not known survives",
        P + "stages/attribution_document.py",
        "{**ATTRIBUTION.unknown(before), **msgspec.json.decode(msgspec.json.encode(after))}",
        "{**msgspec.json.decode(msgspec.json.encode(after))}",
        UNIT + "stores/test_documents.py",
    ),
    Mutation(
        "documents: one without a version is found by that",
        P + "stores/mongodb.py",
        'version = before.get("v") if before else 0',
        'version = before.get("v", 0) if before else 0',
        INTEGRATION + "test_documents.py::test_documents_without_a_version_of_ours_are_updated_too",
    ),
    Mutation(
        "letters: a try in which nothing had changed is no try",
        P + "dead_letters/reprocess.py",
        "if dead.letter.is_refused_as_before(stage, reason):",
        "if False:",
        INTEGRATION + "test_dead_letters.py::test_reprocessing_without_a_change_uses_no_try",
    ),
    Mutation(
        "letters: reopened before older ones",
        P + "dead_letters/topic.py",
        "return letter.reopened, letter.tries",
        "return 0, letter.tries",
        INTEGRATION
        + "test_dead_letters.py::test_a_dead_letter_rejected_for_two_other_reasons_is_given_up_until_it_is_reopened",
    ),
    Mutation(
        "runs: what one that was killed had committed is reported once",
        P + "jobs/unreported.py",
        "if (materialization.asset_key, materialization.partition) not in known:",
        "if True:",
        INTEGRATION + "dagster/jobs/test_unreported.py::test_it_is_reported_once_for_a_run_that_lost_its_lane",
    ),
    Mutation(
        "runs: a report that only a run's own log has is repeated",
        P + "jobs/unreported.py",
        " if day is None or day in shown[asset]}",
        "}",
        INTEGRATION
        + "dagster/jobs/test_unreported.py::test_a_report_that_was_killed_between_two_files_of_sqlite_is_repeated",
    ),
    Mutation(
        "runs: a report may be missing where a note was removed",
        P + "stream/commit_notes.py",
        "return (UNKNOWN,)",
        "return ()",
        INTEGRATION + "dagster/jobs/test_unreported.py::test_partitions_owe_a_report_whose_run_has_ended_early",
    ),
    Mutation(
        "runs: the days of unknown runs are reported",
        P + "jobs/unreported.py",
        "    if unknown:\n",
        "    if False:\n",
        INTEGRATION
        + "dagster/jobs/test_unreported.py::test_of_runs_that_nobody_knows_the_days_are_reported_that_are_not_shown",
    ),
    Mutation(
        "runs: one that handed its lane over reports by itself",
        P + "jobs/unreported.py",
        "if not run.is_finished and any(span.handed_over for span in spans.values()):",
        "if False:",
        INTEGRATION + "dagster/jobs/test_unreported.py::test_one_that_handed_over_is_left_to_itself_until_it_has_ended",
    ),
    Mutation(
        "cursors: one of another version is replaced",
        P + "supervisor/memory.py",
        "                lost.append(name)",
        "                raise",
        UNIT + "supervisor/test_memory.py",
    ),
    Mutation(
        "webserver: the guard is in front of it",
        P + "instance/webserver.py",
        "return WebserverGuard(make(*arguments, **options), hosts)",
        "return make(*arguments, **options)",
        INTEGRATION + "test_webserver_access.py::test_the_webserver_of_a_deployment_answers_to_its_names",
    ),
    Mutation(
        "webserver: `dagster dev` starts the guarded one",
        P + "instance/dev.py",
        'GUARDED if part == "dagster_webserver" else part',
        "part",
        INTEGRATION + "test_webserver_access.py::test_a_writable_webserver_obeys_its_own_pages_alone",
    ),
    Mutation(
        "webserver: foreign hosts",
        P + "instance/webserver_guard.py",
        "if len(named) != 1 or not _goes_by(named[0].lower(), hosts):",
        "if len(named) != 1:",
        INTEGRATION + "dagster/instance/test_webserver_guard.py::test_other_names_are_refused_whatever_is_asked",
    ),
    Mutation(
        "webserver: foreign origins",
        P + "instance/webserver_guard.py",
        'not own.issuperset(map(_place, headers.getlist("origin")))',
        "False",
        INTEGRATION + "dagster/instance/test_webserver_guard.py::test_pages_of_others_are_refused",
    ),
    Mutation(
        "webserver: no change by GET",
        P + "instance/webserver_guard.py",
        "return all(operation == OperationType.QUERY for operation in operations)",
        "return True",
        INTEGRATION + "dagster/instance/test_webserver_guard.py::test_a_get_changes_nothing",
    ),
    Mutation(
        "namespaces: searches reach our own indices alone",
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
        "a document without a shard's answer is not absent",
        P + "stores/elasticsearch/documents.py",
        "        if INDEX_NOT_FOUND in types_of(error) and",
        "        return None\n        if",
        INTEGRATION + "test_elasticsearch_states.py -k absent",
    ),
    Mutation(
        "a missing index of attributions is not an empty one",
        P + "stores/elasticsearch/documents.py",
        ' and doc["_index"] not in map(self.index, MADE_BY_SETUP):',
        ":",
        INTEGRATION + "test_elasticsearch_states.py -k never_taken_for_empty",
    ),
    Mutation(
        "what is not known to be about one document is an outage",
        P + "stores/elasticsearch_errors.py",
        "return Kind.POISON if first in POISON else Kind.OUTAGE",
        "return Kind.POISON",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "the causes of an error decide, too",
        P + "stores/elasticsearch_errors.py",
        "if types & TRANSIENT or",
        "if first in TRANSIENT or",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "a block that Elasticsearch removes itself is an outage that passes",
        P + "stores/elasticsearch_errors.py",
        '("TOO_MANY_REQUESTS/", "SERVICE_UNAVAILABLE/")',
        "()",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "a search that lacks a shard is no answer",
        P + "stores/elasticsearch_errors.py",
        'if shards.get("failed"):',
        "if False:",
        UNIT + "stores/test_elasticsearch_errors.py",
    ),
    Mutation(
        "a document is poison only where a sound index refuses it",
        P + "stores/elasticsearch/documents.py",
        "            self._check_indices(sorted(refusing))",
        "            pass",
        INTEGRATION + "test_index_templates.py -k strict",
    ),
    Mutation(
        "a refused status is a dead letter",
        P + "pipeline/runner.py",
        "self._rejections.rejected(ATTRIBUTION, touched.fetched, refused, earlier)",
        "pass",
        INTEGRATION + "test_elasticsearch_states.py -k status",
    ),
    Mutation(
        "a lane checks templates before it writes",
        P + "pipeline/lane_claim.py",
        "        stores.elasticsearch.check()",
        "        pass",
        INTEGRATION
        + "test_index_templates.py::test_a_lane_writes_nothing_while_a_template_is_missing_that_it_needs_later",
    ),
    Mutation(
        "templates are checked before a new index is made",
        P + "stores/elasticsearch/indices.py",
        "if wrong := self.refusing(indices):",
        "if False:",
        INTEGRATION + "test_index_templates.py -k month_that_begins",
    ),
    Mutation(
        "searches check the mapping of what they search",
        P + "stores/elasticsearch/searches.py",
        "        found = self._faults_of(described)\n        missing",
        "        found = []\n        missing",
        INTEGRATION + "test_index_templates.py -k dynamic_mapping",
    ),
    Mutation(
        "a closed index is not an empty one",
        P + "stores/elasticsearch/searches.py",
        "            if is_closed(there):\n                what",
        "            if False:\n                what",
        INTEGRATION + "test_index_templates.py -k closed_index",
    ),
    Mutation(
        "a unique index by hand is no other writer",
        P + "stores/mongodb.py",
        'and found[1] in ("_id_", _IDS)',
        "",
        UNIT + "stores/test_mongodb_errors.py",
    ),
    Mutation(
        "codes of MongoDB that are not about one document stop the lane",
        P + "stores/mongodb.py",
        'elif error["code"] in _POISON_CODES:',
        "elif True:",
        UNIT + "stores/test_mongodb_errors.py",
    ),
    Mutation(
        "a clock that cannot be right makes no month of its own",
        P + "events/times.py",
        "if is_old or not FIRST <= millis <= arrived + ahead:",
        "if False:",
        UNIT + "events/test_times.py",
    ),
    Mutation(
        "a record with an invalid time",
        P + "events/times.py",
        "by_record = timestamp if FIRST <= timestamp < LAST else None",
        "by_record = timestamp",
        UNIT + "events/test_times.py",
    ),
    Mutation(
        "unknown headers are ignored",
        P + "events/headers.py",
        "            if known in _LOOKED_AT:",
        "            if known in _LOOKED_AT or (value or b'').decode():",
        UNIT + "events/test_headers.py",
    ),
    Mutation(
        "a header whose name is not UTF-8 crashes nothing",
        P + "stream/reading.py",
        "except SystemError:",
        "except ():",
        UNIT + "stream/test_headers.py",
    ),
    Mutation(
        "a header whose name is not UTF-8 is noticed in optimized code",
        P + "stream/reading.py",
        "tuple(_call_headers(record) or ())",
        "tuple(record.headers() or ())",
        UNIT + "stream/test_headers.py",
    ),
    Mutation(
        "currencies are those of ISO 4217",
        P + "events/money.py",
        "if code in CURRENCIES and text.isascii():",
        "if len(code) == 3 and text.isascii():",
        UNIT + "events/test_agreement.py",
    ),
    Mutation(
        "sums stop at 64 bits",
        P + "events/money.py",
        "return max(-MAX_SUM - 1, min(MAX_SUM, one + other))",
        "return one + other",
        UNIT + "stages/test_product_stats.py",
    ),
    Mutation(
        "an attribution names few of very many sightings",
        P + "orders/facts.py",
        "return tuple(sorted(found.values(), key=lambda each: each.order)[:most])",
        "return tuple(sorted(found.values(), key=lambda each: each.order))",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "orders: what shares an id is one order",
        P + "orders/cluster.py",
        "links.join(ids)",
        "links.join(ids[:1])",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: an id is in one document",
        P + "stores/mongodb.py",
        'self._make_index(ORDERS, [("ids", 1)], unique=True)',
        'self._make_index(ORDERS, [("ids", 1)])',
        INTEGRATION + "test_mongodb_refusals.py -k belongs_to_one_order",
    ),
    Mutation(
        "orders: one that is taken up is closed first",
        P + "orders/cluster.py",
        "    if others:\n",
        "    if False:\n",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: only the difference to what was counted is a change",
        P + "orders/cluster.py",
        "as_rows(difference(after, before))",
        "as_rows(after)",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: who has counted already takes up no other",
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
        "orders: a refund that two records name counts once",
        P + "orders/facts.py",
        "there = found.get(refund.refund_id)\n        found[refund.refund_id]",
        'there = None\n        found[f"{len(found)}"]',
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: clients of an order are bounded",
        P + "orders/facts.py",
        "if len(clients) <= most:",
        "if True:",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "orders: ids of an order are bounded",
        P + "stages/ids_per_order.py",
        "if event.source == PIXEL and adds and len(homes.keys() | ids_of(event)) > most:",
        "if False:",
        UNIT + "stages/test_ids_per_order.py",
    ),
    Mutation(
        "orders: an event is of the order whose id it names",
        P + "orders/division.py",
        "ids = [node.id] if node.kind == ORDER else node.order_ids",
        "ids: tuple[str, ...] = ()",
        UNIT + "orders/test_ids_agreement.py",
    ),
    Mutation(
        "orders: bots report none",
        P + "orders/facts.py",
        "if news is None or event.bot:",
        "if news is None:",
        UNIT + "orders/test_facts.py",
    ),
    Mutation(
        "orders: test orders count for no product",
        P + "orders/counts.py",
        "    if order.test:\n        return found",
        "    if False:\n        return found",
        UNIT + "orders/test_counts.py",
    ),
    Mutation(
        "orders: test orders count for no client",
        P + "orders/counts.py",
        "if client is None or order.test:",
        "if client is None:",
        UNIT + "orders/test_counts.py",
    ),
    Mutation(
        "orders: amounts of two currencies are not added",
        P + "orders/order.py",
        "if money.currency == total.currency:",
        "if True:",
        UNIT + "orders/test_order.py",
    ),
    Mutation(
        "orders: what came back for money was sold",
        P + "orders/order.py",
        "self._refunded_units(line, for_money=True)",
        "0",
        UNIT + "orders/test_order.py",
    ),
    Mutation(
        "orders: a refund that the payload knows is taken off once",
        P + "orders/order.py",
        "if not _knows(payload, r))",
        ")",
        UNIT + "orders/test_order.py",
    ),
    Mutation(
        "orders: a visit after an order leads to none",
        P + "stages/settling.py",
        "if event.occurred_at <= order.until)",
        "if True)",
        UNIT + "orders/test_cluster.py",
    ),
    Mutation(
        "orders: a client's touches end at its last record",
        P + "orders/journey.py",
        "or touch.offset <= offset]",
        "or True]",
        UNIT + "orders/test_journey.py",
    ),
    Mutation(
        "customers: of two records the newer says who it is",
        P + "stages/customer.py",
        'if value and not (document.get(field) and _said_at(document["set_by"].get(field, "")) > moment):',
        "if value:",
        UNIT + "stages/test_customer.py",
    ),
    Mutation(
        "product statistics: visitors are people whom a pixel saw",
        P + "stages/product_stats.py",
        'if event.source == "pixel" and not event.bot and not event.anonymous:',
        "if True:",
        UNIT + "stages/test_product_stats.py",
    ),
    Mutation(
        "products of one event are bounded",
        P + "stages/product_stats.py",
        "if len(items) > products:",
        "if False:",
        UNIT + "stages/test_product_stats.py",
    ),
    Mutation(
        "dead letters count by client",
        P + "dead_letters/policy.py",
        "return refused > FLOOR and refused > all_ * share",
        "return True",
        UNIT + "dead_letters/test_policy.py",
    ),
    Mutation(
        "invented clients stop no lane",
        P + "dead_letters/policy.py",
        "return profiles is None or _too_many(len(profiles & refused), len(profiles), share)",
        "return True",
        UNIT + "dead_letters/test_policy.py",
    ),
    Mutation(
        "a letter too large for Kafka refers to its record",
        P + "stream/producer.py",
        "if too_large is not None and error.code() in _TOO_LARGE:",
        "if False:",
        UNIT + "stream/test_producer.py",
    ),
    Mutation(
        "what BSON cannot hold is refused by itself",
        P + "stores/mongodb.py",
        "if (reason := _unfit(document))}",
        "if (reason := None)}",
        INTEGRATION + "test_hostile_input.py -k bson",
    ),
    Mutation(
        "a request over a proxy's limit goes in halves",
        P + "stores/elasticsearch/documents.py",
        "if not never_fits(error.status_code, reason, len(body)):",
        "if True:",
        UNIT + "stores/test_bulk_halves.py",
    ),
    Mutation(
        "what will never fit is distinguished from what has no room now",
        P + "stores/too_large.py",
        "return int(found[1]) > int(found[2])",
        "return False",
        UNIT + "stores/test_too_large.py",
    ),
    Mutation(
        "a topic that was created again is recognised by its id",
        P + "source_log.py",
        "if kept.topic_id and now.topic_id and kept.topic_id != now.topic_id:",
        "if False:",
        INTEGRATION + "test_new_log.py -k recreated_topic",
    ),
    Mutation(
        "another cluster is recognised by its id",
        P + "source_log.py",
        "if kept.cluster_id and now.cluster_id and kept.cluster_id != now.cluster_id:",
        "if False:",
        INTEGRATION + "test_new_log.py -k cluster",
    ),
    Mutation(
        "a log that ends below what was applied",
        P + "source_log.py",
        "if mark > ends.get(partition, mark):",
        "if False:",
        INTEGRATION + "test_new_log.py -k beyond",
    ),
    Mutation(
        "a running lane checks whether its log still exists",
        P + "pipeline/runner.py",
        "self._watch.check()",
        "pass",
        INTEGRATION + "test_new_log.py -k running_lane_notices",
    ),
    Mutation(
        "records of a new log lie above those of older ones",
        P + "events/origin.py",
        "return generation * GENERATION",
        "return 0",
        INTEGRATION + "test_new_log.py -k counts_from_its_beginning",
    ),
    Mutation(
        "a new log begins while no lane is processing",
        P + "pipeline/adoption.py",
        "        lease.acquire()\n",
        "",
        INTEGRATION + "test_new_log.py -k adopted_while",
    ),
    Mutation(
        "refusals stick when offsets are set back",
        P + "pipeline/lane_claim.py",
        "buried.restore(read(self._settings), consumer.redelivers())",
        "pass",
        INTEGRATION + "test_new_log.py -k rejection_stays",
    ),
    Mutation(
        "offsets without a record are committed over",
        P + "pipeline/commits.py",
        "if offsets and not self._ledger.pending:",
        "if False:",
        INTEGRATION + "test_kafka_states.py -k aborted",
    ),
    Mutation(
        "markers are committed over only when all before them has landed",
        P + "pipeline/commits.py",
        "if offsets and not self._ledger.pending:",
        "if offsets:",
        INTEGRATION + "test_kafka_states.py -k is_incomplete",
    ),
    Mutation(
        "a topic is read to its end though that holds no record",
        P + "stream/consumer.py",
        "self._ends[partition] = record.offset()",
        "pass",
        INTEGRATION + "test_kafka_states.py -k aborted",
    ),
    Mutation(
        "what retention removed unread is kept",
        P + "pipeline/runner.py",
        "keep_lost(self._stores.mongodb, found)",
        "pass",
        INTEGRATION + "test_kafka_states.py -k retention",
    ),
    Mutation(
        "retention under a run is no silent jump",
        P + "stream/consumer.py",
        "self._lost.append(OffsetRange(self._settings.topic, partition, first, last))",
        "pass",
        INTEGRATION + "test_kafka_states.py -k overtakes",
    ),
    Mutation(
        "only the order of moved users is excused",
        P + "audit/scope.py",
        "return difference.id in moved and field in _OF_ORDER[difference.store]",
        "return difference.id in moved",
        INTEGRATION + "test_kafka_states.py -k excuse_the_order",
    ),
    Mutation(
        "a user who continues in two partitions is not excused",
        P + "audit/scope.py",
        "return len(left) <= 1",
        "return True",
        INTEGRATION + "test_kafka_states.py -k not_excused",
    ),
    Mutation(
        "a run whose topic has grown hands its lane over",
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
        "text: a cell of a table is no markup",
        P + "terminal.py",
        'return Text("\\n".join(printable(str(each)) for each in values), overflow="fold")',
        'return Text.from_markup("\\n".join(printable(str(each)) for each in values))',
        INTEGRATION + "test_hostile_text.py::test_no_command_prints_an_invisible_character",
    ),
    Mutation(
        "text: JSON on a terminal",
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
        "text: an answer's name stays in its folder",
        P + "text.py",
        "_NOT_IN_NAMES.sub('-', text)[:_LONGEST_NAME]",
        "text",
        UNIT + "test_text.py",
    ),
    Mutation(
        "exporter: labels are names, and not too many",
        P + "exporter/totals.py",
        "return text if _NAME.fullmatch(text) and len(known) < MOST_NAMES else OTHER",
        "return text",
        INTEGRATION + "dagster/exporter/test_totals.py::test_what_anybody_reports_gives_no_label_and_breaks_no_sum",
    ),
    Mutation(
        "files: what was there is tightened",
        P + "private_files.py",
        "path.chmod(stat.S_IMODE(mode) & ~_OTHERS)",
        "pass",
        INTEGRATION + "dagster/test_private_files.py::test_what_was_there_is_tightened_and_links_are_left_alone",
    ),
    Mutation(
        "files: a run's files are its owner's only",
        P + "instance/process.py",
        "            umask=UMASK,\n",
        "",
        INTEGRATION + "test_private_files.py::test_a_run_leaves_nothing_that_others_could_read",
    ),
    Mutation(
        "Redis: scripts stop where the epoch is lost",
        P + "stores/lua/epoch.lua",
        "if held[1] ~= epoch or",
        "if",
        INTEGRATION
        + "test_redis_lost.py::test_a_flush_under_way_writes_no_part_of_what_an_emptied_redis_held "
        + INTEGRATION
        + "test_redis_lost.py::test_the_heartbeat_notices_it_by_itself",
    ),
    Mutation(
        "Redis: reads stop where the epoch is lost",
        P + "stores/redis/guarded.py",
        "if expected.value and (gone := differs(self._server, expected, held, writes)):",
        "if False and (gone := None):",
        INTEGRATION + "test_redis_lost.py::test_flush_rebuild_reprocessing_and_audit_write_nothing_on_an_emptied_redis",
    ),
    Mutation(
        "Redis: an older copy has counted fewer writes",
        P + "stores/epoch.py",
        "and int(writes or 0) >= expected.writes",
        "",
        INTEGRATION + "test_redis_lost.py::test_a_copy_from_before_a_flush_is_not_flushed_again",
    ),
    Mutation(
        "Redis: applied offsets reach the committed ones",
        P + "redis_state.py",
        "if not behind:",
        "if True:",
        INTEGRATION + "test_redis_lost.py::test_a_copy_from_before_some_batches_is_noticed_by_the_committed_offsets",
    ),
    Mutation(
        "Redis: dead letters before the counters move no applied offset",
        P + "redis_state.py",
        "if place not in excused:",
        "if True:",
        INTEGRATION
        + "test_redis_lost.py::test_a_rejected_event_at_the_end_is_no_loss_before_and_after_it_is_reprocessed",
    ),
    Mutation(
        "Redis: applied offsets never fall under a lane",
        P + "stores/leases.py",
        "if tonumber(now) < tonumber(ARGV[i + 1]) then",
        "if false then",
        INTEGRATION + "test_redis_lost.py::test_a_copy_that_takes_over_under_a_lane_is_noticed_by_its_applied_offsets",
    ),
    Mutation(
        "restore: no other process writes",
        P + "rebuild/redis.py",
        "    stores.redis.replace_epoch(restoring)\n",
        "",
        INTEGRATION + "test_redis_lost.py::test_an_interrupted_restore_blocks_every_process_until_it_is_run_again",
    ),
    Mutation(
        "restore: dead letters that came back are known again",
        P + "rebuild/redis.py",
        "returned = known | _returned(stores)",
        "returned = known",
        INTEGRATION
        + "test_redis_lost.py::test_reprocessed_dead_letters_count_once_and_waiting_ones_can_be_reprocessed",
    ),
    Mutation(
        "MongoDB: a write without a majority is repeated",
        P + "stores/mongodb.py",
        'list(details.get("writeConcernErrors", ()))',
        "[]",
        INTEGRATION + "test_server_states.py::test_writes_that_mongodb_does_not_acknowledge_are_repeated",
    ),
    Mutation(
        "leases: an expired lease is distinguished from one that was given back",
        P + "stores/leases.py",
        "keys = [*self._keys, *self._taken]",
        "keys = self._keys",
        INTEGRATION + "test_guards.py::test_an_expired_lease_is_distinguished_from_one_that_was_given_back",
    ),
    Mutation(
        "sensor: no first pause after a lease that ran out",
        P + "supervisor/lanes.py",
        "if run.run_id not in given_up:",
        "if True:",
        INTEGRATION + "dagster/sensors/test_kafka_lag.py -k given_up_at_once",
    ),
    Mutation(
        "own servers: Dagster's processes start where no .env is",
        P + "instance/process.py",
        'cwd=env["DAGSTER_HOME"],',
        "cwd=ROOT,",
        INTEGRATION + "test_own_servers.py::test_the_demo_works_on_its_own_servers_alone",
    ),
    Mutation(
        "own servers: a variable that a process was started with goes before .env",
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
        "if settings.servers_identity and meant not in _PROVEN:",
        "if False:",
        INTEGRATION + "test_identity.py::test_kafka_of_others_is_refused_in_one_line",
    ),
    Mutation(
        "own servers: a stack is proven before it is given away",
        P + "local/stack.py",
        "        _prove(stack, own)\n",
        "",
        INTEGRATION + "test_identity.py::test_a_stack_whose_addresses_others_answer_is_not_given_away",
    ),
    Mutation(
        "one demo or chaos in a data folder",
        P + "local/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        INTEGRATION + "dagster/local/test_chaos.py::test_two_of_a_kind_do_not_work_in_one_folder",
    ),
    Mutation(
        "chaos: a day that is not shown fails",
        P + "local/chaos/report.py",
        "or self.not_recovered or self.days_not_shown",
        "or self.not_recovered",
        UNIT + "local/test_chaos_report.py",
    ),
    Mutation(
        "report: test orders count nowhere",
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
        "collector: signature: the digest is compared",
        P + "collector/signature.py",
        'if secret and hmac.compare_digest(hmac.digest(secret, body, "sha256"), given):',
        "if secret:",
        UNIT + "collector/test_signature.py",
    ),
    Mutation(
        "collector: signature: an empty secret signs nothing",
        P + "collector/signature.py",
        "if secret and hmac.compare_digest(",
        "if hmac.compare_digest(",
        UNIT + "collector/test_signature.py",
    ),
    Mutation(
        "collector: a promise waits for Kafka",
        P + "collector/delivery.py",
        "        self._underway[number] = underway\n",
        "        self._underway[number] = underway\n        underway.keep()\n",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: a promise waits for the journal's disk",
        P + "collector/delivery.py",
        "        self._journal.append(record, stored)\n",
        "        promise.keep()\n        self._journal.append(record, stored)\n",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: records wait behind older ones of their key",
        P + "collector/delivery.py",
        "if self._waits[bucket] or not self._send(",
        "if not self._send(",
        UNIT + "collector/test_delivery.py",
    ),
    Mutation(
        "collector: a refused record goes back to its place in the journal",
        P + "collector/delivery.py",
        "            self._from(underway.seq)\n",
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
        "collector: one process holds a journal",
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
        "collector: a part that fails stops it",
        P + "collector/serve.py",
        "        server.leave()\n\n\nasync def _renew",
        "        pass\n\n\nasync def _renew",
        INTEGRATION + "dagster/collector/test_process.py::test_a_part_beside_the_server_that_fails_stops_the_collector",
    ),
    Mutation(
        "an outdated mapping of a searched field is a fault",
        P + "stores/index_templates.py",
        '(name, value) == ("enabled", False) and "properties" not in wanted',
        '(name, value) == ("enabled", False)',
        UNIT + "stores/test_index_templates.py",
    ),
    Mutation(
        "collector: Pub/Sub: the token is for our audience",
        P + "collector/google_tokens.py",
        "audience=self._audience, ",
        "",
        UNIT + "collector/test_bridge.py",
    ),
    Mutation(
        "collector: Pub/Sub: the token is of our account",
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
        "collector: a bridge asks who sends",
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
    from truepixel_dagster.local.stack import Stack, ephemeral_stack

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
