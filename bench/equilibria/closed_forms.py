"""Where the literature says that congestion controls settle, with random loss on each path.

Windows are in segments, rates in segments per second; a path is its loss probability per packet
and its round-trip time. The mean-field forms take the window for its mean; independent losses
make it fluctuate, and the time average of Reno's is then 1.3098 instead of 1.4142 / sqrt(p).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

RENO_CONSTANT = 1.3098
"""Ott, Kemperman, Mathis: "The Stationary Behavior of Ideal TCP Congestion Avoidance" (1996)."""
MEAN_FIELD = sqrt(2.0)
"""Balance of +1/w per packet against w/2 per loss: w = sqrt(2 / p)."""
FLUCTUATION = RENO_CONSTANT / MEAN_FIELD
"""What fluctuation leaves of Reno's mean-field window; applied to the coupled ones as well."""


@dataclass(frozen=True, slots=True)
class LossyPath:
    """A path that loses each packet with probability ``loss``, with nothing queued."""

    loss: float
    rtt_ms: float

    @property
    def worth(self) -> float:
        """q / rtt^2 with q = 1 / loss: the square of TCP's rate, up to a constant."""
        return 1.0 / self.loss / self.rtt_ms**2


def reno_rate(path: LossyPath) -> float:
    """Return TCP's rate: 1.3098 / (rtt sqrt(p))."""
    return RENO_CONSTANT / sqrt(path.loss) / path.rtt_ms * 1000.0


def lia_rates(paths: list[LossyPath]) -> list[float]:
    """Return the rates under LIA (RFC 6356; Wischik et al., NSDI 2011), caps included.

    Without caps w_r = q_r sqrt(2 M) / S with M = max q/rtt^2 and S = sum q/rtt, so the total rate
    is TCP's on the best path. The cap 1/w_r binds where M q_r > S^2; then w_r = sqrt(2 q_r) and
    the others balance alpha / w_total against p w / 2 given that.
    """
    capped = [False] * len(paths)
    windows = _linked_windows(paths, capped)
    while True:
        alpha_share = _lia_share(paths, windows)
        binding = [alpha_share * window > 1.0 + 1e-9 for window in windows]
        if not any(new and not old for new, old in zip(binding, capped, strict=True)):
            break
        capped = [new or old for new, old in zip(binding, capped, strict=True)]
        windows = _linked_windows(paths, capped)
    return _rates(paths, windows)


def _lia_share(paths: list[LossyPath], windows: list[float]) -> float:
    """Return alpha / w_total."""
    best = max(window / path.rtt_ms**2 for path, window in zip(paths, windows, strict=True))
    rates = sum(window / path.rtt_ms for path, window in zip(paths, windows, strict=True))
    return best / rates**2


def _linked_windows(paths: list[LossyPath], capped: list[bool]) -> list[float]:
    """Solve w_r = 2 q_r alpha / w_total for the paths that are not capped, by iteration."""
    windows = [sqrt(2.0 / path.loss) for path in paths]
    for _ in range(2000):
        share = _lia_share(paths, windows)
        for index, path in enumerate(paths):
            if not capped[index]:
                windows[index] = sqrt(windows[index] * 2.0 * share / path.loss)
    return windows


def balia_rates(paths: list[LossyPath]) -> list[float]:
    """Return the rates under BALIA (Peng, Walid, Low: fixed point of the draft's rules).

    The best path balances as x_total^2 = 2 q / rtt^2; another, worth m < 1 of it, where
    m (1 + a)(4 + a) / 10 = min(a, 1.5), which has its root above 1.5.
    """
    best = max(path.worth for path in paths)
    alphas = []
    for path in paths:
        ratio = path.worth / best
        alphas.append(1.0 if ratio > 1.0 - 1e-9 else (-5.0 + sqrt(9.0 + 60.0 / ratio)) / 2.0)
    total = sqrt(2.0 * best)
    first = total / sum(1.0 / alpha for alpha in alphas)
    return [FLUCTUATION * first / alpha * 1000.0 for alpha in alphas]


def olia_rates(paths: list[LossyPath]) -> list[float]:
    """Return the rates under OLIA in the limit of large windows: all on the best paths.

    Khalili et al. (CoNEXT 2012), theorem 1; the floor of one segment keeps others at 1 / rtt.
    """
    best = max(path.worth for path in paths)
    count = sum(1 for path in paths if path.worth > best * (1.0 - 1e-9))
    total = FLUCTUATION * sqrt(2.0 * best) * 1000.0
    return [
        total / count if path.worth > best * (1.0 - 1e-9) else 1000.0 / path.rtt_ms
        for path in paths
    ]


def _rates(paths: list[LossyPath], windows: list[float]) -> list[float]:
    return [
        FLUCTUATION * window / path.rtt_ms * 1000.0
        for path, window in zip(paths, windows, strict=True)
    ]
