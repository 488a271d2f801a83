"""A module as an ONNX file that trains as the module does.

torch.onnx.export without its optimizer keeps parameters as they are; what its optimizer does well, shape arithmetic and lists of parts, is done here with the module's own tensors hidden from it.
"""
import contextlib
import inspect
import io
import logging
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import check as checking
from . import patches
from .errors import ExportError
from .weights import Stored, names_of

EMBEDDED_LIMIT = 1 << 30  # bytes of weights inside the .onnx; larger ones go beside it, for a protobuf ends at 2 GiB
DEFAULT_OPSET = 20


@dataclass
class Report:
    """What an export did. `difference`: the largest |ONNX - PyTorch| of the outputs over the largest |output|, in evaluation mode; None where it was not compared."""
    path: Path
    parameters: int = 0               # elements in the file, tied ones once
    module_parameters: int = 0        # in the module
    tied: dict = field(default_factory=dict)  # other names of a parameter -> the name in the file
    inputs: dict = field(default_factory=dict)  # name -> [dimension]
    outputs: dict = field(default_factory=dict)
    dropouts: int = 0                 # nodes in training mode
    norms: int = 0                    # BatchNormalization nodes in training mode
    difference: float | None = None
    compared_with: str = ""
    notes: list = field(default_factory=list)  # what could not be kept, and why


def choose_outputs(result, wanted):
    """(names, how to get a tuple of tensors from another result like this one)."""
    if isinstance(result, torch.Tensor):
        return [(wanted or ["output"])[0]], lambda r: (r,)
    if hasattr(result, "keys"):
        keys = [k for k in result.keys() if isinstance(result[k], torch.Tensor)]
        names = wanted or ([k for k in keys if "logits" in k] or keys[:1])
        missing = [n for n in names if n not in keys]
        if missing or not names:
            raise ExportError(f"the model has no output tensor {', '.join(missing) or 'at all'}; its outputs are {', '.join(keys) or 'none'}")
        return names, lambda r: tuple(r[n] for n in names)
    if isinstance(result, (tuple, list)):
        places = [i for i, r in enumerate(result) if isinstance(r, torch.Tensor)]
        names = wanted or (["output"] if len(places) == 1 else [f"output_{i}" for i in places])
        places = places[:len(names)]
        if not places:
            raise ExportError("the model's result has no tensor")
        return names, lambda r: tuple(r[i] for i in places)
    raise ExportError(f"the model's result is a {type(result).__name__}, which has no tensors to export")


@contextlib.contextmanager
def forward_of(module, inputs, pick):
    """The module with a forward that takes the tensors `inputs` by name and returns a tuple of tensors. Its parameters keep their names: nothing is wrapped around it."""
    original = module.forward
    accepted = inspect.signature(original).parameters
    fixed = {"use_cache": False} if "use_cache" in accepted else {}

    def forward(*args, **kwargs):
        return pick(original(**dict(zip(inputs, args)), **kwargs, **fixed))

    forward.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in inputs])
    module.forward = forward
    try:
        yield module
    finally:
        del module.forward
        if module.forward != original:
            module.forward = original


def shapes_for(inputs, dynamic):
    """dynamic_shapes of torch.export: {input: {axis: Dim}} from {input: {axis: name}}."""
    dims = {}
    return {name: {axis: dims.setdefault(symbol, torch.export.Dim(symbol)) for axis, symbol in dynamic.get(name, {}).items()} or None for name in inputs}


@contextlib.contextmanager
def exportable_experts(module, notes):
    """transformers' mixtures of experts in the spelling that has no loop over the tokens of each expert."""
    can = getattr(module, "_can_set_experts_implementation", None)
    if can is None or not can() or not hasattr(module, "get_experts_implementation"):
        yield
        return
    before = module.get_experts_implementation()
    module.set_experts_implementation("batched_mm")
    notes.append("experts are computed by products with weights gathered for each token: right, but not how one trains a large mixture of experts")
    try:
        yield
    finally:
        module.set_experts_implementation(before)


