"""python3 -m zopt_data: see the package."""
import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from .records import Encoder, RecordError
from .template import ChatTemplate, TemplateError
from .tokenizer import TokenizerError, TokenizerFiles

PROBLEMS_TOLD = 10


def lines_of(path):
    """(line number, record) of each line; the record is a RecordError where there is none."""
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, RecordError(f"is no JSON: {error}")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="zopt_data", description="Turns text, pairs and chats into token ids for zrun --data FILE.jsonl.")
    parser.add_argument("inputs", nargs="+", type=Path, help="files with a JSON object a line: text, prompt and completion, or messages")
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--tokenizer", required=True, type=Path, help="tokenizer.json of Hugging Face, a sentencepiece model (*.model), or the folder of either")
    parser.add_argument("--chat-template", type=Path, help="a jinja file, in place of the tokenizer's own")
    parser.add_argument("--train-on", choices=("assistant", "last", "all"), default="assistant", help="labels of chats: all that the assistant said, its last message, or everything (assistant)")
    parser.add_argument("--text-key", default="text", help="the key of plain text (text)")
    parser.add_argument("--no-eos", action="store_true", help="put no end of text behind texts and completions")
    parser.add_argument("--max-tokens", type=int, help="leave out records of more tokens, and count them")
    parser.add_argument("--bad-records", choices=("stop", "skip"), default="stop")
    return parser.parse_args(arguments)


def convert(options):
    files = TokenizerFiles.load(options.tokenizer, options.chat_template)
    template = ChatTemplate(files.chat_template, files.special_tokens) if files.chat_template else None
    encoder = Encoder(files, template, not options.no_eos, options.train_on, options.text_key)
    problems, bad, written, long, tokens, counted = [], 0, 0, 0, 0, 0
    # The file appears whole or not at all.
    descriptor, temporary = tempfile.mkstemp(prefix=options.output.name + ".tmp-", dir=options.output.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as output:
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(output.fileno(), 0o666 & ~mask)
            for path in options.inputs:
                for number, record in lines_of(path):
                    try:
                        if isinstance(record, RecordError):
                            raise record
                        row = encoder.encode(record)
                    except RecordError as error:
                        bad += 1
                        if len(problems) < PROBLEMS_TOLD:
                            problems.append(f"{path}:{number}: {error}".replace("\n", " "))
                        continue
                    size = sum(len(row[key]) for key in (("prompt", "completion") if "prompt" in row else ("input_ids",)))
                    if options.max_tokens and size > options.max_tokens:
                        long += 1
                        continue
                    json.dump(row, output, separators=(",", ":"))
                    output.write("\n")
                    written += 1
                    tokens += size
                    counted += len(row["completion"]) if "completion" in row else sum(label >= 0 for label in row["labels"])
            output.flush()
            os.fsync(output.fileno())
        for problem in problems:
            print(f"zopt_data: {'skips' if options.bad_records == 'skip' else 'error:'} {problem}", file=sys.stderr)
        if bad > len(problems):
            print(f"zopt_data: and {bad - len(problems)} more", file=sys.stderr)
        if bad and options.bad_records == "stop":
            return 1
        if not written:
            print("zopt_data: error: no record was left to write", file=sys.stderr)
            return 1
        os.replace(temporary, options.output)
        temporary = None
    finally:
        if temporary:
            os.unlink(temporary)
    left = "".join(f", {count} {what}" for count, what in ((bad, "skipped"), (long, f"of more than {options.max_tokens} tokens left out")) if count)
    print(f"zopt_data: {options.output}: {written} records of {tokens} tokens, {counted} of which count{left}", file=sys.stderr)
    return 0


def main(arguments=None):
    try:
        return convert(parse_arguments(arguments))
    except (TokenizerError, TemplateError) as error:
        print(f"zopt_data: error: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"zopt_data: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 3 if not isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)) else 1


if __name__ == "__main__":
    sys.exit(main())
