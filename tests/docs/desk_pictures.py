"""Takes the pictures of docs/desk.md, with Chromium.

Run it by `python tests/docs/desk_pictures.py`. The demo's table and first spec, two weights
moved by keyboard, nothing recorded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from browser import Browser
from desks import RunningDesk
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
#: By name: width, height, light or dark, and the section that is in sight.
TAKEN = {
    "desk": (1280, 900, "light", ""),
    "desk-moves": (1280, 900, "dark", "details"),
    "desk-phone": (390, 844, "light", ""),
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = [sys.executable, "-m", "gtmar", "demo", "--folder", str(folder), "--quiet"]
        subprocess.run(words, check=True, capture_output=True)
        opened = ("--data", "accounts.parquet", "--spec", "spec.yaml", "--author", "Ada")
        with RunningDesk(folder, *opened) as desk, Browser() as browser:
            browser.driver.get(desk.address)
            for name, (width, height, scheme, section) in TAKEN.items():
                browser.size(width, height, scheme)
                browser.driver.get(f"{desk.origin}/")
                for weight, key, times in (("0", Keys.ARROW_RIGHT, 12), ("7", Keys.ARROW_LEFT, 6)):
                    slider = browser.driver.find_element(By.ID, f"slider-{weight}")
                    slider.send_keys(*[key] * times)
                time.sleep(3)
                browser.ask("document.activeElement.blur()")
                if section:
                    browser.ask("document.getElementById(arguments[0]).scrollIntoView()", section)
                else:
                    browser.ask("scrollTo(0, 0)")
                time.sleep(1)
                (PICTURES / f"{name}.webp").write_bytes(browser.picture())


if __name__ == "__main__":
    main()
