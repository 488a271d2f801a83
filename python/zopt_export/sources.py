"""Modules and example inputs: from a transformers folder or config, or from a function of any package."""
import contextlib
import importlib
import inspect
import json
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from .errors import ExportError
from .weights import map_tensor, names_of, read_folder

TASKS = {"causal-lm": "AutoModelForCausalLM", "masked-lm": "AutoModelForMaskedLM", "seq2seq-lm": "AutoModelForSeq2SeqLM", "sequence-classification": "AutoModelForSequenceClassification",
         "token-classification": "AutoModelForTokenClassification", "question-answering": "AutoModelForQuestionAnswering", "image-classification": "AutoModelForImageClassification",
         "speech-seq2seq": "AutoModelForSpeechSeq2Seq", "ctc": "AutoModelForCTC", "audio-classification": "AutoModelForAudioClassification"}


def read_config(path):
    """The transformers config of a folder or a JSON file."""
    import transformers
    path = Path(path)
    file = path / "config.json" if path.is_dir() else path
    if not file.exists():
        raise ExportError(f"{file}: there is no such config")
    try:
        raw = json.loads(file.read_text())
    except ValueError as error:
        raise ExportError(f"{file}: is no JSON: {error}")
    if "model_type" not in raw:
        raise ExportError(f"{file}: has no 'model_type'")
    try:
        return transformers.AutoConfig.for_model(**raw)
    except Exception as error:
        raise ExportError(f"{file}: transformers {transformers.__version__} cannot read it: {str(error).splitlines()[0]}")


def find_class(config, task):
    import transformers
    if task:
        auto = getattr(transformers, TASKS[task])
        try:
            return auto._model_mapping[type(config)]
        except KeyError:
            raise ExportError(f"transformers has no model of type '{config.model_type}' for {task}")
    names = getattr(config, "architectures", None) or []
    for name in names:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise ExportError(f"the config names no architecture that transformers has ({', '.join(names) or 'none'}); give --task")


def from_config(path, task=None, dtype=None, attention=None, seed=0):
    """A model with random weights (of `seed`) from a config."""
    config = read_config(path)
    torch.manual_seed(seed)
    return build(config, task, dtype or torch.float32, attention)


def build(config, task, dtype, attention):
    options = {"attn_implementation": attention} if attention else {}
    config.use_cache = False
    return find_class(config, task)._from_config(config, dtype=dtype, **options)


@contextlib.contextmanager
def without_parameters():
    """Modules made within it have parameters on the meta device, and real buffers: tables of positions and masks are computed as ever, weights are not."""
    register = nn.Module.register_parameter

    def on_meta(module, name, parameter):
        register(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    nothing = lambda tensor, *args, **kwargs: tensor
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(nn.Module, "register_parameter", on_meta))
        for name in ("uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_"):
            stack.enter_context(mock.patch.object(nn.init, name, nothing))
        yield


def find_stored(name, stored, prefix):
    """A parameter's tensor in a checkpoint, which may lack the base model's prefix, or have one more."""
    for candidate in (name, name.removeprefix(prefix + ".") if prefix else name, f"{prefix}.{name}"):
        if candidate in stored:
            return stored[candidate]
    return None


def from_checkpoint(folder, task=None, attention=None):
    """(module, {parameter: weights.Stored}) of a transformers folder. The parameters are views of the mapped files; nothing is read."""
    config = read_config(folder)
    stored = read_folder(folder)
    types = {s.dtype for s in stored.values() if s.dtype.is_floating_point}
    if len(types) > 1:
        raise ExportError(f"{folder}: its tensors have several types ({', '.join(sorted(str(t).removeprefix('torch.') for t in types))}): a graph of mixed types would not compute as the model does")
    dtype = types.pop()
    with without_parameters():
        module = build(config, task, dtype, attention)
    prefix = getattr(module, "base_model_prefix", "")
    names = names_of(module)
    persistent = set(module.state_dict().keys())
    tensors, placed, storages, missing = {}, {}, {}, []
    for name, first in names.items():
        entry = find_stored(name, stored, prefix)
        if entry is not None and first not in placed:
            placed[first] = entry
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name, tensor in own.items():
        entry = placed.get(name)
        if entry is None:
            if tensor.is_meta:
                missing.append(name)
            continue
        if entry.shape != tuple(tensor.shape):
            raise ExportError(f"{entry.file}: '{entry.name}' has the shape {list(entry.shape)}, the model's '{name}' {list(tensor.shape)}")
        tensors[name] = map_tensor(entry, storages)
    if missing:
        raise ExportError(f"{folder}: has no tensors for {len(missing)} parameters: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''} (transformers may build them from others: save the model again "
                          "with save_pretrained of this version)")
    every = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    for name in every:
        value = tensors.get(names[name])
        if value is None:
            continue
        owner, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner)
        if leaf in owner._parameters:
            first = tensors[names[name]]
            if not isinstance(first, nn.Parameter):
                first = tensors[names[name]] = nn.Parameter(first, requires_grad=every[name].requires_grad)
            owner._parameters[leaf] = first
        elif name in persistent:
            owner._buffers[leaf] = value
    return module, placed


