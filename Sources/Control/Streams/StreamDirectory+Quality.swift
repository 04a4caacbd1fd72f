import Commands
import Negotiation
import Wire
import Worker

/// How well streams get through, as those who watch them are told: the worse of how a stream reaches us and how it reaches them.
extension StreamDirectory {
    /// Ends an interval, and tells each peer of a room for which streams the level is not the one that he was told.
    func updateQuality() async {
        guard !sessions.isEmpty || !qualityDue.isEmpty else { return }
        for worker in workers {
            let changes = await withCheckedContinuation { continuation in
                worker.send(.takeQualityChanges { continuation.resume(returning: $0) })
            }
            note(changes.incoming)
            note(changes.outgoing)
        }
        tellQuality()
    }

    private func note(_ changes: [QualityChanges.Incoming]) {
        guard !changes.isEmpty else { return }
        let levels = Dictionary(changes.map { ($0.track, $0.level) }) { $1 }
        for (key, stream) in streams {
            for track in stream.tracks.flatMap(\.encodings) {
                guard let level = levels[track] else { continue }
                streams[key]?.quality[track] = level == .good ? nil : level
                qualityDue.formUnion(rooms[key.room]?.peers ?? [])
            }
        }
    }

    private func note(_ changes: [QualityChanges.Outgoing]) {
        for change in changes {
            guard let session = sessionsByPeer[change.peer].flatMap({ sessions[$0] }),
                case .roomReceiving(let id) = session.purpose, let peer = roomPeers[id],
                // Another subscription to the same track may have taken its place.
                peer.outgoing.ssrc(of: change.track) == change.ssrc,
                let key = peer.subscribed.first(where: { $0.value.contains(change.track) })?.key
            else { continue }
            roomPeers[id]?.quality[key, default: [:]][change.track] = change.level == .good ? nil : change.level
            if roomPeers[id]?.quality[key]?.isEmpty == true { roomPeers[id]?.quality[key] = nil }
            qualityDue.insert(id)
        }
    }

    private func tellQuality() {
        var impaired: [ResourceIdentifier: [StreamKey: QualityLevel]] = [:]
        // Those who watch the same are told the same: it is encoded once.
        var texts: [[StreamKey: QualityLevel]: String] = [:]
        for id in qualityDue {
            // Whoever has no socket now is told on his next one.
            guard let peer = roomPeers[id], let socket = peer.socket else { continue }
            let ofRoom = impaired[peer.room] ?? impairedStreams(of: peer.room)
            impaired[peer.room] = ofRoom
            var levels = ofRoom.filter { peer.mayUse($0.key) }
            for (key, tracks) in peer.quality {
                levels[key] = max(levels[key] ?? .good, tracks.values.max() ?? .good)
            }
            var news = levels.filter { peer.toldQuality[$0.key] != $0.value }
            for key in peer.toldQuality.keys where levels[key] == nil { news[key] = .good }
            guard !news.isEmpty else { continue }
            roomPeers[id]?.toldQuality = levels
            let text = texts[news] ?? ControlSocket.text(of: Self.quality(news))
            texts[news] = text
            socket.send(.text(text))
        }
        qualityDue = []
    }

    private func impairedStreams(of room: ResourceIdentifier) -> [StreamKey: QualityLevel] {
        var levels: [StreamKey: QualityLevel] = [:]
        for key in rooms[room]?.streams ?? [] {
            if let stream = streams[key], stream.isAtHome, let level = stream.quality.values.max() {
                levels[key] = level
            }
        }
        return levels
    }

    private static func quality(_ levels: [StreamKey: QualityLevel]) -> JSONValue {
        let list = levels.sorted { $0.key.stream.text < $1.key.stream.text }.map { key, level -> JSONValue in
            ["stream": .string(key.stream.text), "level": .string(level.rawValue)]
        }
        return ["type": "quality", "streams": .array(list)]
    }
}
