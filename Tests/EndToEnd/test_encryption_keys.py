"""The keys of end-to-end encryption: what is taken for one, how they change, and what is opened with which."""

import pytest

from chromium import chromium
from patience import until
from sluice import ROOT

# The module exports nothing of how a room's keys are kept.
KEYS = "".join((ROOT / f"Sources/Control/Web/sdk/{name}.js").read_text().replace("export class", "class") for name in ["frames", "sframe"])
TOOLS = """
    const secret = (fill) => new Uint8Array(32).fill(fill);
    const text = (string) => utf8.encode(string);
    const opens = (keys, sealed) => keys.open(sealed).then((bytes) => new TextDecoder().decode(bytes), (error) => error.message || "refused");
    const made = async (...added) => {
        const keys = new RoomKeys();
        for (const [generation, fill, step] of added) await keys.add(generation, secret(fill), step);
        return keys;
    };
    const kid = (sealed) => decodeHeader(sealed).kid;
"""


async def with_keys(server, body):
    """Runs the body in a page, with RoomKeys and what is around them."""
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        return await page.evaluate("async () => {" + KEYS + TOOLS + body + "}")


@pytest.mark.asyncio
async def test_a_key_is_bytes_and_nothing_else(server):
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        result = await page.evaluate("""async () => {
            const { Encryption } = await import("/sdk/sluice.js");
            const make = (key) => Encryption.create({ room: "r", key });
            const cryptoKey = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
            const refused = {};
            const wrong = {
                string: "0123456789abcdef", cryptoKey, array: [...new Uint8Array(32)], number: 7, empty: "", object: { length: 32 },
                short: new ArrayBuffer(15), shortWords: new Uint16Array(7), shortView: new DataView(new ArrayBuffer(32), 20),
            };
            for (const [name, key] of Object.entries(wrong)) {
                refused[name] = await make(key).then((made) => { made.close(); return "taken"; }, (error) => error.code);
            }
            // The same sixteen bytes, however they come.
            const bytes = Uint8Array.from({ length: 16 }, (_, index) => index);
            const around = new Uint8Array(32);
            around.set(bytes, 8);
            const [first, ...others] = await Promise.all(
                [bytes, bytes.buffer, new DataView(around.buffer, 8, 16), new Uint32Array(around.buffer, 8, 4)].map(make));
            bytes.fill(0);
            const opened = [];
            for (const other of others) opened.push([...await other.open(await first.seal(Uint8Array.of(1, 2, 3)))].join());
            return { refused, opened };
        }""")
    assert set(result["refused"].values()) == {"bad-request"}, result["refused"]
    assert result["opened"] == ["1,2,3"] * 3


@pytest.mark.asyncio
async def test_an_encryption_that_has_ended_answers_at_once(server):
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        codes = await page.evaluate("""async () => {
            const { Encryption } = await import("/sdk/sluice.js");
            const encryption = await Encryption.create({ room: "r", key: new Uint8Array(16) });
            encryption.close();
            const late = new Promise((resolve) => setTimeout(() => resolve({ code: "never" }), 2000));
            const asked = [encryption.statistics(), encryption.seal(new Uint8Array(1)), encryption.setKey({ passphrase: "x" }), encryption.ratchet()];
            return Promise.all(asked.map((one) => Promise.race([one, late]).then(({ code }) => code ?? "answered", (error) => error.code)));
        }""")
    assert codes == ["closed"] * 4


@pytest.mark.asyncio
async def test_a_step_that_is_under_way_does_not_bring_an_old_key_back(server):
    result = await with_keys(server, """
        const sends = async (change) => {
            const ann = await made([0, 1]);
            await change(ann);
            return [kid(await ann.seal(text("x")))[0], kid(await ann.seal(text("x")))[7]];
        };
        const ownStep = await sends((ann) => Promise.all([ann.ratchet(), ann.add(1, secret(2))]));
        const anothersStep = await sends(async (ann) => {
            const bob = await made([0, 1]);
            for (let step = 0; step < 250; step += 1) await bob.ratchet();
            await Promise.all([opens(ann, await bob.seal(text("far ahead"))), ann.add(1, secret(2))]);
        });
        const together = await sends((ann) => Promise.all([ann.ratchet(), ann.ratchet(), ann.ratchet()]));
        return { ownStep, anothersStep, together };
    """)
    assert result == {"ownStep": [1, 0], "anothersStep": [1, 0], "together": [0, 3]}


@pytest.mark.asyncio
async def test_frames_that_claim_late_steps_cost_one_way_there(server):
    """Whoever makes up key ids makes a receiver derive a key for each, and the steps' secrets only once."""
    count = await with_keys(server, """
        const ann = await made([0, 1]);
        let derived = 0;
        const deriveBits = crypto.subtle.deriveBits;
        crypto.subtle.deriveBits = function (...given) {
            derived += 1;
            return deriveBits.apply(this, given);
        };
        const forged = new Uint8Array(64).fill(7);
        for (let frame = 0; frame < 20; frame += 1) {
            forged.set([0xf0, 0, 1, 2, 3, 4, 5, frame, 250 + frame % 5]);
            await opens(ann, forged);
        }
        return derived;
    """)
    assert 250 <= count <= 255 + 20 * 3


