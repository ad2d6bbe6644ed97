"""Headless Chromium, driven over its DevTools protocol on a pair of pipes; nothing else is needed.

A page's errors count: :class:`Browser` keeps what the console, the script and the security policy
complain of.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
_LONGEST_S: Final = 60.0
_ARGUMENTS: Final = (
    "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
)  # fmt: skip


class Browser:
    """One page in one Chromium; ``complaints`` are the errors that it has told of."""

    def __init__(self, width: int = 1280, height: int = 1000) -> None:
        path = next(path for name in PROGRAMS if (path := shutil.which(name)))
        self._folder = Path(tempfile.mkdtemp(prefix="mptcplab-chromium-"))
        self.complaints: list[str] = []
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._rest = b""
        (to_read, self._out), (self._in, to_write) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_read, to_write)]
        os.close(to_read)
        os.close(to_write)
        log = os.open(self._folder / "log", os.O_WRONLY | os.O_CREAT)
        arguments = [path, *_ARGUMENTS, f"--user-data-dir={self._folder}/profile"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        self._process = os.posix_spawn(
            path,
            [*arguments, f"--window-size={width},{height}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ends[0], 3),
                (os.POSIX_SPAWN_DUP2, ends[1], 4),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setpgroup=0,
        )
        for end in (*ends, log):
            os.close(end)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove its profile."""
        os.close(self._out)
        os.close(self._in)
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        for _ in range(50):  # its children are still writing
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._folder.exists():
                return
            time.sleep(0.02)

    # -- the protocol

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        number = self._number
        self._wait(lambda: number in self._answers, method)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _LONGEST_S
        while not done():
            left = end - time.monotonic()
            assert left > 0, f"{what}: no answer; {(self._folder / 'log').read_text()[-2000:]}"
            if select.select([self._in], [], [], left)[0]:
                data = os.read(self._in, 1 << 20)
                assert data, f"the browser ended; {(self._folder / 'log').read_text()[-2000:]}"
                *messages, self._rest = (self._rest + data).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        parameters = message["params"]
        match message["method"]:
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                said = details.get("exception", {}).get("description") or details["text"]
                self.complaints.append(said)
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self._events.append(message)
            case "Page.loadEventFired" | "Page.javascriptDialogOpening":
                self._events.append(message)

    # -- what one does with a page

    def open(self, path: Path) -> float:
        """Open a file, wait until it has loaded and its script is done; return the seconds."""
        begin = time.monotonic()
        self._events.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        self._wait(lambda: self._has("Page.loadEventFired"), "load")
        self.until("document.documentElement.dataset.ready === 'true'")
        self.settle()
        return time.monotonic() - begin

    def _has(self, method: str) -> bool:
        return any(event["method"] == method for event in self._events)

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]

    @property
    def had_dialog(self) -> bool:
        """Whether a script of the page opened a dialog."""
        return self._has("Page.javascriptDialogOpening")

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _LONGEST_S
        while not self.value(expression):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until two frames are drawn."""
        self.value(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => "
            "setTimeout(done, 0))))"
        )

    def size(self, width: int, height: int) -> None:
        """Give the window a size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def prefer(self, scheme: str, media: str = "") -> None:
        """Prefer a colour scheme ("light", "dark"), for a medium ("print")."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def box(self, selector: str, number: int = 0) -> tuple[float, float, float, float]:
        """Scroll an element into view; return left, top, width and height in the window."""
        left, top, width, height = self.value(
            f"(() => {{ const node = document.querySelectorAll({json.dumps(selector)})[{number}];"
            "node.scrollIntoView({block: 'center'}); const box = node.getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        self.settle()
        return left, top, width, height

    def mouse(self, kind: str, x: float, y: float, pressed: bool = False) -> None:
        """Send one mouse event: mouseMoved, mousePressed or mouseReleased."""
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1,
            button="left" if pressed or kind != "mouseMoved" else "none",
            buttons=1 if pressed else 0,
        )  # fmt: skip

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the left button."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, pressed=True)
        for part in (0.3, 0.7, 1.0):
            x, y = (a + (b - a) * part for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, pressed=True)
        self.mouse("mouseReleased", *end)
        self.settle()

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)
        self.settle()

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a picture of the window, or of the whole page, as PNG."""
        if whole:
            height = self.value("document.documentElement.scrollHeight")
            self.size(1280, min(int(height) + 20, 12000))
            self.settle()
            self.settle()
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        data = self.call("Page.printToPDF", printBackground=True)["data"]
        return base64.b64decode(data)
