"""Errors of a scenario: one line each, and all of a file at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

from mptcplab.plain_text import printable

Path = tuple[str, ...]


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
        self.key = key
        self.problem = problem
        self.expected = expected
        self.hint = hint
        self.errors: tuple[ScenarioError, ...] = (self,)
        text = f"{file}: {key}: {problem}" if key else f"{file}: {problem}"
        if expected:
            text += f"; expected {expected}"
        if hint:
            text += f" ({hint})"
        super().__init__(printable(text))


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

    def add(self, path: Path, problem: str, expected: str = "", hint: str = "") -> None:
        """Note that the value at ``path`` is wrong."""
        error = ScenarioError(self._origin(path), dotted(path), problem, expected, hint)
        if str(error) not in map(str, self.errors):
            self.errors.append(error)

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
    close = get_close_matches(name.lower(), list(by_case), n=1, cutoff=0.6)
    return f'did you mean "{by_case[close[0]]}"?' if close else ""


def one_of(names: Iterable[str]) -> str:
    """Return names as a list: ``"a", "b" or "c"``."""
    quoted = [f'"{name}"' for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"
