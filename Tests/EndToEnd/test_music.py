"""Music is sent and heard in stereo, where its publisher says that it is music."""

import pytest

from chromium import chromium
from patience import until
from test_sdk import KEY, sdk_page

# A sound that is on the left only.
LEFT = """() => {
    const context = new AudioContext();
    const merger = context.createChannelMerger(2);
    const tone = new OscillatorNode(context, { frequency: 440 });
    tone.connect(merger, 0, 0);
    const silence = new GainNode(context, { gain: 0 });
    tone.connect(silence).connect(merger, 0, 1);
    const out = new MediaStreamAudioDestinationNode(context, { channelCount: 2 });
    merger.connect(out);
    tone.start();
    window.left = out.stream;
}"""
# How loud each side is of what is received.
LISTEN = """(media) => {
    const element = Object.assign(document.createElement("audio"), { srcObject: media, autoplay: true });
    document.body.append(element);
    const context = new AudioContext();
    const splitter = context.createChannelSplitter(2);
    context.createMediaStreamSource(media).connect(splitter);
    const sides = [0, 1].map((side) => {
        const analyser = context.createAnalyser();
        splitter.connect(analyser, side);
        return analyser;
    });
    window.loudness = () => sides.map((analyser) => {
        const samples = new Float32Array(analyser.fftSize);
        analyser.getFloatTimeDomainData(samples);
        return Math.max(...samples.map(Math.abs));
    });
}"""


async def hears(page, expected):
    """Waits until what is loud is the left alone, or both sides alike."""
    async def check():
        left, right = await page.evaluate("window.loudness?.() ?? [0, 0]")
        return left > 0.1 and (right < left / 10 if expected == "left" else right > left / 2)
    await until(check, 15, f"the sound is {expected}")


@pytest.mark.asyncio
@pytest.mark.parametrize("options", [{}, KEY], ids=["transport", "e2ee"])
async def test_music_in_a_room_is_stereo(server, options):
    async with chromium() as browser:
        ann, wire = await sdk_page(browser, server)
        bob, _ = await sdk_page(browser, server)
        await ann.evaluate("enter", {"room": f"concert-{len(options)}"} | options)
        await bob.evaluate("enter", {"room": f"concert-{len(options)}"} | options)
        await ann.evaluate(LEFT)
        await bob.evaluate(f"room.addEventListener('stream-updated', ({{ detail }}) => detail.media.getTracks().length && !window.loudness && ({LISTEN})(detail.media))")
        for music, expected in [(True, "left"), (False, "both sides")]:
            await bob.evaluate("() => { window.loudness = null; }")
            await ann.evaluate("(music) => room.publish(left.clone(), { music }).then((stream) => { window.own = stream; })", music)
            sdp = [message for message in wire.sent if message["type"] == "publish"][-1]["sdp"]
            assert ("stereo=1;sprop-stereo=1" in sdp) == music
            await hears(bob, expected)
            await ann.evaluate("own.stop()")


@pytest.mark.asyncio
async def test_the_publishing_page_sends_music_in_stereo(server):
    async with chromium() as browser:
        page = await browser.new_page()
        await page.add_init_script("""
            const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => {
                window.wanted = wanted;
                (""" + LEFT + """)();
                const media = await open({ video: wanted.video });
                media.addTrack(left.getAudioTracks()[0]);
                return media;
            };""")
        await page.goto(f"{server.url}/publish#music")
        offers = []
        page.on("request", lambda request: offers.append(request.post_data) if request.method == "POST" else None)
        await page.click("#start")
        await page.wait_for_selector("#state[data-state=live]")
        await page.click("#stop")
        await page.select_option("#sound", "music")
        await page.click("#start")
        await page.wait_for_selector("#state[data-state=live]")
        assert ["stereo=1" in offer for offer in offers] == [False, True]
        audio = await page.evaluate("wanted.audio")
        assert not audio["echoCancellation"] and not audio["noiseSuppression"] and not audio["autoGainControl"]
        viewer = await browser.new_page()
        await viewer.goto(f"{server.url}/watch#music")
        await viewer.wait_for_selector("#state[data-state=live]")
        await viewer.evaluate(f"({LISTEN})(document.querySelector('video').srcObject)")
        await hears(viewer, "left")
