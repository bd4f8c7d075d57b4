"""A headless Chromium, driven by selenium, for pages that must be seen to be judged.

Debian's packages `chromium` and `chromium-driver` bring both programs.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["DRIVER", "Browser", "Seen"]

BROWSER = shutil.which("chromium")
DRIVER = shutil.which("chromedriver") if BROWSER else None
#: No sandbox, since tests may run as root; nothing that Chromium does by itself in the background.
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass(frozen=True)
class Seen:
    """What happened while a page was loaded."""

    #: Messages of the console, with their level.
    console: list[str]
    #: URLs asked for, the page's own left out.
    requests: list[str]


class Browser:
    """One Chromium with an empty profile of its own; a context manager."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="gtmar-chromium-")
        options = Options()
        options.binary_location = str(BROWSER)
        for flag in (*_FLAGS, f"--user-data-dir={self._profile.name}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(str(DRIVER)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.driver.quit()
        self._profile.cleanup()

    def open(
        self,
        page: Path,
        *,
        width: int = 1280,
        scheme: str = "light",
        script: bool = True,
        anchor: str = "",
    ) -> Seen:
        """Load a page at a width in CSS pixels, light or dark."""
        self._tell("Emulation.setScriptExecutionDisabled", value=not script)
        self.size(width, 900, scheme)
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.logged(log)
        url = page.resolve().as_uri()
        self.driver.get(f"{url}#{anchor}" if anchor else url)
        told = [json.loads(e["message"])["message"] for e in self.logged("performance")]
        asked = [
            message["params"]["request"]["url"]
            for message in told
            if message["method"] == "Network.requestWillBeSent"
        ]
        console = [f"{e['level']} {e['message']}" for e in self.logged("browser")]
        return Seen(console, [a for a in asked if a not in (url, "about:blank")])

    def size(self, width: int, height: int, scheme: str) -> None:
        """Show pages at a size in CSS pixels, light or dark."""
        self._tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self._show(scheme)

    def by_day_and_night(self) -> Iterator[str]:
        """Show the page that is open light, then dark, without loading it again; yield which."""
        for scheme in ("light", "dark"):
            self._show(scheme)
            dark = self.ask("return matchMedia('(prefers-color-scheme: dark)').matches")
            assert dark == (scheme == "dark")
            yield scheme

    def _show(self, scheme: str) -> None:
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self._tell("Emulation.setEmulatedMedia", media="screen", features=media)

    def ask(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def visible(self, selector: str) -> int:
        """Count elements that are seen; works without script in the page too."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return sum(element.is_displayed() for element in found)

    def tab(self) -> Any:
        """Go to the next element by keyboard; return its text and the style of its outline."""
        ActionChains(self.driver).send_keys(Keys.TAB).perform()
        return self.ask(
            "const e = document.activeElement;"
            "return {text: e.textContent.trim(), outline: getComputedStyle(e).outlineStyle}"
        )

    def press_enter(self) -> None:
        """Press the enter key where the focus is."""
        ActionChains(self.driver).send_keys(Keys.ENTER).perform()

    def print_media(self) -> None:
        """Show the page as it would be printed."""
        self._tell("Emulation.setEmulatedMedia", media="print")

    def shoot(self, path: Path) -> None:
        """Take a picture of the whole page."""
        taken = self._tell("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def picture(self) -> bytes:
        """Return what is in sight as a small WebP picture."""
        taken = self._tell("Page.captureScreenshot", format="webp", quality=60)
        return base64.b64decode(taken["data"])

    def logged(self, kind: str) -> Any:
        """Return what the browser's `browser` or `performance` log has since it was last asked."""
        # Selenium gives this method no types.
        read: Any = self.driver.get_log
        return read(kind)

    def _tell(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)
