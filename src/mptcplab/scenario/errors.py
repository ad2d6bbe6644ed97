"""The one error a scenario can cause, and how it reads."""

from __future__ import annotations

from difflib import get_close_matches


class ScenarioError(ValueError):
    """Something in a scenario is wrong.

    Says the file, the key (dotted, as in ``flows.main.buffer``), what was found, what was expected
    and, where a name is close to a right one, the suggestion.
    """

    def __init__(
        self, file: str, key: str, problem: str, expected: str = "", hint: str = ""
    ) -> None:
        self.file = file
        self.key = key
        self.problem = problem
        self.expected = expected
        self.hint = hint
        text = f"{file}: {key}: {problem}" if key else f"{file}: {problem}"
        if expected:
            text += f"; expected {expected}"
        if hint:
            text += f" ({hint})"
        super().__init__(text)


def nearest(name: str, known: list[str]) -> str:
    """Return 'did you mean "x"?' for the closest known name, or an empty string."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""