@pytest.mark.asyncio
async def test_another_key_forgets_no_frames_that_were_seen(server):
    result = await with_keys(server, """
        const [ann, bob] = [await made([0, 1]), await made([0, 1])];
        const sealed = await bob.seal(text("once"));
        const first = await opens(ann, sealed);
        await ann.add(1, secret(2));
        const again = await opens(ann, sealed);
        const later = await opens(ann, await bob.seal(text("an old key, for a while")));
        // Whoever speaks is not pushed out by those who come and go.
        for (let sender = 0; sender < 1030; sender += 1) {
            const passing = await made([0, 1]);
            await opens(ann, await passing.seal(text("hello")));
            if (sender % 500 === 0) await opens(ann, await bob.seal(text("still here")));
        }
        const afterMany = await opens(ann, sealed);
        for (const generation of [2, 3, 4]) await ann.add(generation, secret(generation));
        const evicted = await opens(ann, await bob.seal(text("too old")));
        const own = await opens(ann, await ann.seal(text("mine")));
        return { first, again, later, afterMany, evicted, own };
    """)
    assert result == {
        "first": "once", "again": "A frame that was seen before.", "later": "an old key, for a while",
        "afterMany": "A frame that was seen before.", "evicted": "There is no key with this id.", "own": "A frame of our own.",
    }


@pytest.mark.asyncio
async def test_copies_that_come_together_are_opened_once(server):
    """The memory of what was seen belongs to the key id, not to the frame that made somebody derive the key."""
    result = await with_keys(server, """
        const count = async (keys, ...sealed) => {
            const outcomes = await Promise.allSettled(sealed.map((one) => keys.open(one)));
            return outcomes.filter(({ status }) => status === "fulfilled").length;
        };
        const copies = (sealed, number = 5) => Array.from({ length: number }, () => sealed.slice());
        const [ann, bob] = [await made([0, 1]), await made([0, 1])];
        const [one, two] = [await bob.seal(text("one")), await bob.seal(text("two"))];
        const unknownSender = await count(ann, ...copies(one), ...copies(two), ...copies(one));
        // A step that the receiver has to follow, far ahead.
        for (let step = 0; step < 40; step += 1) await bob.ratchet();
        const newStep = await count(ann, ...copies(await bob.seal(text("three"))));
        // The key changes while they are looked at.
        const late = await bob.seal(text("four"));
        const during = count(ann, ...copies(late));
        const changed = ann.add(1, secret(2));
        const again = await count(ann, ...copies(late));
        const whileChanging = await during + again;
        await changed;
        // What is the same secret forgets nothing, at whatever step it is given.
        const fresh = await made([0, 1]);
        const first = await bob.seal(text("five"));
        await opens(fresh, first);
        await fresh.add(0, secret(1));
        const sameSecret = await count(fresh, first);
        const carol = await made([0, 1]);
        const sender = await made([0, 1]);
        await sender.ratchet();
        const onAStep = await sender.seal(text("six"));
        await opens(carol, onAStep);
        await carol.add(0, secret(1), 0);
        const sameAtAnEarlierStep = await count(carol, onAStep);
        const other = await made([0, 3]);
        await carol.add(0, secret(3));
        const exchanged = [await opens(carol, await other.seal(text("seven"))), await count(carol, await sender.seal(text("x")))];
        // Made-up ids push nobody out, however many come at once.
        const dora = await made([0, 1]);
        const known = await sender.seal(text("eight"));
        await opens(dora, known);
        const forged = Array.from({ length: 1500 }, (_, index) => {
            const frame = new Uint8Array(64).fill(7);
            frame.set([0xf0, 0, 1, 2, 3, 4, index >> 8, index & 255, 1]);
            return frame;
        });
        const crowd = await count(dora, ...forged, ...copies(known));
        return { unknownSender, newStep, whileChanging, sameSecret, sameAtAnEarlierStep, exchanged, crowd };
    """)
    assert result == {
        "unknownSender": 2, "newStep": 1, "whileChanging": 1, "sameSecret": 0, "sameAtAnEarlierStep": 0, "exchanged": ["seven", 0], "crowd": 0,
    }


