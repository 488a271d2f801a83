"""Crashes at every change that a save makes to its folder, and calls that fail. A preloaded library (disk.c) records the changes of a run; the folder that a crash after any of them leaves is then built
for several disks, from one that loses all that was not fsynced to one that loses nothing, and every one of them must hold the last checkpoint that was announced, whole."""
import errno
import re
from pathlib import Path

import tensors
from checkpoints import Case, events, tags, uninterrupted
from harness import HERE, add, execute, memoize, scratch, succeed, test

SMALL = Case(model="mlp-tiny", stage=2, ranks=2, batch=4)


@memoize
def disk():
    library = scratch("disk") / "disk.so"
    succeed(["clang-22", "-O1", "-shared", "-fPIC", HERE / "disk.c", "-o", library, "-ldl"])
    return library


class File:
    def __init__(self):
        self.data, self.durable = bytearray(), None  # None: not even its length


class Folder:
    def __init__(self):
        self.entries, self.durable = {}, {}


class Disk:
    """What is in memory and what is on the disk below `root`, which is there."""

    def __init__(self, root):
        self.root, self.top = str(root), Folder()

    @classmethod
    def of(cls, root):
        """A folder that is durable as it stands."""
        def read(path):
            if path.is_dir():
                node = Folder()
                node.entries = {p.name: read(p) for p in path.iterdir()}
                node.durable = dict(node.entries)
            else:
                node = File()
                node.data, node.durable = bytearray(path.read_bytes()), path.read_bytes()
            return node
        disk = cls(root)
        disk.top = read(Path(root))
        return disk

    def at(self, path):
        node = self.top
        for part in Path(path).relative_to(self.root).parts:
            node = node.entries[part]
        return node

    def place(self, path):
        return self.at(Path(path).parent).entries, Path(path).name

    def apply(self, call, path, second, data):
        name, _, number = call.partition("@")
        if name in ("create", "touch"):
            entries, key = self.place(path)
            node = entries.setdefault(key, File())
            if name == "create":
                node.data = bytearray()
        elif name == "write":
            node, begin = self.at(path), int(number)
            node.data.extend(b"\0" * (begin - len(node.data)))
            node.data[begin:begin + len(data)] = data
        elif name == "truncate":
            node = self.at(path)
            node.data = node.data[:int(number)] + bytearray(max(0, int(number) - len(node.data)))
        elif name == "fsync":
            node = self.at(path)
            node.durable = dict(node.entries) if isinstance(node, Folder) else bytes(node.data)
        elif name == "mkdir":
            entries, key = self.place(path)
            entries[key] = Folder()
        elif name == "remove":
            entries, key = self.place(path)
            del entries[key]
        elif name in ("rename", "exchange"):
            a, from_key = self.place(path)
            b, to_key = self.place(second)
            if name == "exchange":
                a[from_key], b[to_key] = b[to_key], a[from_key]
            else:
                b[to_key] = a.pop(from_key)
        else:
            raise AssertionError(f"an unknown record: {call}")

    def build(self, target, disk, node=None):
        """Writes the folder that a crash leaves. `disk`: 'drops' what was not fsynced, names as well as contents; 'names': keeps all names, drops contents; 'torn': the same with half of what
        was not fsynced; 'keeps' everything (a killed process)."""
        node = node or self.top
        target.mkdir()
        for name, child in (node.durable if disk == "drops" else node.entries).items():
            if isinstance(child, Folder):
                self.build(target / name, disk, child)
            elif disk == "keeps":
                (target / name).write_bytes(child.data)
            elif disk == "torn" and bytes(child.data) != child.durable:
                (target / name).write_bytes(child.data[:len(child.data) // 2])
            else:
                (target / name).write_bytes(child.durable or b"")


def read_trace(path):
    raw, at, records = Path(path).read_bytes(), 0, []
    while at < len(raw):
        end = raw.index(b"\n", at)
        call, size, rest = raw[at:end].decode().split(" ", 2)
        first, _, second = rest.partition("\t")
        records.append((call, first, second, raw[end + 1:end + 1 + int(size)]))
        at = end + 1 + int(size)
    return records


def record(folder, *flags):
    """Runs with checkpoints in folder/D; the changes that were made there."""
    (folder / "D").mkdir(exist_ok=True)
    succeed(SMALL.command("--metrics", folder / "m", "--checkpoint-dir", folder / "D", *flags), LD_PRELOAD=str(disk()), ZOPT_DISK_ROOT=str(folder / "D"), ZOPT_DISK_TRACE=str(folder / "trace"))
    return read_trace(folder / "trace")


def traced(steps=12):
    """A run of some saves, of which two stay."""
    folder = scratch("trace")
    return folder, record(folder, "--steps", steps, "--checkpoint-every", 3)


def step_of(name):
    return int(re.search(r"global_step(\d+)", name).group(1))


def check_crashes(folder, records, disk=None, announced=-1):
    """`announced`: the step of a checkpoint that `disk` has already."""
    states, disk, latest, fresh = [], disk or Disk(folder / "D"), None, announced < 0
    saves = 0
    parent = scratch("crash")
    for number, (call, path, second, data) in enumerate(records):
        disk.apply(call, path, second, data)
        if call == "rename" and second.endswith("/latest"):
            latest = step_of(bytes(disk.at(second).data).decode())
        if call == "fsync" and path == str(folder / "D") and latest is not None and announced != latest:
            announced, saves = latest, saves + 1
        for kind in ("drops", "names", "torn", "keeps"):
            target = parent / f"{number}-{kind}"
            disk.build(target, kind)
            states.append((target, announced, f"{kind}, crash after {number}: {call} {path} {second}"))
    assert not fresh or saves >= 2 and len(records) > 40, f"only {saves} saves and {len(records)} changes were seen"
    done = execute(["zrun", "ckpt", "verify", *[s[0] for s in states]], timeout=300)
    said = dict(re.findall(r"^(\S+): (?:a run would go on from \S*/(global_step\d+)|holds no checkpoint)$", done.stdout, re.M))
    for target, least, what in states:
        assert str(target) in said, f"{what}: nothing is said of it: {done}"
        found = said[str(target)]
        assert (step_of(found) if found else -1) >= least, f"{what}: step {least} was announced, but a run would go on from {found or 'nothing'}"
    return states


@test("crashes/at every change that a save makes, on four kinds of disk")
def at_every_change():
    folder, records = traced()
    states = check_crashes(folder, records)
    # A few of them are really gone on from, to the same bits.
    whole = uninterrupted(SMALL, 20)
    for target, least, what in states[len(states) // 3::max(1, len(states) // 8)]:
        done = succeed(SMALL.command("--steps", 20, "--weights-out", folder / "w", "--checkpoint-dir", target, "--resume=auto"))
        assert not tensors.same_bits(whole[1], tensors.load(folder / "w")), f"{what}: other weights: {done}"
        left = {p.name for p in target.iterdir()}
        assert not {n for n in left if n.endswith((".partial", ".deleting")) or ".tmp-" in n or n == "lock"}, f"{what}: left behind: {left}"


def sees_a_missing_fsync(what, pattern):
    """The check above is no check if it passes where an fsync is left out."""
    folder, records = traced(steps=9)
    without = [r for r in records if not (r[0] == "fsync" and re.search(pattern, r[1]))]
    assert len(without) < len(records), f"no fsync of {what} was seen"
    try:
        check_crashes(folder, without)
    except AssertionError as error:
        assert "was announced, but" in str(error), str(error)
        return
    raise AssertionError(f"nothing is lost where no {what} is fsynced")


for what, pattern in (("shard", r"shard-00002"), ("index", r"index\.json$"), ("folder", r"\.partial$")):
    add(f"crashes/the check sees a missing fsync of the {what}", sees_a_missing_fsync, what, pattern)


@test("crashes/a run that went back passes its steps again: the exchange of folders loses nothing")
def passes_again():
    folder = scratch("again")
    for steps in (3, 6):
        succeed(SMALL.command("--steps", steps, "--checkpoint-dir", folder / "D", "--keep", 0, "--resume=auto"))
    before = Disk.of(folder / "D")
    records = record(folder, "--steps", 6, f"--resume={folder / 'D' / 'global_step3'}", "--keep", 0)
    assert [r[0] for r in records].count("exchange") == 1, "no exchange was seen"
    check_crashes(folder, records, before, announced=6)
    assert tags(folder / "D") == ["global_step3", "global_step6"] and not list((folder / "D").glob("*.*")), list((folder / "D").iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Calls that fail
# ---------------------------------------------------------------------------------------------------------------------

def failing(call, first, number, ends):
    """One failure: a line, training goes on, later saves succeed, nothing half-written."""
    folder = scratch("failing")
    (folder / "D").mkdir()
    done = execute(SMALL.command("--steps", 4000, "--metrics", folder / "m", "--weights-out", folder / "w", "--checkpoint-dir", folder / "D", "--checkpoint-every", 1000), timeout=300,
                   LD_PRELOAD=str(disk()), ZOPT_DISK_ROOT=str(folder / "D"), ZOPT_DISK_FAIL=f"{call}:{first}:1:{number}")
    assert done.code == 0, str(done)
    records = events(folder / "m", "checkpoint")
    failed = [e for e in records if "error" in e]
    lines = re.findall(r"warning: the checkpoint of step \d+ could not be saved: (.*); training goes on", done.stderr)
    if number:
        assert len(failed) == 1 and len(lines) == 1 and ends in lines[0], f"one line with {ends!r}: {done}"
    else:  # a short write is no failure: the rest follows
        assert not failed and not lines, f"a short write failed: {done}"
    assert "global_step4000" in tags(folder / "D"), tags(folder / "D")
    assert not [p for p in (folder / "D").iterdir() if not re.fullmatch(r"latest|global_step\d+", p.name)], list((folder / "D").iterdir())
    succeed(["zrun", "ckpt", "verify", folder / "D"])


for call, first, number, ends in (("write", 2, errno.ENOSPC, "No space left on device"), ("write", 3, 0, ""), ("fsync", 1, errno.EIO, "Input/output error"), ("fsync", 6, errno.EIO, "Input/output error"),
                                  ("rename", 0, errno.EIO, "Input/output error"), ("mkdir", 1, errno.ENOSPC, "No space left on device"), ("ftruncate", 2, errno.EIO, "Input/output error")):
    add(f"crashes/one {call} fails with {errno.errorcode.get(number, 'a short write')} ({first})", failing, call, first, number, ends)
