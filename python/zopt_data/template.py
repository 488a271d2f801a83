"""Chat templates, rendered as transformers does, and which characters of the result the assistant said."""
import json
from datetime import datetime


class TemplateError(Exception):
    """A template or a chat that it does not take, in one line."""


def _extensions():
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        """{% generation %}...{% endgeneration %}: what is inside was said by the assistant."""
        tags = {"generation"}
        recorder = None

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

        def _mark(self, caller):
            text = caller()
            # Where it will stand is not known yet; marks that no text holds are taken out afterwards.
            return f"{OPEN}{text}{CLOSE}" if self.environment.marks_generation else text

    return ["jinja2.ext.loopcontrols", Generation]


# Noncharacters of Unicode, which no text may exchange.
OPEN, CLOSE = "\ufdd0", "\ufdd1"


class ChatTemplate:
    def __init__(self, source, special_tokens=None):
        try:
            from jinja2.exceptions import TemplateSyntaxError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise TemplateError("the package 'jinja2' is missing: pip install jinja2") from error
        self.special_tokens = dict(special_tokens or {})
        # As in transformers' chat_template_utils.py: the same sandbox, blocks, filters and functions.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=_extensions())
        environment.marks_generation = False
        environment.filters["tojson"] = lambda value, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        environment.globals["raise_exception"] = self._raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self.environment = environment
        try:
            self.template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateError(f"chat template: line {error.lineno}: {error.message}") from error

    @staticmethod
    def _raise(message):
        from jinja2.exceptions import TemplateError as JinjaError
        raise JinjaError(message)

    def render(self, messages, add_generation_prompt=False, marks=False, **more):
        from jinja2.exceptions import TemplateError as JinjaError
        self.environment.marks_generation = marks
        try:
            return self.template.render(messages=messages, add_generation_prompt=add_generation_prompt, **self.special_tokens, **more)
        except (JinjaError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise TemplateError(f"chat template: {error}") from error
        finally:
            self.environment.marks_generation = False

    def spans(self, messages, **more):
        """The rendered chat, and the [begin, end) of characters in it that the assistant said, its end of turn included."""
        marked = self.render(messages, marks=True, **more)
        if OPEN in marked:
            return self._from_marks(marked)
        return self._from_prefixes(messages, marked, more)

    @staticmethod
    def _from_marks(marked):
        text, spans, begin = "", [], None
        for character in marked:
            if character == OPEN:
                begin = len(text)
            elif character == CLOSE:
                spans.append((begin, len(text)))
            else:
                text += character
        return text, spans

    def _from_prefixes(self, messages, text, more):
        """Without marks: what message i adds to the chat before it with the assistant's header behind."""
        spans = []
        for i, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            before = self.render(messages[:i], add_generation_prompt=True, **more) if i else self._header(messages, more)
            after = self.render(messages[:i + 1], **more)
            if not after.startswith(before) or not text.startswith(after):
                raise TemplateError(f"chat template: message {i}: the chat up to it is no beginning of the whole, so what the assistant said cannot be told: "
                                    "put it into {% generation %} in the template")
            spans.append((len(before), len(after)))
        return text, spans

    def _header(self, messages, more):
        """A chat that the assistant begins: some templates do not render an empty one."""
        try:
            return self.render([], add_generation_prompt=True, **more)
        except TemplateError as error:
            raise TemplateError("chat template: the chat begins with the assistant, which the template does not take") from error
