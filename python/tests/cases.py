"""What the tests here share: where things lie, a folder for each test, and the build's tools."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("ZOPT_BIN", ROOT / "build/release/bin"))
MODEL = ROOT / "test/Models/gpt2-tiny"
sys.path.insert(0, str(ROOT / "python"))  # the packages as they lie in the repository

needs_tools = unittest.skipUnless((TOOLS / "zopt").exists() and (TOOLS / "zrun").exists(), f"zopt and zrun are not built in {TOOLS}")


class Case(unittest.TestCase):
    """A test with an empty folder of its own."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)

    def tool(self, name, *arguments, env=None):
        """Runs zopt or zrun in the folder, which must succeed; gives back what it said."""
        if not (TOOLS / name).exists():
            self.skipTest(f"{TOOLS / name} is not built")
        done = subprocess.run([str(TOOLS / name), *map(str, arguments)], capture_output=True, text=True, cwd=self.folder, env=env, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        return done.stderr
