"""One bell a moment for the senders, and none forgotten."""

from worker.telling import Telling


def test_many_commits_within_a_moment_ring_once_and_once_more_at_the_end() -> None:
    rung: list[int] = []
    telling = Telling(lambda: rung.append(1), moment=3600)
    for _ in range(5):
        telling.committed()
    assert len(rung) == 1
    telling.close()
    telling.close()
    assert len(rung) == 2


def test_a_single_commit_rings_at_once_and_leaves_nothing_to_say() -> None:
    rung: list[int] = []
    telling = Telling(lambda: rung.append(1), moment=3600)
    telling.committed()
    telling.close()
    assert len(rung) == 1


def test_after_a_moment_it_rings_again_at_once() -> None:
    rung: list[int] = []
    telling = Telling(lambda: rung.append(1), moment=0)
    for _ in range(3):
        telling.committed()
    assert len(rung) == 3
