"""Makes the seed corpus: real offers and real packets of Chromium and aiortc, as they are after decryption.

Run from the repository with `.build-venv/bin/python Tests/Fuzz/capture.py`; it needs no server.
"""

import asyncio
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/EndToEnd"))

from aiortc import RTCPeerConnection, RTCSessionDescription  # noqa: E402
from aiortc.rtcdtlstransport import RTCDtlsTransport  # noqa: E402

from chromium import chromium  # noqa: E402

CORPUS = ROOT / "Tests/Fuzz/Corpus"
PACKETS_OF_A_KIND = 6


def save(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


counts = {}


def keep(kind):
    counts[kind] = counts.get(kind, 0) + 1
    return counts[kind] <= PACKETS_OF_A_KIND


def payload_offset(data):
    offset = 12 + 4 * (data[0] & 15)
    return offset + 4 + 4 * int.from_bytes(data[offset + 2:offset + 4], "big") if data[0] & 0x10 else offset


receive_rtp, receive_rtcp = RTCDtlsTransport._handle_rtp_data, RTCDtlsTransport._handle_rtcp_data


async def rtp(self, data, arrival_time_ms):
    kind = f"{codec}-{data[1] & 127}"
    if keep(f"rtp-{kind}"):
        save("rtp", f"{kind}-{counts[f'rtp-{kind}']}", data)
        save("payload", f"{kind}-{counts[f'rtp-{kind}']}", data[payload_offset(data):])
    await receive_rtp(self, data, arrival_time_ms)


async def rtcp(self, data):
    if keep(f"rtcp-{data[1]}-{data[0]}"):
        save("rtcp", f"{data[1]}-{data[0]}-{counts[f'rtcp-{data[1]}-{data[0]}']}", data)
    await receive_rtcp(self, data)


RTCDtlsTransport._handle_rtp_data, RTCDtlsTransport._handle_rtcp_data = rtp, rtcp
codec = ""


async def main():
    global codec
    async with chromium() as browser:
        for codec in ("VP8", "H264"):
            page = await browser.new_page()
            await page.goto("about:blank")
            offer = await page.evaluate("""async (codec) => {
                window.pc = new RTCPeerConnection();
                const media = new MediaStream();
                const context = new AudioContext();
                media.addTrack(context.createMediaStreamDestination().stream.getAudioTracks()[0]);
                const canvas = document.createElement("canvas");
                const drawing = canvas.getContext("2d");
                setInterval(() => drawing.fillRect(Math.random() * 300, Math.random() * 150, 9, 9), 33);
                media.addTrack(canvas.captureStream(30).getVideoTracks()[0]);
                for (const track of media.getTracks()) {
                    const transceiver = pc.addTransceiver(track, { direction: "sendrecv", streams: [media] });
                    if (track.kind === "video") {
                        const all = RTCRtpReceiver.getCapabilities("video").codecs;
                        const chosen = (c) => c.mimeType === `video/${codec}`;
                        transceiver.setCodecPreferences([...all.filter(chosen), ...all.filter((c) => !chosen(c))]);
                    }
                }
                await pc.setLocalDescription();
                await new Promise((done) => { pc.onicegatheringstatechange = () =>
                    pc.iceGatheringState === "complete" && done(); setTimeout(done, 2000); });
                return pc.localDescription.sdp;
            }""", codec)
            for target in ("sdp", "offer"):
                save(target, f"chromium-{codec}", offer.encode())
            peer = RTCPeerConnection()
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await peer.setLocalDescription(await peer.createAnswer())
            for target in ("sdp", "offer"):
                save(target, f"aiortc-answer-{codec}", peer.localDescription.sdp.encode())
            lines = [line for line in offer.splitlines() if line.startswith(("a=ice-", "a=candidate", "m=", "a=mid"))]
            save("sdpfrag", f"chromium-{codec}", "\r\n".join(lines).encode())
            for index, line in enumerate(offer.splitlines()[:400]):
                name = line[2:].split(":")[0]
                if line.startswith("a=") and ":" in line and keep(f"text-{name}-{codec}"):
                    save("text", f"{name}-{index}", line.split(":", 1)[1].encode())
            await page.evaluate("s => pc.setRemoteDescription({ type: 'answer', sdp: s })", peer.localDescription.sdp)
            await asyncio.sleep(6)
            await peer.close()
            await page.close()


asyncio.run(main())