def first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def trace(module, inputs, dynamic, notes):
    """The ExportedProgram and the dynamic axes that it kept."""
    attempts = [dynamic]
    batch_only = {name: {axis: symbol for axis, symbol in axes.items() if symbol == "batch"} for name, axes in dynamic.items()}
    if batch_only != dynamic:
        attempts.append(batch_only)
    attempts.append({})
    for attempt in attempts:
        for strict in (False,):
            try:
                with torch.no_grad():
                    return torch.export.export(module, (), dict(inputs), dynamic_shapes=shapes_for(inputs, attempt), strict=strict), attempt
            except Exception as error:  # whatever a model's own code raises
                failure = error
        if attempt:
            lost = sorted({s for axes in attempt.values() for s in axes.values()} - ({"batch"} if attempt is not batch_only and batch_only in attempts else set()))
            notes.append(f"{' and '.join(lost)} could not be kept dynamic and will have the example's size: {first_line(failure)}")
    raise ExportError(f"torch.export cannot trace the model: {first_line(failure)}") from failure


def convert(program, names, outputs, opset):
    """The onnx_ir model of an ExportedProgram, and the program whose nodes name its nodes."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnx_program = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False, opset_version=opset, input_names=list(names), output_names=list(outputs))
    except Exception as error:
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ExportError(f"torch.onnx cannot convert the graph: {first_line(cause)}") from error
    return onnx_program.model, onnx_program.exported_program


def rename_symbols(model, program, dynamic):
    """s77 -> batch, in every shape of the graph."""
    names = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in dynamic and "val" in node.meta:
            for axis, symbol in dynamic[node.name].items():
                size = node.meta["val"].shape[axis]
                if not isinstance(size, int):
                    names[str(size)] = symbol
    from torch.onnx._internal.exporter import _ir_passes
    if names:
        _ir_passes.rename_axis(model, names)


def fold(model, own):
    """Folds shape arithmetic, lists and constants. The module's own tensors look like inputs meanwhile: nothing that is computed from them is computed now."""
    import onnxscript.optimizer
    from onnx_ir.passes import common
    hidden = {value: value.const_value for name, value in model.graph.initializers.items() if name in own}
    for value in hidden:
        value.const_value = None
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        for _ in range(2):
            onnxscript.optimizer.fold_constants(model, onnx_shape_inference=True)
            common.IdentityEliminationPass()(model)
            common.RemoveUnusedNodesPass()(model)
    finally:
        logging.disable(level)
        for value, tensor in hidden.items():
            value.const_value = tensor
            if value.name not in model.graph.initializers and value.uses():
                model.graph.register_initializer(value)


def drop_false_biases(model, own):
    """torch.onnx gives a convolution that has no bias zeros, and a Conv3d those of the shape [channels, 2], which no runtime takes."""
    for node in model.graph:
        bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
        if bias is not None and bias.name not in own and bias.const_value is not None and not bias.const_value.numpy().any():
            node.replace_input_with(2, None)
            if not bias.uses():
                model.graph.initializers.pop(bias.name, None)


def keep_batch_norms(model, program):
    """training_mode on the nodes of batch norms that were traced in training; returns how many."""
    import onnx_ir as ir
    nodes = {node.name: node for node in model.graph}
    count = 0
    for traced in program.graph.nodes:
        if traced.op != "call_function" or "_native_batch_norm_legit" not in str(traced.target) or "no_stats" in str(traced.target) or "no_training" in str(traced.target):
            continue
        training = traced.args[5] if len(traced.args) > 5 else traced.kwargs.get("training", False)
        momentum = traced.args[6] if len(traced.args) > 6 else traced.kwargs.get("momentum", 0.1)
        node = nodes.get(f"node_{traced.name}__0") or nodes.get(f"node_{traced.name}")
        if not training:
            continue
        if node is None or node.op_type != "BatchNormalization":
            raise ExportError(f"the batch norm '{traced.name}' is traced in training mode, but there is no BatchNormalization node for it")
        node.attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
        node.attributes["momentum"] = ir.AttrFloat32("momentum", 1.0 - momentum)
        if len(node.outputs) == 1:
            node.resize_outputs(3)
            for place, statistic in ((1, "running_mean"), (2, "running_var")):
                node.outputs[place].name = f"{node.outputs[0].name}.{statistic}"
                node.outputs[place].type = ir.TensorType(ir.DataType.FLOAT)
                node.outputs[place].shape = node.inputs[3].shape
        count += 1
    return count


