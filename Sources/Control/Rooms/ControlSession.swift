import Commands
import Logging
import NIOCore
import NIOWebSocket
import Negotiation
import Worker

/// One client's control WebSocket, from its opening to its end: reads messages, and has the directory carry them out.
struct ControlSession: Sendable {
    typealias Channel = NIOAsyncChannel<WebSocketFrame, WebSocketFrame>

    /// How long a client may take to read what ends its session.
    private static let patience = Duration.seconds(2)

    let directory: StreamDirectory
    let configuration: ServerConfiguration
    let authorizer: Authorizer
    let limiter: RateLimiter
    let backlog: ControlBacklog
    let connections: ClientConnections
    let logger: Logger
    /// The client's IP address. Never logged.
    let address: String
    /// How long a message may be: strangers have no long ones.
    let size: WebSocketSize

    private var limits: Limits { configuration.limits }

    private enum Part {
        case reader
        case writer
        case end
        case patience
    }

    /// Runs until the client or the server ends it.
    func run(_ channel: Channel) async {
        let socket = ControlSocket(
            capacity: limits.controlQueue,
            maximumBytes: limits.controlQueueBytes,
            backlog: backlog
        )
        connections.add(socket)
        defer { connections.remove(socket) }
        do {
            try await channel.executeThenClose { inbound, outbound in
                await withTaskGroup(of: Part.self) { group in
                    group.addTask {
                        await read(inbound, socket)
                        socket.finish()
                        return .reader
                    }
                    group.addTask {
                        await write(socket, outbound)
                        return .writer
                    }
                    group.addTask {
                        for await _ in socket.end {}
                        return .end
                    }
                    await waitForEnd(of: &group)
                    group.cancelAll()
                }
            }
        } catch {
            logger.trace("A control WebSocket ended: \(type(of: error))")
        }
        socket.finish()
    }

    /// Waits until either half is over, and then until the other one is too: what waits is still written, the reason of the end among
    /// it, and the client closes. One that doesn't read it, or doesn't close, is not waited for.
    private func waitForEnd(of group: inout TaskGroup<Part>) async {
        var running: Set<Part> = [.reader, .writer]
        if let first = await group.next() { running.remove(first) }
        group.addTask {
            try? await Task.sleep(for: Self.patience)
            return .patience
        }
        while !running.isEmpty, let part = await group.next(), part != .patience { running.remove(part) }
    }

    private func write(_ socket: ControlSocket, _ outbound: NIOAsyncChannelOutboundWriter<WebSocketFrame>) async {
        do {
            for await _ in socket.bell {
                while let message = socket.take() {
                    try await outbound.write(Self.frame(of: message))
                    if case .close = message { return }
                }
            }
        } catch {
            // The client is gone.
        }
    }

    private static func frame(of message: ControlSocket.Outgoing) -> WebSocketFrame {
        switch message {
        case .text(let text): return WebSocketFrame(fin: true, opcode: .text, data: ByteBuffer(string: text))
        case .ping: return WebSocketFrame(fin: true, opcode: .ping, data: ByteBuffer())
        case .pong(let data): return WebSocketFrame(fin: true, opcode: .pong, data: data)
        case .close(let code, let reason):
            var data = ByteBuffer()
            data.write(webSocketErrorCode: code)
            data.writeString(String(reason.prefix(100)))
            return WebSocketFrame(fin: true, opcode: .connectionClose, data: data)
        }
    }

    private func read(_ inbound: NIOAsyncChannelInboundStream<WebSocketFrame>, _ socket: ControlSocket) async {
        var state = State(limits: limits)
        let activity = state.activity
        let watch = Task { await watchSilence(socket, activity) }
        do {
            for try await frame in inbound {
                activity.beginFrame()
                defer { activity.endFrame() }
                if frame.opcode == .connectionClose {
                    socket.finish()
                    break
                }
                // After a close of ours what still comes is read and forgotten: were it left unread, the client would get a reset in
                // place of the reason.
                if socket.isOver { continue }
                guard state.admitsMessage() else {
                    socket.close(.policyViolation, "Too many messages.")
                    continue
                }
                switch frame.opcode {
                case .text: await receive(Array(frame.unmaskedData.readableBytesView), &state, socket)
                case .ping: socket.send(.pong(frame.unmaskedData))
                case .binary: socket.close(.unacceptableData, "Messages are text frames of JSON.")
                default: break
                }
            }
        } catch {
            // The socket is broken.
        }
        watch.cancel()
        if let peer = state.peer { await directory.disconnected(peer, from: socket) }
    }

