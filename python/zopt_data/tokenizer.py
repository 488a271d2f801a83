"""The files of a Hugging Face tokenizer: tokenizer.json, or a sentencepiece model, and what its configuration says beside it."""
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from .sentencepiece_model import SentencePieceError, SentencePieceTokenizer


class TokenizerError(Exception):
    """A tokenizer that cannot be used, in one line."""


def _text(token):
    """A special token is spelt as text or as an object with its text."""
    return token.get("content") if isinstance(token, dict) else token


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: {error}") from error


@dataclass
class TokenizerFiles:
    tokenizer: object  # tokenizers.Tokenizer, or a SentencePieceTokenizer
    chat_template: Optional[str] = None
    special_tokens: dict = field(default_factory=dict)  # bos_token, eos_token, ...: their texts

    @classmethod
    def load(cls, path, template_file=None):
        """`path`: tokenizer.json, tokenizer.model, or the folder of either (the first counts). The template is that of `template_file`, of chat_template.jinja, or of tokenizer_config.json."""
        path = Path(path)
        file = path
        if path.is_dir():
            file = path / "tokenizer.json"
            if not file.is_file() and (path / "tokenizer.model").is_file():
                file = path / "tokenizer.model"
        if not file.is_file():
            raise TokenizerError(f"{file}: no such file")
        config_file = file.parent / "tokenizer_config.json"
        config = _read_json(config_file) if config_file.is_file() else {}
        special = {}
        if file.suffix == ".model":
            try:
                tokenizer = SentencePieceTokenizer(file, config.get("add_bos_token", True))
            except SentencePieceError as error:
                raise TokenizerError(str(error)) from error
            special = tokenizer.special_tokens()
        else:
            tokenizer = cls._load_json(file)
        special |= {name: _text(config[name]) for name in ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token") if config.get(name)}
        template = config.get("chat_template")
        if isinstance(template, list):  # several, by name
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        beside = file.parent / "chat_template.jinja"
        for source in filter(None, (template_file, beside if beside.is_file() else None)):
            try:
                template = Path(source).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise TokenizerError(f"{source}: {error}") from error
            break
        return cls(tokenizer, template, special)

    @staticmethod
    def _load_json(file):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise TokenizerError("the package 'tokenizers' is missing: pip install tokenizers jinja2") from error
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises Exception itself
            raise TokenizerError(f"{file}: {error}") from error
        # A row is cut or padded where it is read, not here.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def id_of(self, name):
        """The id of special token `name`, such as eos_token."""
        text = self.special_tokens.get(name)
        if text is None:
            raise TokenizerError(f"tokenizer_config.json names no {name}")
        number = self.tokenizer.token_to_id(text)
        if number is None:
            raise TokenizerError(f"{name} {text!r} is not in the vocabulary")
        return number
