"""Records of text, pairs and chats, as token ids."""
from .template import TemplateError
from .tokenizer import TokenizerError

UNCOUNTED = -100


class RecordError(Exception):
    """What is wrong with a record, in one line."""


class Encoder:
    """Turns a record into one of zrun's.

    {"text": ...}                      -> input_ids, labels: every token counts
    {"prompt": ..., "completion": ...} -> prompt, completion: the completion counts, and the end of text behind it
    {"messages": [...]}                -> input_ids, labels: what the assistant said counts
    """

    def __init__(self, files, template=None, end_of_text=True, train_on="assistant", text_key="text"):
        self.tokenizer = files.tokenizer
        self.template = template
        self.train_on = train_on  # assistant | last | all
        self.text_key = text_key
        self.end = []
        if end_of_text:
            try:
                self.end = [files.id_of("eos_token")]
            except TokenizerError as error:
                self.missing_end = str(error)
            else:
                self.missing_end = None
        else:
            self.missing_end = None

    def _end(self):
        if self.missing_end:
            raise RecordError(f"{self.missing_end}, to end a text with: give --no-eos if none is wanted")
        return self.end

    def encode(self, record):
        if not isinstance(record, dict):
            raise RecordError("is not an object")
        if "messages" in record:
            return self._chat(record)
        if "prompt" in record or "completion" in record:
            return self._pair(record)
        if self.text_key in record:
            return self._text(record)
        raise RecordError(f"has none of messages, prompt and completion, {self.text_key}")

    def _string(self, record, key):
        value = record.get(key)
        if not isinstance(value, str):
            raise RecordError(f"{key}: is {'missing' if value is None else type(value).__name__ + ', not text'}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RecordError(f"{key}: character {error.start}: half of a surrogate pair") from error
        return value

    def _text(self, record):
        ids = self.tokenizer.encode(self._string(record, self.text_key)).ids
        end = self._end()
        if ids[-1:] != end:  # tokenizers that end a text by themselves have done so
            ids = ids + end
        if not ids:
            raise RecordError(f"{self.text_key}: has no tokens")
        return {"input_ids": ids, "labels": ids}

    def _pair(self, record):
        if isinstance(record.get("prompt"), list) and isinstance(record.get("completion"), list):  # chats in two parts
            return self._chat({"messages": record["prompt"] + record["completion"], "tools": record.get("tools")}, first=len(record["prompt"]))
        prompt = self.tokenizer.encode(self._string(record, "prompt")).ids
        end = self._end()
        if end and prompt[-1:] == end:
            prompt = prompt[:-1]  # a tokenizer that ends every text: the pair goes on
        completion = self.tokenizer.encode(self._string(record, "completion"), add_special_tokens=False).ids + end
        if not completion:
            raise RecordError("completion: has no tokens")
        return {"prompt": prompt, "completion": completion}

    def _chat(self, record, first=0):
        messages = record["messages"]
        if not isinstance(messages, list) or not messages:
            raise RecordError("messages: is no list of messages")
        for i, message in enumerate(messages):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise RecordError(f"messages: message {i} has no role")
        if self.template is None:
            raise RecordError("has messages, but the tokenizer has no chat template: give --chat-template")
        more = {"tools": record["tools"]} if record.get("tools") else {}
        try:
            if self.train_on == "all":
                text = self.template.render(messages, **more)
                spans = [(0, len(text))]
            else:
                text, spans = self.template.spans(messages, **more)
        except TemplateError as error:
            raise RecordError(str(error)) from error
        if not spans:
            raise RecordError("messages: the assistant says nothing")
        if first:
            said = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
            if self.train_on != "all" and len(said) == len(spans):
                spans = [span for i, span in zip(said, spans) if i >= first]
        if self.train_on == "last":
            spans = spans[-1:]
        unreadable = getattr(self.tokenizer, "unreadable", lambda _: None)(text)
        if unreadable is not None:
            raise RecordError(f"messages: the template writes {unreadable!r}, a control token, which a sentencepiece model does not read from text: give a tokenizer.json")
        # The template writes the beginning and end of a text itself.
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        labels = [UNCOUNTED] * len(encoding.ids)
        at = 0
        for i, (begin, end) in enumerate(encoding.offsets):
            while at < len(spans) and spans[at][1] <= begin:
                at += 1
            if at < len(spans) and spans[at][0] <= begin and begin < end:
                labels[i] = encoding.ids[i]
        if all(label == UNCOUNTED for label in labels):
            raise RecordError("messages: no token of the assistant's")
        return {"input_ids": encoding.ids, "labels": labels}
