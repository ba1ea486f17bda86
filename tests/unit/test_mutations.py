"""The list of mutations names files, texts and tests that exist."""

from __future__ import annotations

import pytest

from tests.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_each_guard_is_in_the_file_that_the_list_names(mutation: Mutation) -> None:
    assert mutation.text in (ROOT / mutation.file).read_text()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_the_tests_of_a_guard_are_there(mutation: Mutation) -> None:
    files = [word.partition("::")[0] for word in mutation.tests.split() if word.startswith("tests/")]
    assert files
    assert all((ROOT / file).exists() for file in files)
