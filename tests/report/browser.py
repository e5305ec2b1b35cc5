"""Opens a page in a real browser, without a network: a picture of it, or what a script reads off it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

_NAMES = ("chromium", "google-chrome", "chromium-browser", "google-chrome-stable")
_QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --no-proxy-server"
).split()
# No name resolves: whatever a page tried to fetch would fail.
_OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND"


def program() -> str:
    """The browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(_NAMES)} is on PATH")
    return found


def colours_of(page: Path, out: Path, width: int, height: int, *, dark: bool = False) -> dict[str, float]:
    """Share of the pixels that have each colour "#rrggbb" when the page is drawn; the picture is left in ``out``."""
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _run([*theme, f"--window-size={width},{height}", f"--screenshot={out}", page.resolve().as_uri()])
    pixels = np.rint(255 * imread(out)[..., :3]).astype(np.int64)
    assert pixels.shape == (height, width, 3)
    values, counts = np.unique(pixels @ (1 << 16, 1 << 8, 1), return_counts=True)
    return {f"#{value:06x}": count / (height * width) for value, count in zip(values.tolist(), counts, strict=True)}


def read_off(page: Path, script: str, width: int) -> str:
    """The value of a JavaScript expression on a copy of the page laid out in a window of this width."""
    text = page.read_text(encoding="utf-8")
    probe = f"<script>document.body.innerHTML = '<pre id=probe>' + ({script}) + '</pre>'</script>"
    copy = page.with_name(f"probe-{width}.html")
    copy.write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    dom = _run([f"--window-size={width},900", "--dump-dom", copy.resolve().as_uri()])
    return re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)[1]


def _run(arguments: list[str]) -> str:
    command = [program(), *_QUIET, _OFFLINE]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [*command, f"--user-data-dir={profile}", *arguments], capture_output=True, text=True, timeout=180
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
