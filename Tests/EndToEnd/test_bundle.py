"""Offers whose first m-line, which has the transport of all (RFC 9143), is none that Sluice serves."""

import pytest

from chromium import chromium
from patience import until

# Publishes or watches with a connection that begins with a data channel, or with a codec that is none of ours.
CONNECT = """async ([path, first, policy]) => {
    const connection = new RTCPeerConnection({ bundlePolicy: policy });
    window.connection = connection;
    if (first === "data") {
        window.channel = connection.createDataChannel("x");
        // Otherwise it is the last.
        await connection.setLocalDescription();
    } else {
        const transceiver = connection.addTransceiver("audio", { direction: "recvonly" });
        const { codecs } = RTCRtpReceiver.getCapabilities("audio");
        transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === first));
    }
    if (path.endsWith("whip")) {
        const media = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 180, frameRate: 15 }, audio: true });
        for (const track of media.getTracks()) connection.addTransceiver(track, { direction: "sendonly" });
    } else {
        for (const kind of ["audio", "video"]) connection.addTransceiver(kind, { direction: "recvonly" });
    }
    await connection.setLocalDescription();
    const answer = await fetch(path, { method: "POST", body: connection.localDescription.sdp,
        headers: { "Content-Type": "application/sdp" } });
    if (answer.status !== 201) throw new Error(await answer.text());
    await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    return connection.localDescription.sdp.match(/m=\\w+/)[0];
}"""
DECODED = """async () => [...(await connection.getStats()).values()]
    .filter((item) => item.type === "inbound-rtp" && item.kind === "video").reduce((sum, item) => sum + item.framesDecoded, 0)"""


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", ["max-bundle", "balanced", "max-compat"])
@pytest.mark.parametrize("first", ["data", "audio/PCMU"])
async def test_media_flows_although_the_first_m_line_is_not_served(server, first, policy):
    async with chromium(frame_rate=15) as browser:
        name = f"bundle-{first.replace('/', '-')}-{policy}"
        for kind in ["whip", "whep"]:
            page = await browser.new_page()
            await page.goto(server.url)
            first_line = await page.evaluate(CONNECT, [f"/{name}/{kind}", first, policy])
            assert first_line == ("m=application" if first == "data" else "m=audio")

        async def is_seen():
            return await page.evaluate(DECODED) > 10
        await until(is_seen, 30, "the picture moves")
