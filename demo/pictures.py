"""Pictures of the review page, for the documents: `make pictures`, after `make demo`. Needs Chromium.

docs/review.png         on a laptop
docs/review-phone.png   on a phone
docs/review-dark.png    in dark colours
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from demo.review_server import Running, review_server
from demo.stage_hand import StoryError, free_port, say

LOOKS: dict[str, dict[str, Any]] = {
    "review": {"viewport": {"width": 1280, "height": 960}, "color_scheme": "light"},
    "review-phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
    "review-dark": {"viewport": {"width": 1280, "height": 960}, "color_scheme": "dark"},
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]


def main() -> int:
    """Take all pictures."""
    program = shutil.which("chromium")
    if program is None:
        say("make pictures: expected Chromium on the PATH, got none: apt-get install chromium")
        return 2
    try:
        with review_server(free_port()) as running:
            _take(program, running)
    except StoryError as failure:
        say(f"[bold red]no pictures:[/] {failure}")
        return 1
    return 0


def _take(program: str, running: Running) -> None:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - a tool of developers

    account: Any = {"username": "alice", "password": running.passwords["alice"]}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for name, look in LOOKS.items():
            context = browser.new_context(http_credentials=account, **look)
            page = context.new_page()
            page.goto(running.page)
            page.wait_for_load_state("networkidle")
            place = Path("docs") / f"{name}.png"
            page.screenshot(path=place)
            say(f"{place}  {place.stat().st_size // 1024} kB")
            context.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
