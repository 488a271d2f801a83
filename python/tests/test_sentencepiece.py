"""A sentencepiece model in place of tokenizer.json: ids, offsets, special tokens, refusals. Compared with the package itself, and with transformers where it is there."""
import contextlib
import io
import json
import unittest

from cases import Case

try:
    import sentencepiece
except ImportError:
    sentencepiece = None

from zopt_data import ChatTemplate, Encoder, RecordError, TokenizerFiles
from zopt_data.__main__ import main

SENTENCES = ["hello there, be kind", "more words stand here than there", "Grüße an alle, die es lesen", "one two three four five six seven"] * 20
MARKS = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} [end]{% endfor %}"


@unittest.skipIf(sentencepiece is None, "the package sentencepiece is not installed")
class SentencePiece(Case):
    def setUp(self):
        super().setUp()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_prefix=str(self.folder / "tokenizer"), vocab_size=90, model_type="bpe", byte_fallback=False, hard_vocab_limit=False,
                                                 user_defined_symbols=["[user]", "[assistant]", "[end]"], minloglevel=2)
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(self.folder / "tokenizer.model"))

    def test_text_and_pairs(self):
        encoder = Encoder(TokenizerFiles.load(self.folder))
        expected = [self.model.bos_id()] + self.model.encode("hello there") + [self.model.eos_id()]
        self.assertEqual(encoder.encode({"text": "hello there"}), {"input_ids": expected, "labels": expected})
        self.assertEqual(encoder.encode({"prompt": "be", "completion": "kind"}),
                         {"prompt": [self.model.bos_id()] + self.model.encode("be"), "completion": self.model.encode("kind") + [self.model.eos_id()]})

    def test_configuration_beside_it(self):
        (self.folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False}))
        encoder = Encoder(TokenizerFiles.load(self.folder / "tokenizer.model"), end_of_text=False)
        self.assertEqual(encoder.encode({"text": "hello"})["input_ids"], self.model.encode("hello"))

    def test_chats_count_what_the_assistant_says(self):
        encoder = Encoder(TokenizerFiles.load(self.folder), ChatTemplate(MARKS, {}))
        row = encoder.encode({"messages": [{"role": "user", "content": "Grüße"}, {"role": "assistant", "content": "hello there"}]})
        counted = [label for label in row["labels"] if label != -100]
        self.assertIn("hello there", self.model.decode(counted))
        self.assertNotIn("Gr", self.model.decode(counted))
        self.assertEqual(row["input_ids"], self.model.encode("[user] Grüße [end][assistant] hello there [end]"))

    def test_control_tokens_in_a_template_are_refused(self):
        encoder = Encoder(TokenizerFiles.load(self.folder), ChatTemplate("<s>" + MARKS, {}))
        with self.assertRaisesRegex(RecordError, "'<s>', a control token"):
            encoder.encode({"messages": [{"role": "assistant", "content": "hello"}]})

    def test_command_line_and_bad_models(self):
        (self.folder / "in.jsonl").write_text(json.dumps({"text": "be kind"}) + "\n")
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.assertEqual(main([str(self.folder / "in.jsonl"), "-o", str(self.folder / "out.jsonl"), "--tokenizer", str(self.folder / "tokenizer.model")]), 0, said.getvalue())
            row = json.loads((self.folder / "out.jsonl").read_text())
            (self.folder / "bad.model").write_bytes(b"no model")
            self.assertEqual(main([str(self.folder / "in.jsonl"), "-o", str(self.folder / "x.jsonl"), "--tokenizer", str(self.folder / "bad.model")]), 1)
        self.assertEqual(row["input_ids"], [self.model.bos_id()] + self.model.encode("be kind") + [self.model.eos_id()])
        self.assertRegex(said.getvalue(), r"zopt_data: error: .*bad\.model: ")
        self.assertFalse((self.folder / "x.jsonl").exists())


if __name__ == "__main__":
    unittest.main()
