"""Counts of an instrumented program, turned into what the compiler reads.

    benches/profdata.py OUT RAW...      RAW as a program built with -Cprofile-generate left them, OUT for -Cprofile-use

What `llvm-profdata merge` does, without that component of the toolchain, and smaller: what never ran is left out. By LLVM's "Instrumentation Profile Format"
(llvm.org/docs/InstrProfileFormat.html): reads raw version 10, little endian, 64 bits; writes indexed version 5, the last one
whose header has no tables for what is not used here. Whatever it does not know ends it: a wrong profile would only be slow.
"""
import collections, hashlib, pathlib, struct, sys, zlib

RAW_MAGIC, RAW_VERSION = 0xFF6C70726F667281, 10
INDEXED_MAGIC, INDEXED_VERSION = 0x8169666F72706CFF, 5
# The counters stand in the compiler's own representation, not in clang's syntax tree.
IR_LEVEL = 1 << 56
HEADER, RECORD = struct.Struct("<16Q"), struct.Struct("<6QI3HxxI")
INDIRECT_CALL = 0
# Parts of the total, in millionths, for which the summary says how hot a block must be to belong to them.
CUTOFFS = [10_000, *range(100_000, 1_000_000, 100_000), 950_000, 990_000, 999_000, 999_900, 999_990, 999_999]


def name_hash(name):
    return int.from_bytes(hashlib.md5(name).digest()[:8], "little")


def padded(length):
    return length + -length % 8


