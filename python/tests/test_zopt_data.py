"""python3 -m unittest discover -s python/tests; scripts/test-python.sh makes what it needs. Where transformers is installed, chats are compared with it."""
import contextlib
import io
import json
import unittest

import cases

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from zopt_data import ChatTemplate, Encoder, RecordError, TemplateError, TokenizerFiles
from zopt_data.__main__ import main

try:
    import transformers
except ImportError:
    transformers = None

CHATML = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
MARKED = ("{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n{% generation %}{{ message['content'] }}<|im_end|>\n{% endgeneration %}"
          "{% else %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Grüß dich 🙂"}, {"role": "assistant", "content": "Hello 🙂 there."},
        {"role": "user", "content": "More?"}, {"role": "assistant", "content": "No."}]


def make_tokenizer(folder, template=CHATML, bos=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>", "<|begin|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["hello there, be kind, hello there"] * 10, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": {"__type": "AddedToken", "content": "<|begin|>"},
                                                              "chat_template": template}))
    return TokenizerFiles.load(folder)


class Case(cases.Case):
    def encoder(self, template=CHATML, bos=False, **options):
        files = make_tokenizer(self.folder, template, bos)
        return Encoder(files, ChatTemplate(files.chat_template, files.special_tokens), **options), files

    def counted(self, row, files):
        """What the counted labels spell, run by run."""
        runs, current = [], []
        for token, label in zip(row["input_ids"], row["labels"]):
            if label != -100:
                self.assertEqual(token, label)
                current.append(label)
            elif current:
                runs.append(current)
                current = []
        if current:
            runs.append(current)
        return [files.tokenizer.decode(run, skip_special_tokens=False) for run in runs]


class Records(Case):
    def test_text_ends_and_all_of_it_counts(self):
        encoder, files = self.encoder()
        row = encoder.encode({"text": "hello 🙂"})
        self.assertEqual(files.tokenizer.decode(row["input_ids"], skip_special_tokens=False), "hello 🙂<|end|>")
        self.assertEqual(row["labels"], row["input_ids"])
        self.assertEqual(Encoder(files, end_of_text=False).encode({"text": "hello"})["input_ids"], files.tokenizer.encode("hello").ids)

    def test_special_tokens_stand_once(self):
        encoder, files = self.encoder(bos=True)
        pair = encoder.encode({"prompt": "hello", "completion": " there"})
        self.assertEqual(files.tokenizer.decode(pair["prompt"] + pair["completion"], skip_special_tokens=False), "<|begin|>hello there<|end|>")
        self.assertEqual(encoder.encode({"messages": CHAT})["input_ids"].count(3), 0, "the template writes no beginning of text, so there is none")

    def test_only_what_the_assistant_said_counts(self):
        said = ["Hello 🙂 there.<|im_end|>\n", "No.<|im_end|>\n"]
        for template in (CHATML, MARKED):
            encoder, files = self.encoder(template)
            row = encoder.encode({"messages": CHAT})
            self.assertEqual(self.counted(row, files), said)
            self.assertEqual(files.tokenizer.decode(row["input_ids"], skip_special_tokens=False), encoder.template.render(CHAT))
            encoder.train_on = "last"
            self.assertEqual(self.counted(encoder.encode({"messages": CHAT}), files), said[1:])
            encoder.train_on = "all"
            row = encoder.encode({"messages": CHAT})
            self.assertEqual(row["labels"], row["input_ids"])
            encoder.train_on = "assistant"
            self.assertEqual(self.counted(encoder.encode({"prompt": CHAT[:4], "completion": CHAT[4:]}), files), said[1:])

    def test_a_template_without_prefixes_is_refused(self):
        encoder, _ = self.encoder("{{ messages | length }}{% for message in messages %}{{ message['content'] }}{% endfor %}")
        with self.assertRaisesRegex(RecordError, "message 2: the chat up to it is no beginning of the whole"):
            encoder.encode({"messages": CHAT})

    def test_bad_records_are_told(self):
        encoder, files = self.encoder("{% if messages[0]['role'] != 'user' %}{{ raise_exception('user first') }}{% endif %}" + CHATML)
        for record, text in (([1], "is not an object"), ({}, "has none of messages"), ({"text": 5}, "text: is int, not text"), ({"prompt": "a"}, "completion: is missing"),
                             ({"messages": []}, "no list of messages"), ({"messages": [{"content": "x"}]}, "message 0 has no role"), ({"messages": CHAT}, "user first"),
                             ({"messages": CHAT[1:2]}, "the assistant says nothing"), ({"text": "\ud800"}, "half of a surrogate pair")):
            with self.subTest(record=record), self.assertRaisesRegex(RecordError, text):
                encoder.encode(record)
        files.special_tokens.pop("eos_token")
        with self.assertRaisesRegex(RecordError, "names no eos_token.*--no-eos"):
            Encoder(files).encode({"text": "hello"})
        with self.assertRaisesRegex(TemplateError, "line 1"):
            ChatTemplate("{% for %}")
        with self.assertRaisesRegex(TemplateError, "unsafe|immutable|access|not safe"):
            ChatTemplate("{{ messages.append(1) }}{{ ''.__class__.__mro__ }}").render([])


