"""Undoing what a journal says: all of it, whatever goes wrong with a part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mptcplab.remote.agent import journal as module
from mptcplab.remote.agent.journal import Journal


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr(module, "FOLDER", tmp_path / "journals")
    journal = Journal()
    journal.begin({"who": "me", "since": "now"})
    return journal


def writing(path: Path, text: str) -> list[str]:
    return ["write", str(path), text]


def test_the_last_change_is_undone_first_and_nothing_remains(
    journal: Journal, tmp_path: Path
) -> None:
    value = tmp_path / "value"
    journal.note([writing(value, "first")])
    journal.note([writing(value, "second")])
    assert journal.undo() == []
    assert value.read_text() == "first"
    assert not journal.path.parent.exists()
    assert journal.read() == (None, [])


def test_a_change_whose_line_is_torn_was_not_begun(journal: Journal, tmp_path: Path) -> None:
    value = tmp_path / "value"
    journal.note([writing(value, "first")])
    line = json.dumps([writing(value, "second")])
    with journal.path.open("a") as file:
        file.write(line[:-3])
    _, undoings = journal.read()
    assert undoings == [[writing(value, "first")]]


@pytest.mark.parametrize(
    "fails", [["false"], ["no-such-program"], ["write"], [], ["write", "/no/such/path", "1"]]
)
def test_what_cannot_be_undone_keeps_nothing_else_from_it(
    journal: Journal, tmp_path: Path, fails: list[str]
) -> None:
    value = tmp_path / "value"
    journal.note([writing(value, "as it was")])
    journal.note([fails])
    (problem,) = journal.undo()
    assert problem
    assert value.read_text() == "as it was"
    assert not journal.path.exists()


def test_a_command_that_was_killed_is_given_once_more(journal: Journal, tmp_path: Path) -> None:
    begun, done = tmp_path / "begun", tmp_path / "done"
    script = f"test -e {begun} && exec touch {done}; touch {begun}; kill -9 $$"
    journal.note([["sh", "-c", script]])
    assert journal.undo() == []
    assert done.exists()


def test_a_command_that_takes_too_long_is_given_once_more(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMMAND_S", 0.5)
    begun, done = tmp_path / "begun", tmp_path / "done"
    script = f"test -e {begun} && exec touch {done}; touch {begun}; exec sleep 60"
    journal.note([["sh", "-c", script]])
    assert journal.undo() == []
    assert done.exists()


def test_nothing_remains_of_a_journal_that_was_to_stand(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_self: Path, _target: Path) -> None:
        raise OSError("as if the agent were killed here")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(OSError, match="killed here"):
            journal.keep_standing("me")
    assert len(list(journal.path.parent.iterdir())) == 2
    journal.undo()
    assert not journal.path.parent.exists()


def test_a_journal_begins_beside_one_that_ends(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder goes with another namespace's journal, just before this one is written."""
    journal.undo()
    make: Callable[..., None] = Path.mkdir
    made: list[Path] = []

    def made_and_removed(path: Path, mode: int, exist_ok: bool) -> None:
        make(path, mode, exist_ok=exist_ok)
        made.append(path)
        if len(made) == 1:
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", made_and_removed)
    journal.begin({"who": "me", "since": "now"})
    assert journal.read() == ({"who": "me", "since": "now"}, [])