def leb128(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at


def names_of(data):
    """The functions' names by their hashes: chunks of names, each with its length and its length when compressed."""
    found, at = {}, 0
    while at < len(data):
        if data[at] == 0:
            at += 1
            continue
        plain, at = leb128(data, at)
        compressed, at = leb128(data, at)
        length = compressed or plain
        text = data[at : at + length]
        at += length
        found.update((name_hash(name), name) for name in (zlib.decompress(text) if compressed else text).split(b"\x01"))
    return found


class Function:
    """How often each of its blocks ran, and for each place of each kind which values came how often."""

    def __init__(self, counts, sites):
        self.counts = list(counts)
        self.values = [[collections.Counter() for _ in range(number)] for number in sites]

    def add(self, other):
        self.counts = [one + two for one, two in zip(self.counts, other.counts)]
        for mine, others in zip(self.values, other.values):
            for site, more in zip(mine, others):
                site.update(more)

    def written(self, checksum):
        kinds = [(kind, sites) for kind, sites in enumerate(self.values) if sites]
        body = b""
        for kind, sites in kinds:
            # The compiler looks at the first of them; a byte counts them.
            tops = [site.most_common(255) for site in sites]
            head = struct.pack("<2I", kind, len(sites)) + bytes(map(len, tops))
            body += head.ljust(padded(len(head)), b"\0")
            body += b"".join(struct.pack("<2Q", *pair) for top in tops for pair in top)
        counts = struct.pack(f"<2Q{len(self.counts)}Q", checksum, len(self.counts), *self.counts)
        return counts + struct.pack("<2I", 8 + len(body), len(kinds)) + body


def collect(functions, key, function):
    if key in functions:
        functions[key].add(function)
    else:
        functions[key] = function


def read(raw):
    """Every function of a raw profile, by name and checksum of its blocks."""
    (magic, version, ids, records, before, counters, after, bits, after_bits, name_bytes, delta, _, _, vtables, vtable_names, _) = HEADER.unpack_from(raw)
    if (magic, version) != (RAW_MAGIC, RAW_VERSION | IR_LEVEL) or vtables or bits:
        sys.exit(f"profdata: raw version {version & 0xFFFFFFFF} is not known here, {RAW_VERSION} is: the toolchain has another LLVM, learn its format")
    first = HEADER.size + ids
    counts_at = first + records * RECORD.size + before
    names_at = counts_at + 8 * counters + after + bits + after_bits
    at = names_at + padded(name_bytes) + padded(vtable_names)
    names = names_of(raw[names_at : names_at + name_bytes])
    table = [RECORD.unpack_from(raw, first + number * RECORD.size) for number in range(records)]
    hash_at = {address: name for name, _, _, _, address, *_ in table if address}
    found = {}
    for number, (name, checksum, where, _, _, _, length, *sites, _) in enumerate(table):
        # Relative to the record itself.
        place = counts_at + (where - (delta - number * RECORD.size)) % 2**64
        function = Function(struct.unpack_from(f"<{length}Q", raw, place), sites)
        if any(sites):
            (size, kinds), inner = struct.unpack_from("<2I", raw, at), at + 8
            at += size
            for _ in range(kinds):
                kind, number_of_sites = struct.unpack_from("<2I", raw, inner)
                lengths = raw[inner + 8 : inner + 8 + number_of_sites]
                inner += padded(8 + number_of_sites)
                for site, values in zip(function.values[kind], lengths):
                    for value, count in struct.iter_unpack("<2Q", raw[inner : inner + 16 * values]):
                        # Calls into other libraries have no name here.
                        value = hash_at.get(value) if kind == INDIRECT_CALL else value
                        if value is not None:
                            site[value] += count
                    inner += 16 * values
            assert inner == at, "values of a function end where they should"
        collect(found, (names[name], checksum), function)
    assert at == len(raw), "a profile ends with the last function's values"
    return found


def summary(functions):
    counts = [count for function in functions.values() for count in function.counts]
    total = sum(counts)
    hottest = iter(sorted(collections.Counter(counts).items(), reverse=True))
    covered = blocks = least = 0
    entries = []
    for cutoff in CUTOFFS:
        while covered < total * cutoff // 1_000_000:
            least, equal = next(hottest)
            covered, blocks = covered + least * equal, blocks + equal
        entries += [cutoff, least, blocks]
    calls = max(function.counts[0] for function in functions.values())
    inner = max((count for function in functions.values() for count in function.counts[1:]), default=0)
    fields = [len(functions), len(counts), calls, max(counts), inner, total]
    return struct.pack(f"<2Q{len(fields) + len(entries)}Q", len(fields), len(CUTOFFS), *fields, *entries)


def indexed(functions):
    """The profile as the compiler looks names up in it: a hash table with chains."""
    by_name = collections.defaultdict(list)
    for (name, checksum), function in sorted(functions.items(), key=lambda item: item[0]):
        by_name[name].append(function.written(checksum))
    buckets = 1 << (len(by_name) * 4 // 3).bit_length()
    chains = collections.defaultdict(list)
    for name, records in by_name.items():
        chains[name_hash(name) % buckets].append((name_hash(name), name, b"".join(records)))
    out = bytearray(summary(functions))
    begins, header = [0] * buckets, 5 * 8
    for bucket, chain in chains.items():
        begins[bucket] = header + len(out)
        out += struct.pack("<H", len(chain))
        for key, name, record in chain:
            out += struct.pack("<3Q", key, len(name), len(record)) + name + record
    out += bytes(-len(out) % 8)
    head = struct.pack("<5Q", INDEXED_MAGIC, INDEXED_VERSION | IR_LEVEL, 0, 0, header + len(out))
    return head + out + struct.pack(f"<2Q{buckets}Q", buckets, len(by_name), *begins)


def merge(out, raws):
    """How many functions ran. The others are left out: they are four fifths of the file, and without them requests are no dearer."""
    functions = {}
    for path in raws:
        for key, function in read(pathlib.Path(path).read_bytes()).items():
            collect(functions, key, function)
    ran = {key: function for key, function in functions.items() if any(function.counts)}
    pathlib.Path(out).write_bytes(indexed(ran))
    return len(ran)


if __name__ == "__main__":
    print(f"{merge(sys.argv[1], sys.argv[2:])} functions ran")
