"""`python -m tests.take_screenshots http://127.0.0.1:3000`: the pictures of docs/dagster-tour.md, from a running platform's UI.

By a Chromium without a window, where there is one, over its debugging port: the UI polls without end, so that no page is ever
done by itself. Each picture is at most 200 kB; what is bigger leaves the old one, and is said. More arguments: only these.
"""

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import connect

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
MOST_BYTES = 200_000
SETTLE_S, STARTED_WITHIN_S = 15.0, 60.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGES = {
    "tour-lineage": "/asset-groups",
    "tour-mart": "/assets/fct_facility_days?view=overview",
    "tour-upstream": "/assets/fct_facility_days?view=lineage&lineageScope=upstream&lineageDepth=3",
    "tour-partitions": "/assets/core_power__settled_prices?view=partitions",
    "tour-checks": "/assets/raw_hcp__switch_journal?view=checks",
    "tour-automation": "/automation",
    "tour-runs": "/runs?q%5B0%5D=tag%3Ahcp%2Fkind%3Dmarts",
}


def main() -> int:
    """Take them all; 1 where one could not be taken."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or len(sys.argv) < 2:
        sys.stderr.write(f"needs one of {', '.join(BROWSERS)} and the UI's address: {__doc__}\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="hcp-tour-", ignore_cleanup_errors=True) as folder:
        argv = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
            f"--user-data-dir={folder}", "--window-size=1400,900",
        ]  # fmt: skip
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                port = _port(Path(folder) / "DevToolsActivePort")
                return max(_take(port, sys.argv[1].rstrip("/"), name) for name in sys.argv[2:] or PAGES)
            finally:
                process.terminate()


def _port(path: Path) -> int:
    deadline_s = time.monotonic() + STARTED_WITHIN_S
    while not path.exists() or not path.read_text():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the browser told no debugging port within {STARTED_WITHIN_S:.0f} s")
        time.sleep(0.1)
    return int(path.read_text().split()[0])


def _take(port: int, ui: str, name: str) -> int:
    opened = urlopen(Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT"), timeout=30)
    with connect(json.load(opened)["webSocketDebuggerUrl"], max_size=None) as page:
        _ask(page, 1, "Page.navigate", {"url": ui + PAGES[name]})
        time.sleep(SETTLE_S)
        picture = base64.b64decode(_ask(page, 2, "Page.captureScreenshot", {"format": "png"})["data"])
    if len(picture) > MOST_BYTES:
        sys.stderr.write(f"{name} stays as it was: {len(picture):,} bytes, {MOST_BYTES:,} are taken\n")
        return 1
    (IMAGES / f"{name}.png").write_bytes(picture)
    sys.stdout.write(f"{name}: {len(picture):,} bytes\n")
    return 0


def _ask(page: Any, number: int, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    page.send(json.dumps({"id": number, "method": method, "params": parameters}))
    while True:
        told = json.loads(page.recv(timeout=60))
        if told.get("id") == number:
            result: dict[str, Any] = told["result"]
            return result


if __name__ == "__main__":
    sys.exit(main())
