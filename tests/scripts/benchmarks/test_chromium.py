"""experiments.benchmarks.chromium, with a browser that is slow to begin, then stuck."""

import sys

import pytest

from experiments.benchmarks import chromium

pytestmark = pytest.mark.quick

# Has a page when it is asked for its targets a second time; after the command Stop it does nothing.
BROWSER = r"""
import json, os, time
buffer, asked = b"", 0
while chunk := os.read(3, 1 << 16):
    buffer += chunk
    while b"\0" in buffer:
        text, _, buffer = buffer.partition(b"\0")
        command = json.loads(text)
        if command["method"] == "Stop":
            time.sleep(600)
        asked += command["method"] == "Target.getTargets"
        targets = [{"type": "page", "targetId": "1"}] if asked > 1 else []
        result = {"targetInfos": targets, "sessionId": "2", "result": {"value": asked}}
        os.write(4, json.dumps({"id": command["id"], "result": result}).encode() + b"\0")
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    path = tmp_path / "chromium"
    path.write_text(f"#!{sys.executable}\n{BROWSER}")
    path.chmod(0o755)
    monkeypatch.setattr(chromium, "find", lambda: str(path))
    with chromium.Page("about:blank") as page:
        yield page


def test_waits_for_the_first_page(page):
    assert page.evaluate("asked") == 2


def test_a_stuck_browser_is_given_up(page, monkeypatch):
    monkeypatch.setattr(chromium, "PATIENCE", 0.2)
    with pytest.raises(TimeoutError, match=r"^Stop after 0.2 s$"):
        page.call("Stop")
    with pytest.raises(TimeoutError, match=r"^More after 0.2 s$"):
        page.call("More", text="x" * (1 << 20))  # than a pipe holds
