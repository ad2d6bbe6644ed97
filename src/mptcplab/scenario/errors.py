"""Errors of a scenario: one line each, and all of a file at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Final

from mptcplab.plain_text import printable

Path = tuple[str, ...]

_LONGEST: Final = 1000
"""Characters of a part of an error."""
_MOST_ERRORS: Final = 100
"""Of one file, after which no more are looked for."""
_MOST_COMPARED: Final = 1000
"""Known names among which the nearest is looked for, and characters of the name."""


class ScenarioError(ValueError):
    """Something in a scenario is wrong.

    The text names the file (or the ``--set`` argument), the key (dotted, as in
    ``flows.main.buffer``), what was found, what was expected and, for a name close to a known one,
    a suggestion.  ``errors`` holds the single errors: here this one alone.
    """

    exit_status = 2  # bad input

    def __init__(
        self, file: str, key: str, problem: str, expected: str = "", hint: str = ""
    ) -> None:
        self.file = file
        self.key = _shortened(key)
        self.problem = problem = _shortened(problem)
        self.expected = expected = _shortened(expected)
        self.hint = hint = _shortened(hint)
        self.errors: tuple[ScenarioError, ...] = (self,)
        where = f"{_shortened(file)}: {self.key}" if key else _shortened(file)
        text = f"{where}: {problem}"
        if expected:
            text += f"; expected {expected}"
        if hint:
            text += f" ({hint})"
        super().__init__(printable(text))


def _shortened(text: str) -> str:
    """Return a text of a length that one can read: of a long one the beginning and the end."""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2 - 2
    return f"{text[:half]} … {text[-half:]}"


class CombinedScenarioError(ScenarioError):
    """Several independent errors of one scenario; ``str`` gives one line for each."""

    def __init__(self, errors: Iterable[ScenarioError]) -> None:
        self.errors = tuple(errors)
        first = self.errors[0]
        self.file, self.key, self.problem = first.file, first.key, first.problem
        self.expected, self.hint = first.expected, first.hint
        ValueError.__init__(self, "\n".join(str(error) for error in self.errors))


class Problems:
    """Collects errors, so that one reading of a file reports all independent ones.

    ``origin`` returns the file, or the ``--set``, that a key came from.
    """

    def __init__(self, origin: Callable[[Path], str]) -> None:
        self._origin = origin
        self.errors: list[ScenarioError] = []
        self._texts: set[str] = set()

    def add(self, path: Path, problem: str, expected: str = "", hint: str = "") -> None:
        """Note that the value at ``path`` is wrong; raises the errors where there are too many."""
        error = ScenarioError(self._origin(path), dotted(path), problem, expected, hint)
        if str(error) not in self._texts:
            self._texts.add(str(error))
            self.errors.append(error)
            if len(self.errors) == _MOST_ERRORS:
                more = ScenarioError(error.file, "", "is not read further, after so many errors")
                raise CombinedScenarioError([*self.errors, more])

    def raise_any(self) -> None:
        """Raise the errors: a ScenarioError for one, a CombinedScenarioError for several."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise CombinedScenarioError(self.errors)


def dotted(path: Path) -> str:
    """Return a key as ``--set`` takes it: names that hold a dot are quoted."""
    return ".".join(f'"{part}"' if "." in part or " " in part else part for part in path)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return 'did you mean "x"?' for the closest known name, or an empty string."""
    by_case = {word.lower(): word for word in known}
    if max(len(by_case), len(name)) > _MOST_COMPARED:  # as the time grows with both
        return ""
    close = get_close_matches(name.lower(), list(by_case), n=1, cutoff=0.6)
    return f'did you mean "{by_case[close[0]]}"?' if close else ""


def duplicate(names: Iterable[str]) -> str | None:
    """Return the first name that came before, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def one_of(names: Iterable[str]) -> str:
    """Return names as a list: ``"a", "b" or "c"``."""
    quoted = [f'"{name}"' for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"
