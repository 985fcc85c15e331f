"""Emulator of the sweep's PTX in NumPy: executes each instruction on all threads at once.

It supports only the instructions that ``rvsmjax.sweep._tiles.ptx`` and ``cuda`` emit. Warps at the same instruction run
in lockstep; branches must be uniform within a warp.
"""

import functools
import re

import numpy as np

WARP = 32
TYPES = {"f32": np.float32, "s32": np.int32, "u32": np.uint32, "b32": np.uint32, "b64": np.int64, "pred": np.bool_}
COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


@functools.cache
def parsed(text):
    """Parses PTX into (guard, op, operands) tuples, label offsets, register types, parameters and the block size."""
    header, body = text.split("{\n", 1)
    parameters = re.findall(r"\.param \.u64 (\w+)", header)
    block = int(re.search(r"\.maxntid (\d+)", header)[1])
    code, labels, types = [], {}, {}
    for line in body.strip().removesuffix("}").strip().splitlines():
        if line.endswith(":"):
            labels[line[:-1]] = len(code)
        elif line.startswith(".reg"):
            kind, prefix = re.fullmatch(r"\.reg \.(\w+) %(\w+)<\d+>;", line).groups()
            types[prefix] = TYPES[kind]
        else:
            guard, op, operands = re.fullmatch(r"(?:@(!?%\w+) )?([\w.]+) ?(.*);", line).groups()
            code.append((guard, op.split("."), [part.strip() for part in operands.split(",") if part.strip()]))
    return code, labels, types, parameters, block


class Machine:
    """One launch of a kernel.

    Args:
      text: the kernel as PTX.
      blocks: number of blocks.
      memory: arrays in the order of the parameters, modified in place.
    """

    def __init__(self, text, blocks, memory):
        self.code, self.labels, self.types, names, self.block = parsed(text)
        self.threads = blocks * self.block
        # Array i starts at address i · 2³⁶.
        self.memory = [array.reshape(-1).view(np.uint32) for array in memory]
        self.parameters = {name: i << 36 for i, name in enumerate(names)}
        assert len(names) == len(memory)
        self.registers = {}
        self.executed = 0

    def run(self):
        """Runs all warps to completion."""
        counter = np.zeros(self.threads // WARP, int)
        while True:
            current = counter.min()
            if current == len(self.code):
                return
            active = counter == current
            mask = np.repeat(active, WARP)
            guard, op, operands = self.code[current]
            if guard:
                condition = self.registers[guard.removeprefix("!")] ^ guard.startswith("!")
                mask = mask & condition
            self.executed += int(mask.sum())
            if op[0] == "bra":
                taken = mask.reshape(-1, WARP)
                assert (taken.all(1) | ~taken.any(1)).all(), "divergent branch"
                counter = np.where(active & taken.any(1), self.labels[operands[0]], counter + active)
            elif op[0] == "ret":
                counter[active] = len(self.code)
            else:
                self.step(op, operands, mask)
                counter = counter + active

    def kind(self, name):
        return self.types[name[1]]

    def read(self, name, dtype):
        """Returns a register's bits as ``dtype``, or a literal."""
        if name.startswith("%") and name[1:].split(".")[0] in ("tid", "ctaid"):
            thread = np.arange(self.threads)
            return (thread % self.block if "%tid" in name else thread // self.block).astype(np.uint32)
        if name.startswith("%"):
            value = self.registers[name]
            if value.dtype == np.bool_ or np.dtype(dtype).itemsize != value.dtype.itemsize:
                return value.astype(dtype)
            return value.view(dtype)
        if name.startswith("0f"):
            return np.full(self.threads, np.uint32(int(name[2:], 16))).view(np.float32).view(dtype)
        return np.full(self.threads, int(name)).astype(dtype)

    def put(self, name, value, mask):
        dtype = self.kind(name)
        value = value if value.dtype == dtype else value.view(dtype)
        old = self.registers.get(name, np.zeros(self.threads, dtype))
        self.registers[name] = np.where(mask, value, old)

    def step(self, op, operands, mask):
        """Executes one instruction other than a branch."""
        name, kinds = op[0], op[1:]
        dtype = TYPES.get(kinds[-1], np.uint32) if kinds else np.uint32
        if name in ("ld", "st"):
            return self.move(name, kinds[0], operands, dtype, mask)
        if name == "setp":
            a, b = (self.read(part, dtype) for part in operands[1:3])
            result = COMPARE[kinds[0]](a, b)
            if kinds[1] == "and":
                result = result & self.registers[operands[3]]
            return self.put(operands[0], result, mask)
        if name == "vote":
            assert kinds[:2] == ["sync", "any"]
            votes = (self.registers[operands[1]] & mask).reshape(-1, WARP).any(1)
            return self.put(operands[0], np.repeat(votes, WARP), mask)
        if name == "shfl":
            assert kinds[:2] == ["sync", "bfly"]
            lanes = self.read(operands[1], np.float32).reshape(-1, WARP)
            return self.put(operands[0], lanes[:, np.arange(WARP) ^ int(operands[2])].reshape(-1), mask)
        if name == "selp":
            a, b = (self.read(part, self.kind(operands[0])) for part in operands[1:3])
            return self.put(operands[0], np.where(self.registers[operands[3]], a, b), mask)
        if name == "cvt":
            return self.put(operands[0], self.read(operands[1], TYPES[kinds[-1]]).astype(TYPES[kinds[-2]]), mask)
        if name == "mad":
            a, b, c = (self.read(part, dtype) for part in operands[1:])
            return self.put(operands[0], a * b + c, mask)
        if name == "mul" and kinds[0] == "wide":
            a, b = (self.read(part, dtype).astype(np.int64) for part in operands[1:])
            return self.put(operands[0], a * b, mask)
        if kinds[-1] == "s64":
            dtype = np.int64
        values = [self.read(part, dtype) for part in operands[1:]]
        with np.errstate(all="ignore"):
            result = ARITHMETIC[name](*values).astype(dtype)
        return self.put(operands[0], result, mask)

    def move(self, name, space, operands, dtype, mask):
        """Loads or stores; masked threads do not access memory."""
        at = operands[1] if name == "ld" else operands[0]
        base, _, offset = at.strip("[]").partition("+")
        if space == "param":
            return self.put(operands[0], np.full(self.threads, self.parameters[base]), mask)
        address = self.registers[base][mask] + int(offset or 0)
        assert (address % 4 == 0).all()
        arrays = np.unique(address >> 36)
        assert len(arrays) <= 1
        if not len(arrays):
            return None
        array, index = self.memory[arrays[0]], (address & (2**36 - 1)) // 4
        assert (index < len(array)).all(), "out of bounds"
        if name == "st":
            array[index] = self.read(operands[1], dtype)[mask].view(np.uint32)
            return None
        loaded = np.zeros(self.threads, np.uint32)
        loaded[mask] = array[index]
        return self.put(operands[0], loaded.view(dtype), mask)


ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.fmin,
    "max": np.fmax,
    "neg": np.negative,
    "abs": np.abs,
    "mov": lambda a: a,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.bitwise_not,
    "shr": np.right_shift,
    "sqrt": np.sqrt,
    "rcp": lambda a: np.float32(1) / a,
    "rsqrt": lambda a: np.float32(1) / np.sqrt(a),
    "ex2": np.exp2,
    "lg2": np.log2,
    # The product of two float32 is exact in float64.
    "fma": lambda a, b, c: a.astype(np.float64) * b + c,
}
