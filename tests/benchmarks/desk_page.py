"""How long after the last move of a slider the page shows what it does, in headless Chromium.

Run it from the checkout: ``python tests/benchmarks/desk_page.py``.
A slider is moved so many times a second, for two seconds; what counts is the time from the last
move to the frame that shows its answer, the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from benchmarks.throughput import made
from browser import Browser
from desks import RunningDesk

from gtmar import spec as specs

#: Accounts, features, moves a second, and the milliseconds that the last answer may take.
CASES = ((5_000, 14, 20, 100), (1_000_000, 14, 3, 700))
DRAG = """
const [each, count, done] = arguments;
const slider = document.querySelector("input[type=range]:not([disabled])");
const name = slider.closest(".weight").dataset.name;
const answered = window.answered = [];
const real = window.real = window.real ?? window.fetch;
window.fetch = async (path, options) => {
  const answer = await real(path, options);
  if (path === "measure")
    answer.clone().text().then(() => answered.push(JSON.parse(options.body).weights[name]));
  return answer;
};
(async () => {
  let at = 0;
  for (let move = 0; move < count; move++) {
    slider.value = Number(slider.min) + (Number(slider.value) - Number(slider.min) + 1)
      % (slider.max - slider.min + 1);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    at = performance.now();
    await new Promise((next) => setTimeout(next, move < count - 1 ? each : 0));
  }
  const look = () => answered.at(-1) === Number(slider.value)
    ? requestAnimationFrame(() => done(performance.now() - at)) : setTimeout(look, 1);
  look();
})();
"""


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--most", type=int, default=1_000_000, help="accounts of the largest case")
    given = asked.parse_args()
    for accounts, features, pace, limit in CASES:
        if accounts > given.most:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            table, spec = made(accounts, features)
            table.write_parquet(folder / "accounts.parquet")
            (folder / "spec.yaml").write_text(specs.to_yaml(spec), "utf-8")
            words = ("--data", "accounts.parquet", "--spec", "spec.yaml", "--read-only")
            with RunningDesk(folder, *words, wait=600) as desk, Browser() as browser:
                browser.driver.set_script_timeout(120)
                browser.driver.get(desk.address)
                browser.driver.get(f"{desk.origin}/")
                took = [
                    browser.driver.execute_async_script(DRAG, 1000 / pace, 2 * pace)
                    for _ in range(given.rounds + 1)
                ][1:]
        print(
            f"{accounts:,} accounts, {pace} moves a second: last answer after "
            f"{statistics.median(took):.0f} ms (longest {max(took):.0f} ms, aim {limit} ms)",
            flush=True,
        )


if __name__ == "__main__":
    main()