def rename_tied(model, names):
    """Tied parameters go by the first of their names, which checkpoints use. Also dotted names that the exporter changed."""
    for old, new in names.items():
        if old != new and old in model.graph.initializers and new not in model.graph.initializers:
            value = model.graph.initializers.pop(old)
            value.name = new
            if value.const_value is not None:
                value.const_value.name = new
            model.graph.initializers[new] = value


def place_weights(model, module, path, stored, embed):
    """Says where each initializer's bytes are: in the checkpoint's files, in the .onnx itself, or in a safetensors file beside it."""
    import onnx_ir as ir
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    folder = path.parent.resolve()
    mapped = {}
    for name, value in model.graph.initializers.items():
        source = (stored or {}).get(name)
        if source is None or name not in own:
            continue
        try:
            location = source.file.resolve().relative_to(folder)
        except ValueError:
            raise ExportError(f"{source.file} is outside of {folder}: a model refers to files in its own folder only; write the model into the checkpoint's, or link the shards there (ln)")
        value.const_value = ir.ExternalTensor(str(location), source.offset, source.size, value.dtype, shape=ir.Shape(source.shape), name=name, base_dir=str(folder))
        mapped[name] = source
    rest = {name: own[name].detach() for name in model.graph.initializers if name in own and name not in mapped}
    if sum(t.numel() * t.element_size() for t in rest.values()) > EMBEDDED_LIMIT or (embed is False and rest):
        from safetensors.torch import save_file
        from .weights import read_header
        file = path.with_suffix(".safetensors")
        save_file({name: tensor.contiguous() for name, tensor in rest.items()}, str(file))
        for name, source in read_header(file).items():
            value = model.graph.initializers[name]
            value.const_value = ir.ExternalTensor(file.name, source.offset, source.size, value.dtype, shape=ir.Shape(source.shape), name=name, base_dir=str(folder))
    return mapped


def write(model, module, path):
    import onnx_ir as ir
    # Which initializers are parameters is nowhere said in ONNX, and cannot be told from their use: a factor may be one, or a constant.
    there = [(name, p.requires_grad) for name, p in module.named_parameters() if name in model.graph.initializers]
    model.metadata_props["zopt.parameters"] = "\n".join(name for name, trained in there if trained)
    model.metadata_props["zopt.frozen"] = "\n".join(name for name, trained in there if not trained)
    # Stack traces name this machine's folders and are most of a large graph's bytes; where in the module a node is stays.
    for node in model.graph:
        for key in [k for k in node.metadata_props if k != "pkg.torch.onnx.name_scopes"]:
            del node.metadata_props[key]
    proto = ir.serde.serialize_model(model)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(proto.SerializeToString())
    partial.replace(path)
    return proto


def count_parameters(model, module, names, report):
    """Compares the file's parameters with the module's, and says which are not there."""
    parameters = dict(module.named_parameters())
    report.module_parameters = sum(p.numel() for p in parameters.values())
    there = {name: p for name, p in parameters.items() if name in model.graph.initializers}
    report.parameters = sum(p.numel() for p in there.values())
    for name, p in there.items():
        shape = tuple(model.graph.initializers[name].const_value.shape)
        if shape != tuple(p.shape):
            raise ExportError(f"parameter '{name}' has the shape {list(p.shape)}, in the file {list(shape)}")
    unused = [name for name in parameters if name not in there]
    if unused:
        report.notes.append(f"{len(unused)} parameters are not used by these outputs and are not in the file: {', '.join(unused[:8])}{', ...' if len(unused) > 8 else ''}")
    report.tied = {name: first for name, first in names.items() if name != first and name in dict(module.named_parameters(remove_duplicate=False))}
    return there


