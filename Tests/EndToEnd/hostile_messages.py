"""Messages that nobody should send: valid ones of the protocol's document whose structure is spoilt, from a seed."""

import json

from protocol import examples
from test_tokens import OFFER


class Raw:
    """Stands in a message for what is written as it is, right or wrong."""

    def __init__(self, written):
        self.written = written


NUMBERS = ["1e400", "-1e400", "-0", "-0.0", str(1 << 64), str(-(1 << 63) - 1), "1" * 400, "NaN", "Infinity", "01", "+1", "1.", ".5", "1e",
           "0x10", "1e-400", "9007199254740993"]
STRINGS = ['"\\ud800"', '"\\udc00\\ud800"', '"\\u00"', '"\\x41"', '"\x01"', '"\\u0000"', '"\ufeff"', '"\U0001F600"', "'a'", '"', "\"\\\""]
DEPTH = 10_000
VALID = [message for direction, message in examples() if direction == "client" and message["type"] != "leave"]
TYPES = sorted({message["type"] for message in VALID})


def value(random):
    """Anything, as likely as not of a wrong type."""
    return random.choice([
        lambda: None, lambda: True, lambda: False, lambda: 0, lambda: -1, lambda: random.randrange(1 << 70), lambda: random.random(),
        lambda: "", lambda: "x" * random.choice([1, 64, 65, 129, 257, 5000, 33_000]), lambda: "\0", lambda: "../..", lambda: "room",
        lambda: [], lambda: {}, lambda: [[]], lambda: {"": {}}, lambda: ["x"] * random.choice([1, 65, 3000]),
        lambda: {str(number): number for number in range(random.choice([1, 2000]))},
        lambda: Raw(random.choice(NUMBERS)), lambda: Raw(random.choice(STRINGS)),
        lambda: Raw("[" * DEPTH + "]" * DEPTH), lambda: Raw('{"a":' * DEPTH + "1" + "}" * DEPTH), lambda: Raw("[" * DEPTH),
        lambda: [[[[[[[[random.choice(TYPES)]]]]]]]],
    ])()


def description(random):
    """An offer or an answer with some of its lines spoilt."""
    lines = OFFER.split("\r\n")
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(lines))
        random.choice([
            lambda: lines.pop(place) if len(lines) > 1 else None,
            lambda: lines.insert(place, lines[place]),
            lambda: lines.insert(place, random.choice(["m=video 9 UDP/TLS/RTP/SAVPF 96", "m=", "a=", "=", "", "a=mid:0", "\0"])),
            lambda: lines.__setitem__(place, lines[place][:random.randrange(len(lines[place]) + 1)]),
            lambda: lines.__setitem__(place, lines[place] * random.choice([2, 100])),
            lambda: lines.__setitem__(place, "a=rtpmap:" + "9" * random.choice([3, 40, 4000]) + " opus/48000/2"),
            lambda: lines.__setitem__(slice(place, place), ["m=audio 9 UDP/TLS/RTP/SAVPF 111"] * random.choice([1, 300])),
            lambda: lines.__setitem__(place, "".join(chr(random.randrange(1, 0xD800)) for _ in range(40))),
        ])()
    return random.choice(["\r\n", "\n", "\r\n"]).join(lines)


def stream(random):
    return {"stream": random.choice(["cam", "screen", "a b", "", "x" * 200]), "mids": ["0"] * random.choice([0, 1, 2, 64, 3000]),
            "kind": random.choice(["camera", "k" * 40]), "muted": random.choice([[], ["audio"], ["smell"], ["audio"] * 80])}


def message(random, number):
    """A spoilt message as bytes, and the id that its reply has to carry: None when it isn't known."""
    body = dict(random.choice(VALID))
    body.pop("id", None)
    if "sdp" in body:
        body["sdp"] = description(random)
    if "streams" in body and random.random() < 0.7:
        body["streams"] = random.choice([
            [stream(random) for _ in range(random.choice([1, 2, 9]))], [{"stream": "cam", "mids": ["0"]}] * 3000])
    if "room" in body:
        body["room"] = "elsewhere"
    fields = list(body.items())
    identifier = None
    if random.random() < 0.8:
        identifier = random.choice([number, str(number), f"é{number}"])
        fields.insert(random.randrange(len(fields) + 1), ("id", identifier))
    for _ in range(random.randint(0, 2)):
        fields, identifier = spoil(random, fields, identifier)
    return spoil_bytes(random, written(fields), identifier)


def spoil(random, fields, identifier):
    place = random.randrange(len(fields))
    name = fields[place][0]
    kind = random.randrange(5)
    if kind == 0:
        fields[place] = (name, value(random))
    elif kind == 1 and len(fields) > 1:
        fields.pop(place)
    elif kind == 2:
        fields.append((name, value(random)))
    elif kind == 3:
        fields[place] = (random.choice(["type", "data", "sdp", "streams", "unknown", "", "__proto__"]), fields[place][1])
    else:
        fields.insert(place, (random.choice(["data", "extra", "offer", "muted", "id"]), value(random)))
    names = [name for name, _ in fields]
    # A value that isn't JSON may stand before the id, or end it; one id is one that comes back.
    is_known = names.count("id") == 1 and dict(fields)["id"] == identifier and not any(holds_raw(item) for _, item in fields)
    return fields, identifier if is_known else None


def spoil_bytes(random, data, identifier):
    if random.random() < 0.85:
        return data, identifier
    place = random.randrange(len(data))
    if random.random() < 0.02:  # It ends the socket.
        return data[:place] + random.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5"]) + data[place:], None
    return random.choice([
        lambda: (data[:place], None),
        lambda: (data + b"}", identifier),
        lambda: (b"\xef\xbb\xbf" + data, None),
        lambda: (data[:place] + bytes([random.randrange(128)]) + data[place + 1:], None),
        lambda: (b" \t\r\n" * 500 + data, identifier),
        lambda: (json.dumps(["type", 7]).encode(), None),
        lambda: (b"", None),
    ])()


def holds_raw(item):
    return isinstance(item, Raw) or isinstance(item, (list, tuple)) and any(map(holds_raw, item))


def written(fields):
    """JSON text of an object; as `json.dumps`, but names may repeat and `Raw` is written as it is."""
    parts = []
    for name, item in fields:
        parts.append(json.dumps(name) + ":" + (item.written if isinstance(item, Raw) else json.dumps(item)))
    return ("{" + ",".join(parts) + "}").encode("utf-8", "surrogatepass")