def from_factory(spec, arguments=None):
    """What `package.module:function` makes from keyword arguments: a module, or (module, {input: example})."""
    package, _, attribute = spec.partition(":")
    if not attribute:
        raise ExportError(f"'{spec}': is not package.module:function")
    try:
        found = importlib.import_module(package)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ExportError(f"'{spec}': {error}")
    result = found if isinstance(found, nn.Module) else found(**(arguments or {}))
    module, inputs = result if isinstance(result, tuple) else (result, None)
    if not isinstance(module, nn.Module):
        raise ExportError(f"'{spec}': made a {type(module).__name__}, not a torch.nn.Module")
    return module, inputs


def parse_input(text):
    """'ids=2x16:int64' -> (name, example). Axis 0 is the batch; integers are zeros, floats normal numbers."""
    name, _, rest = text.partition("=")
    shape, _, kind = rest.partition(":")
    try:
        sizes = [int(s) for s in shape.split("x")]
        dtype = getattr(torch, kind or "float32")
        assert name and isinstance(dtype, torch.dtype)
    except (ValueError, AttributeError, AssertionError):
        raise ExportError(f"--input '{text}': is not NAME=2x3x224x224[:float32]")
    return name, torch.randn(sizes).to(dtype) if dtype.is_floating_point else torch.zeros(sizes, dtype=dtype)


def example_inputs(module, batch, sequence):
    """Example tensors by forward's signature and the model's config."""
    accepted = inspect.signature(module.forward).parameters
    config = getattr(module, "config", None)
    cfg = getattr(module, "pretrained_cfg", None)
    if config is None:
        names = [n for n, p in accepted.items() if p.default is inspect.Parameter.empty and p.kind is not inspect.Parameter.VAR_KEYWORD]
        size = cfg.get("input_size") if isinstance(cfg, dict) else None
        if size is None or len(names) != 1:
            raise ExportError(f"the model's inputs ({', '.join(names)}) are not known: give --input NAME=2x3x224x224 for each")
        return {names[0]: torch.randn(batch, *size)}
    text = getattr(config, "text_config", config)
    limit = getattr(text, "max_position_embeddings", None) or sequence
    sequence = min(sequence, limit)
    ids = lambda n: torch.randint(3, getattr(text, "vocab_size", 4), (batch, n))
    main = getattr(module, "main_input_name", "input_ids")
    inputs = {}
    if "input_ids" in accepted:
        inputs["input_ids"] = ids(sequence)
        causal = "CausalLM" in type(module).__name__ or "LMHead" in type(module).__name__
        if "attention_mask" in accepted and not causal:
            inputs["attention_mask"] = torch.ones(batch, sequence, dtype=torch.int64)
    if "pixel_values" in accepted:
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        inputs["pixel_values"] = torch.randn(batch, getattr(vision, "num_channels", 3), height, width)
    if main == "input_values":
        inputs = {"input_values": torch.randn(batch, 16000)}
    if main == "input_features":
        inputs = {"input_features": torch.randn(batch, getattr(config, "num_mel_bins", 80), 2 * getattr(config, "max_source_positions", 1500))}
    if "decoder_input_ids" in accepted and getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids(sequence)
    if not inputs:
        raise ExportError(f"the inputs of {type(module).__name__} are not known: give --input NAME=2x16:int64 for each")
    return inputs
