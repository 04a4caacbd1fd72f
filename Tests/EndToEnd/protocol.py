"""Holds messages of the control WebSocket against the protocol's JSON Schema, more strictly than a client should: fields that it
doesn't know are errors here."""

import copy
import json
import pathlib

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "Docs/Protocol.md"
SCHEMA = json.loads((ROOT / "Docs/Protocol.schema.json").read_text())


def types(direction):
    """The types that the schema has of `client` or `server` messages."""
    return {name.split(".")[1] for name in SCHEMA["$defs"] if name.startswith(f"{direction}.")}


def _closed(node):
    """The schema with no further fields wherever it lists some."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: value if key == "if" else _closed(value) for key, value in node.items()}
    if node.get("type") == "object" and "properties" in node:
        node["additionalProperties"] = False
    return node


_STRICT = _closed(copy.deepcopy(SCHEMA))
_VALIDATORS = {
    name: jsonschema.Draft202012Validator(_STRICT | {"anyOf": [{"$ref": f"#/$defs/{name}"}]})
    for name in SCHEMA["$defs"] if name.split(".")[0] in ("client", "server")
}


def check(direction, message):
    """Raises when the message is none that `client` or `server` sends."""
    kind = message.get("type") if isinstance(message, dict) else None
    assert kind in types(direction), f"a {direction} sends no {kind}: {json.dumps(message)[:300]}"
    error = next(_VALIDATORS[f"{direction}.{kind}"].iter_errors(message), None)
    if error:
        error = jsonschema.exceptions.best_match([error])
        raise AssertionError(f"{direction} {kind}: {error.message} at {list(error.path)} in {json.dumps(message)[:600]}")


def examples():
    """The messages in the document, each with its direction."""
    direction = None
    text = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("```"):
            if direction:
                yield from ((direction, message) for message in _all(text))
            words = line[3:].split()
            direction = words[1] if len(words) == 2 and words[0] == "json" else None
            assert words[:1] != ["json"] or direction in ("client", "server"), line
            text = ""
        else:
            text += line + "\n"


def _all(text):
    decoder = json.JSONDecoder()
    while text.strip():
        message, end = decoder.raw_decode(text.strip())
        text = text.strip()[end:]
        yield message
