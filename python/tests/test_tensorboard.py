"""TensorBoard's own loader reads what zrun writes: two runs, of which the second goes on behind step 3."""
import json
import unittest

from cases import MODEL, Case, needs_tools

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None


@unittest.skipIf(EventAccumulator is None, "tensorboard is not installed")
@needs_tools
class TensorBoard(Case):
    def test_its_loader_shows_the_steps(self):
        folder = self.folder
        self.tool("zopt", "--bind=seq=64", "--micro-batch=4", MODEL / "model.onnx", "-o", "plan.mlir")
        for steps in (3, 6):
            self.tool("zrun", "plan.mlir", "--threads", 1, "--data", MODEL / "batch.safetensors", "--steps", steps, "--metrics", "m", "--tensorboard", "board", "--checkpoint-dir", "D", "--resume=auto")
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
