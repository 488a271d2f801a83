"""TensorBoard's own loader reads what zrun writes: two runs, of which the second goes on behind step 3."""
import json
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "build" / "release" / "bin"
MODEL = ROOT / "test" / "Models" / "gpt2-tiny"

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None


@unittest.skipIf(EventAccumulator is None, "tensorboard is not installed")
@unittest.skipUnless((TOOLS / "zrun").exists(), "zrun is not built")
class TensorBoard(unittest.TestCase):
    def test_its_loader_shows_the_steps(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            subprocess.run([TOOLS / "zopt", "--bind=seq=64", "--micro-batch=4", MODEL / "model.onnx", "-o", folder / "plan.mlir"], check=True, capture_output=True)
            for steps in (3, 6):
                subprocess.run([TOOLS / "zrun", folder / "plan.mlir", "--threads", "1", "--data", MODEL / "batch.safetensors", "--steps", str(steps), "--metrics", folder / "m",
                                "--tensorboard", folder / "board", "--checkpoint-dir", folder / "D", "--resume=auto"], check=True, capture_output=True)
            steps = [record for record in map(json.loads, (folder / "m").read_text().splitlines()) if record["event"] == "step"]
            loader = EventAccumulator(str(folder / "board"), size_guidance={"scalars": 0})
            loader.Reload()
            self.assertEqual(len(steps), 6)
            for tag, key in (("Train/Samples/train_loss", "loss"), ("Train/Samples/lr", "lr"), ("zopt/grad_norm", "grad_norm")):
                points = loader.Scalars(tag)
                self.assertEqual([point.step for point in points], [step["samples"] for step in steps])
                for point, step in zip(points, steps):
                    self.assertAlmostEqual(point.value, step[key], delta=1e-6 * abs(step[key]))
                    self.assertAlmostEqual(point.wall_time, step["time"], delta=1)


if __name__ == "__main__":
    unittest.main()