@unittest.skipIf(transformers is None, "transformers is not installed")
class AgainstTransformers(Case):
    def check(self, template, **options):
        encoder, _ = self.encoder(template)
        theirs = transformers.AutoTokenizer.from_pretrained(self.folder)
        self.assertEqual(encoder.encode({"messages": CHAT})["input_ids"], theirs.apply_chat_template(CHAT, tokenize=True, return_dict=True)["input_ids"])
        return encoder, theirs

    def test_chats_have_the_same_tokens(self):
        self.check(CHATML)
        self.check("{% for m in messages %}\n  {% if loop.first %}{% continue %}{% endif %}\n{{ m | tojson }}{{ m.content.strip() }}\n{%- if m.role == 'assistant' %}{% break %}{% endif %}\n  {% endfor %}")

    def test_marked_templates_have_the_same_mask(self):
        encoder, theirs = self.check(MARKED)
        mask = theirs.apply_chat_template(CHAT, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)["assistant_masks"]
        self.assertEqual([int(label != -100) for label in encoder.encode({"messages": CHAT})["labels"]], list(mask))

    def test_text_has_the_same_tokens(self):
        encoder, files = self.encoder(bos=True)
        theirs = transformers.AutoTokenizer.from_pretrained(self.folder)
        self.assertEqual(encoder.encode({"text": "Grüß dich, hello there"})["input_ids"], theirs("Grüß dich, hello there")["input_ids"] + [theirs.eos_token_id])


class CommandLine(Case):
    def run_main(self, *arguments):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = main([str(argument) for argument in arguments])
        return code, errors.getvalue()

    def test_files_become_rows(self):
        make_tokenizer(self.folder)
        (self.folder / "in.jsonl").write_text("\n".join(json.dumps(record) for record in ({"text": "hello"}, {"prompt": "a", "completion": "b"}, {"messages": CHAT}, {"text": "x" * 500})))
        code, errors = self.run_main("--tokenizer", self.folder / "tokenizer.json", self.folder / "in.jsonl", "-o", self.folder / "out.jsonl", "--max-tokens", 200)
        self.assertEqual(code, 0, errors)
        rows = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        self.assertEqual([sorted(row) for row in rows], [["input_ids", "labels"], ["completion", "prompt"], ["input_ids", "labels"]])
        self.assertIn("3 records", errors)
        self.assertIn("1 of more than 200 tokens left out", errors)

    def test_bad_records_stop_or_are_skipped(self):
        make_tokenizer(self.folder)
        (self.folder / "in.jsonl").write_text('{"text": "hello"}\n\n{"text"\n{"text": 3}\n')
        command = ("--tokenizer", self.folder, self.folder / "in.jsonl", "-o", self.folder / "out.jsonl")
        code, errors = self.run_main(*command)
        self.assertEqual(code, 1)
        self.assertIn("in.jsonl:3: is no JSON", errors)
        self.assertIn("in.jsonl:4: text: is int", errors)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["in.jsonl", "tokenizer.json", "tokenizer_config.json"])
        code, errors = self.run_main(*command, "--bad-records=skip")
        self.assertEqual(code, 0)
        self.assertIn("1 records of", errors)
        self.assertIn("2 skipped", errors)

    def test_what_is_missing_is_named(self):
        code, errors = self.run_main("--tokenizer", self.folder, "in.jsonl", "-o", self.folder / "out")
        self.assertEqual((code, "tokenizer.json: no such file" in errors), (1, True), errors)
        make_tokenizer(self.folder)
        code, errors = self.run_main("--tokenizer", self.folder, self.folder / "none.jsonl", "-o", self.folder / "out")
        self.assertEqual((code, "none.jsonl: No such file" in errors), (1, True), errors)
        code, errors = self.run_main("--tokenizer", self.folder, "--chat-template", self.folder / "none.jinja", self.folder / "none.jsonl", "-o", self.folder / "out")
        self.assertEqual((code, "none.jinja" in errors), (1, True), errors)


if __name__ == "__main__":
    unittest.main()
