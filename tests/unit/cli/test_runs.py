"""``mptcplab runs``: what is in a folder, and what is removed of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mptcplab.cli.main import main


@pytest.fixture(name="folder")
def folder_of_runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    assert main(["run", "A", "--duration", "100ms", "--out", str(folder / "first")]) == 0
    assert main(["run", "A", "--duration", "100ms", "--out", str(folder / "deep" / "second")]) == 0
    metadata = json.loads((folder / "first" / "run.json").read_text())
    (folder / "first" / "run.json").write_text(json.dumps({**metadata, "valid": False}))
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    (folder / "notes.txt").touch()
    return folder


def test_runs_are_listed_with_what_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["runs", str(folder)]) == 0
    told = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line for line in told.splitlines()}
    assert "NOT VALID" in lines["first"]
    assert "valid" in lines["deep/second"]
    assert "unreadable run" in lines["broken"]
    assert told.splitlines()[-1].startswith("3 in ")
    assert main(["runs", str(folder), "--json", "--invalid"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert only["scenario"] == "A"
    assert only["size_bytes"] > 1000


def test_what_is_chosen_is_removed_and_nothing_else(folder: Path) -> None:
    assert main(["runs", str(folder), "--invalid", "--remove"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["broken", "deep", "notes.txt"]
    os.utime(folder / "deep" / "second" / "run.json", (0, 0))
    assert main(["runs", str(folder), "--older-than", "100", "--remove"]) == 0
    assert not (folder / "deep" / "second").exists()
    assert (folder / "broken").exists()


def test_all_runs_are_not_removed_by_one_word(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(folder), "--remove"]) == 2
    assert "would remove every run" in capsys.readouterr().err
    assert (folder / "first").exists()
    assert main(["runs", str(folder / "nowhere")]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["repoduce", "A"], 'no command "repoduce"; did you mean "reproduce"?'),
        (["xyzzy"], 'no command "xyzzy"\n'),
        (["run", "A", "--durration", "2s"], 'did you mean "--duration"?'),
    ],
)
def test_a_mistyped_word_is_guessed(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
