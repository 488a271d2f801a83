"""Weights beside a module: safetensors files as they lie on disk, and trained weights back into the module."""
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from .errors import ExportError

HEADER_LIMIT = 100 << 20
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16,
         "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file: `offset` and `size` in bytes from the file's begin."""
    file: Path
    name: str
    dtype: torch.dtype
    shape: tuple
    offset: int
    size: int


def read_header(file):
    """The tensors of one file by name, from its header alone."""
    file = Path(file)
    total = file.stat().st_size
    with open(file, "rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_LIMIT
        if length >= HEADER_LIMIT or length + 8 > total:
            raise ExportError(f"{file}: is no safetensors file")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise ExportError(f"{file}: has a header that is no JSON: {error}")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in TYPES:
            raise ExportError(f"{file}: '{name}' has the type {entry['dtype']}, which is not supported")
        begin, end = entry["data_offsets"]
        stored = Stored(file, name, TYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + begin, end - begin)
        if stored.offset + stored.size > total or stored.size != torch.Size(stored.shape).numel() * stored.dtype.itemsize:
            raise ExportError(f"{file}: '{name}' of shape {list(stored.shape)} has bytes {begin} to {end}, and the file {total} bytes")
        tensors[name] = stored
    return tensors


def read_folder(folder):
    """The tensors of a checkpoint's shards by name."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    if not (folder / files[0]).exists():
        files = sorted(file.name for file in folder.glob("*.safetensors"))
    tensors = {}
    for file in files:
        if not (folder / file).exists():
            raise ExportError(f"{folder / file}: the shard that {index.name} names is missing")
        tensors.update(read_header(folder / file))
    if not tensors:
        raise ExportError(f"{folder}: has no safetensors files")
    return tensors


def map_tensor(stored, storages):
    """The tensor as a view of the mapped file: no byte is read before it is used. `storages` holds the files mapped so far."""
    storage = storages.get(stored.file)
    if storage is None:
        storage = storages[stored.file] = torch.UntypedStorage.from_file(str(stored.file), shared=False, nbytes=stored.file.stat().st_size)
    view = torch.empty(0, dtype=torch.uint8).set_(storage, stored.offset, (stored.size,))
    try:
        return view.view(stored.dtype).view(stored.shape)
    except RuntimeError:  # not aligned to its type
        return view.clone().view(stored.dtype).view(stored.shape)


def names_of(module):
    """Every name of each parameter and buffer, and the first one, which a file uses: {name: first name}."""
    first, names = {}, {}
    for name, tensor in [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]:
        names[name] = first.setdefault(id(tensor), name)
    return names


def load_weights(module, file, strict=True):
    """Copies the tensors of `file`, as zrun --weights-out writes it, into the parameters and buffers of `module` that have their names, in the module's types.

    strict: every parameter must be in the file, under one of its names, and every tensor of the file in the module. Returns the names of buffers that the file lacks.
    """
    from safetensors import safe_open
    names = names_of(module)
    targets = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    loaded = set()
    problems = []
    with safe_open(str(file), "pt") as opened, torch.no_grad():
        for name in opened.keys():
            if name not in targets:
                problems.append(f"'{name}' is not in the module")
                continue
            value = opened.get_tensor(name)
            if value.shape != targets[name].shape:
                problems.append(f"'{name}' has the shape {list(value.shape)}, in the module {list(targets[name].shape)}")
                continue
            targets[name].copy_(value)
            loaded.add(names[name])
    parameters = {names[name] for name, _ in module.named_parameters()}
    problems += [f"'{name}' is not in the file" for name in sorted(parameters - loaded)]
    if problems and strict:
        raise ExportError(f"{file}: " + "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else ""))
    return sorted(set(names.values()) - parameters - loaded)
