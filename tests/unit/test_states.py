"""The table of states: what a job's life can look like."""

from __future__ import annotations

import pytest

from remoterun.states import FINAL, MOVES, State, check_move


def test_every_state_has_its_row() -> None:
    assert set(MOVES) == set(State)


def test_the_final_states_are_those_of_the_product() -> None:
    assert {state.value for state in FINAL} == {"succeeded", "failed", "timed_out", "cancelled", "lost"}


@pytest.mark.parametrize("old", State)
@pytest.mark.parametrize("new", State)
def test_a_move_is_legal_if_the_table_has_it(old: State, new: State) -> None:
    if new in MOVES[old]:
        check_move(old, new)
    else:
        with pytest.raises(ValueError, match=f"cannot move from {old} to {new}"):
            check_move(old, new)


@pytest.mark.parametrize("state", FINAL)
def test_nothing_comes_after_the_end(state: State) -> None:
    assert MOVES[state] == frozenset()


def test_every_state_can_be_reached_and_every_job_can_end() -> None:
    reached = {State.QUEUED}
    while new := {move for state in reached for move in MOVES[state]} - reached:
        reached |= new
    assert reached == set(State)
    for state in set(State) - FINAL:
        assert MOVES[state] & FINAL


def test_only_a_running_job_is_lost_or_timed_out_or_succeeds() -> None:
    for outcome in (State.SUCCEEDED, State.TIMED_OUT, State.LOST):
        assert [state for state in State if outcome in MOVES[state]] == [State.RUNNING]


def test_states_are_their_names_on_every_wire() -> None:
    assert [str(state) for state in State] == [state.value for state in State]
    assert all(state.name.lower() == state.value for state in State)