def note_semantics(module, model, train, report):
    dropouts = {type(m).__name__ for m in module.modules() if "drop" in type(m).__name__.lower() and getattr(m, "p", getattr(m, "drop_prob", 0))}
    kinds = [node.op_type for node in model.graph]
    report.dropouts = kinds.count("Dropout") if train else 0
    random = sorted({k for k in kinds if k in ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")})
    if random:
        report.notes.append(f"the model draws random numbers by itself ({', '.join(random)}): stochastic depth, noise or masks of training, which zrun draws from its --seed; --eval exports without")
    if train and dropouts and not report.dropouts and not random:
        report.notes.append(f"{', '.join(sorted(dropouts))} left no Dropout node: these outputs do not pass through it")
    if report.norms:
        report.notes.append("BatchNormalization's running variance takes the population's variance in ONNX, PyTorch's the unbiased one: n / (n - 1) apart, training itself is the same")


def export(module, inputs, path, *, dynamic=None, train=True, opset=DEFAULT_OPSET, outputs=None, stored=None, embed=None, check=None, tolerance=None):
    """Writes `module` as `path` and returns a Report.

    inputs: {name of forward's argument: example tensor}, batch first. dynamic: {input: {axis: symbol}}; None: axis 0 of all is "batch". train: Dropout and BatchNormalization in training mode.
    outputs: names of the outputs wanted; None: logits, or the first tensor. stored: {name: weights.Stored}, the bytes of parameters on disk, which the file refers to instead of holding them.
    embed: False puts the weights beside the file. check: compares with onnxruntime or onnx.reference (None: where the weights have at most 1 GiB and are no halves). tolerance: of that, relative.
    Raises ExportError. The module is left as it was.
    """
    path = Path(path)
    report = Report(path)
    modes = [(m, m.training) for m in module.modules()]
    dynamic = {name: {0: "batch"} for name in inputs} if dynamic is None else dynamic
    # A batch of 1 would be taken for a constant.
    inputs = {name: t.repeat(2, *[1] * (t.dim() - 1)) if 0 in dynamic.get(name, {}) and t.shape[0] == 1 else t for name, t in inputs.items()}
    try:
        module.eval()
        with torch.no_grad(), patches.for_export():
            probing = all(not p.is_meta for p in module.parameters()) and sum(p.numel() for p in module.parameters()) <= EMBEDDED_LIMIT // 4
            fixed = {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}
            if probing:
                result = module(**inputs, **fixed)
            else:
                from torch._subclasses.fake_tensor import FakeTensorMode
                with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                    fake = {n: mode.from_tensor(t) for n, t in [*module.named_parameters(), *module.named_buffers()]}
                    result = torch.func.functional_call(module, fake, (), {**{n: mode.from_tensor(t) for n, t in inputs.items()}, **fixed})
        output_names, pick = choose_outputs(result, outputs)
        module.train(train)
        names = names_of(module)
        experts = []
        with forward_of(module, inputs, pick), exportable_experts(module, experts), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with patches.for_export():
                    program, kept = trace(module, inputs, dynamic, report.notes)
                    model, program = convert(program, inputs, output_names, opset)
            except ExportError:
                report.notes.clear()
                # Tracing bakes in the strides of a fused attention's result, which decompositions do not always find again: then without fused attention.
                with patches.for_export(spell=True) as spelled:
                    program, kept = trace(module, inputs, dynamic, report.notes)
                    if not spelled:
                        raise
                    model, program = convert(program, inputs, output_names, opset)
            dynamic = kept
        report.notes += experts
        module.eval()
        rename_symbols(model, program, dynamic)
        report.norms = keep_batch_norms(model, program)
        rename_tied(model, names)
        fold(model, set(names.values()))
        drop_false_biases(model, set(names.values()))
        count_parameters(model, module, names, report)
        note_semantics(module, model, train, report)
        path.parent.mkdir(parents=True, exist_ok=True)
        place_weights(model, module, path, stored, embed)
        proto = write(model, module, path)
        describe = lambda values: {v.name: [d if isinstance(d, int) else d.value for d in v.shape] for v in values}
        report.inputs, report.outputs = describe(model.graph.inputs), describe(model.graph.outputs)
        lost = [v.name for v in model.graph.inputs if not v.uses()]
        if lost:
            report.notes.append(f"the outputs do not depend on {', '.join(lost)}")
        halves = any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters())
        if check or (check is None and probing and not halves):
            checking.compare(module, inputs, dynamic, output_names, pick, proto, path, report, tolerance)
        elif check is None:
            report.notes.append("the outputs were not compared with PyTorch's: " + ("the weights are half precision" if halves else "the model is too large; --check does it all the same"))
    finally:
        for m, training in modes:
            m.training = training
    return report
