"""The report in a browser: it fits wide and narrow windows, loads nothing, follows the dark scheme, and filters."""

import base64
import json
import re
import shutil
import subprocess

import pytest
from report_records import site

from nbcore import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DARK = "--blink-settings=preferredColorScheme=0"
PROBE = """<script>addEventListener("load", () => {
  const root = document.documentElement, shown = () =>
    [...document.querySelectorAll(".evidence tbody tr")].filter(row => row.getClientRects().length).length;
  const click = id => { document.getElementById(id).checked = true; return shown(); };
  const seen = { closed: root.scrollWidth, rows: [shown(), click("only-kmat"), click("only-not-supported")] };
  document.querySelectorAll("details").forEach(box => box.open = true);
  const wide = [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth);
  Object.assign(seen, { window: innerWidth, opened: root.scrollWidth, boxes: wide.length,
    ink: getComputedStyle(document.body).color, page: getComputedStyle(document.body).backgroundColor,
    loaded: performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 5)) });
  parent.postMessage(btoa(JSON.stringify(seen)), "*");
});</script>"""
FRAME = """<!doctype html><script>  // a window has at least 500 px, a frame may have fewer
addEventListener("message", told => document.documentElement.dataset.seen = told.data);
</script><iframe src="probed.html" style="border: 0; width: {width}px; height: 1000px"></iframe>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


def look(page, width: int, *options: str) -> dict:
    """What a browser sees of the page in a frame of this width."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={page.parent / 'browser'}", "--window-size=1400,1200", "--virtual-time-budget=5000"]
    command += [*options, "--dump-dom"]
    dumped = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(base64.b64decode(re.search(r'data-seen="([^"]+)"', dumped.stdout)[1]))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(tmp_path, width):
    seen = look(report.write(site(tmp_path)), width)
    assert seen["window"] == width
    assert seen["closed"] <= width
    assert seen["opened"] <= width
    assert seen["boxes"] > 0  # wide tables scroll in their own box
    assert all(name == "data:" for name in seen["loaded"])
    assert seen["rows"] == [6, 3, 1]


def test_the_dark_scheme_is_followed(tmp_path):
    page = report.write(site(tmp_path))
    light, dark = look(page, 1280), look(page, 1280, DARK)
    brightness = [sum(map(int, re.findall(r"\d+", seen[name]))) for seen in (light, dark) for name in ("ink", "page")]
    assert brightness[0] < 200 < 600 < brightness[1]
    assert brightness[3] < 200 < 600 < brightness[2]
