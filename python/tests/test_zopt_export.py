"""python3 -m unittest discover -s python/tests; scripts/test-python.sh makes what it needs. Runs zopt and zrun of build/release, or of ZOPT_BIN."""
import contextlib
import io
import json
import os
import resource
import struct
import subprocess
import sys
import time
import unittest

import cases
from cases import ROOT

try:
    import onnx
    import torch
    import transformers
    from safetensors.torch import save_file
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise unittest.SkipTest(str(error))

import zopt_export
from zopt_export.__main__ import main

GPT2 = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], vocab_size=96, n_positions=32, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
LLAMA = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=96, hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, bos_token_id=0, eos_token_id=0)
LLAMA_8B = {**LLAMA, "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "max_position_embeddings": 8192, "torch_dtype": "bfloat16"}


class Norms(nn.Module):
    """Tied matrices, zero biases, equal scales, a buffer, batch norm, three kinds of dropout."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=0.3)
        self.drop, self.channels = nn.Dropout(0.2), nn.Dropout2d(0.4)
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.b.weight = self.a.weight
        self.n1, self.n2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.register_buffer("scale", torch.full((8,), 2.0))
        nn.init.zeros_(self.a.bias)

    def forward(self, image):
        x = self.channels(torch.relu(self.norm(self.conv(image)))).mean((2, 3))
        return self.b(self.drop(self.n2(self.a(self.n1(x)) * self.scale)))


class Odd(nn.Module):
    """What cannot be told from a graph: a scalar and a gain of 1 + w that are parameters, a factor and a bias that are none, and a frozen matrix."""

    def __init__(self):
        super().__init__()
        self.frozen, self.head = nn.Linear(8, 8), nn.Linear(8, 4)
        self.gain, self.temperature = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.tensor(1.5))
        self.register_buffer("mean", torch.linspace(0.5, 1.0, 8))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        x = self.frozen(x * self.mean) + torch.arange(8) * torch.tensor([0.1, 0.2]).repeat(4)
        return self.head(torch.tanh(x) * (1 + self.gain)) * self.temperature


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)

    def forward(self, x):
        return self.layer(x)


class Scaled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 3)

    def forward(self, x):
        return self.linear(x)


class Case(cases.Case):
    def run_main(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(a) for a in arguments])
        return code, out.getvalue(), err.getvalue()

    def config(self, values):
        file = self.folder / "config.json"
        file.write_text(json.dumps(values))
        return file

    def initializers(self, file):
        return {t.name: tuple(t.dims) for t in onnx.load(str(file), load_external_data=False).graph.initializer}


class Export(Case):
    def test_parameters_stay_what_they_are(self):
        module = Norms()
        report = zopt_export.export(module, {"image": torch.randn(2, 3, 6, 6)}, self.folder / "m.onnx")
        there = self.initializers(report.path)
        for name, parameter in module.named_parameters():
            self.assertEqual(there.get(name), tuple(parameter.shape), name)
        self.assertNotIn("b.weight", there)
        self.assertEqual(report.tied, {"b.weight": "a.weight"})
        for name in ("scale", "norm.running_mean", "norm.running_var"):
            self.assertIn(name, there)
        self.assertEqual((report.parameters, report.module_parameters), (sum(p.numel() for p in module.parameters()),) * 2)
        self.assertLess(report.difference, 1e-5)
        self.assertEqual(report.inputs, {"image": ["batch", 3, 6, 6]})
        self.assertTrue(module.training)

    def test_training_mode_is_kept(self):
        zopt_export.export(Norms(), {"image": torch.randn(2, 3, 6, 6)}, self.folder / "m.onnx")
        model = onnx.load(str(self.folder / "m.onnx"))
        norm, = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in norm.attribute}
        self.assertEqual((attributes["training_mode"], round(attributes["momentum"], 6), len(norm.output)), (1, 0.7, 3))
        self.assertEqual(sum(n.op_type == "Dropout" for n in model.graph.node), 2)
        onnx.checker.check_model(model, full_check=True)
        for make in (Attention,):
            report = zopt_export.export(make(), {"x": torch.randn(2, 5, 16)}, self.folder / "a.onnx")
            self.assertEqual(report.dropouts, 4)  # attention's, two residuals', the feed-forward's
        report = zopt_export.export(Norms(), {"image": torch.randn(2, 3, 6, 6)}, self.folder / "e.onnx", train=False)
        self.assertEqual((report.dropouts, report.norms), (0, 0))

    def test_a_convolution_without_bias(self):
        for module, shape in ((torch.nn.Conv3d(3, 8, 2, bias=False), (2, 3, 4, 5, 6)), (torch.nn.Conv2d(3, 8, 2, bias=False), (2, 3, 5, 6))):
            report = zopt_export.export(module, {"input": torch.randn(shape)}, self.folder / "m.onnx")
            self.assertEqual(list(self.initializers(report.path)), ["weight"])
            self.assertLess(report.difference, 1e-5)

    def test_dropout_of_attention_by_sdpa(self):
        for attention in ("sdpa", "eager"):
            config = self.config({**GPT2, "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1})
            self.assertEqual(self.run_main("--hf", config, "-o", self.folder / "g.onnx", "--attention", attention, "--seq", 16)[0], 0)
            self.assertEqual(sum(n.op_type == "Dropout" and len(n.input) == 3 for n in onnx.load(str(self.folder / "g.onnx")).graph.node), 7)

    def test_a_static_position_table_is_whole(self):
        self.assertEqual(self.run_main("--hf", self.config(GPT2), "-o", self.folder / "g.onnx", "--seq", 16)[0], 0)
        there = self.initializers(self.folder / "g.onnx")
        self.assertEqual(there["transformer.wpe.weight"], (32, 32))
        self.assertIn("transformer.wte.weight", there)
        self.assertNotIn("lm_head.weight", there)

    def test_a_mixture_of_experts(self):
        module = zopt_export.from_config(self.config({**LLAMA, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 3, "num_experts_per_tok": 2}))
        before = module.get_experts_implementation()
        report = zopt_export.export(module, {"input_ids": torch.randint(96, (2, 8))}, self.folder / "m.onnx")
        self.assertEqual(report.parameters, report.module_parameters)
        self.assertLess(report.difference, 1e-5)
        self.assertEqual(module.get_experts_implementation(), before)
        self.assertTrue(any(note.startswith("experts are computed by") for note in report.notes))

    def test_a_wrong_file_is_refused(self):
        class Other(nn.Module):
            def forward(self, x):
                return x * (2.0 if torch.compiler.is_exporting() else 3.0)

        with self.assertRaisesRegex(zopt_export.ExportError, "output 'output' differs by 3.33e-01"):
            zopt_export.export(Other(), {"x": torch.ones(2, 3)}, self.folder / "m.onnx")

    def test_unused_parameters_are_told(self):
        class Half(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 2)

            def forward(self, x):
                return self.used(x)

        report = zopt_export.export(Half(), {"x": torch.randn(2, 3)}, self.folder / "m.onnx")
        self.assertEqual((report.parameters, report.module_parameters), (12, 20))
        self.assertIn("2 parameters are not used by these outputs and are not in the file: idle.weight, idle.bias", report.notes)

    def test_messages(self):
        for arguments, message in [(("--hf", self.folder / "none", "-o", "x"), "there is no such config"), (("nowhere:make", "-o", "x"), "No module named 'nowhere'"), (("torch.nn:Linear.nothing", "-o", "x"), "nothing"),
                                   (("json:dumps", "--arg", "obj=1", "-o", "x"), "made a str, not a torch.nn.Module"),
                                   (("torch.nn:Linear", "--arg", "in_features=3", "--arg", "out_features=2", "-o", "x"), "give --input NAME"),
                                   (("torch.nn:Linear", "--arg", "in_features=3", "--arg", "out_features=2", "--input", "input=3:text", "-o", "x"), "is not NAME=2x3x224x224[:float32]")]:
            code, out, err = self.run_main(*arguments)
            self.assertEqual((code, out, err.count("\n")), (1, "", 1), err)
            self.assertIn(message, err)
        self.assertEqual(self.run_main("torch.nn:Linear", "--arg", "in_features=3", "--arg", "out_features=2", "--input", "input=2x3", "-o", self.folder / "l.onnx")[0], 0)


class Training(Case):
    """Export, five steps of zrun, back into the module: its loss is the one that zrun reports for the sixth step."""

    def train(self, module, report, data, micro, loss, *flags):
        save_file({name: t.contiguous() for name, t in data.items()}, str(self.folder / "data.safetensors"))
        self.tool("zopt", report.path, "-o", "plan.mlir", "--micro-batch", micro, "--lr", "0.01", *flags)
        steps = len(data["labels"]) // micro
        self.tool("zrun", "plan.mlir", "--data", "data.safetensors", "--steps", steps - 1, "--weights-out", "trained.safetensors", "--target", "cpu")
        self.tool("zrun", "plan.mlir", "--data", "data.safetensors", "--steps", steps, "--metrics", "run.jsonl", "--target", "cpu")
        events = [json.loads(line) for line in (self.folder / "run.jsonl").read_text().splitlines()]
        losses = [e["loss"] for e in events if e["event"] == "step"]
        before = loss(module, {name: t[:micro] for name, t in data.items()}).item()
        self.assertAlmostEqual(losses[0], before, delta=2e-5)
        missing = zopt_export.load_weights(module, self.folder / "trained.safetensors")
        after = loss(module, {name: t[-micro:] for name, t in data.items()}).item()
        self.assertAlmostEqual(losses[-1], after, delta=2e-5)
        self.assertNotAlmostEqual(before, after, delta=1e-3)
        return missing

    def check_language_model(self, values):
        values = {**values, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        module = zopt_export.from_config(self.config(values))
        report = zopt_export.export(module, {"input_ids": torch.zeros(2, 16, dtype=torch.int64)}, self.folder / "m.onnx", dynamic={"input_ids": {0: "batch", 1: "seq"}})
        torch.manual_seed(1)
        tokens = torch.randint(values["vocab_size"], (24, 17))
        loss = lambda m, b: functional.cross_entropy(m(input_ids=b["input_ids"]).logits.flatten(0, 1), b["labels"].flatten())
        module.eval()
        return self.train(module, report, {"input_ids": tokens[:, :-1], "labels": tokens[:, 1:]}, 4, loss, "--bind", "seq=16")

    def test_gpt2(self):
        self.check_language_model(GPT2)

    def test_llama(self):
        self.check_language_model(LLAMA)

    def test_what_a_graph_does_not_say(self):
        torch.manual_seed(0)
        module = Odd()
        before = {name: p.detach().clone() for name, p in module.named_parameters()}
        report = zopt_export.export(module, {"x": torch.randn(2, 8)}, self.folder / "m.onnx")
        loss = lambda m, b: functional.cross_entropy(m(b["x"]), b["labels"])
        self.train(module, report, {"x": torch.randn(24, 8), "labels": torch.randint(4, (24,))}, 4, loss)
        for name, p in module.named_parameters():
            self.assertEqual(torch.equal(p, before[name]), not p.requires_grad, name)
        self.assertIn("4 parameters train (45 elements), 2 are frozen", self.tool("zopt", report.path, "-o", "plan.mlir"))

    def test_load_weights_says_what_is_wrong(self):
        module = Scaled(4)
        file = self.folder / "w.safetensors"
        save_file({"linear.weight": torch.zeros(3, 5), "more": torch.zeros(1)}, str(file))
        with self.assertRaisesRegex(zopt_export.ExportError, r"'linear.weight' has the shape \[3, 5\], in the module \[3, 4\]; 'more' is not in the module; 'linear.bias' is not in the file; 'linear.weight' is not"):
            zopt_export.load_weights(module, file)


def write_sparse(folder, shapes, dtype, shards):
    """A checkpoint of zeros that takes no space on the disk."""
    names, width = list(shapes), {"BF16": 2, "F32": 4}[dtype]
    weight_map = {}
    for i in range(shards):
        header, offset = {}, 0
        for name in names[i::shards]:
            size = width * torch.Size(shapes[name]).numel()
            header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [offset, offset + size]}
            weight_map[name] = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            offset += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file = folder / f"model-{i + 1:05}-of-{shards:05}.safetensors"
        file.write_bytes(struct.pack("<Q", len(text)) + text)
        os.truncate(file, 8 + len(text) + offset)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


class Checkpoint(Case):
    def save(self, values, **options):
        (self.folder / "hf").mkdir()
        config = transformers.AutoConfig.for_model(**values)
        torch.manual_seed(0)
        module = getattr(transformers, values["architectures"][0])(config)
        module.save_pretrained(str(self.folder / "hf"), **options)
        return module

    def test_a_sharded_checkpoint_is_referred_to(self):
        module = self.save(LLAMA, max_shard_size="60KB")
        code, out, err = self.run_main("--hf", self.folder / "hf", "--seq", 16)
        self.assertEqual((code, err), (0, ""))
        model = onnx.load(str(self.folder / "hf" / "model.onnx"), load_external_data=False)
        files = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
        self.assertGreater(len(files), 1)
        self.assertLess((self.folder / "hf" / "model.onnx").stat().st_size, 100_000)
        model = onnx.load(str(self.folder / "hf" / "model.onnx"))
        values = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
        for name, parameter in module.named_parameters():
            self.assertTrue(torch.equal(values[name], parameter.detach()), name)
        self.assertIn("differ from PyTorch's by", out)
        self.tool("zopt", "hf/model.onnx", "-o", "hf/plan.mlir")

    def test_tied_weights_of_a_checkpoint(self):
        self.save(GPT2)
        self.assertEqual(self.run_main("--hf", self.folder / "hf", "--seq", 16)[0], 0)
        there = self.initializers(self.folder / "hf" / "model.onnx")
        self.assertIn("transformer.wte.weight", there)
        self.assertNotIn("lm_head.weight", there)

    def test_another_folder_and_a_missing_tensor(self):
        self.save(LLAMA)
        code, out, err = self.run_main("--hf", self.folder / "hf", "--seq", 16, "-o", self.folder / "other" / "m.onnx")
        self.assertEqual(code, 1)
        self.assertIn("a model refers to files in its own folder only", err)
        from safetensors.torch import load_file
        tensors = load_file(str(self.folder / "hf" / "model.safetensors"))
        del tensors["model.norm.weight"]
        save_file(tensors, str(self.folder / "hf" / "model.safetensors"))
        code, out, err = self.run_main("--hf", self.folder / "hf", "--seq", 16)
        self.assertEqual(code, 1)
        self.assertIn("has no tensors for 1 parameters: model.norm.weight", err)
        (self.folder / "hf" / "model.safetensors").write_bytes(b"12345678901")
        self.assertIn("is no safetensors file", self.run_main("--hf", self.folder / "hf", "--seq", 16)[2])

    def test_8b_within_8_gib_and_5_minutes(self):
        h, f, v = 4096, 14336, 128256
        shapes = {"model.embed_tokens.weight": (v, h), "lm_head.weight": (v, h), "model.norm.weight": (h,)}
        for i in range(32):
            for name, shape in {"self_attn.q_proj": (h, h), "self_attn.k_proj": (1024, h), "self_attn.v_proj": (1024, h), "self_attn.o_proj": (h, h), "mlp.gate_proj": (f, h), "mlp.up_proj": (f, h),
                                "mlp.down_proj": (h, f), "input_layernorm": (h,), "post_attention_layernorm": (h,)}.items():
                shapes[f"model.layers.{i}.{name}.weight"] = shape
        write_sparse(self.folder, shapes, "BF16", 4)
        self.config({**LLAMA_8B, "tie_word_embeddings": False})
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "zopt_export", "--hf", str(self.folder), "--seq", "128", "--dynamic"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
        seconds = time.monotonic() - begin
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2 ** 20
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("parameters: 8,030,261,248 as the module has", done.stdout)
        print(f"Llama 8B: {seconds:.0f} s, {peak:.2f} GiB, model.onnx {(self.folder / 'model.onnx').stat().st_size} bytes")
        self.assertLess(seconds, 300)
        self.assertLess(peak, 8)


if __name__ == "__main__":
    unittest.main()
