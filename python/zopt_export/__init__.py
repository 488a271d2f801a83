"""Exports PyTorch, transformers, timm and torchvision models to ONNX so that training the file is training the model.

    zopt-export --hf DIR|CONFIG.json -o model.onnx
    zopt-export package.module:factory -o model.onnx

Parameters keep PyTorch's names and layouts, equal ones stay apart, tied ones stay one, biases of zeros stay; Dropout (attention's too) and BatchNormalization keep their training mode.
What cannot be kept is in `Report.notes`. `load_weights` brings what zrun --weights-out wrote back into the module.
"""
from .errors import ExportError
from .exporter import Report, export
from .sources import from_checkpoint, from_config, from_factory
from .weights import load_weights

__all__ = ["ExportError", "Report", "export", "from_checkpoint", "from_config", "from_factory", "load_weights"]
