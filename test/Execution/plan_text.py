"""Reads what the tests need from the text of a final plan: buffers, placed buckets, commands. Anchored on the printed form of the ops in PlanOps.td."""
import re

_SIZES = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2}


class FinalPlan:
    def __init__(self, text):
        self.text = text
        self.arenas = {m[1]: int(m[3]) for m in re.finditer(r"plan\.arena @(\S+) (\w+) (\d+)", text)}
        # name -> (arena, offset, bytes, class)
        self.buffers = {m[1]: (m[2], int(m[3]), int(m[4]), m[5])
                        for m in re.finditer(r'plan\.buffer @("[^"]+"|\S+) in @(\S+) at (\d+) bytes (\d+) for (\w+)', text)}
        self.placed = []  # (bucket, padded, slice, [buffers of parameters], [of gradients], [of optimizer state and masters])
        for line in re.findall(r"plan\.placed_bucket .*", text):
            head = re.match(r'plan\.placed_bucket @("[^"]+"|\S+) padded (\d+) slice (\d+) parameters @("[^"]+"|\S+)', line)
            master = re.findall(r'\bmaster = @("[^"]+"|[\w.$-]+)', line)
            gradient = re.findall(r'\bgradient = @("[^"]+"|[\w.$-]+)', line)
            slots = re.findall(r'@("[^"]+"|[\w.$-]+)', re.search(r"slots = \[(.*?)\]", line)[1])
            self.placed.append((head[1], int(head[2]), int(head[3]), [head[4]], gradient, master + slots))
        # Elements of each bucket's segments, without padding.
        self.logical = {m[1]: sum(int(n) for n in re.findall(r"#zero\.segment<@(?:\"[^\"]+\"|[^,]+), \d+, (\d+)>", m[0]) or re.findall(r"<@(?:\"[^\"]+\"|[^,]+), \d+, (\d+)>", m[0]))
                        for m in re.finditer(r'zero\.bucket @("[^"]+"|\S+) .*', text)}
        self.sequences = {}
        for name in ("micro_step", "apply_step"):
            body = re.search(rf"plan\.sequence @{name} \{{\n(.*?)\n  \}}", text, re.S)
            if body:
                self.sequences[name] = [line.strip() for line in body[1].splitlines() if re.match(r"\s*plan\.", line)]

    def bytes_of(self, names):
        return sum(self.buffers[n][2] for n in names)

    def mentioned(self, command):
        """Buffers that a command names."""
        return [n for n in re.findall(r'@("[^"]+"|[\w.$-]+)', command) if n in self.buffers]

    def gathers(self, sequence="micro_step"):
        """(bytes, first command, last command) of each gathered buffer's lives, in the order of the gathers."""
        commands = self.sequences[sequence]
        starts = [(i, re.search(r'into @("[^"]+"|[\w.$-]+)', c)[1]) for i, c in enumerate(commands) if c.startswith("plan.all_gather ")]
        lives = []
        for number, (index, buffer) in enumerate(starts):
            end = next((i for i, other in starts[number + 1:] if other == buffer), len(commands))
            last = max(i for i in range(index, end) if buffer in self.mentioned(commands[i]))
            lives.append((self.buffers[buffer][2], index, last))
        return lives
