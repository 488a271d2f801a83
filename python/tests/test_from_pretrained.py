"""Trained weights home: `zrun ckpt export --names=source` and transformers' from_pretrained, `--model` and onnxruntime. python3 -m unittest discover -s python/tests; runs zopt and zrun of build/release, or of ZOPT_BIN."""
import contextlib
import io
import unittest

from cases import Case

try:
    import onnxruntime
    import torch
    import transformers
    from safetensors.torch import load_file, save_file
except ImportError as error:
    raise unittest.SkipTest(str(error))

from zopt_export.__main__ import main

SEQ, ROWS = 16, 8
GPT2 = transformers.GPT2Config(vocab_size=96, n_positions=32, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
LLAMA = transformers.LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0)


class Home(Case):
    def train(self, config):
        """Six steps at stage 3 on two ranks; a forward plan's logits with the weights that zrun has at their end."""
        torch.manual_seed(4)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(self.folder / "hf")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(main(["--hf", str(self.folder / "hf"), "-o", str(self.folder / "model.onnx"), "--seq", str(SEQ)]), 0)
        self.ids = torch.randint(96, (ROWS, SEQ))
        save_file({"input_ids": self.ids, "labels": self.ids.roll(-1, 1)}, str(self.folder / "data.safetensors"))
        self.tool("zopt", "--zero-stage=3", "--micro-batch=2", "--lr=0.01", "--loss=cross_entropy", "model.onnx", "-o", "plan.mlir")
        self.tool("zrun", "plan.mlir", "--nproc", 2, "--comm=local", "--threads", 1, "--data", "data.safetensors", "--steps", 6, "--checkpoint-dir", "D", "--weights-out", "w", "--target", "cpu")
        self.tool("zopt", "--mode=forward", "--micro-batch=2", "model.onnx", "-o", "forward.mlir")
        self.tool("zrun", "forward.mlir", "--comm=local", "--threads", 1, "--data", "data.safetensors", "--weights", "w", "--outputs", "logits", "--target", "cpu")
        outputs = load_file(str(self.folder / "logits"))
        return outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))

    def logits_of(self, folder, dtype):
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            self.assertFalse(info[kind], f"{kind}: {info[kind]}")
        with torch.no_grad():
            return model.eval()(self.ids).logits.float(), model

    def check(self, config):
        ours = self.train(config)
        untrained, _ = self.logits_of(self.folder / "hf", torch.float32)
        self.assertGreater((untrained - ours).abs().max(), 0.1, "training changed nothing")
        for name, more, dtype, tolerance in (("whole", [], torch.float32, 2e-6), ("bf16", ["--dtype=bf16"], torch.bfloat16, 3e-2)):
            home = self.folder / name
            self.tool("zrun", "ckpt", "export", "D", home, "--names=source", "--shard-bytes=20000", *more)
            self.assertGreater(len(list(home.glob("*.safetensors"))), 3)
            (home / "config.json").write_text((self.folder / "hf/config.json").read_text())
            theirs, model = self.logits_of(home, dtype)
            worst = float((theirs - ours).abs().max() / ours.abs().max())
            self.assertLess(worst, tolerance, name)
        self.assertEqual({p.dtype for p in model.parameters()}, {torch.bfloat16})
        return ours

    def test_gpt2(self):
        """Heads tied to the table, and Conv1D's layouts."""
        ours = self.check(GPT2)
        # One file, which from_pretrained finds by its name.
        home = self.folder / "one"
        home.mkdir()
        self.tool("zrun", "ckpt", "export", "D", home / "model.safetensors", "--names=source")
        (home / "config.json").write_text((self.folder / "hf/config.json").read_text())
        theirs, _ = self.logits_of(home, torch.float32)
        self.assertLess(float((theirs - ours).abs().max() / ours.abs().max()), 2e-6)

    def test_llama(self):
        """Grouped heads, and transposed products."""
        self.check(LLAMA)

    def test_onnx_with_external_data(self):
        """What a model of more than 1 GiB does, at a lower threshold."""
        ours = self.train(GPT2)
        self.tool("zrun", "ckpt", "export", "D", "trained.onnx", "--model", "model.onnx", "--inline-bytes=1000")
        self.assertGreater((self.folder / "trained.onnx.data").stat().st_size, 100000)
        session = onnxruntime.InferenceSession(str(self.folder / "trained.onnx"), providers=["CPUExecutionProvider"])
        theirs = torch.from_numpy(session.run(None, {i.name: self.ids.numpy() for i in session.get_inputs()})[0])
        self.assertLess(float((theirs - ours).abs().max() / ours.abs().max()), 2e-6)


if __name__ == "__main__":
    unittest.main()
