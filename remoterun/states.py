"""The states of a job and the legal moves between them, as a table."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"  # its node or its worker's keeper died: nobody can know how far it got


MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {
            State.RUNNING,
            State.CANCELLED,
            State.FAILED,  # its script was removed or broken while it waited
        }
    ),
    State.RUNNING: frozenset(
        {
            State.SUCCEEDED,
            State.FAILED,
            State.TIMED_OUT,
            State.CANCELLED,
            State.LOST,
            State.QUEUED,  # a retry: the next attempt waits its turn
        }
    ),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.TIMED_OUT: frozenset(),
    State.CANCELLED: frozenset(),
    State.LOST: frozenset(),
}

FINAL: frozenset[State] = frozenset(state for state, moves in MOVES.items() if not moves)


def check_move(old: State, new: State) -> None:
    """Raise ValueError unless the move is in the table."""
    if new not in MOVES[old]:
        raise ValueError(f"a job cannot move from {old} to {new}")
