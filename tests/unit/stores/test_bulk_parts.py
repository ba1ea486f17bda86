"""A bulk in two requests: nothing is left out, and the operations of one document keep their order."""

from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.settings import MIB
from truepixel_dagster.stores.elasticsearch.actions import Action, requests_of


@given(st.lists(st.sampled_from([f"shop:e{number}" for number in range(40)]), max_size=400), st.data())
def test_every_action_is_in_one_part_and_those_of_one_id_are_in_the_same_one_in_order(
    ids: list[str], data: st.DataObject
) -> None:
    actions = [Action("create", "events", id_, b"{}") for id_ in ids]
    left = data.draw(st.lists(st.sampled_from(range(len(ids))), unique=True)) if ids else []
    parts = requests_of(sorted(left), actions)
    assert sorted(position for part in parts for position in part) == sorted(left)
    for part in parts:
        assert part == sorted(part)
    for id_ in set(ids):
        assert sum(any(ids[position] == id_ for position in part) for part in parts) <= 1


def test_a_large_bulk_goes_in_more_than_one_part() -> None:
    actions = [Action("create", "events", f"shop:e{number}", b"{}") for number in range(512)]
    assert all(len(part) > 100 for part in requests_of(range(512), actions))
    assert len(requests_of(range(512), actions)) == 2
    assert len(requests_of(range(20), actions)) == 1


def test_large_documents_go_in_parts_of_a_few_mib() -> None:
    actions = [Action("create", "events", f"shop:{number}", b"x" * MIB) for number in range(32)]
    parts = requests_of(range(32), actions)
    assert sorted(position for part in parts for position in part) == list(range(32))
    assert 4 <= len(parts) <= 8
    assert max(map(len, parts)) <= 10
