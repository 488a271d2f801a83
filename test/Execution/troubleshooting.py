"""docs/Troubleshooting.md has an entry for every error that the tests of the interface have provoked. Runs behind them; with a filter it looks at what has run."""
import re

from harness import HERE, refusals, test

# Those that provoke what a user meets. Operators that are refused one by one are not in the guide.
MODULES = ("interface", "configs", "config_keys", "jobs", "monitors", "boards", "sft", "bad_models", "bad_data", "refusals", "faults", "checkpoints")
GUIDE = HERE.parent.parent / "docs/Troubleshooting.md"


def entries():
    """The first column of the guide's tables, `…` for what varies, as regular expressions."""
    for line in GUIDE.read_text().splitlines():
        if found := re.match(r"\| `(.+?)` \|", line):
            text = found[1].replace("\\|", "|")
            yield text, re.compile(".*?".join(re.escape(part) for part in text.split("…")))


@test("troubleshooting/every error that a test has seen has an entry in the guide", alone=True)
def every_error():
    known = list(entries())
    assert len(known) > 50, f"{len(known)} entries"
    assert all(module != "harness" for module, _ in refusals), "errors are not told by the module that provokes them"
    missing = sorted({line for module, line in refusals if module in MODULES and not any(pattern.search(line) for _, pattern in known)})
    assert not missing, f"{len(missing)} errors have no entry in docs/Troubleshooting.md:\n" + "\n".join(missing)


@test("troubleshooting/no entry stands twice, and none matches everything")
def distinct():
    texts = [text for text, _ in entries()]
    assert len(texts) == len(set(texts)), sorted(text for text in texts if texts.count(text) > 1)
    for text, pattern in entries():
        assert len(text.replace("…", "").strip()) >= 8, f"'{text}' matches too much"
        assert not pattern.search("zrun: error: x"), text