    /// Asks a silent client for a sign of life, and gives it up when none comes.
    private func watchSilence(_ socket: ControlSocket, _ activity: ControlActivity) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: limits.controlSilence)
            if Task.isCancelled { return }
            // What it said waits its turn here: what it says next is not read meanwhile.
            if activity.isHandlingFrame { continue }
            if !activity.hasJoined || activity.silence > limits.controlSilence * 2 {
                socket.close(.policyViolation, activity.hasJoined ? "Nothing was heard." : "No join came.")
                return
            }
            socket.send(.ping)
        }
    }

    // MARK: Messages

    /// What the session remembers between messages.
    private struct State {
        let activity = ControlActivity()
        /// The room's peer that the client is.
        var peer: String?
        private var messages: Allowance
        /// Bytes of messages that are read aside.
        var long: Allowance

        init(limits: Limits) {
            messages = Allowance(perSecond: limits.controlMessagesPerSecond, burst: limits.controlMessageBurst)
            long = Allowance(perSecond: limits.longMessageBytesPerSecond, burst: limits.longMessageBytesBurst)
        }

        /// - Parameter count: What the message counts as.
        mutating func admitsMessage(_ count: Int = 1) -> Bool { messages.use(count) == .zero }
    }

    private func receive(_ text: [UInt8], _ state: inout State, _ socket: ControlSocket) async {
        var id: JSONValue?
        do throws(Problem) {
            if text.count > limits.controlRequestBytes {
                // Whoever is in no room has no long messages to send.
                if state.peer == nil { throw .tooLarge(maximum: limits.controlRequestBytes) }
                // Too many close nothing: in a large room each answer is long, and there are as many as changes.
                let delay = state.long.use(text.count)
                if delay > .zero { try? await Task.sleep(for: delay) }
                if socket.isOver { return }
            }
            let message = try await parse(text)
            id = message.id
            guard var reply = try await carryOut(message, &state, socket) else { return }
            if let id, case .object(var object) = reply {
                object["id"] = id
                reply = .object(object)
            }
            socket.send(reply)
        } catch {
            if error.closes { return socket.close(.dataInconsistentWithMessage, error.detail) }
            socket.send(error.json(replyingTo: await identifier(id, in: text)))
            if error.ends { socket.close(.policyViolation, error.detail) }
        }
    }

    /// - Parameter known: The message's, if it could be read.
    private func identifier(_ known: JSONValue?, in text: [UInt8]) async -> JSONValue? {
        let limits = limits
        if let known { return known }
        guard text.count > limits.controlRequestBytes else { return ClientMessage.identifier(in: text, limits: limits) }
        return await LongReading.shared.run(for: address) { ClientMessage.identifier(in: text, limits: limits) }
    }

    private func parse(_ text: [UInt8]) async throws(Problem) -> ClientMessage {
        do throws(ClientMessage.Refusal) {
            let limits = limits
            guard text.count > limits.controlRequestBytes else {
                return try ClientMessage(parsing: text, limits: limits)
            }
            return try await LongReading.shared.run(for: address) { () throws(ClientMessage.Refusal) in
                try ClientMessage(parsing: text, limits: limits)
            }
        } catch {
            throw Problem(error)
        }
    }

    private func carryOut(
        _ message: ClientMessage,
        _ state: inout State,
        _ socket: ControlSocket
    ) async throws(Problem) -> JSONValue? {
        switch message.type {
        case "hello":
            return ["type": "welcome", "protocol": "sluice.v1", "server": .string("sluice \(SluiceVersion.text)")]
        case "ping": return ["type": "pong"]
        case "join":
            try await join(message, &state, socket)
            return nil
        default: break
        }
        guard let peer = state.peer else { throw .notInRoom }
        switch message.type {
        case "leave":
            state.peer = nil
            size.set(limits.controlRequestBytes)
            socket.send(.object(["type": "left"].merging(message.id.map { ["id": $0] } ?? [:]) { $1 }))
            await directory.leave(peer, returns: message.action == "return")
            return nil
        case "publish":
            // All of a room are told of each stream that begins or ends.
            let streams = message.streams ?? []
            guard state.admitsMessage(streams.count * 2) else {
                socket.close(.policyViolation, "Too many messages.")
                return nil
            }
            // Its rights are looked at first: an offer may be long.
            try await directory.checkPublishing(by: peer)
            let offer = try await parse(message.sdp)
            let privacy = try privacy(message.privacy)
            return try await directory.publish(streams, offer: offer, privacy: privacy, by: peer)
        case "unpublish": try await directory.unpublish(try await key(message.stream, of: peer), by: peer)
        case "subscribe":
            var policy: RoomPeer.Policy?
            if let text = message.policy {
                guard let known = RoomPeer.Policy(rawValue: text) else {
                    throw Problem.badMessage("policy has to be all or none.")
                }
                policy = known
            }
            let key = message.stream == nil ? nil : try await key(message.stream, of: peer)
            try await directory.subscribe(peer, to: key, tracks: message.tracks, policy: policy)
        case "unsubscribe":
            let key = try await key(message.stream, of: peer)
            await directory.refuse(key, by: peer)
        case "update": try await update(message, peer)
        case "answer":
            guard message.sdp != nil else { throw Problem.badMessage("sdp is missing.") }
            if try await directory.awaitsAnswer(to: message.offer, from: peer) {
                let answer = try await parse(message.sdp)
                try await directory.accept(answer: answer, to: message.offer, from: peer)
            }
        case "candidate": break
        case "restart":
            switch message.action {
            case nil, "ice": try await directory.restartReceiving(peer)
            case "renew": try await directory.renewReceiving(peer)
            default: throw Problem.badMessage("action has to be ice or renew.")
            }
        case "message":
            guard let data = message.data else { throw Problem.badMessage("data is missing.") }
            // The first unit was counted when it came.
            let more = (message.dataBytes - 1) / limits.peerMessageUnitBytes
            guard state.admitsMessage(more) else {
                socket.close(.policyViolation, "Too many messages.")
                return nil
            }
            try await directory.relay(data, from: peer, to: message.to)
        default: throw Problem.badMessage("type is unknown: \(message.type.prefix(32)).")
        }
        return message.id == nil ? nil : ["type": "ok"]
    }

    private func join(
        _ message: ClientMessage,
        _ state: inout State,
        _ socket: ControlSocket
    ) async throws(Problem) {
        guard state.peer == nil else { throw Problem.conflicting("This socket is in a room already.") }
        guard let text = message.room, let room = ResourceIdentifier(text) else { throw .badIdentifier }
        guard message.name?.utf8.count ?? 0 <= 256 else { throw Problem.badMessage("name has at most 256 bytes.") }
        defer { if state.peer == nil { size.set(limits.controlRequestBytes) } }
        let declared = try privacy(message.privacy)
        var reply: [String: JSONValue] = ["iceServers": .array(configuration.iceServers.map(\.json))]
        if let id = message.id { reply["id"] = id }
        if let resumption = message.resume, let peer = await directory.placeToResume(resumption, in: room) {
            let access = try await accessToResume(message)
            try access?.check(room: room)
            guard limiter.admits(address) else { throw .tooManyRequests }
            // Before `joined` is sent, which a long message may follow at once.
            size.set(limits.controlMessageBytes)
            if try await directory.resume(peer, access: access, privacy: declared, reply, on: socket) {
                return hasJoined(peer, &state)
            }
        }
        // First of all the token: strangers at the same address must not use up the limit of people with a good one.
        let access = try await authorizer.access(token: message.token, address: address)
        try access.check(room: room)
        guard limiter.admits(address) else { throw .tooManyRequests }
        var rights = access.rights
        switch message.role {
        case nil, "publish": break
        case "view": rights = []
        default: throw Problem.badMessage("role has to be publish or view.")
        }
        guard let policy = RoomPeer.Policy(rawValue: message.policy ?? "all") else {
            throw Problem.badMessage("policy has to be all or none.")
        }
        let request = JoinRequest(
            room: room,
            name: message.name ?? "",
            rights: rights,
            privacy: declared,
            tokenPrivacy: access.privacy,
            onlyStream: access.stream,
            ends: access.ends,
            policy: policy,
            address: address,
            mayBecomeHost: access.owner == .anyone,
            resumption: message.resume,
            reply: reply
        )
        size.set(limits.controlMessageBytes)
        hasJoined(try await directory.join(request, socket: socket), &state)
    }

    private func hasJoined(_ peer: String, _ state: inout State) {
        state.peer = peer
        state.activity.join()
    }

    /// What the token of somebody who resumes his stay allows; nil for one that has expired meanwhile, which ends no running call: one
    /// that says it does has ended it.
    private func accessToResume(_ message: ClientMessage) async throws(Problem) -> Access? {
        do throws(Problem) {
            return try await authorizer.access(token: message.token, address: address, forgivesExpiry: true)
        } catch .tokenExpired {
            return nil
        }
    }

    private func update(_ message: ClientMessage, _ peer: String) async throws(Problem) {
        if let action = message.action {
            let key = message.stream == nil ? nil : try await key(message.stream, of: peer)
            return try await directory.act(action, on: message.peer, stream: key, muted: message.muted, by: peer)
        }
        if let encodings = message.encodings {
            var limits: [StreamKey: Int] = [:]
            for limit in encodings { limits[try await key(limit.stream, of: peer)] = limit.encoding }
            return await directory.limitEncodings(limits, of: peer)
        }
        let key = try await key(message.stream, of: peer)
        if let muted = message.muted { try await directory.setMuted(muted, of: key, by: peer) }
        if let paused = message.paused {
            try await directory.pause(peer, key, tracks: message.tracks, isPaused: paused)
        }
        if message.muted == nil, message.paused == nil {
            throw Problem.badMessage("An update has action, encodings, muted or paused.")
        }
    }

    private func key(_ stream: String?, of peer: String) async throws(Problem) -> StreamKey {
        guard let stream else { throw Problem.badMessage("stream is missing.") }
        guard let stream = ResourceIdentifier(stream) else { throw .badIdentifier }
        guard let room = await directory.room(of: peer) else { throw .notInRoom }
        return StreamKey(room: room, stream: stream)
    }

    private func parse(_ sdp: String?) async throws(Problem) -> Offer {
        guard let sdp else { throw Problem.badMessage("sdp is missing.") }
        do throws(NegotiationError) {
            let limits = limits.ofRooms
            guard sdp.utf8.count > limits.controlRequestBytes else {
                return try Offer(parsing: Array(sdp.utf8), limits: limits)
            }
            return try await LongReading.shared.run(for: address) { () throws(NegotiationError) in
                try Offer(parsing: Array(sdp.utf8), limits: limits)
            }
        } catch {
            throw Problem(error)
        }
    }

    private func privacy(_ text: String?) throws(Problem) -> PrivacyMode? {
        guard let text else { return nil }
        guard let mode = PrivacyMode(rawValue: text) else {
            throw Problem.badMessage("privacy has to be transport or e2ee.")
        }
        return mode
    }
}

/// What the client has sent, for the task that watches over the socket.
final class ControlActivity: Sendable {
    private struct State: Sendable {
        var isHandlingFrame = false
        var listensSince = ContinuousClock.now
        var hasJoined = false
    }

    private let state = Locked(State())

    func beginFrame() { state.withLock { $0.isHandlingFrame = true } }

    func endFrame() {
        state.withLock {
            $0.isHandlingFrame = false
            $0.listensSince = .now
        }
    }

    func join() { state.withLock { $0.hasJoined = true } }

    var isHandlingFrame: Bool { state.withLock { $0.isHandlingFrame } }
    var hasJoined: Bool { state.withLock { $0.hasJoined } }
    /// For how long the session has waited for a frame. It counts from the end of the last one's handling, which may take long.
    var silence: Duration { state.withLock { $0.listensSince.duration(to: .now) } }
}

extension ServerConfiguration.ICEServer {
    /// As `RTCConfiguration.iceServers` has it.
    var json: JSONValue {
        var object: [String: JSONValue] = ["urls": .string(url)]
        if let username { object["username"] = .string(username) }
        if let credential { object["credential"] = .string(credential) }
        return .object(object)
    }
}