@pytest.mark.asyncio
async def test_a_key_that_could_not_be_derived_is_derived_anew(server):
    result = await with_keys(server, """
        const deriveBits = crypto.subtle.deriveBits;
        const failing = async (action) => {
            crypto.subtle.deriveBits = async () => { throw new Error("not now"); };
            const outcome = await action().then(() => "done", (error) => error.message);
            crypto.subtle.deriveBits = deriveBits;
            return outcome;
        };
        const [ann, bob] = [await made([0, 1]), await made([0, 1])];
        const seals = [await failing(() => bob.seal(text("x"))), await opens(ann, await bob.seal(text("sealed")))];
        for (let step = 0; step < 3; step += 1) await bob.ratchet();
        const sealed = await bob.seal(text("three steps on"));
        const opened = [await failing(() => ann.open(sealed)), await opens(ann, sealed)];
        const steps = [await failing(() => ann.ratchet()), (await ann.ratchet()).step];
        return { seals, opened, steps };
    """)
    assert result == {"seals": ["not now", "sealed"], "opened": ["not now", "three steps on"], "steps": ["not now", 4]}


@pytest.mark.asyncio
async def test_steps_before_the_last_are_forgotten(server):
    result = await with_keys(server, """
        const [ann, bob] = [await made([0, 1]), await made([0, 1])];
        await opens(ann, await bob.seal(text("a key of step 0 is known")));
        await ann.ratchet();
        const one = await opens(ann, await bob.seal(text("a step behind")));
        const { key, generation, step } = await ann.ratchet();
        const two = await opens(ann, await bob.seal(text("two steps behind")));
        const late = new RoomKeys();
        await late.add(generation, key, step);
        const handed = await opens(late, await ann.seal(text("from now on")));
        const before = await opens(late, await bob.seal(text("before")));
        return { one, two, handed, before, step };
    """)
    assert result == {
        "one": "a step behind", "two": "There is no key with this id.", "handed": "from now on",
        "before": "There is no key with this id.", "step": 2,
    }


@pytest.mark.asyncio
async def test_a_sender_that_can_not_seal_is_told(server):
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        told = await page.evaluate("""async () => {
            const { Encryption } = await import("/sdk/sluice.js");
            // It was given no key yet.
            const encryption = new Encryption("r");
            const [from, to] = [new RTCPeerConnection(Encryption.configuration), new RTCPeerConnection()];
            from.onicecandidate = ({ candidate }) => to.addIceCandidate(candidate);
            to.onicecandidate = ({ candidate }) => from.addIceCandidate(candidate);
            const media = await navigator.mediaDevices.getUserMedia({ audio: true });
            const { sender } = from.addTransceiver(media.getTracks()[0]);
            encryption.protect(sender);
            const told = new Promise((resolve) => encryption.addEventListener("unsealed", ({ detail }) => resolve(detail.message)));
            await from.setLocalDescription();
            await to.setRemoteDescription(from.localDescription);
            await to.setLocalDescription();
            await from.setRemoteDescription(to.localDescription);
            return Promise.race([told, new Promise((resolve) => setTimeout(() => resolve("nothing"), 8000))]);
        }""")
    assert told == "There is no key yet."


@pytest.mark.asyncio
async def test_whether_a_track_can_be_read_is_told_at_first_and_when_it_changes(server):
    """The receiver is revealed twice, as the event `track` comes again for an m-line that is used again."""
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(server.url)
        await page.evaluate("""async () => {
            const { Encryption } = await import("/sdk/sluice.js");
            const key = (fill) => ({ key: new Uint8Array(32).fill(fill), generation: fill });
            const sending = await Encryption.create({ room: "r", ...key(1) });
            const receiving = await Encryption.create({ room: "r", ...key(1) });
            const [from, to] = [new RTCPeerConnection(Encryption.configuration), new RTCPeerConnection(Encryption.configuration)];
            from.onicecandidate = ({ candidate }) => to.addIceCandidate(candidate);
            to.onicecandidate = ({ candidate }) => from.addIceCandidate(candidate);
            window.told = [];
            receiving.addEventListener("readable", ({ detail }) => told.push([detail.track.kind, detail.readable]));
            to.ontrack = ({ receiver }) => {
                receiving.reveal(receiver);
                receiving.reveal(receiver);
            };
            const media = await navigator.mediaDevices.getUserMedia({ audio: true });
            sending.protect(from.addTransceiver(media.getTracks()[0]).sender);
            await from.setLocalDescription();
            await to.setRemoteDescription(from.localDescription);
            await to.setLocalDescription();
            await from.setRemoteDescription(to.localDescription);
            Object.assign(window, { takeKey: (which, fill) => ({ sending, receiving })[which].setKey(key(fill)) });
        }""")

        async def last(expected):
            async def check():
                told = await page.evaluate("told")
                return told and told[-1] == ["audio", expected]
            await until(check, 10, f"readable: {expected}; {await page.evaluate('told')}")
        await last(True)
        await page.evaluate("takeKey('sending', 2)")
        await last(False)
        # Whoever has taken it for another stream's meanwhile is told of the new one too.
        await page.evaluate("told.length = 0")
        await last(False)
        await page.evaluate("takeKey('receiving', 2)")
        await last(True)
