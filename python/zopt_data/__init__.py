"""Text and chats as the token ids that `zrun --data FILE.jsonl` trains on.

    python3 -m zopt_data --tokenizer DIR-OR-FILE input.jsonl... -o train.jsonl

Needs the packages `tokenizers` (or `sentencepiece`, for its models) and, for chats, `jinja2` of PyPI; nothing of zopt.
"""
from .records import Encoder, RecordError
from .template import ChatTemplate, TemplateError
from .tokenizer import TokenizerFiles

__all__ = ["ChatTemplate", "Encoder", "RecordError", "TemplateError", "TokenizerFiles"]
