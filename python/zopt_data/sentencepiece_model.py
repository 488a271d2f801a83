"""A sentencepiece model in the place of a Hugging Face tokenizer. Needs PyPI's `sentencepiece`."""
from dataclasses import dataclass


class SentencePieceError(Exception):
    """A model that cannot be used, in one line."""


@dataclass
class Encoding:
    """What the callers of tokenizers.Tokenizer.encode read: ids, and the characters of the text that each stands for."""
    ids: list
    offsets: list


class SentencePieceTokenizer:
    """`encode` and `token_to_id` as tokenizers.Tokenizer has them. A text begins with the model's token of beginning where it has one; nothing ends it."""

    def __init__(self, path, add_beginning=True):
        try:
            import sentencepiece
        except ImportError as error:
            raise SentencePieceError("the package 'sentencepiece' is missing: pip install sentencepiece") from error
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise SentencePieceError(f"{path}: {error}") from error
        self.beginning = [self.model.bos_id()] if add_beginning and self.model.bos_id() >= 0 else []
        self.control = [self.model.id_to_piece(i) for i in range(self.model.vocab_size()) if self.model.is_control(i)]

    def special_tokens(self):
        """bos_token, eos_token, ...: the texts of those that the model has."""
        numbers = {"bos_token": self.model.bos_id(), "eos_token": self.model.eos_id(), "pad_token": self.model.pad_id(), "unk_token": self.model.unk_id()}
        return {name: self.model.id_to_piece(number) for name, number in numbers.items() if number >= 0}

    def token_to_id(self, text):
        number = self.model.piece_to_id(text)
        return number if self.model.id_to_piece(number) == text else None

    def encode(self, text, add_special_tokens=True):
        ids, offsets, at = [], [], 0
        for piece in self._pieces(text):
            # Surfaces put together are the text. A piece begins behind the blank that it carries.
            surface = piece.surface
            ids.append(piece.id)
            offsets.append((at + len(surface) - len(surface.lstrip(" ")), at + len(surface)))
            at += len(surface)
        beginning = self.beginning if add_special_tokens else []
        return Encoding(beginning + ids, [(0, 0)] * len(beginning) + offsets)

    def _pieces(self, text):
        try:
            return self.model.encode(text, return_type="proto").pieces
        except (TypeError, ValueError):  # packages before 0.2.2
            return self.model.encode(text, out_type="immutable_proto").pieces

    def unreadable(self, text):
        """A control token that `text` spells, which sentencepiece takes for characters; None where there is none."""
        return next((token for token in self.control if token in text), None)
