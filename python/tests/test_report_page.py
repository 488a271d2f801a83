"""The page of `zrun report` in a real browser: Debian's chromium, headless, drawn to a picture and to the tree that it has made of the page."""
import json
import math
import re
import shutil
import struct
import subprocess
import unittest
import zlib

from cases import Case, needs_tools
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CURVES = ("loss", "learning rate", "gradient norm, before clipping", "tokens a second", "samples a second", "share of the devices&#39; peak flops (MFU)", "evaluation loss", "evaluation perplexity",
          "evaluation accuracy", "peak memory of a rank")


def records():
    yield {"event": "start", "time": 1.0, "plan": "abc", "nproc": 2, "comm": "mpi", "target": "cpu", "planned_peak": {"device": 4096, "host": 0, "file": 0}, "parameters": 5, "buckets": 1}
    for step in range(1, 41):
        yield {"event": "step", "time": 1.0 + step, "step": step, "epoch": 0, "samples": 8 * step, "tokens": 64 * step, "loss": 2 + math.cos(step / 6), "grad_norm": 1 + step / 10, "lr": 0.001 * step, "skipped": False,
               "step_ms": 2.0, "samples_per_s": 4000.0 + step, "tokens_per_s": 32000.0 + step, "flops": 1e9, "mfu": 0.3 + step / 1000}
        if step % 10 == 0:
            yield {"event": "eval", "time": 1.5 + step, "step": step, "loss": 3 - step / 20, "perplexity": math.exp(3 - step / 20), "accuracy": step / 80, "labels": 64, "samples": 4, "seconds": 0.1}
    yield {"event": "end", "time": 99.0, "steps": 40, "measured_peak": {"device": 4096, "host": 0, "file": 0}, "seconds": 3.0}


def pixels_of(path):
    """Width, height and rows of RGB or RGBA of a PNG as browsers write them: 8 bits, not interlaced."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and color in (2, 6) and not interlaced, (depth, color, interlaced)
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    channels, raw, rows = (3 if color == 2 else 4), zlib.decompress(packed), []
    stride, before = width * channels, bytes(width * channels)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride):
            left, up, corner = (line[x - channels] if x >= channels else 0), before[x], (before[x - channels] if x >= channels else 0)
            if kind == 1:
                line[x] = (line[x] + left) & 255
            elif kind == 2:
                line[x] = (line[x] + up) & 255
            elif kind == 3:
                line[x] = (line[x] + (left + up) // 2) & 255
            elif kind == 4:
                guess = left + up - corner
                nearest = min((left, up, corner), key=lambda value: abs(guess - value))
                line[x] = (line[x] + nearest) & 255
        before = bytes(line)
        rows.append([tuple(before[x:x + 3]) for x in range(0, stride, channels)])
    return width, height, rows


@unittest.skipIf(BROWSER is None, "no chromium is installed (apt-get install chromium)")
@needs_tools
class ReportPage(Case):
    def browse(self, folder, *arguments):
        return subprocess.run([BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile", "--window-size=800,3200", "--force-device-scale-factor=1", *arguments,
                               f"file://{folder}/report.html"], capture_output=True, text=True, timeout=120)

    def test_curves_are_drawn(self):
        folder = self.folder
        (folder / "run.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
        self.tool("zrun", "report", folder / "run.jsonl", "-o", folder / "report.html")
        # The tree that the browser has made of it.
        dumped = self.browse(folder, "--dump-dom")
        self.assertEqual(dumped.returncode, 0, dumped.stderr)
        plots = re.findall(r'<svg [^>]*aria-label="([^"]*)"', dumped.stdout)
        self.assertEqual(plots, [name.replace("&#39;", "'") for name in CURVES])
        self.assertEqual(len(re.findall(r"<polyline ", dumped.stdout)), len(CURVES) - 1)  # memory has bars
        # And what it shows: blue lines in as many places, one below the other, on white.
        shot = self.browse(folder, f"--screenshot={folder}/page.png", "--hide-scrollbars")
        self.assertTrue((folder / "page.png").exists(), shot.stderr)
        width, height, rows = pixels_of(folder / "page.png")
        self.assertEqual(width, 800)
        self.assertEqual(rows[1][1], (255, 255, 255))

        def is_blue(pixel):
            return pixel[2] > 120 and pixel[2] - pixel[0] > 60
        blue = [sum(map(is_blue, row)) for row in rows]
        # A curve of 618 places is at least as many pixels; between plots there is none of them for 30 rows.
        plotted, quiet, total = [], 30, 0
        for count in blue:
            if count:
                if quiet >= 30:
                    plotted.append(0)
                plotted[-1] += count
                quiet = 0
            else:
                quiet += 1
            total += count
        self.assertEqual(len(plotted), len(CURVES), plotted)
        self.assertTrue(all(count >= 400 for count in plotted), plotted)


if __name__ == "__main__":
    unittest.main()
